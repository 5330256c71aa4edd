"""The database's backup: taken when it is due, read back, and restorable."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Mapping, Sequence

import msgspec

from nvcops.core.backups import Audit, Entry, Fault, Kind, PlatformPoint, Segment, lsn_bytes, segment_name
from nvcops.core.catalogue import present
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import Manifest
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Bytes, Seconds
from nvcops.recovery.standing import Taken, backup_findings, backups_of, standing

# --- Facts ---

_ARRIVAL_S = 600
_LOOK_S = 1.0


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a backup is in the catalogue, and `segment`, with which it ends, in the repository or its spool.

    `chain` is what it is restored from: itself, and what it builds upon. `first` is the segment with which it begins.
    """

    id: str
    chain: tuple[str, ...] = ()
    first: str = ""
    catalogued: bool = False
    segment: str = ""
    there: bool = False
    waited_s: int = 0


@conduct(deadline="15 min", idempotent=True)
def arrival(target: Target, backup: str) -> Arrival:
    """Whether the transaction log that the backup needs has arrived; waits for it."""
    backups = backups_of(target)
    entries = {entry.id: entry for entry in backups.catalogue() if entry.database}
    if backup not in entries or (database := entries[backup].database) is None:
        return Arrival(id=backup)
    last = segment_name(database.timeline, max(0, lsn_bytes(database.stop_lsn) - 1), database.segment_bytes)
    chain, first = _chain(entries, backup), database.first_segment
    found = Arrival(id=backup, chain=chain, first=first, catalogued=True, segment=last)
    for waited in range(_ARRIVAL_S):
        if _arrived(backups.segments(), last):
            return msgspec.structs.replace(found, there=True, waited_s=waited)
        time.sleep(_LOOK_S)
    return msgspec.structs.replace(found, waited_s=_ARRIVAL_S)


def _chain(entries: Mapping[str, Entry], backup: str) -> tuple[str, ...]:
    """A backup, and what it builds upon."""
    names: list[str] = []
    while backup in entries and backup not in names:
        names.append(backup)
        database = entries[backup].database
        backup = database.parent if database else ""
    return tuple(names)


def _arrived(segments: Sequence[Segment], last: str) -> bool:
    """Whether a whole segment of that name, or one that the server wrote after it, is there."""
    return any(not segment.partial and segment.name >= last and segment.name[:8] == last[:8] for segment in segments)


@conduct(deadline="4 h", idempotent=True)
def read_back(target: Target) -> Audit:
    """Everything that was written since the last audit, read back."""
    return backups_of(target).examine(deep=False)


# --- Rules ---

_SEGMENT = re.compile(r"[0-9A-F]{24}")
_BACKUP = re.compile(r"[0-9]{8}T[0-9]{6}Z-[FI]")
RESTORABLE = Check(
    "recovery.restorable", "Restorable", "`nvcops run backup-audit`; then `nvcops run database-backup --full`"
)


def wants_full(taken: Sequence[Taken], every: Seconds, now: dt.datetime) -> bool:
    """Whether a full backup is due: there is none, or the newest is older than the manifest wants.

    >>> now = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    >>> def full(days: int) -> Taken:
    ...     ended = now - dt.timedelta(days=days)
    ...     return Taken(id="F", kind=Kind.FULL, began=ended, ended=ended, stored_bytes=1, raw_bytes=1)
    >>> week = Seconds(7 * 86400)
    >>> wants_full([], week, now), wants_full([full(7)], week, now), wants_full([full(6)], week, now)
    (True, True, False)
    """
    fulls = [backup.began for backup in taken if backup.kind is Kind.FULL]
    return not fulls or (now - max(fulls)).total_seconds() >= every


def backup_id(moment: dt.datetime, kind: str) -> str:
    """The id of what is entered into the catalogue by a run that began then.

    >>> backup_id(dt.datetime(2026, 11, 22, 16, 5, tzinfo=dt.UTC), "F")
    '20261122T160500Z-F'
    """
    return f"{moment.astimezone(dt.UTC):%Y%m%dT%H%M%SZ}-{kind}"


def platform_point(entries: Sequence[Entry], backup: str) -> PlatformPoint | None:
    """The state of the platform at the end of a backup: with the newest release and configuration that are kept.

    None: there is no such backup.
    """
    there = present(entries)
    taken = next((entry for entry in there if entry.id == backup), None)
    if taken is None or taken.database is None:
        return None
    newest = {entry.kind: entry for entry in there}
    application, configuration = newest.get(Kind.APPLICATION), newest.get(Kind.CONFIGURATION)
    return PlatformPoint(
        lsn=taken.database.stop_lsn,
        time=taken.database.stop_time,
        database=backup,
        application=application.id if application else "",
        version=application.version if application else "",
        configuration=configuration.id if configuration else "",
    )


def concerning(faults: Sequence[Fault], arrived: Arrival) -> list[Fault]:
    """The faults that keep a backup from being restored: not those of other backups, or of the log before it.

    >>> from types import SimpleNamespace as Seen
    >>> arrived = Arrival(id="20261122T060000Z-I", chain=("20261122T060000Z-I", "20261122T000000Z-F"), first="7" * 24)
    >>> subjects = ["6" * 24, "8" * 24, "20261101T000000Z-F", "20261122T000000Z-F", "catalogue/00000002.json"]
    >>> [subjects.index(seen.subject) for seen in concerning([Seen(subject=name) for name in subjects], arrived)]
    [1, 3, 4]
    """
    return [
        fault
        for fault in faults
        if not (_SEGMENT.fullmatch(fault.subject) and fault.subject < arrived.first)
        and not (_BACKUP.fullmatch(fault.subject) and fault.subject not in arrived.chain)
    ]


def restorable_finding(arrived: Arrival, audit: Audit | None) -> Finding:
    """Whether a backup that was just taken can be restored, as far as reading it back tells."""
    subject = arrived.id
    if not arrived.catalogued:
        return RESTORABLE.finding(Verdict.CRITICAL, "it is not in the catalogue", subject=subject)
    if not arrived.there:
        why = f"{arrived.segment}, with which it ends, did not arrive within {Seconds(arrived.waited_s)}"
        return RESTORABLE.finding(Verdict.CRITICAL, why, subject=subject)
    if audit is None:
        return RESTORABLE.unknown("it was not read back", subject=subject)
    if faults := concerning(audit.faults, arrived):
        why = f"{len(faults)} faults, the first: {faults[0].subject}: {faults[0].sentence}"
        return RESTORABLE.finding(Verdict.CRITICAL, why, subject=subject)
    said = f"read back: {Bytes(audit.examined_bytes)}, its log to {arrived.segment}"
    return RESTORABLE.finding(Verdict.OK, said, subject=subject)


# --- Procedures ---


@procedure("database-backup", when="every 6 h", lock="backup", needs=["backups"])
def database_backup(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, full: bool = False
) -> None:
    """Back up the database, and read back that the backup can be restored.

    Full when there is none or the newest is older than [backups] full_every, else incremental where the server can do
    that. It is good when it stands in the catalogue, all of it was read back, and the transaction log to its end has
    arrived. The platform point that it makes is entered: with the newest release and configuration that are kept.

    Args:
        full: take a full backup, whatever is due
    """
    manifest, now = target.manifest, run.started
    before = run.read(standing, target, now)
    if manifest.backups is None or not before.configured:
        run.conclude(backup_findings(before, manifest.limits, now))
        return
    kind = "F" if full or wants_full(before.taken, manifest.backups.full_every, now) else "I"
    asked = "a full" if kind == "F" else "an incremental"
    taken = run.step(f"take {asked} backup of the database", take, target, backup_id(now, kind))
    findings = []
    if taken:
        arrived = run.read(arrival, target, taken)
        audit = run.read(read_back, target) if arrived.there else None
        findings.append(restorable_finding(arrived, audit))
        run.step("enter the platform point", enter_point, target, taken, backup_id(now, "P"))
    after = run.read(standing, target, now)
    run.conclude([*findings, *backup_findings(after, manifest.limits, now)])


@conduct(deadline="24 h", idempotent=True)
def take(target: Target, backup: str) -> str:
    """Take a backup; its id."""
    return backups_of(target).back_up(backup, full=backup.endswith("F")).id


@conduct(deadline="5 min", idempotent=True, attempts=3)
def enter_point(target: Target, backup: str, point: str) -> str:
    """Enter the platform point of a backup; its id, empty when there is no such backup."""
    backups, manifest = backups_of(target), target.manifest
    entries = backups.catalogue()
    state = platform_point(entries, backup)
    if state is None:
        return ""
    return backups.record(point_entry(point, manifest, state)).id


def point_entry(point: str, manifest: Manifest, state: PlatformPoint) -> Entry:
    """The catalogue's entry of a platform point."""
    return Entry(
        number=0,
        id=point,
        kind=Kind.POINT,
        platform=manifest.platform.name,
        began=state.time,
        ended=state.time,
        point=state,
    )
