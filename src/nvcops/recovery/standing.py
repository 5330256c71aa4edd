"""How the backups stand: catalogue, newest backup, the transaction log's receiver, and the room that is left."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from nvcops.core.backups import CATALOGUE_CHECK, Backups, Entry, Kind, ReceiverState, Room, Segment
from nvcops.core.catalogue import base_backups
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import EvidenceError, NvcopsError, TargetError
from nvcops.core.manifest import Limits
from nvcops.core.runs import conduct
from nvcops.core.target import Target
from nvcops.core.units import Bytes, Seconds

T = TypeVar("T")

# --- Facts ---

_TAKEN_MAX = 200
_GROWTH_OVER = dt.timedelta(days=7)
_GROWTH_AFTER = dt.timedelta(days=1)


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
    the catalogue unnoticed. `synchronous`: the manifest wants commits to wait for the log's receiver. `growth` is in
    bytes per second over the last days; None: not known yet.
    """

    configured: bool = True
    synchronous: bool = False
    entries: int = 0
    head: str = ""
    broken: str = ""
    taken: tuple[Taken, ...] = ()
    receiver: ReceiverState | None = None
    room: Room | None = None
    growth: float | None = None
    troubles: dict[str, str] = {}


def backups_of(target: Target) -> Backups:
    """What backs the platform up; raises TargetError where there is nothing."""
    if target.backups is None:
        raise no_backups()
    return target.backups


def no_backups() -> TargetError:
    """The error that platform.toml names no backups."""
    return TargetError("no backups are configured", hint="set up [backups] in platform.toml")


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
    there = base_backups(entries)
    wanted = target.manifest.backups
    return Standing(
        synchronous=wanted is not None and wanted.synchronous,
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


# --- Rules ---

BACKUPS = Check("recovery.backups", "Backups", "set up [backups] in platform.toml; without a restore nobody knows")
CATALOGUE = Check(CATALOGUE_CHECK, "Backup catalogue", "`nvcops run backup-audit` says what it costs")
BACKUP_AGE = Check(
    "recovery.backup_age", "Newest backup", "`nvcops run database-backup`; the last run says what failed"
)
RECEIVER = Check("recovery.receiver", "Log receiver", "is `nvcops serve` running? `nvcops receive-wal` runs it alone")
ARCHIVE = Check("recovery.archive", "Archive lag", "the log receiver's line; is the repository's disk quick enough?")
SLOT = Check("recovery.slot", "Log kept for us", "the log receiver's line; the server's disk fills while it is away")
REPOSITORY = Check("recovery.repository", "Repository", "a larger disk, or fewer backups: [backups.keep]")
SIZES = Check("recovery.sizes", "Backup sizes", "")


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
        return [BACKUPS.unknown(no_backups().sentence)]
    findings = [*_catalogue_findings(state, limits, now), *_receiver_findings(state, limits, wanted=state.synchronous)]
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


def _receiver_finding(receiver: ReceiverState, *, wanted: bool) -> Finding:
    """It runs; and commits wait for it where the manifest says that they must."""
    if receiver.trouble or not receiver.running:
        return RECEIVER.finding(Verdict.CRITICAL, receiver.trouble or "it does not run")
    timeline = f"timeline {receiver.timeline}"
    if receiver.synchronous:
        return RECEIVER.finding(Verdict.OK, f"commits wait for it; {timeline}")
    if wanted:
        missing = "commits do not wait for it: what was accepted last can be lost"
        return RECEIVER.finding(Verdict.CRITICAL, missing, limit="[backups] synchronous")
    return RECEIVER.finding(Verdict.OK, f"it receives, commits do not wait for it; {timeline}")


def _receiver_findings(state: Standing, limits: Limits, *, wanted: bool) -> list[Finding]:
    receiver = state.receiver
    if receiver is None:
        why = state.troubles.get("receiver", "nobody said")
        return [check.unknown(why) for check in (RECEIVER, ARCHIVE, SLOT)]
    lines = [_receiver_finding(receiver, wanted=wanted)]
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
