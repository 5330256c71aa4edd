"""Indexes that the workload lacks are found, proven on a restored copy, made and watched; superfluous ones go."""

from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.changes import carrying
from nvcops.core.changes import ChangeKind
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.clones import Copied
from nvcops.core.errors import NvcopsError, UsageError
from nvcops.core.manifest import Manifest
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Bytes, Count, Ratio, Seconds
from nvcops.core.workload import Workload
from nvcops.database.copies import asked, clones_of, copied, discarded, weightiest, with_arguments
from nvcops.database.indexes.advice import Advice, advise, touched, writes_of
from nvcops.database.indexes.indexing import applied
from nvcops.database.indexes.proof import begin
from nvcops.database.indexes.proving import ROUNDS
from nvcops.database.indexes.removal import Removal, proven, superfluous
from nvcops.database.optimization.altering import upkeep_of

_WEEK = dt.timedelta(days=7)

# --- Facts ---


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the copy said: which indexes help, which can go; `trouble` says why nobody knows.

    `touched` are, by statement, the columns that it names and the tables that it writes to.
    """

    advice: Advice = Advice(statements=0)
    removal: Removal = Removal()
    touched: dict[int, tuple[str, ...]] = {}
    trouble: str = ""


@conduct(deadline="2 min", idempotent=True)
def candidates_to_go(target: Target) -> Removal:
    """Look for indexes that are the same again, or that no server uses."""
    try:
        return superfluous(target)
    except NvcopsError as error:
        return Removal(trouble=error.sentence)


@conduct(deadline="6 h", idempotent=True)
def found(target: Target, run: str, workload: Workload, going: Removal, budget: int) -> Found:
    """Search for indexes on the copy and prove them there, and prove that what goes is missed by nobody."""
    if target.database is None:
        return Found(trouble="platform.toml names no [database]")
    clones = clones_of(target)
    try:
        writes = writes_of(target.database, workload)
        with clones.opened(run) as copy:
            chosen = weightiest(workload)
            with_values = {one.id: one for one in with_arguments(clones, copy, chosen)}
            statements = [with_values.get(one.id, one) for one in chosen]
            trial = begin(copy)
            measurable = [one for one in statements if one.id in with_values]
            removal = proven(trial, measurable, going, ROUNDS) if going.superfluous else going
            advice = advise(trial, statements, writes, budget)
            return Found(advice=advice, removal=removal, touched=touched(copy, workload.statements))
    except NvcopsError as error:
        return Found(trouble=error.sentence)


# --- Rules ---

WORKLOAD = Check("indexes.workload", "Workload", "`nvcops serve` keeps what the database is asked")
SEARCHED = Check("indexes.searched", "Search", "")
MISSING = Check("indexes.missing", "Missing index", "scripts/optimize_indexes.py --apply, with a second person")
REJECTED = Check("indexes.rejected", "Rejected index", "")
SUPERFLUOUS = Check(
    "indexes.superfluous",
    "Superfluous index",
    "scripts/optimize_indexes.py --remove-unused --apply, with a second person",
)
SPARED = Check("indexes.spared", "Index that stays", "")
_LINES_MAX = 20


def budget_of(written: str, manifest: Manifest) -> int:
    """The bytes that new indexes may take together: the flag's, else [database.upkeep] index_budget.

    Raises:
        UsageError: it is no size.
    """
    if not written:
        entry = manifest.database.upkeep if manifest.database else None
        return int(entry.index_budget) if entry else 1 << 30
    try:
        return int(Bytes.read(written))
    except ValueError as error:
        raise UsageError(f"--budget: {error}") from error


def workload_finding(workload: Workload, advice: Advice) -> Finding:
    """What was asked, and how much of it could be judged."""
    parts = f"{advice.statements} statements of {len(workload.statements)} make up the time"
    parts += f", {advice.unmeasured} judged by the planner alone" if advice.unmeasured else ""
    parts += f", {len(advice.unplanned)} cannot be planned" if advice.unplanned else ""
    return WORKLOAD.finding(Verdict.OK, parts, subject=workload.server)


def searched_finding(advice: Advice) -> Finding:
    """What the search came to, in the planner's costs."""
    if not advice.cost:
        return SEARCHED.finding(Verdict.OK, "nothing could be searched")
    share, floor = Ratio(advice.cost_found / advice.cost), Ratio(advice.cost_floor / advice.cost)
    observed = (
        f"{share} of the cost without, {floor} with all {advice.candidates} candidates; {advice.asked:,} plans in "
        f"{Seconds(round(advice.search_s, 1))} by {advice.means}"
    )
    return SEARCHED.finding(Verdict.OK, observed)


def advice_findings(advice: Advice) -> list[Finding]:
    """Each proven index with what it gains; what was rejected, and why."""
    lines = [searched_finding(advice)]
    for one in advice.kept:
        observed = (
            f"saves {Seconds(round(one.saved_s, 3))} of the workload's time; {Bytes(one.bytes)}, built in "
            f"{Seconds(round(one.seconds, 2))} on the copy"
        )
        lines.append(MISSING.finding(Verdict.WARNING, observed, subject=one.index.title, limit="none is missing"))
    if not advice.kept:
        lines.append(MISSING.finding(Verdict.OK, "none"))
    lines += [REJECTED.finding(Verdict.OK, one.why, subject=one.index.title) for one in advice.rejected[:_LINES_MAX]]
    return lines


def removal_findings(removal: Removal) -> list[Finding]:
    """Each index that nobody misses, and those that stay."""
    if removal.trouble:
        return [SUPERFLUOUS.unknown(removal.trouble)]
    lines = [
        SUPERFLUOUS.finding(Verdict.WARNING, f"{one.why}; {Bytes(one.bytes)}", subject=one.name, limit="none")
        for one in removal.superfluous
    ]
    lines += [SUPERFLUOUS.finding(Verdict.OK, "none")] if not lines else []
    return lines + [SPARED.finding(Verdict.OK, one.why, subject=one.name) for one in removal.spared[:_LINES_MAX]]


def asking(seen: Found) -> str:
    """What a second person is asked.

    >>> asking(Found())
    ''
    """
    parts = [f"make {one.index.title} ({Bytes(one.bytes)})" for one in seen.advice.kept]
    parts += [f"remove {one.name} ({one.why})" for one in seen.removal.superfluous]
    return "; ".join(parts)


# --- Procedures ---


@procedure(
    "optimize-indexes",
    script="optimize_indexes.py",
    when="Sat 10:00",
    lock="database",
    approval=True,
    maintenance=True,
    approval_if="apply",
    needs=["backups"],
)
def optimize_indexes(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, budget: str = "", apply: bool = False, remove_unused: bool = False, change: str = ""
) -> None:
    """Find the indexes that the last week's statements lack, and prove them on a restored copy.

    Candidates are read off the statements' plans, searched by Extend with the planner's word, and then really built on
    the copy: one that no statement gains by, or that slows one by more than a tenth, goes; sizes are real ones. With
    --apply, when a second person has seen what was measured, they are made concurrently and watched: when a statement
    gets slower, what concerns it is taken back at once. Superfluous ones are proven to be missed by nobody, and go the
    same way; what makes them again stands in the run.

    Args:
        budget: bytes that new indexes may take together ("500 MiB"); left out: [database.upkeep] index_budget
        apply: make and remove what was proven, watch it, and take it back when a statement gets slower
        remove_unused: look for indexes that are the same again, or that no server uses
        change: the approved change under which that is done, like C-17; without it a second person is asked
    """
    bytes_max = budget_of(budget, target.manifest)
    if apply:
        upkeep_of(target.manifest)  # before anything is restored for nothing
    asks = run.read(asked, target, run.started - _WEEK, run.started)
    if asks.workload is None or not asks.workload.statements:
        run.conclude([WORKLOAD.unknown(asks.trouble or "the database was asked nothing in the last week")])
        return
    going = run.read(candidates_to_go, target) if remove_unused else Removal()
    copy = run.step("restore a copy", copied, target, run.id)
    if copy is None:  # a rehearsal
        run.conclude(_rehearsed(asks.workload, going, bytes_max))
        return
    seen = run.read(found, target, run.id, asks.workload, going, bytes_max)
    run.step("throw the copy away", discarded, target, run.id)
    if seen.trouble:
        run.conclude([WORKLOAD.unknown(seen.trouble)])
        return
    lines = advice_findings(seen.advice) + (removal_findings(seen.removal) if remove_unused else [])
    if apply and (what := asking(seen)):
        title = f"On the live database: {what}"
        given = carrying.number_of(change)
        number = carrying.carry(run, target, ChangeKind.INDEX, title, number=given, step="indexes")
        wanted = (MISSING.name, SUPERFLUOUS.name)
        lines = [line for line in lines if line.check not in wanted or line.verdict is Verdict.OK]
        done = applied(run, target, [one.index for one in seen.advice.kept], seen.removal.superfluous, seen.touched)
        carrying.done(run, target, number, carrying.ended_by(done))
        lines += done
    run.conclude([workload_finding(asks.workload, seen.advice), *lines], summary=_summary(seen, copy))


def _rehearsed(workload: Workload, going: Removal, budget: int) -> list[Finding]:
    said = f"{len(weightiest(workload))} statements would be searched and measured on a copy, within {Bytes(budget)}"
    lines = [WORKLOAD.finding(Verdict.OK, said, subject=workload.server)]
    return lines + [
        SPARED.finding(Verdict.OK, f"would be tried: {one.why}", subject=one.name) for one in going.superfluous
    ]


def _summary(seen: Found, copy: Copied) -> str:
    kept, gone = seen.advice.kept, seen.removal.superfluous
    size = Bytes(sum(one.bytes for one in kept))
    return (
        f"{Count(len(kept))} indexes of {size} are proven to help, {len(gone)} are missed by nobody "
        f"(copy of {Bytes(copy.bytes)})."
    )
