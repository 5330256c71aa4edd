"""The tables kept well: vacuumed, analysed, frozen, their indexes built anew; worst first, and nobody waits for it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import StepFailed, TargetError
from nvcops.core.manifest import Calendar, Manifest, UpkeepEntry
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.schedule import due_times, next_due
from nvcops.core.target import Target
from nvcops.core.units import Bytes, Count, Seconds
from nvcops.core.upkeep import Done, Guard, Order, Outcome, Privilege
from nvcops.database.checks.wraparound import Holder
from nvcops.database.maintenance.needs import (
    Condition,
    Kind,
    Measure,
    Plan,
    Skipped,
    Task,
    condition,
    index_condition,
    measures,
    old,
    plan,
    reindexing,
    upkeep_of,
)
from nvcops.database.topics import listed, then

# --- Rules ---

_GENTLE = {
    "vacuum_cost_delay": "2",  # milliseconds, as autovacuum; with twice its limit, at twice its pace
    "vacuum_cost_limit": "400",
    "max_parallel_maintenance_workers": "0",  # one processor is enough to lose
}
_DRAGGED = 0.5  # of the dead rows: if more are left, somebody still sees them
KEPT = Check("database.maintenance", "Maintained", "`nvcops run db-maintenance --table {name}`; {why}")
LEFT = Check("database.maintenance_left", "Left undone", "`nvcops run db-maintenance` goes on where it stopped")
HOLDERS = Check("database.maintenance_holders", "Old snapshots", "{remedy}")
FELT = Check("database.maintenance_felt", "Felt by customers", "narrow the window, or lower [database.upkeep] slowdown")
RIGHTS = Check("database.maintenance_rights", "Rights of upkeep", "{grant}")
WINDOW = Check("database.maintenance_window", "Window", "wait for it, or `nvcops run db-maintenance --now`")


class Open(msgspec.Struct, frozen=True):
    """Whether maintenance may go on, until when (None: no end), and when it may next."""

    now: bool
    until: dt.datetime | None = None
    next: dt.datetime | None = None


def window_at(entry: UpkeepEntry, calendar: Calendar, zone: ZoneInfo, moment: dt.datetime) -> Open:
    """Whether a moment lies in the window.

    >>> from nvcops.core.schedule import When
    >>> entry = UpkeepEntry(window=When.read("Sun 02:00"), window_length=Seconds(3 * 3600))
    >>> def at(hour, minute=0):
    ...     return window_at(entry, Calendar(), ZoneInfo("UTC"), dt.datetime(2026, 11, 22, hour, minute, tzinfo=dt.UTC))
    >>> [at(*time).now for time in ((1, 59), (2, 0), (4, 59), (5, 0))]
    [False, True, True, False]
    >>> at(3).until.hour, at(5).next.day, window_at(UpkeepEntry(), Calendar(), ZoneInfo("UTC"), at(3).until)
    (5, 29, Open(now=True, until=None, next=None))
    """
    if entry.window is None:
        return Open(now=True)
    length = dt.timedelta(seconds=entry.window_length)
    begun = due_times(entry.window, calendar, zone, moment - length + dt.timedelta(microseconds=1), moment + _TICK)
    if begun:
        return Open(now=True, until=begun[-1] + length)
    return Open(now=False, next=next_due(entry.window, calendar, zone, moment))


_TICK = dt.timedelta(microseconds=1)


def guard_of(entry: UpkeepEntry, until: dt.datetime | None = None) -> Guard:
    """How far an order may disturb on this platform."""
    return Guard(lock=entry.lock, queue=entry.queue, slowdown=entry.slowdown, until=until)


def kinds(*, vacuum: bool, analyze: bool, freeze: bool, reindex: bool) -> list[Kind]:
    """What was asked for; nothing is the runbook's weekly maintenance.

    >>> [kind.value for kind in kinds(vacuum=False, analyze=False, freeze=False, reindex=False)]
    ['vacuum', 'analyze']
    """
    asked = {Kind.FREEZE: freeze, Kind.VACUUM: vacuum, Kind.ANALYZE: analyze, Kind.REINDEX: reindex}
    return [kind for kind, wanted in asked.items() if wanted] or [Kind.VACUUM, Kind.ANALYZE]


class Carried(msgspec.Struct, frozen=True):
    """A task and what came of it; None: it was a rehearsal. `lost`: whether it was done is not known."""

    task: Task
    done: Done | None
    lost: bool = False


def kept_finding(
    carried: Carried, before: Measure | None, after: Measure | None, holders: Sequence[Holder], unread: str = ""
) -> Finding:
    """What a task did, by what was read before and after it; `unread` says why nothing was read after it."""
    task, done = carried.task, carried.done
    name = task.name
    if done is None:
        return KEPT.finding(Verdict.OK, f"would {task.title}", subject=name)
    if done.outcome is not Outcome.DONE:
        finding = KEPT.finding(Verdict.WARNING, f"{task.kind} {done.outcome}: {done.why}", subject=name)
        return then(finding, name=name, why="its session said why")
    if unread:
        return then(KEPT.unknown(f"it could not be read back: {unread}", subject=name), name=name, why="is it there?")
    if before is None or after is None:
        return then(KEPT.unknown("it is not there any more", subject=name), name=name, why="was it dropped?")
    observed = f"{_change(task, before, after)}, in {Seconds(done.seconds)}"
    if trouble := _not_as_meant(task, before, after):
        who = f"; still seen by {holders[0].who}" if holders and task.kind is not Kind.REINDEX else ""
        finding = KEPT.finding(Verdict.WARNING, f"{trouble}: {observed}{who}", subject=name)
        return then(finding, name=name, why=holders[0].remedy if holders else "who holds an old snapshot?")
    return KEPT.finding(Verdict.OK, observed, subject=name)


def _change(task: Task, before: Measure, after: Measure) -> str:
    """What was read back."""
    if task.kind is Kind.REINDEX:
        return f"{Bytes(before.bytes)} -> {Bytes(after.bytes)}" + ("" if before.valid else ", valid again")
    said = []
    if task.kind is not Kind.ANALYZE:
        said.append(f"{Count(before.dead)} -> {Count(after.dead)} dead rows")
    if task.kind is Kind.FREEZE:
        said.append(f"age {Count(before.age)} -> {Count(after.age)}")
    if task.analyzes:
        said.append("analysed")
    return ", ".join(said)


def _not_as_meant(task: Task, before: Measure, after: Measure) -> str:
    """What the catalogue does not show though the server said that it was done."""
    vacuumed = task.kind in (Kind.VACUUM, Kind.FREEZE)
    shortcomings = {
        "it is not valid": task.kind is Kind.REINDEX and not after.valid,
        "it was not analysed": task.analyzes and after.analyses <= before.analyses,
        "it was not vacuumed": vacuumed and not before.partitioned and after.vacuums <= before.vacuums,
        "it is not younger": task.kind is Kind.FREEZE and after.age >= before.age > _YOUNG,
        "its dead rows are there": vacuumed and before.dead >= _MANY and after.dead > _DRAGGED * before.dead,
    }
    return next((said for said, true in shortcomings.items() if true), "")


_MANY = 1_000
_YOUNG = 10_000


def left_finding(left: Sequence[Skipped]) -> Finding:
    """What was not done, with the reason of the first.

    >>> left_finding([]).observed, left_finding([Skipped("a", "the window is over"), Skipped("b", "x")]).observed
    ('nothing', '2: a (the window is over), b (x)')
    """
    if not left:
        return LEFT.finding(Verdict.OK, "nothing")
    names = listed([f"{one.name} ({one.why})" for one in left], most=3)
    return LEFT.finding(Verdict.WARNING, f"{len(left)}: {names}")


def holders_finding(holders: Sequence[Holder]) -> Finding:
    """Who sees rows that vacuum could remove."""
    if not holders:
        return HOLDERS.finding(Verdict.OK, "none")
    observed = f"{listed([holder.who for holder in holders], most=3)}: what died since is not removed"
    return then(HOLDERS.finding(Verdict.WARNING, observed), remedy=holders[0].remedy)


def felt_finding(done: Sequence[Done], entry: UpkeepEntry) -> Finding:
    """The longest that anybody waited behind an order, and the slowest that a service was."""
    queued = max((one.queued_s for one in done), default=0.0)
    worst = max((one for one in done if one.p99_worst_s), key=lambda one: one.p99_worst_s or 0, default=None)
    said = f"at most {Seconds(queued)} in a queue"
    if worst and worst.p99_before_s and worst.p99_worst_s:
        said += f"; p99 {Seconds(worst.p99_worst_s)} at worst, {Seconds(worst.p99_before_s)} before"
    else:
        said += "; too few requests for a p99"
    slow = any(
        one.p99_worst_s and one.p99_before_s and one.p99_worst_s > entry.slowdown * one.p99_before_s for one in done
    )
    over = queued > entry.queue or slow
    limit = f"<= {entry.queue}, {entry.slowdown:g} times"
    return FELT.finding(Verdict.WARNING if over else Verdict.OK, said, limit=limit)


def rights_finding(privileges: Sequence[Privilege]) -> Finding:
    """What the role lacks."""
    lacking = [one for one in privileges if not one.held]
    if not lacking:
        return RIGHTS.finding(Verdict.OK, "all that it needs")
    observed = f"it cannot {listed([one.purpose for one in lacking])}"
    return then(RIGHTS.finding(Verdict.WARNING, observed), grant="; ".join(one.grant for one in lacking))


# --- Procedures ---


@procedure("db-maintenance", script="db_maintenance.py", when="Sun 02:00", lock="database", needs=["database.upkeep"])
def db_maintenance(  # noqa: PLR0913, D417 - its Args are the script's flags
    run: Run,
    target: Target,
    *,
    vacuum: bool = False,
    analyze: bool = False,
    freeze: bool = False,
    reindex: bool = False,
    table: str = "",
    now: bool = False,
) -> None:
    """Vacuum, analyse and freeze the tables that need it and build their indexes anew, worst first.

    Who holds old snapshots is looked at first: what they still see cannot be removed. Each order waits for its lock a
    moment only and tries again, and is stopped before anybody waits behind it for longer than a second, when the p99 of
    a service doubles, and at the end of the window. What it did is read back. Without flags: --vacuum --analyze.

    Args:
        vacuum: remove dead rows
        analyze: renew the planner's statistics
        freeze: freeze rows before the server insists
        reindex: build invalid and swollen indexes anew, concurrently
        table: only this table, whether it needs it or not
        now: whatever the window says
    """
    manifest = target.manifest
    entry = manifest.database.upkeep if manifest.database else None
    if entry is None:
        run.conclude([LEFT.unknown("nothing keeps the database: platform.toml has no [database.upkeep]")])
        return
    zone = ZoneInfo(manifest.platform.time_zone)
    window = Open(now=True) if now else window_at(entry, manifest.calendar, zone, run.started)
    if not window.now:
        when = f", it is next open at {window.next:%Y-%m-%d %H:%M} UTC" if window.next else ""
        run.conclude([WINDOW.unknown(f"closed: {entry.window} for {entry.window_length}{when}")])
        return
    chosen = kinds(vacuum=vacuum, analyze=analyze, freeze=freeze, reindex=reindex)
    seen = run.read(condition, target, table)
    if seen.trouble:
        run.conclude([LEFT.unknown(seen.trouble)])
        return
    run.conclude(_maintained(run, target, seen, chosen, window.until))


def _maintained(
    run: Run, target: Target, seen: Condition, chosen: Sequence[Kind], until: dt.datetime | None
) -> list[Finding]:
    """Act, and read again."""
    manifest, holders = target.manifest, old(seen.holders)
    for name in seen.leftovers:
        _stepped(run, f"remove {name}, which a stopped reindex left", remove_index, target, name, until)
    findings, carried, left = _carried(run, target, plan(seen, chosen), until, holders)
    if Kind.REINDEX in chosen and not _over(carried, _entry(manifest).queue):
        limits = manifest.database.limits if manifest.database else None
        anew = reindexing(run.read(index_condition, target, seen.table), limits) if limits else Plan(())
        more, carried_too, left_too = _carried(run, target, anew, until, holders)
        findings, carried, left = findings + more, carried + carried_too, left + left_too
    if not carried:
        nothing = f"nothing needs it: {len(seen.tables)} tables with changes"
        findings.append(KEPT.finding(Verdict.OK, nothing))
    entry = manifest.database.upkeep if manifest.database else None
    done = [one.done for one in carried if one.done]
    lines = [left_finding(left), holders_finding(holders), rights_finding(seen.privileges)]
    return [*findings, *lines, *([felt_finding(done, entry)] if done and entry else [])]


def _carried(
    run: Run, target: Target, wanted: Plan, until: dt.datetime | None, holders: Sequence[Holder]
) -> tuple[list[Finding], list[Carried], list[Skipped]]:
    """Carry the tasks out until one says that it is enough; what each did, and what is left."""
    if not wanted.tasks:
        return [], [], list(wanted.skipped)
    names = sorted({task.name for task in wanted.tasks})
    before = run.read(measures, target, names)
    carried: list[Carried] = []
    for task in wanted.tasks:
        if _over(carried, _entry(target.manifest).queue):
            break
        done, lost = _stepped(run, task.title, carry_out, target, task, until)
        carried.append(Carried(task, done, lost))
    after, unread = _read_back(run, target, names)
    undone = [Skipped(task.name, _why(carried)) for task in wanted.tasks[len(carried) :]]
    findings = [
        kept_finding(one, before.get(one.task.name), after.get(one.task.name), holders, unread) for one in carried
    ]
    return findings, carried, [*undone, *wanted.skipped]


def _read_back(run: Run, target: Target, names: list[str]) -> tuple[Mapping[str, Measure], str]:
    """What stands there now, or why that is not known: what was done is told all the same."""
    try:
        return run.read(measures, target, names), ""
    except TargetError as error:
        return {}, error.sentence


def _stepped(run: Run, title: str, act: Callable[..., Done], /, *args: Any) -> tuple[Done | None, bool]:
    """A step, and whether nobody knows what came of it."""
    try:
        return run.step(title, act, *args), False
    except StepFailed as error:
        return Done(outcome=Outcome.REFUSED, why=error.sentence), True


def _over(carried: Sequence[Carried], queue: Seconds) -> bool:
    """Whether the last order was stopped for a reason that stands: the window, customers who feel it, a lost server.

    A queue behind one table says nothing about the next.
    """
    if carried and carried[-1].lost:
        return True
    last = carried[-1].done if carried else None
    return last is not None and last.outcome is Outcome.STOPPED and last.queued_s < queue / 2


def _why(carried: Sequence[Carried]) -> str:
    last = carried[-1].done if carried else None
    return last.why if last else "it was not begun"


@conduct(deadline="5 h", idempotent=True)
def carry_out(target: Target, task: Task, until: dt.datetime | None) -> Done:
    """One order, under the platform's guard."""
    order = Order(title=f"{task.kind} {task.name}", sql=task.sql, settings=_GENTLE)
    return upkeep_of(target).carry_out(order, guard_of(_entry(target.manifest), until))


@conduct(deadline="1 h", idempotent=True)
def remove_index(target: Target, name: str, until: dt.datetime | None) -> Done:
    """Remove an index that no query may use."""
    order = Order(title=f"remove {name}", sql=f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    return upkeep_of(target).carry_out(order, guard_of(_entry(target.manifest), until))


def _entry(manifest: Manifest) -> UpkeepEntry:
    return (manifest.database.upkeep if manifest.database else None) or UpkeepEntry()
