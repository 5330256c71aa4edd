"""What the repository no longer needs to keep, and what it must not lose: retention, legal holds, and the removal.

The newest of a kind are kept without a gap, from the oldest that is needed on; what they build upon is kept with them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from nvcops.core import schedule
from nvcops.core.backups import Audit, Entry, Kind, LogKept, Segment, lsn_bytes, segment_name
from nvcops.core.catalogue import holds, needs, on_hold, present
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NotFoundError, StateError, UsageError
from nvcops.core.manifest import Keep, KeepTable
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Bytes
from nvcops.recovery.backup import backup_id as entry_id
from nvcops.recovery.backup import read_back
from nvcops.recovery.standing import backups_of

# --- Facts ---


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A legal hold: which entry must not be removed, why, and since when. `actor` is the run that entered it."""

    id: str
    of: str
    reason: str
    since: dt.datetime
    actor: str = ""


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


@conduct(deadline="5 min", idempotent=True)
def current_holds(target: Target) -> list[Hold]:
    """The legal holds that nobody has released."""
    return [
        Hold(id=entry.id, of=name, reason=entry.note, since=entry.began, actor=entry.actor)
        for entry in holds(backups_of(target).catalogue())
        for name in entry.of
    ]


@conduct(deadline="5 min", idempotent=True)
def entry_kind(target: Target, name: str) -> Kind:
    """What kind of backup is in the repository by that id.

    Raises:
        NotFoundError: there is none, or it was removed.
    """
    entries = backups_of(target).catalogue()
    there = {entry.id: entry for entry in present(entries) if entry.kind in REMOVABLE}
    if name in there:
        return there[name].kind
    if removal := next((entry for entry in entries if entry.kind is Kind.REMOVAL and name in entry.of), None):
        raise NotFoundError(f"{name} was removed at {removal.ended:%Y-%m-%d %H:%M} UTC", hint="`nvcops backups`")
    newest = ", ".join(list(there)[-3:]) or "there is no backup"
    raise NotFoundError(f"there is no backup {name!r}", hint=f"the newest: {newest}")


@conduct(deadline="15 min", idempotent=True)
def removable(target: Target, now: dt.datetime, damaged: Sequence[str]) -> Plan:
    """What the manifest's [backups.keep] and the legal holds allow to remove."""
    backups, entry = backups_of(target), target.manifest.backups
    keep = entry.keep if entry else KeepTable()
    return plan(backups.catalogue(), backups.segments(), keep, now, damaged)


# --- Rules ---

RETENTION = Check(
    "recovery.retention", "Retention", "`nvcops run backup-retention` once more; then the repository's rights"
)
KEPT = Check("recovery.kept", "Kept", "")
HELD = Check("recovery.hold", "Legal hold", "`nvcops backups` lists what is there")
DAMAGED = Check(
    "recovery.damaged", "Damaged backup", "`nvcops run backup-audit`; then `nvcops run database-backup --full`"
)
FULLS_MIN = 2
_TABLES = {
    "database": (Kind.FULL, Kind.INCREMENTAL),
    "application": (Kind.APPLICATION,),
    "configuration": (Kind.CONFIGURATION,),
    "logs": (Kind.LOGS,),
}
REMOVABLE = frozenset({Kind.POINT, *(kind for kinds in _TABLES.values() for kind in kinds)})


def damaged_in(audit: Audit) -> list[str]:
    """What does not count as kept: what is damaged itself, and what cannot be restored without something that is."""
    return sorted({name for fault in audit.faults for name in (fault.subject, *fault.backups)})


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
    stays = _with_needs(kept | on_hold(entries), there)
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


def retention_findings(before: Plan, after: Plan, removed: str | None, held: Sequence[Hold]) -> list[Finding]:
    """What went, what stays, and what stays only because somebody said so."""
    told = amount(before)
    if removed is None:
        line = RETENTION.finding(Verdict.OK, f"may go: {told}")
    elif left := set(before.ids) & set(after.ids) or {row.first for row in before.log} & {
        row.first for row in after.log
    }:
        line = RETENTION.finding(Verdict.CRITICAL, f"still there: {', '.join(sorted(left)[:3])}")
    else:
        line = RETENTION.finding(Verdict.OK, f"removed: {told}")
    kinds = ", ".join(f"{count} {kind}" for kind, count in after.kept.items()) or "nothing"
    lines = [line, KEPT.finding(Verdict.OK, kinds)]
    lines += [HELD.finding(Verdict.OK, f"since {hold.since:%Y-%m-%d}: {hold.reason}", subject=hold.of) for hold in held]
    if after.held:
        cost = f"{len(after.held)} kept for holds alone: {Bytes(after.held_bytes)}, and the log since then"
        lines.append(HELD.finding(Verdict.OK, cost))
    return lines


def amount(what: Plan) -> str:
    """How much a plan removes.

    >>> amount(Plan()), amount(Plan(ids=("a",), segments=2, bytes=2048))
    ('nothing', '1 entries and 2 segments of the log, 2 KiB')
    """
    if not (what.ids or what.segments):
        return "nothing"
    return f"{len(what.ids)} entries and {what.segments} segments of the log, {Bytes(what.bytes)}"


def the_hold(held: Sequence[Hold], name: str) -> Hold:
    """The hold that is meant by its own id, or by that of what it holds.

    Raises:
        NotFoundError: there is none.
        UsageError: there are several.
    """
    meant = [hold for hold in held if name in (hold.id, hold.of)]
    if not meant:
        raise NotFoundError(f"{name!r} is not on hold", hint=", ".join(hold.of for hold in held) or "nothing is")
    if len(meant) > 1:
        several = ", ".join(f"{hold.id} ({hold.reason})" for hold in meant)
        raise UsageError(f"{name} is on hold {len(meant)} times", hint=f"name one of {several}")
    return meant[0]


# --- Procedures ---


@procedure("backup-retention", when="daily 18:45", lock="backup", needs=["backups"])
def backup_retention(run: Run, target: Target) -> None:
    """Remove from the repository what [backups.keep] no longer wants, and nothing that anything kept still needs.

    Kept are the newest of each kind, by count and age, what they build upon, the transaction log from the oldest kept
    backup on, what a kept platform point names, and whatever is on hold. Two fulls stay always, and a damaged backup
    counts as none. --dry-run says what would go and how much that frees.
    """
    audit = run.read(read_back, target)
    damaged = damaged_in(audit)
    before = run.read(removable, target, run.started, damaged)
    title = "finish earlier removals" if amount(before) == "nothing" else f"remove {amount(before)}"
    removed = run.step(title, remove, target, before, entry_id(run.started, "X"), run.id)
    after = run.read(removable, target, run.started, damaged)
    held = run.read(current_holds, target)
    faults = [DAMAGED.finding(Verdict.WARNING, fault.sentence, subject=fault.subject) for fault in audit.faults[:20]]
    run.conclude([*retention_findings(before, after, removed, held), *faults])


@procedure("backup-hold", lock="backup", needs=["backups"])
def backup_hold(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, backup_id: str = "", reason: str = ""
) -> None:
    """Keep a backup, and all that it needs, for legal reasons: retention does not remove it until it is released.

    Args:
        backup_id: which one
        reason: why, in words that will be understood in years
    """
    if not (backup_id and reason.strip()):
        raise UsageError("which backup, and why?", hint='--backup-id ID --reason "TEXT"')
    kind = run.read(entry_kind, target, backup_id)
    hold = entry_id(run.started, "H")
    run.step(f"hold the {kind} backup {backup_id}", enter, target, Kind.HOLD, hold, backup_id, reason.strip(), run.id)
    held = [each for each in run.read(current_holds, target) if each.of == backup_id]
    lines = [HELD.finding(Verdict.OK, f"{each.id}: {each.reason}", subject=each.of) for each in held]
    run.conclude(lines or [HELD.finding(Verdict.WARNING, "it is not on hold", subject=backup_id)])


@procedure("backup-release", lock="backup", approval=True, needs=["backups"])
def backup_release(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, backup_id: str = "", reason: str = ""
) -> None:
    """End a legal hold, when a second person has approved that; retention then removes the backup when it is due.

    Args:
        backup_id: the backup, or the hold where it has several
        reason: why it may end
    """
    if not (backup_id and reason.strip()):
        raise UsageError("which hold ends, and why?", hint='--backup-id ID --reason "TEXT"')
    hold = the_hold(run.read(current_holds, target), backup_id)
    signed = run.approve("release-hold", f"End of the hold {hold.id} on {hold.of} ({hold.reason}): {reason.strip()}")
    release = entry_id(run.started, "U")
    who = signed.person or run.id
    done = run.step(f"release {hold.of}", enter, target, Kind.RELEASE, release, hold.id, reason.strip(), who)
    left = [each for each in run.read(current_holds, target) if each.id == hold.id]
    if done and left:
        run.conclude([HELD.finding(Verdict.CRITICAL, "it is still on hold", subject=hold.of)])
    else:
        told = f"{hold.id} was released" if not left else f"still on hold: {hold.reason}"
        run.conclude([HELD.finding(Verdict.OK, told, subject=hold.of)])


@conduct(deadline="4 h", idempotent=True)
def remove(target: Target, what: Plan, removal: str, run: str) -> str:
    """Remove what was planned; the id of the removal."""
    kept = [f"timeline {line.timeline} from {line.first}" for line in what.log if line.first]
    note = f"log kept: {', '.join(kept)}" if kept else ""
    draft = _draft(target, Kind.REMOVAL, removal, note, run)
    return backups_of(target).remove(what.ids, what.log, draft=draft).id


@conduct(deadline="5 min", idempotent=True, attempts=3)
def enter(target: Target, kind: Kind, name: str, of: str, note: str, actor: str) -> str:
    """Enter a hold or a release; its id."""
    draft = msgspec.structs.replace(_draft(target, kind, name, note, actor), of=(of,))
    entry = backups_of(target).record(draft)
    if (entry.kind, entry.of) != (kind, draft.of):
        raise StateError(f"another one was entered as {name} in the same second", hint="run it again")
    return entry.id


def _draft(target: Target, kind: Kind, name: str, note: str, actor: str) -> Entry:
    now, platform = schedule.now(), target.manifest.platform.name
    return Entry(number=0, id=name, kind=kind, platform=platform, began=now, ended=now, note=note, actor=actor)
