"""What the repository no longer needs to keep, and what it must not lose: retention, legal holds, and the removal.

The newest of a kind are kept without a gap, from the oldest that is needed on; what they build upon is kept with them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from nvcops.core.backups import (
    Entry,
    Kind,
    LogKept,
    Segment,
    holds,
    lsn_bytes,
    needs,
    present,
    segment_name,
)
from nvcops.core.manifest import Keep, KeepTable

# --- Rules ---

FULLS_MIN = 2
_TABLES = {
    "database": (Kind.FULL, Kind.INCREMENTAL),
    "application": (Kind.APPLICATION,),
    "configuration": (Kind.CONFIGURATION,),
    "logs": (Kind.LOGS,),
}
REMOVABLE = frozenset({Kind.POINT, *(kind for kinds in _TABLES.values() for kind in kinds)})


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What may go: entries by id, transaction log by timeline, and how many bytes that frees.

    `kept` counts the entries that stay, by kind. `held` are those that only a legal hold keeps, or what it needs, and
    `held_bytes` is what they occupy.
    """

    ids: tuple[str, ...] = ()
    log: tuple[LogKept, ...] = ()
    segments: int = 0
    bytes: int = 0
    kept: dict[str, int] = {}
    held: tuple[str, ...] = ()
    held_bytes: int = 0


def plan(
    entries: Sequence[Entry],
    segments: Iterable[Segment],
    keep: KeepTable,
    now: dt.datetime,
    damaged: Collection[str] = (),
) -> Plan:
    """What may be removed. A backup that is damaged, or builds upon one that is, does not count as one that is kept."""
    there = {entry.id: entry for entry in present(entries) if entry.kind in REMOVABLE}
    good = {entry.id for entry in there.values() if _sound(entry, there, damaged)}
    wanted = {
        entry.id for table in _TABLES for entry in _tail(_of(table, there), good, *_how_long(table, keep), now=now)
    }
    kept = _with_needs(wanted, there)
    stays = _with_needs(kept | {held for hold in holds(entries) for held in hold.of}, there)
    gone = [entry for entry in there.values() if entry.id not in stays]
    log = log_kept([there[name] for name in stays], segments := list(segments), now - _age(keep.database))
    dropped = [segment for segment in segments if any(line.drops(segment) for line in log)]
    held = [there[name] for name in sorted(stays - kept)]
    return Plan(
        ids=tuple(entry.id for entry in gone),
        log=tuple(line for line in log if any(line.drops(segment) for segment in dropped)),
        segments=len(dropped),
        bytes=only_theirs(gone, [there[name] for name in stays]) + sum(segment.bytes for segment in dropped),
        kept={kind.value: n for kind in Kind if (n := sum(there[name].kind is kind for name in stays))},
        held=tuple(entry.id for entry in held),
        held_bytes=only_theirs(held, [there[name] for name in kept]),
    )


def log_kept(stays: Iterable[Entry], segments: Iterable[Segment], cutoff: dt.datetime) -> list[LogKept]:
    """From where on each timeline's log is kept: where the oldest backup begins that leads onto that timeline.

    The log of a system of which there is no backup (any more) goes when all of it is older than the cutoff.
    """
    bases = [entry.database for entry in stays if entry.database]
    timelines: dict[tuple[str, int], dt.datetime] = {}
    for segment in segments:
        key = segment.system_identifier, int(segment.name[:8], 16)
        timelines[key] = max(segment.modified, timelines.get(key, segment.modified))
    kept: list[LogKept] = []
    for (system, timeline), newest in sorted(timelines.items()):
        ours = [base for base in bases if base.system_identifier == system]
        starts = [base for base in ours if base.timeline <= timeline]
        if starts:
            oldest = min(starts, key=lambda base: lsn_bytes(base.start_lsn))
            first = segment_name(timeline, lsn_bytes(oldest.start_lsn), oldest.segment_bytes)
            kept.append(LogKept(system_identifier=system, timeline=timeline, first=first))
        elif ours or newest < cutoff:
            kept.append(LogKept(system_identifier=system, timeline=timeline))
    return kept


def only_theirs(some: Iterable[Entry], others: Iterable[Entry]) -> int:
    """Bytes of the objects that none of the others refers to: an unchanged file is stored once."""
    shared = {stored.key for entry in others for stored in entry.objects}
    return sum(
        {stored.key: stored.bytes for entry in some for stored in entry.objects if stored.key not in shared}.values()
    )


def _of(table: str, there: dict[str, Entry]) -> list[Entry]:
    return sorted((entry for entry in there.values() if entry.kind in _TABLES[table]), key=lambda entry: entry.number)


def _how_long(table: str, keep: KeepTable) -> tuple[int, dt.timedelta]:
    wish: Keep = getattr(keep, table)
    return max(wish.count, FULLS_MIN) if table == "database" else wish.count, _age(wish)


def _age(keep: Keep) -> dt.timedelta:
    return dt.timedelta(seconds=keep.age)


def _tail(
    entries: Sequence[Entry], good: Collection[str], count: int, age: dt.timedelta, *, now: dt.datetime
) -> Sequence[Entry]:
    """All from the oldest on that is needed: for the number, and as the state at the beginning of the age."""
    counted = [n for n, entry in enumerate(entries) if entry.id in good and entry.kind is not Kind.INCREMENTAL]
    if len(counted) <= count:
        return entries
    young = next((n for n, entry in enumerate(entries) if _as_of(entry) > now - age), len(entries))
    covering = [n for n, entry in enumerate(entries[:young]) if entry.id in good]
    return entries[min(counted[-count], covering[-1] if covering else 0) :]


def _as_of(entry: Entry) -> dt.datetime:
    """From when on it answers for a point in time."""
    return entry.database.stop_time if entry.database else entry.ended


def _sound(entry: Entry, there: dict[str, Entry], damaged: Collection[str]) -> bool:
    return all(link is not None and link.id not in damaged for link in _chain(entry, there))


def _chain(entry: Entry, there: dict[str, Entry]) -> Iterator[Entry | None]:
    """A backup and what it builds upon, down to the full one; None where that is not there."""
    seen: set[str] = set()
    link: Entry | None = entry
    while link is not None and link.id not in seen:
        yield link
        seen.add(link.id)
        if not (link.database and link.database.parent):
            return
        link = there.get(link.database.parent)
    yield None


def _with_needs(wanted: Collection[str], there: dict[str, Entry]) -> set[str]:
    """What is wanted and everything that it needs; a platform point is wanted as long as its database is there."""
    stays: set[str] = set()
    ahead = [name for name in wanted if name in there]
    points = [entry for entry in there.values() if entry.point]
    while ahead:
        name = ahead.pop()
        if name not in stays:
            stays.add(name)
            wants = [*needs(there[name]), *(p.id for p in points if p.point and p.point.database == name)]
            ahead += [want for want in wants if want in there]
    return stays
