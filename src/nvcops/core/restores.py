"""The socket behind which the database is restored: on a clone, into a folder, or in the place of the live one.

A restore goes through its parts in this order, each an act that may be begun again: unpack, replay, verify, and then
`deliver` (the finished data stand where they were asked for) or `discard` (nothing is left).
"""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec

from nvcops.core.backups import RestoreTarget


class Purpose(StrEnum):
    """What the restored data are for. A drill is done at quiet priority, and its copy is thrown away."""

    DRILL = "drill"
    FOLDER = "folder"
    IN_PLACE = "in place"


class RestorePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is going to be restored, from what, and where to; made before anything is touched.

    `chain` are the backups that it takes, the full one first. The log is read from `first_segment`, on the way that
    `timelines` (oldest first) took. `bytes` are those of the data, `fetched_bytes` those read from the repository's
    backups before unpacking, `wal_bytes` those of the log. `needed` and `free` are bytes of the disk of `work`, the
    folder in which it is built; `into` is where it ends up, None for a drill.
    """

    run: str
    purpose: Purpose
    backup: str
    chain: tuple[str, ...]
    target: RestoreTarget
    system_identifier: str
    major: int
    timelines: tuple[int, ...]
    first_segment: str
    last_segment: str
    bytes: int
    fetched_bytes: int
    wal_bytes: int
    needed: int
    free: int
    work_path: str
    into_path: str = ""

    @property
    def work(self) -> Path:
        """The folder in which it is built."""
        return Path(self.work_path)

    @property
    def into(self) -> Path | None:
        """Where it ends up."""
        return Path(self.into_path) if self.into_path else None


class Unpacked(msgspec.Struct, frozen=True, kw_only=True):
    """The base backup is there and every file has its checksum. Bytes of the data, seconds that it took."""

    bytes: int
    seconds: float
    verified_s: float


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """The log was replayed up to `lsn`, and the copy went on as `timeline`. `wal_bytes` were laid ready for that.

    `log_read` is our clock when the log was listed: what was acknowledged before and is not in it, is lost.
    """

    lsn: str
    timeline: int
    wal_bytes: int
    seconds: float
    log_read: dt.datetime
    last_commit: dt.datetime | None = None


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """A table's rows: how many, and the sum of their hashes, in whatever order they lie. `trouble`: why not known."""

    database: str
    table: str
    rows: int = 0
    fingerprint: str = ""
    trouble: str = ""


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the restored data that does not hold: where, what was looked at, and what was found.

    `unknown`: it could not be looked at, which says nothing about the data.
    """

    database: str
    subject: str
    sentence: str
    unknown: bool = False


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of look at the restored data came to. `skipped` says why it was not looked at."""

    things: int = 0
    broken: tuple[Broken, ...] = ()
    skipped: str = ""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Acknowledgements older than `before`: how many there are, and the first keys of those that are missing."""

    before: dt.datetime | None = None
    acknowledged: int = 0
    missing: int = 0
    missing_keys: tuple[str, ...] = ()
    oldest_missing: dt.datetime | None = None
    skipped: str = ""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was looked at in a restored copy."""

    pages: Looked
    constraints: Looked
    invariants: Looked
    ledger: Ledger
    books: tuple[Book, ...]
    seconds: float


class LiveSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The live data at `lsn`, as a standby (or the primary) had them.

    `clock` is the primary's, read before: everything acknowledged earlier is in. `covered_s` is how long it took from
    then until the repository had the log up to there: acknowledged work that a loss at that moment would have cost;
    None: it did not within the deadline. `server` is where the tables were read.
    """

    server: str
    lsn: str
    clock: dt.datetime
    timeline: int
    books: tuple[Book, ...]
    covered_s: float | None


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """A short measurement of this machine: bytes a second that are unpacked and written, and read and summed."""

    unpack: float
    verify: float


class OldData(msgspec.Struct, frozen=True, kw_only=True):
    """Data that an in-place restore put aside: by which run, where, how much."""

    run: str
    folder: str
    bytes: int


class Restores(Protocol):
    """Restored copies of the database. All acts are idempotent: what is on the disk says how far they had come."""

    def plan(self, run: str, backup: str, to: RestoreTarget, *, purpose: Purpose, into: Path | None) -> RestorePlan:
        """Decide what a restore takes; nothing is touched. `backup` "newest" is the newest that ended before `to`.

        Raises:
            NotFoundError: there is no such backup; with the nearest ids.
            UsageError: a time outside the kept range, a backup that ended after it, a folder that is not empty.
            StateError: too little room; a gap in the log; a wrong key; a backup that lacks something.
            Refused: a server runs there; a wrong major version; another system's data.
            Unreachable: the repository does not answer.
        """
        ...

    def speed(self) -> Speed:
        """Measure this machine for a quarter of a second or so."""
        ...

    def unpack(self, plan: RestorePlan) -> Unpacked:
        """Write the base backup into the folder of work, all digests compared, and verify the result.

        Raises:
            EvidenceError: a digest or a checksum is wrong; nothing is left.
        """
        ...

    def replay(self, plan: RestorePlan) -> Replayed:
        """Replay the log up to the target, and let the copy go on as a timeline of its own; it is stopped again.

        Raises:
            StateError: it ended before its target, or the server did not come up: with the server's last words.
        """
        ...

    def verify(self, plan: RestorePlan, *, acknowledged_before: dt.datetime | None = None) -> Verification:
        """Look at everything in the copy; it runs on a private socket for as long as that takes.

        Looked for are the acknowledgements older than the plan's time, than the reading of the log where it goes to
        the log's end, than the copy's last commit otherwise; or than the moment that is given.
        """
        ...

    def deliver(self, plan: RestorePlan) -> None:
        """Move the finished data to where they were asked for; in place, the old data are put aside before.

        Raises:
            Refused: a server runs there, or somebody put something there meanwhile.
        """
        ...

    def delivered(self, plan: RestorePlan) -> bool:
        """Whether the finished data stand where they were asked for."""
        ...

    def discard(self, plan: RestorePlan) -> bool:
        """Leave nothing of the restore; in place, the old data stand where they stood before: whether there are any."""
        ...

    def forget(self, plan: RestorePlan) -> None:
        """The delivered data are good: nothing is going to be undone, and only the old data are kept aside."""
        ...

    def tidy(self, run: str) -> list[str]:
        """Undo what other runs left when they were killed: a paused standby, half copies; what was done about each.

        In-place restores of others that stand between old and new data are rolled back; new data that stand in place
        stay there, since they may have been written to, and the old ones stay aside.
        """
        ...

    def snapshot(self, run: str) -> LiveSnapshot:
        """Read the books of the live data at one LSN. Replay on the standby rests for milliseconds."""
        ...

    def old_data(self) -> list[OldData]:
        """What in-place restores put aside."""
        ...

    def release(self, run: str) -> None:
        """Remove for good what the in-place restore of a run put aside; fine when it is gone."""
        ...
