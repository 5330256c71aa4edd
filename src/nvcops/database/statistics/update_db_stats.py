"""The planner's statistics: where real rows contradict them, what mends it, and that it was made so."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence

import msgspec

from nvcops.changes import carrying
from nvcops.core.changes import ChangeKind
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NvcopsError, StepFailed, TargetError
from nvcops.core.procedures import procedure
from nvcops.core.queries import load
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Seconds
from nvcops.core.upkeep import Done, Order, Outcome
from nvcops.core.workload import Workload
from nvcops.database.copies import asked, clones_of, copied, discarded, untried, weightiest, with_arguments
from nvcops.database.maintenance.db_maintenance import guard_of
from nvcops.database.maintenance.needs import upkeep_of
from nvcops.database.statistics.mending import Examined, Fix, Mended, examined, proof_told, worth

# --- Facts ---

_QUERIES = load("nvcops.database.statistics", "update_db_stats.sql")
_WEEK = dt.timedelta(days=7)


@conduct(deadline="8 h", idempotent=True)
def compared(target: Target, run: str, workload: Workload) -> Examined:
    """Compare plans with real row counts on the copy, and try what mends them."""
    clones = clones_of(target)
    try:
        untried(clones, run)
        with clones.opened(run) as copy:
            heavy = weightiest(workload)
            statements = with_arguments(clones, copy, heavy)
            seen = examined(copy, statements)
    except NvcopsError as error:
        return Examined(trouble=error.sentence)
    return msgspec.structs.replace(seen, without=seen.without + len(heavy) - len(statements))


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What stands on the live server about a table: targets by column, names of statistics over several, last analysis.

    `trouble` says why it could not be read.
    """

    targets: dict[str, int] = {}
    extended: tuple[str, ...] = ()
    analyzed: dt.datetime | None = None
    trouble: str = ""


@conduct(deadline="2 min", idempotent=True)
def kept(target: Target, fix: Fix) -> Kept:
    """Read back what stands on the live server."""
    try:
        rows = upkeep_of(target).rows(_QUERIES["kept"], {"table": fix.relation, "columns": list(fix.columns)})
    except TargetError as error:
        return Kept(trouble=error.sentence)
    if not rows:
        return Kept(trouble=f"{fix.schema}.{fix.table} is not there any more")
    row = rows[0]
    return Kept(
        targets=json.loads(row["targets"]), extended=tuple(json.loads(row["extended"])), analyzed=row["analyzed"]
    )


# --- Rules ---

READ = Check(
    "database.statistics_workload", "Workload", "`nvcops serve` keeps its history; is pg_stat_statements there?"
)
WRONG = Check("database.statistics_wrong", "Wrong estimates", "`nvcops run update-db-stats --apply`")
MADE = Check("database.statistics_mended", "Estimates mended", "`nvcops run update-db-stats --apply`")
LEFT = Check("database.statistics_left", "Left as it is", "")
_GENTLE = {"vacuum_cost_delay": "2", "vacuum_cost_limit": "400"}  # as maintenance does


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A fix, and what became of its orders: the last of them that was carried out, or was not.

    `before` and `after` are what stood on the live server.
    """

    fix: Fix
    done: Done | None
    before: Kept
    after: Kept


def fixes(seen: Examined) -> list[Fix]:
    """What is to be done, each once: what asks nobody first, and each table is analysed by its own fixes."""
    chosen = {found.fix.title: found.fix for found in seen.mended if found.fix and worth(found)}
    return sorted(chosen.values(), key=lambda fix: (fix.asks, fix.title))


def orders(fix: Fix) -> list[Order]:
    """What is carried out for a fix, in this order; each may be begun again.

    >>> from nvcops.database.statistics.mending import Fix
    >>> [order.sql for order in orders(Fix(schema="s", table="t", columns=("a",), target=1000))]
    ['ALTER TABLE "s"."t" ALTER COLUMN "a" SET STATISTICS 1000', 'ANALYZE "s"."t"']
    """
    changing = [Order(title=fix.title, sql=make, undo=(back,)) for make, back in fix.changes]
    return [*changing, Order(title=f"analyse {fix.schema}.{fix.table}", sql=fix.analyze, settings=_GENTLE)]


def stands(fix: Fix, before: Kept, there: Kept) -> bool:
    """Whether what was read back is what was to be made, and took effect: the table was analysed since."""
    return there.analyzed not in (None, before.analyzed) and _is_set(fix, there)


def _is_set(fix: Fix, there: Kept) -> bool:
    if fix.kinds:
        return fix.name in there.extended
    return not fix.target or all(there.targets.get(column, -1) >= fix.target for column in fix.columns)


def said(found: Mended) -> str:
    """What is wrong, why, and what the copy showed."""
    wrong = f"{found.before:,.0f} times off: {found.cause}"
    if found.fix is None:
        return wrong if found.after >= found.before else f"{wrong}; {found.after:,.1f} times off by what mends others"
    return f"{wrong}; {found.fix.title} makes it {found.after:,.1f} times; {proof_told(found.proofs)}"


def findings_of(seen: Examined, made: Sequence[Made]) -> list[Finding]:
    """Every spot, and what became of it; a database whose estimates hold has one line."""
    if seen.trouble:
        return [READ.unknown(seen.trouble)]
    if not seen.statements:
        return [READ.unknown("none of its statements could be run on the copy")]
    without = f"; {seen.without} could not be run" if seen.without else ""
    lines = [READ.finding(Verdict.OK, f"{seen.statements} statements, {seen.nodes:,} nodes of plans compared{without}")]
    by_title = {each.fix.title: each for each in made}
    return lines + [_finding(found, by_title) for found in seen.mended]


def _finding(found: Mended, made: dict[str, Made]) -> Finding:
    subject, observed = found.spot.title, said(found)
    if found.fix is None or not worth(found):
        return LEFT.finding(Verdict.OK, observed, subject=subject)
    one = made.get(found.fix.title)
    if one is None:
        return WRONG.finding(Verdict.WARNING, observed, subject=subject, limit="< 10 times off")
    if one.done is None or one.done.outcome is not Outcome.DONE:
        half = found.fix.asks and _is_set(found.fix, one.after)
        what = "it is set, and takes effect when the table is analysed" if half else "not made"
        why = f"{what}: {one.done.why}" if one.done else what
        return MADE.finding(Verdict.WARNING, f"{why}; {observed}", subject=subject)
    if one.after.trouble:
        return MADE.unknown(f"{one.after.trouble}; {observed}", subject=subject)
    if not stands(found.fix, one.before, one.after):
        return MADE.finding(Verdict.WARNING, f"it was made, and does not stand there; {observed}", subject=subject)
    return MADE.finding(Verdict.OK, f"{observed}; made in {Seconds(one.done.seconds)}", subject=subject)


def summary(seen: Examined, made: Sequence[Made]) -> str:
    """In a sentence."""
    if seen.trouble:
        return ""
    wrong = [found for found in seen.mended if worth(found)]
    if not wrong:
        return f"The planner's estimates hold for {seen.statements} statements."
    done = sum(1 for one in made if one.done and one.done.outcome is Outcome.DONE)
    return f"{len(wrong)} estimates were wrong; {done} of {len(fixes(seen))} changes made."


# --- Procedures ---


@procedure(
    "update-db-stats",
    script="update_db_stats.py",
    when="Sat 02:00",
    lock="database",
    approval=True,
    maintenance=True,
    approval_if="apply",
    needs=["backups", "database.upkeep"],
)
def update_db_stats(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, apply: bool = False, change: str = ""
) -> None:
    """Find columns whose estimates real rows contradict, prove on a copy what mends them, and update the statistics.

    The costliest statements of the last week are run on a restored copy. Where ten times more or fewer rows came than
    were expected, it tries there to analyse again, a finer target, statistics over several columns, and keeps the least
    that mends it, changes the plan and makes nothing slower. Tables whose statistics are only too old are analysed at
    once. What stays is only told, and made with --apply after a second person's approval; then it is read back.

    Args:
        apply: make the changes that stay too, once they are approved
        change: the approved change under which that is done, like C-17; without it a second person is asked
    """
    asks = run.read(asked, target, run.started - _WEEK, run.started)
    if asks.workload is None or not asks.workload.statements:
        run.conclude([READ.unknown(asks.trouble or "the database was asked nothing in the last week")])
        return
    if run.step("restore a copy", copied, target, run.id) is None:  # a rehearsal
        would = f"{len(weightiest(asks.workload))} statements would be run on a copy"
        run.conclude([READ.finding(Verdict.OK, would)])
        return
    seen = run.read(compared, target, run.id, asks.workload)
    run.step("throw the copy away", discarded, target, run.id)
    chosen = fixes(seen)
    staying, number = [fix for fix in chosen if fix.asks], 0
    if staying and apply:
        title = f"change the planner's statistics: {'; '.join(fix.title for fix in staying)}"
        given = carrying.number_of(change)
        number = carrying.carry(run, target, ChangeKind.SETTING, title, number=given, step="statistics")
    made = [_made(run, target, fix) for fix in chosen if apply or not fix.asks]
    lines = findings_of(seen, made)
    carrying.done(run, target, number, carrying.ended_by(lines))
    run.conclude(lines, summary=summary(seen, made))


def _made(run: Run, target: Target, fix: Fix) -> Made:
    """Carry a fix out and read it back; what follows an order that was not done is not begun."""
    done: Done | None = None
    before = run.read(kept, target, fix)
    # As it stands there now, not as it did in the backup: what is taken back is that, and a finer target stays.
    for order in orders(msgspec.structs.replace(fix, former=before.targets)):
        try:
            done = run.step(order.title, carried_out, target, order)
        except StepFailed as error:  # what was made before is told all the same
            done = Done(outcome=Outcome.REFUSED, why=error.sentence)
        if done is None or done.outcome is not Outcome.DONE:
            break
    return Made(fix=fix, done=done, before=before, after=run.read(kept, target, fix))


@conduct(deadline="5 h", idempotent=True)
def carried_out(target: Target, order: Order) -> Done:
    """Carry an order out on the live server, under its guard."""
    entry = target.manifest.database.upkeep if target.manifest.database else None
    if entry is None:
        return Done(outcome=Outcome.REFUSED, why="platform.toml has no [database.upkeep]")
    return upkeep_of(target).carry_out(order, guard_of(entry))
