"""Which indexes a workload lacks: searched with the planner's word, proven on the copy, and searched again.

What was built is smaller or larger than was thought, and some of it does not stand the proof. So the search goes on
from what is proven, with real sizes and without what was rejected, until nothing new is found that gains more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import msgspec

from nvcops.core import queries
from nvcops.core.clones import Copy
from nvcops.core.progress import tell
from nvcops.core.target import Database
from nvcops.core.workload import Statement, Workload
from nvcops.database.indexes.candidates import Mentioned, Relation, Unplanned, mentioned
from nvcops.database.indexes.extend import Candidates, Chosen, Costs, searched
from nvcops.database.indexes.proof import Compared, Trial
from nvcops.database.indexes.proving import Built, Prover, Rejected
from nvcops.database.indexes.writes import Writes, updates_of

QUERIES = queries.load("nvcops.database.indexes", "advice.sql")
_SEARCH_S = 120.0
_TURNS = 3
_TOUCHED_MAX = 300

# --- Facts ---


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that was measured with and without the indexes: seconds of a call, at the median.

    `at_least`: without them it did not end within the deadline.
    """

    id: int
    calls: float
    without_s: float
    with_s: float
    at_least: bool = False


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What a search and its proof came to.

    Of `statements` some are `unplanned`, and `unmeasured` have no arguments: those the planner alone judged. Costs are
    the planner's for the whole workload, writes included: without, with what was found first, with all candidates.
    """

    statements: int
    unplanned: tuple[Unplanned, ...] = ()
    unmeasured: int = 0
    means: str = ""
    candidates: int = 0
    asked: int = 0
    search_s: float = 0.0
    cost: float = 0.0
    cost_found: float = 0.0
    cost_floor: float = 0.0
    kept: tuple[Built, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    changed: tuple[Changed, ...] = ()


def writes_of(database: Database, workload: Workload) -> dict[Relation, Writes]:
    """What is written to each table over the workload's time, by the server's own counts."""
    bodies = [row["body"] for row in database.rows(QUERIES["bodies"])]
    span = (workload.until - workload.since).total_seconds() if workload.since else 0.0
    return {
        (row["schema"], row["table"]): _writes(row, span, workload.statements, bodies)
        for row in database.rows(QUERIES["writes"])
    }


def _writes(row: Mapping[str, object], span_s: float, statements: Sequence[Statement], bodies: Sequence[str]) -> Writes:
    told = msgspec.convert(row, _Told)
    share = min(1.0, span_s / told.counted_s) if span_s and told.counted_s else 1.0
    return Writes(
        inserts=told.inserts * share,
        updates=updates_of((told.schema, told.table), told.updates * share, statements, bodies),
        hot=told.hot / told.updates if told.updates else 0.0,
        indexes=told.indexes,
    )


class _Told(msgspec.Struct, frozen=True):
    schema: str
    table: str
    inserts: float
    updates: float
    hot: float
    indexes: int
    counted_s: float


def advise(
    trial: Trial,
    statements: Sequence[Statement],
    writes: Mapping[Relation, Writes],
    budget: int,
    *,
    search_s: float = _SEARCH_S,
) -> Advice:
    """Search and prove on the copy of a trial; statements with arguments are measured, the others only planned.

    budget: bytes that the new indexes may take together.
    search_s: how long each search may take; what was found until then counts.
    """
    copy = trial.copy
    mentions, unplanned = mentioned(copy, statements)
    known = {mention.id: mention for mention in mentions}
    planned = [statement for statement in statements if statement.id in known]
    measurable = [statement for statement in planned if statement.arguments or "$" not in statement.text]
    search = Search(planned, known, writes, Candidates.of(mentions), budget, search_s)
    prover = Prover(trial, measurable, budget)
    kept: Sequence[Built] = ()
    changed: tuple[Changed, ...] = ()
    for turn in range(_TURNS):
        tell(0, 0, f"searching, turn {turn + 1}")
        trial.show(())
        chosen = search.again(copy, kept, prover.rejected)
        if chosen <= {one.index for one in kept}:
            break
        proven = prover.prove(chosen)
        if sum(one.saved_s for one in proven) <= sum(one.saved_s for one in kept):
            break
        kept, changed = proven, changed_by(prover.measured, measurable)
    there = {one.index for one in kept}
    return msgspec.structs.replace(
        search.told,
        statements=len(statements),
        unplanned=tuple(unplanned),
        unmeasured=len(planned) - len(measurable),
        kept=tuple(kept),
        rejected=tuple(one for one in prover.rejected if one.index not in there),
        changed=changed,
    )


@dataclass
class Search:
    """The searches of one advice; `told` is what the first came to."""

    statements: Sequence[Statement]
    mentions: Mapping[int, Mentioned]
    writes: Mapping[Relation, Writes]
    candidates: Candidates
    budget: int
    seconds: float
    told: Advice = field(default_factory=lambda: Advice(statements=0))

    def again(self, copy: Copy, kept: Sequence[Built], rejected: Sequence[Rejected]) -> Chosen:
        """Search on from what is kept, whose sizes are real now, and without what was rejected."""
        began = time.monotonic()
        real = {one.index: one.bytes for one in kept} | {one.index: one.bytes for one in rejected if one.bytes}
        with copy.what_if() as planner:
            costs = Costs(planner, self.statements, self.mentions, self.writes, sizes=real)
            found = searched(
                costs,
                self.candidates,
                self.budget,
                lambda: time.monotonic() - began > self.seconds,
                frozenset(one.index for one in kept),
                frozenset(one.index for one in rejected),
            )
            if not self.told.means:
                self.told = Advice(
                    statements=len(self.statements),
                    means=planner.means,
                    candidates=len(self.candidates.starts),
                    search_s=time.monotonic() - began,
                    asked=costs.asked,
                    cost=costs.total(frozenset()),
                    cost_found=costs.total(found),
                    cost_floor=costs.reads(self.candidates.all()),
                )
        return found


def touched(copy: Copy, statements: Sequence[Statement]) -> dict[int, tuple[str, ...]]:
    """The columns that each statement names, and the tables that it writes to, with their schemas.

    One of which that is not known has no entry.
    """
    found = {}
    for one in mentioned(copy, statements[:_TOUCHED_MAX])[0]:
        columns = {".".join((*table, column)) for table, named in one.named.items() for column in named}
        if not one.opaque:
            found[one.id] = tuple(sorted(columns | {".".join(table) for table in one.writes}))
    return found


# --- Rules ---


def changed_by(measured: Mapping[int, Compared], statements: Sequence[Statement]) -> tuple[Changed, ...]:
    """The statements that were measured on both sides, the most saved first."""
    found = [
        Changed(
            id=statement.id,
            calls=statement.calls,
            without_s=median(measured[statement.id].hidden_s),
            with_s=median(measured[statement.id].shown_s),
            at_least=measured[statement.id].hidden_stopped,
        )
        for statement in statements
        if statement.id in measured and measured[statement.id].hidden_s and measured[statement.id].shown_s
    ]
    return tuple(sorted(found, key=lambda one: (one.with_s - one.without_s) * one.calls))
