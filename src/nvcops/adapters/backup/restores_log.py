"""Which files of the transaction log a restore takes, and laying them ready in the copy's pg_wal.

The way is that of the newest timeline that descends from the backup: its history file says where each branched off. A
point before a branch lies on the old timeline and is reached on the way. PostgreSQL finds everything in pg_wal; the
restore_command that it insists on finds nothing.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from nvcops.adapters.backup import wal
from nvcops.adapters.backup.pack import Damaged
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.backup.tools import Tools
from nvcops.adapters.backup.unpack import Pace
from nvcops.core.backups import DatabaseBackup, RestoreTarget, Segment, lsn_bytes, lsn_text, segment_name
from nvcops.core.errors import EvidenceError, NotFoundError, StateError
from nvcops.core.progress import tell

_HISTORY = re.compile(r"([0-9A-F]{8})\.history")
_HISTORY_BYTES_MAX = 1 << 20
_BRANCH = re.compile(r"^\s*(\d+)\s+([0-9A-Fa-f]+/[0-9A-Fa-f]+)", re.MULTILINE)
_AFTER_TARGET = dt.timedelta(hours=1)  # the first commit after a moment is what ends a recovery to it


@dataclass(frozen=True, slots=True)
class Leg:
    """A timeline on the way, and the position from which on it is taken."""

    timeline: int
    begin: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a restore takes of the log. `trimmed`: there is more of it, which the target is not thought to need.

    `gap` names the first segment that is missing after the last one taken, where that is why it ends.
    """

    way: tuple[Leg, ...]
    segments: tuple[Segment, ...]
    histories: tuple[Segment, ...]
    segment_bytes: int
    first: str
    last: str
    trimmed: bool = False
    gap: str = ""

    @property
    def bytes(self) -> int:
        """Bytes that it occupies in pg_wal."""
        return len(self.segments) * self.segment_bytes

    @property
    def end(self) -> int:
        """The position after its last segment."""
        return _position(self.last, self.segment_bytes) + self.segment_bytes if self.segments else 0

    @property
    def newest(self) -> dt.datetime | None:
        """When its last segment was last written to."""
        return max((segment.modified for segment in self.segments), default=None)


def read_log(
    repository: Repository, database: DatabaseBackup, target: RestoreTarget, *, everything: bool = False
) -> Log:
    """Choose the log for a restore of a backup to a target. `everything`: to its end, however long that is.

    Raises:
        StateError: a segment on the way is missing, or is there twice and differs.
        EvidenceError: a timeline's history cannot be read back.
    """
    listed = [
        segment
        for segment in wal.segments(repository, database.system_identifier)
        if segment.system_identifier == database.system_identifier
    ]
    named = {segment.name: segment for segment in listed if _HISTORY.fullmatch(segment.name)}
    histories = list(named.values())  # each once: what is in the repository lies in the spool as well
    branches = {int(history.name[:8], 16): read_branches(repository, history) for history in histories}
    segments = [segment for segment in listed if not _HISTORY.fullmatch(segment.name)]
    way = find_way(database, branches_with_log(branches, segments))
    return choose(way, segments, histories, database, target, everything)


def branches_with_log(
    branches: Mapping[int, Mapping[int, int]], segments: Sequence[Segment]
) -> dict[int, Mapping[int, int]]:
    """The timelines of which there is log: one of which only the history came leads nowhere yet."""
    there = {int(segment.name[:8], 16) for segment in segments}
    return {timeline: left for timeline, left in branches.items() if timeline in there}


def read_branches(repository: Repository, history: Segment) -> dict[int, int]:
    """The positions at which each ancestor of a timeline was left, by its number."""
    try:
        text = b"".join(wal.raw(repository, history))[:_HISTORY_BYTES_MAX].decode(errors="replace")
    except (Damaged, NotFoundError) as error:
        raise EvidenceError(
            f"{history.name} cannot be read back: {error.sentence}", hint="`nvcops run backup-audit`"
        ) from error
    return parse_history(text)


def parse_history(text: str) -> dict[int, int]:
    r"""A timeline's history file: the ancestors, each with the position at which it was left.

    >>> parse_history("1\t0/3000060\tno recovery target specified\n\n2\t0/5000000\tbefore x\n")
    {1: 50331744, 2: 83886080}
    """
    return {int(timeline): lsn_bytes(lsn) for timeline, lsn in _BRANCH.findall(text)}


def find_way(database: DatabaseBackup, branches: Mapping[int, Mapping[int, int]]) -> tuple[Leg, ...]:
    """The way from a backup to the newest timeline that went on from it, not from before it.

    >>> when = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    >>> backup = DatabaseBackup(system_identifier="7", major=17, timeline=1, start_lsn="0/2000028",
    ...     stop_lsn="0/2000100", stop_time=when)
    >>> [leg.timeline for leg in find_way(backup, {2: {1: 0x5000000}, 3: {1: 0x1000000}})]
    [1, 2]
    """
    stop = lsn_bytes(database.stop_lsn)
    fit = [
        timeline
        for timeline, left in branches.items()
        if timeline > database.timeline and left.get(database.timeline, -1) >= stop
    ]
    start = Leg(database.timeline, lsn_bytes(database.start_lsn))
    if not fit:
        return (start,)
    newest = max(fit)
    path = [timeline for timeline in sorted(branches[newest]) if timeline >= database.timeline] + [newest]
    return (start, *(Leg(later, branches[newest][earlier]) for earlier, later in pairwise(path)))


def choose(
    way: tuple[Leg, ...],
    listed: Sequence[Segment],
    histories: Sequence[Segment],
    database: DatabaseBackup,
    target: RestoreTarget,
    everything: bool,
) -> Log:
    """The segments on the way, without a gap from the backup's first one up to what the target needs."""
    size = database.segment_bytes
    by_number = _on_the_way(way, listed, size)
    first = number = lsn_bytes(database.start_lsn) // size
    last = max(by_number, default=first)
    chosen: list[Segment] = []
    while _leads_on(way, by_number, number, size, target) and (everything or not _enough(chosen, number, size, target)):
        chosen += by_number[number]
        number += 1
    more = _leads_on(way, by_number, number, size, target)
    missing = segment_name(_timeline(way, number, size), number * size, size)
    gap = "" if more or number > last else missing
    if not chosen or number * size < lsn_bytes(database.stop_lsn):
        raise StateError(
            f"the log that the backup needs lacks {missing}", hint="`nvcops run backup-audit`; an older backup"
        )
    # Times of files may lie: all of the log is only asked for when what seemed enough did not reach the target.
    if gap and (everything or not _enough(chosen, number, size, target)):
        raise StateError(
            f"{gap} is missing from the log: the backup can be restored up to {lsn_text(number * size)}"
            f" of {chosen[-1].modified:%Y-%m-%d %H:%M:%S} UTC, no further",
            hint="--to with a point before that; `nvcops run backup-audit` says what is lost",
        )
    return Log(
        way=way,
        segments=tuple(chosen),
        histories=tuple(histories),
        segment_bytes=size,
        first=segment_name(way[0].timeline, first * size, size),
        last=chosen[-1].name,
        trimmed=more,
        gap=gap,
    )


def _on_the_way(way: Sequence[Leg], listed: Sequence[Segment], size: int) -> dict[int, list[Segment]]:
    """The segments of the way's timelines by number: whole ones before partial ones, each name once."""
    spans = {
        leg.timeline: (leg.begin // size, way[at + 1].begin // size if at + 1 < len(way) else None)
        for at, leg in enumerate(way)
    }
    found: dict[str, Segment] = {}
    for segment in listed:
        timeline, number = int(segment.name[:8], 16), _position(segment.name, size) // size
        begin, end = spans.get(timeline, (1, 0))
        if number < begin or (end is not None and number > end):
            continue
        other = found.get(segment.name)
        whole = other is not None and not (other.partial or segment.partial)
        if other and whole and other.sha256 and segment.sha256 and other.sha256 != segment.sha256:
            raise StateError(
                f"{segment.name} is in the repository twice, and the two differ", hint="`nvcops run backup-audit`"
            )
        if other is None or (other.partial and not segment.partial) or (not other.sha256 and segment.sha256):
            found[segment.name] = segment
    by_number: dict[int, list[Segment]] = {}
    for segment in sorted(found.values(), key=lambda segment: segment.name):
        by_number.setdefault(_position(segment.name, size) // size, []).append(segment)
    return by_number


def _enough(chosen: Sequence[Segment], number: int, size: int, target: RestoreTarget) -> bool:
    """Whether the target needs nothing from this segment on. The record after it ends a recovery, so one more is taken.

    A name can stand anywhere, and without a target it goes to the end.
    """
    if target.lsn:
        return number > lsn_bytes(target.lsn) // size + 1
    return target.time is not None and bool(chosen) and chosen[-1].modified >= target.time + _AFTER_TARGET


def lay_ready(repository: Repository, log: Log, data: Path, tools: Tools, pace: Pace) -> int:
    """Write the log and the histories into pg_wal; what is there already was laid there before. Bytes that it takes.

    Raises:
        EvidenceError: a file of it cannot be read back.
    """
    folder = data / "pg_wal"
    done = 0

    def one(segment: Segment) -> None:
        nonlocal done
        into = folder / segment.name
        if not into.exists():
            _fetched(repository, segment, into)
            if not segment.name.endswith(".history"):
                os.truncate(into, log.segment_bytes)  # the one that is being received may be shorter
            tools.give(into)
        done += log.segment_bytes
        tell(done, log.bytes, "laying ready the log,")

    with ThreadPoolExecutor(pace.threads, initializer=pace.settle) as pool:
        for _ in pool.map(one, [*log.histories, *log.segments]):
            pass
    return log.bytes


def _fetched(repository: Repository, segment: Segment, into: Path) -> None:
    """Fetch it; one that has left the spool since it was listed is in the repository by now."""
    try:
        wal.fetch(repository, segment, into)
    except NotFoundError:
        again = next((s for s in wal.stored_segments(repository) if s.name == segment.name), None)
        if again is None:
            raise EvidenceError(
                f"{segment.name} is gone from the repository", hint="`nvcops run backup-audit`"
            ) from None
        wal.fetch(repository, again, into)
    except Damaged as error:
        raise EvidenceError(
            f"{segment.name} cannot be read back: {error.sentence}", hint="`nvcops run backup-audit` says what is lost"
        ) from error


def _position(name: str, size: int) -> int:
    """Where a segment begins."""
    return int(name[8:16], 16) * 0x1_0000_0000 + int(name[16:], 16) * size


def _timeline(way: Sequence[Leg], number: int, size: int) -> int:
    """The timeline of the way whose file holds a segment: where it branched off, already the newer one's."""
    return [leg for leg in way if leg.begin // size <= number or leg is way[0]][-1].timeline


def _leads_on(
    way: Sequence[Leg], by_number: Mapping[int, Sequence[Segment]], number: int, size: int, target: RestoreTarget
) -> bool:
    """Whether the way's own file is there for a segment.

    Where a timeline branched off in its middle, the older one's file goes on with what the branch abandoned, and
    PostgreSQL would replay that: it does only for a target before the branch.
    """
    there = {int(segment.name[:8], 16) for segment in by_number.get(number, ())}
    timeline = _timeline(way, number, size)
    begin = next(leg.begin for leg in reversed(way) if leg.timeline == timeline)
    return timeline in there or (bool(there) and bool(target.lsn) and lsn_bytes(target.lsn) <= begin)
