"""What a backup repository holds, and the socket behind which it is kept: catalogue, transaction log, chain.

A point in time is restorable when a base backup before it, and every transaction-log segment from there to it, can be
read back. An LSN is PostgreSQL's own text, `16/B374D848`; `lsn_bytes` makes it comparable.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec

SEGMENT_BYTES = 16 << 20
CATALOGUE_CHECK = "recovery.catalogue"  # the check by which an audit puts the catalogue's head into the evidence
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_SEGMENT = re.compile(r"[0-9A-F]{24}")


def lsn_bytes(lsn: str) -> int:
    """An LSN as a position in bytes.

    >>> lsn_bytes("0/3000060"), lsn_bytes("1/0")
    (50331744, 4294967296)
    >>> lsn_bytes("nonsense")
    Traceback (most recent call last):
    ValueError: 'nonsense' is no LSN: write one like "0/3000060"
    """
    match = _LSN.fullmatch(lsn)
    if match is None:
        raise ValueError(f'{lsn!r} is no LSN: write one like "0/3000060"')
    return (int(match[1], 16) << 32) + int(match[2], 16)


def lsn_text(position: int) -> str:
    """A position in bytes as an LSN.

    >>> lsn_text(50331744)
    '0/3000060'
    """
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def segment_name(timeline: int, position: int, segment_bytes: int = SEGMENT_BYTES) -> str:
    """The name of the segment that holds a position.

    >>> segment_name(1, 50331744), segment_name(2, (1 << 32) + (17 << 20))
    ('000000010000000000000003', '000000020000000100000001')
    """
    number = position // segment_bytes
    per_file = 0x1_0000_0000 // segment_bytes
    return f"{timeline:08X}{number // per_file:08X}{number % per_file:08X}"


class Kind(StrEnum):
    """What an entry of the catalogue is.

    POINT: a platform point. RESTORE: a restore that was verified. HOLD and RELEASE: the legal hold of another entry.
    REMOVAL: what retention removed.
    """

    FULL = "full"
    INCREMENTAL = "incremental"
    APPLICATION = "application"
    CONFIGURATION = "configuration"
    LOGS = "logs"
    POINT = "point"
    RESTORE = "restore"
    HOLD = "hold"
    RELEASE = "release"
    REMOVAL = "removal"

    @property
    def of_database(self) -> bool:
        """Whether it is a base backup."""
        return self in (Kind.FULL, Kind.INCREMENTAL)


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One object of the repository: `bytes` and `sha256` are of what is stored, `raw_bytes` of what went in."""

    key: str
    bytes: int
    sha256: str
    raw_bytes: int


class DatabaseBackup(msgspec.Struct, frozen=True, kw_only=True):
    """What a base backup is of. `parent` is the id of the backup that an incremental builds upon.

    `segment_bytes` is the size of the server's transaction-log files: without it no LSN tells the name of one.
    """

    system_identifier: str
    major: int
    timeline: int
    start_lsn: str
    stop_lsn: str
    stop_time: dt.datetime
    parent: str = ""
    segment_bytes: int = SEGMENT_BYTES

    @property
    def first_segment(self) -> str:
        """The segment with which its transaction log begins."""
        return segment_name(self.timeline, lsn_bytes(self.start_lsn), self.segment_bytes)


class PlatformPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A state of the whole platform that is restored together: catalogue ids, and the database's LSN and time."""

    lsn: str
    time: dt.datetime
    database: str
    application: str = ""
    version: str = ""
    configuration: str = ""


class RestoreFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore took, for the forecast and the checks: bytes in, seconds of each part, and whether it was good.

    `rpo_s`: the acknowledged work that would have been lost, in seconds; `missing`: acknowledged payments not found.
    `forecast_s` is what had been forecast, None where nothing could be.
    """

    backup: str
    target: str
    bytes: int
    wal_bytes: int
    fetch_s: float
    replay_s: float
    verify_s: float
    seconds: float
    forecast_s: float | None = None
    acknowledged: int = 0
    missing: int = 0
    rpo_s: float | None = None
    good: bool = False
    drill: bool = False


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the catalogue. `previous` is the SHA-256 of the entry before it, as it is stored: a chain.

    `key_id` names the encryption key, empty where nothing is encrypted. `revision` is the SHA-256 of a configuration's
    or a release's contents, `version` the release's name. `of` is the entry that a HOLD, RELEASE or REMOVAL is about;
    `note` says why, `actor` who.
    """

    number: int
    id: str
    kind: Kind
    platform: str
    began: dt.datetime
    ended: dt.datetime
    previous: str = ""
    engine: str = ""
    objects: tuple[Stored, ...] = ()
    raw_bytes: int = 0
    key_id: str = ""
    database: DatabaseBackup | None = None
    point: PlatformPoint | None = None
    restore: RestoreFigures | None = None
    version: str = ""
    revision: str = ""
    of: tuple[str, ...] = ()
    actor: str = ""
    note: str = ""

    @property
    def stored_bytes(self) -> int:
        """Bytes that it occupies in the repository."""
        return sum(stored.bytes for stored in self.objects)


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the transaction log in the repository: a segment, a timeline's history, or the one being received.

    `sha256` (first 32 digits) is of the raw bytes, and part of the stored name: one name with two digests is a
    duplicate that differs. `partial`: it is being received, and lies in the spool.
    """

    name: str
    system_identifier: str
    sha256: str
    key: str
    bytes: int
    modified: dt.datetime
    partial: bool = False


class LogKept(msgspec.Struct, frozen=True, kw_only=True):
    """Which of a timeline's transaction log is kept: from the segment `first` on; none of it where that is empty."""

    system_identifier: str
    timeline: int
    first: str = ""

    def drops(self, segment: Segment) -> bool:
        """Whether a segment is one that is not kept. Histories of timelines and what lies in the spool always are."""
        return (
            bool(segment.sha256)
            and not segment.partial
            and segment.system_identifier == self.system_identifier
            and _SEGMENT.fullmatch(segment.name) is not None
            and int(segment.name[:8], 16) == self.timeline
            and (not self.first or segment.name < self.first)
        )


class ReceiverState(msgspec.Struct, frozen=True, kw_only=True):
    """The transaction-log backup now. `lag_bytes` is what the server wrote and the repository does not have.

    `lag_s`: for how long it has been behind; None: not known. `synchronous`: a commit waits for it.
    `retained_bytes` is what its slot keeps on the server's disk.
    """

    running: bool
    trouble: str = ""
    system_identifier: str = ""
    timeline: int = 0
    server_lsn: str = ""
    received_lsn: str = ""
    lag_bytes: int = 0
    lag_s: float | None = None
    slot: str = ""
    slot_active: bool = False
    retained_bytes: int = 0
    synchronous: bool = False
    spooled: int = 0


class Cause(StrEnum):
    """Why a point in time cannot be restored, or soon will not."""

    MISSING = "missing"
    CORRUPT = "corrupt"
    TRUNCATED = "truncated"
    DIFFERENT = "duplicate-but-different"
    FORK = "timeline-fork"
    FOREIGN = "wrong-system-identifier"
    BROKEN_PARENT = "broken-incremental-parent"
    EDITED = "catalogue-edited"
    UNREADABLE = "unreadable"
    WRONG_KEY = "wrong-key"
    INVALID = "invalid-log-records"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong in the repository: `subject` is the backup or segment, `lost` says which times it costs.

    `backups` are those that cannot be restored at all because of it.
    """

    cause: Cause
    subject: str
    sentence: str
    lost: str = ""
    backups: tuple[str, ...] = ()


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What an examination of the chain found. Restorable: from `oldest` to `newest` but for what the faults say.

    `examined_bytes` were read back in this examination; the rest was listed and its size compared. `head` is number and
    SHA-256 of the catalogue's newest entry: whoever keeps it can tell later whether the catalogue was put back.
    """

    backups: int
    segments: int
    examined_bytes: int
    oldest: dt.datetime | None
    newest: dt.datetime | None
    newest_lsn: str = ""
    head: str = ""
    faults: tuple[Fault, ...] = ()


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Space of the repository: bytes used by it, and bytes free where it lies (None: an object store)."""

    used: int
    free: int | None


class RestoreTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Until where to restore: exactly one of them, or none: to the end of the log that the repository has.

    `lsn` is exclusive: nothing that begins at or after it is replayed.
    """

    lsn: str = ""
    time: dt.datetime | None = None
    name: str = ""


class Backups(Protocol):
    """The backups of a platform. Every call raises Unreachable when the repository cannot be reached."""

    def catalogue(self) -> list[Entry]:
        """All entries, oldest first, the chain verified.

        Raises:
            EvidenceError: an entry was edited, is missing, or is no entry: it names the first.
        """
        ...

    def head(self) -> str:
        """SHA-256 of the newest entry as it is stored, empty without one: who kept it notices any later change."""
        ...

    def segments(self) -> list[Segment]:
        """The transaction log in the repository and its spool, by name."""
        ...

    def receiver(self) -> ReceiverState:
        """How the transaction-log backup stands."""
        ...

    def room(self) -> Room:
        """How much space there is."""
        ...

    def back_up(self, id: str, *, full: bool) -> Entry:  # noqa: A002 - the catalogue's own word
        """Take a base backup and enter it into the catalogue; one that has this id already is answered.

        Raises:
            LockHeld: another backup is being taken.
            TargetError, StateError: it failed, and nothing of it is left.
        """
        ...

    def examine(self, *, deep: bool) -> Audit:
        """Look for everything that would keep a point in time from being restored.

        Deep: every byte is read back; else only what was not read back since it was written, and all names and sizes.
        """
        ...

    def begin_anew(self) -> str:
        """Forget what former audits saw: the repository is another one. Number and SHA-256 of its newest entry, if any.

        What the evidence says of the former one is overruled by the finding that says this.
        """
        ...

    def record(self, draft: Entry) -> Entry:
        """Enter something that has no objects of its own: a point, a restore, a hold, a release."""
        ...

    def remove(self, ids: Sequence[str], log: Sequence[LogKept], *, draft: Entry) -> Entry:
        """Remove entries' objects that no other entry refers to, and the log that is not kept; enter that as `draft`.

        A timeline that `log` does not name is kept. What an earlier removal did not come to is removed as well; where
        there is nothing else, nothing is entered, and the draft is answered.

        Raises:
            StateError: one of them is on hold, or needed by one that stays; nothing was removed.
        """
        ...

    def store_files(self, draft: Entry, files: Sequence[tuple[str, Path]]) -> Entry:
        """Keep files (name in the backup, path) as one entry: a release, a configuration, logs."""
        ...

    def fetch_files(self, id: str, into: Path) -> list[Path]:  # noqa: A002 - the catalogue's own word
        """Write the files of an entry below an empty folder, digests compared."""
        ...
