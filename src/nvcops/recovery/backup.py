"""The database's backup: taken when it is due, read back, and restorable; and how the backups stand."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from nvcops.core.backups import (
    Audit,
    Backups,
    Entry,
    Kind,
    PlatformPoint,
    ReceiverState,
    Room,
    Segment,
    lsn_bytes,
    present,
    segment_name,
)
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import EvidenceError, NvcopsError, TargetError
from nvcops.core.manifest import Limits, Manifest
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Bytes, Seconds

T = TypeVar("T")

# --- Facts ---

_TAKEN_MAX = 200
_GROWTH_OVER = dt.timedelta(days=7)
_GROWTH_AFTER = dt.timedelta(days=1)
_ARRIVAL_S = 600
_LOOK_S = 1.0


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A base backup that is there. Bytes as stored, and as they were in the database's folder."""

    id: str
    kind: Kind
    began: dt.datetime
    ended: dt.datetime
    stored_bytes: int
    raw_bytes: int


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the backups stand. `troubles` says why a part of it could not be read, by the part's name.

    `taken` is oldest first. `head` is the SHA-256 of the catalogue's newest entry: kept as evidence, nobody can change
    the catalogue unnoticed. `growth` is in bytes per second over the last days; None: not known yet.
    """

    configured: bool = True
    entries: int = 0
    head: str = ""
    broken: str = ""
    taken: tuple[Taken, ...] = ()
    receiver: ReceiverState | None = None
    room: Room | None = None
    growth: float | None = None
    troubles: dict[str, str] = {}


@conduct(deadline="5 min", idempotent=True)
def standing(target: Target, now: dt.datetime) -> Standing:
    """Backups in the repository, the transaction log's receiver, and the room that is left."""
    backups = target.backups
    if backups is None:
        return Standing(configured=False)
    troubles: dict[str, str] = {}
    try:
        entries = _asked("catalogue", backups.catalogue, troubles) or []
        broken = ""
    except EvidenceError as error:
        entries, broken = [], error.sentence
    head = _asked("catalogue", backups.head, troubles) if entries else ""
    segments = _asked("log", backups.segments, troubles)
    known = segments is not None and not broken and "catalogue" not in troubles
    there = [entry for entry in present(entries) if entry.kind.of_database]
    return Standing(
        entries=len(entries),
        head=head or "",
        broken=broken,
        taken=tuple(_taken(entry) for entry in there[-_TAKEN_MAX:]),
        receiver=_asked("receiver", backups.receiver, troubles),
        room=_asked("room", backups.room, troubles),
        growth=growth(entries, segments or [], now) if known else None,
        troubles=troubles,
    )


def _asked(name: str, question: Callable[[], T], troubles: dict[str, str]) -> T | None:
    """The answer; None, and why there is none."""
    try:
        return question()
    except EvidenceError:
        raise
    except NvcopsError as error:
        troubles.setdefault(name, error.sentence)
        return None


def _taken(entry: Entry) -> Taken:
    return Taken(
        id=entry.id,
        kind=entry.kind,
        began=entry.began,
        ended=entry.database.stop_time if entry.database else entry.ended,
        stored_bytes=entry.stored_bytes,
        raw_bytes=entry.raw_bytes,
    )


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a backup is in the catalogue, and the segment with which it ends in the repository or its spool."""

    id: str
    catalogued: bool = False
    segment: str = ""
    there: bool = False
    waited_s: int = 0


@conduct(deadline="15 min", idempotent=True)
def arrival(target: Target, backup: str) -> Arrival:
    """Whether the transaction log that the backup needs has arrived; waits for it."""
    backups = _backups(target)
    entry = next((entry for entry in reversed(backups.catalogue()) if entry.id == backup), None)
    if entry is None or entry.database is None:
        return Arrival(id=backup)
    database = entry.database
    last = segment_name(database.timeline, max(0, lsn_bytes(database.stop_lsn) - 1), database.segment_bytes)
    for waited in range(_ARRIVAL_S):
        if _arrived(backups.segments(), last):
            return Arrival(id=backup, catalogued=True, segment=last, there=True, waited_s=waited)
        time.sleep(_LOOK_S)
    return Arrival(id=backup, catalogued=True, segment=last, waited_s=_ARRIVAL_S)


def _arrived(segments: Sequence[Segment], last: str) -> bool:
    """Whether a whole segment of that name, or one that the server wrote after it, is there."""
    return any(not segment.partial and segment.name >= last and segment.name[:8] == last[:8] for segment in segments)


@conduct(deadline="4 h", idempotent=True)
def read_back(target: Target) -> Audit:
    """Everything that was written since the last audit, read back."""
    return _backups(target).examine(deep=False)


def _backups(target: Target) -> Backups:
    if target.backups is None:
        raise TargetError("no backups are configured", hint="set up [backups] in platform.toml")
    return target.backups


# --- Rules ---

BACKUPS = Check("recovery.backups", "Backups", "set up [backups] in platform.toml; without a restore nobody knows")
CATALOGUE = Check("recovery.catalogue", "Backup catalogue", "`nvcops run backup-audit` says what it costs")
BACKUP_AGE = Check(
    "recovery.backup_age", "Newest backup", "`nvcops run database-backup`; the last run says what failed"
)
RECEIVER = Check("recovery.receiver", "Log receiver", "is `nvcops serve` running? `nvcops receive-wal` runs it alone")
ARCHIVE = Check("recovery.archive", "Archive lag", "the log receiver's line; is the repository's disk quick enough?")
SLOT = Check("recovery.slot", "Log kept for us", "the log receiver's line; the server's disk fills while it is away")
REPOSITORY = Check("recovery.repository", "Repository", "a larger disk, or fewer backups: [backups.keep]")
SIZES = Check("recovery.sizes", "Backup sizes", "")
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


def growth(entries: Sequence[Entry], segments: Sequence[Segment], now: dt.datetime) -> float | None:
    """By how many bytes per second the repository grew in the last seven days; None before it is a day old.

    What retention removed counts against it. Of the transaction log it is not known how much that was: once anything
    was removed, as much of it is taken to go as comes.
    """
    start = max([now - _GROWTH_OVER, *(entry.began for entry in entries[:1])])
    if not entries or now - start < _GROWTH_AFTER:
        return None
    sizes = {entry.id: entry for entry in entries}
    removals = [entry for entry in entries if entry.kind is Kind.REMOVAL and entry.began >= start]
    came = sum(entry.stored_bytes for entry in entries if entry.ended >= start)
    went = sum(sizes[name].stored_bytes for removal in removals for name in removal.of if name in sizes)
    log = 0 if removals else sum(segment.bytes for segment in segments if segment.modified >= start)
    return (came - went + log) / (now - start).total_seconds()


def backup_findings(state: Standing, limits: Limits, now: dt.datetime) -> list[Finding]:
    """How the backups stand, line by line; what could not be read is UNKNOWN."""
    if not state.configured:
        return [BACKUPS.unknown("no backups are configured")]
    findings = [*_catalogue_findings(state, limits, now), *_receiver_findings(state, limits)]
    return [*findings, _repository_finding(state, limits)]


def _catalogue_findings(state: Standing, limits: Limits, now: dt.datetime) -> list[Finding]:
    if state.broken:
        return [CATALOGUE.finding(Verdict.CRITICAL, state.broken)]
    if trouble := state.troubles.get("catalogue"):
        return [CATALOGUE.unknown(trouble), BACKUP_AGE.unknown(trouble)]
    chained = f"{state.entries} entries, the newest {state.head[:16]}" if state.entries else "empty"
    line = CATALOGUE.finding(Verdict.OK, chained)
    if not state.taken:
        return [line, BACKUP_AGE.finding(Verdict.CRITICAL, "there is no backup of the database")]
    newest = state.taken[-1]
    age = Seconds(max(0.0, (now - newest.ended).total_seconds()))
    observed = f"{age}: {newest.id}, {newest.kind}"
    return [line, BACKUP_AGE.at_most(age, limits.backup_age, observed=observed), _sizes_finding(state.taken)]


def _sizes_finding(taken: Sequence[Taken]) -> Finding:
    """How large backups are, and how that changed since the one before of their kind."""
    newest = taken[-1]
    said = f"{newest.kind} {Bytes(newest.stored_bytes)} of {Bytes(newest.raw_bytes)}"
    before = [backup for backup in taken[:-1] if backup.kind is newest.kind]
    if before and before[-1].stored_bytes:
        change = newest.stored_bytes / before[-1].stored_bytes - 1
        said += f", {change:+.0%} on the one before".replace("%", " %")
    return SIZES.finding(Verdict.OK, f"{said}; {len(taken)} backups")


def _receiver_findings(state: Standing, limits: Limits) -> list[Finding]:
    receiver = state.receiver
    if receiver is None:
        why = state.troubles.get("receiver", "nobody said")
        return [check.unknown(why) for check in (RECEIVER, ARCHIVE, SLOT)]
    if receiver.trouble or not receiver.running:
        lines = [RECEIVER.finding(Verdict.CRITICAL, receiver.trouble or "it does not run")]
    elif not receiver.synchronous:
        lines = [RECEIVER.finding(Verdict.WARNING, "commits do not wait for it: what was accepted last can be lost")]
    else:
        lines = [RECEIVER.finding(Verdict.OK, f"commits wait for it; timeline {receiver.timeline}")]
    if receiver.lag_s is None:
        lines.append(ARCHIVE.unknown("nothing was received yet"))
    else:
        behind = f"{Seconds(receiver.lag_s)}, {Bytes(receiver.lag_bytes)}"
        lines.append(ARCHIVE.at_most(Seconds(receiver.lag_s), limits.archive_lag, observed=behind))
    if not receiver.server_lsn:
        return [*lines, SLOT.unknown("the server did not say")]
    retained = Bytes(max(0, receiver.retained_bytes))
    return [*lines, SLOT.at_most(retained, limits.slot_retained, subject=receiver.slot)]


def _repository_finding(state: Standing, limits: Limits) -> Finding:
    """When the repository is full, if it goes on to grow as it does."""
    if state.room is None:
        return REPOSITORY.unknown(state.troubles.get("room", "nobody said"))
    used, free = Bytes(state.room.used), state.room.free
    if free is None:
        return REPOSITORY.finding(Verdict.OK, f"{used} used; an object store says no limit")
    largest = max((backup.stored_bytes for backup in state.taken), default=0)
    if free < largest:
        return REPOSITORY.finding(Verdict.CRITICAL, f"{Bytes(free)} free: no room for another full backup")
    if state.growth is None:
        return REPOSITORY.finding(Verdict.OK, f"{used} used, {Bytes(free)} free; its growth is known after a day")
    if state.growth <= 0:
        return REPOSITORY.finding(Verdict.OK, f"{used} used, {Bytes(free)} free; it does not grow")
    left = Seconds(free / state.growth)
    observed = f"full in {left}: {used} used, {Bytes(free)} free, {Bytes(state.growth * 86400)} more a day"
    return REPOSITORY.at_least(left, limits.repository_left, observed=observed)


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
    if audit.faults:
        fault = audit.faults[0]
        why = f"{len(audit.faults)} faults, the first: {fault.subject}: {fault.sentence}"
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
    return _backups(target).back_up(backup, full=backup.endswith("F")).id


@conduct(deadline="5 min", idempotent=True, attempts=3)
def enter_point(target: Target, backup: str, point: str) -> str:
    """Enter the platform point of a backup; its id, empty when there is no such backup."""
    backups, manifest = _backups(target), target.manifest
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
