"""The search for indexes: Extend (Schlosser, Kossmann, Boissier 2019), then swaps.

It begins with none. Each step adds an index of one column, or appends a column to a chosen one: whichever saves most
per byte. When nothing fits the budget any more, each chosen index is put to the test: without it and with its bytes
free for others, is the whole cheaper? Costs are the planner's, weighted by calls; what writes pay is charged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nvcops.core.workload import IndexKey, Statement
from nvcops.database.indexes.candidates import Mentioned, Relation
from nvcops.database.indexes.writes import Writes, cost_of_writes, indexes_by_table

WIDTH_MAX = 4  # columns of an index
_STEPS_MAX = 500
_SWAPS_MAX = 3
_GAIN_MIN = 0.0005  # of the whole cost: less is below what a planner knows
Chosen = frozenset[IndexKey]

# --- Rules ---


class Planner(Protocol):
    """What the search asks: the planner's cost of a statement under indexes, and their sizes."""

    def cost(self, statement: Statement, indexes: Collection[IndexKey]) -> float:
        """Cost of one call."""
        ...

    def bytes(self, index: IndexKey) -> int:
        """How large an index is expected to be."""
        ...


@dataclass
class Costs:
    """What a choice of indexes costs the whole workload, each question asked once."""

    planner: Planner
    statements: Sequence[Statement]
    mentions: Mapping[int, Mentioned]
    writes: Mapping[Relation, Writes]
    sizes: dict[IndexKey, int] = field(default_factory=dict)
    asked: int = 0
    _known: dict[tuple[int, Chosen], float] = field(default_factory=dict)

    def total(self, chosen: Chosen) -> float:
        """Reads by their calls, and writes."""
        return self.reads(chosen) + sum(
            self.write_cost(table, indexes) for table, indexes in indexes_by_table(chosen).items()
        )

    def reads(self, chosen: Chosen) -> float:
        """What the statements cost, writes left out."""
        return sum(self.weighted(statement, chosen) for statement in self.statements)

    def weighted(self, statement: Statement, chosen: Chosen) -> float:
        """All calls of a statement. Only indexes that begin with a column of its own can matter to it."""
        named = self.mentions[statement.id].named
        relevant = frozenset(key for key in chosen if key.columns[0] in named.get((key.schema, key.table), ()))
        known = self._known.get((statement.id, relevant))
        if known is None:
            self.asked += 1
            known = self.planner.cost(statement, relevant)
            self._known[statement.id, relevant] = known
        return known * statement.calls

    def write_cost(self, table: Relation, indexes: Collection[IndexKey]) -> float:
        """What a table's writes pay for these."""
        return cost_of_writes(self.writes.get(table, Writes()), indexes)

    def change(self, old: Chosen, new: Chosen, table: Relation) -> float:
        """By how much a change to one table's indexes changes the total."""
        change = 0.0
        for statement in self.statements:
            if table in self.mentions[statement.id].named:
                change += self.weighted(statement, new) - self.weighted(statement, old)
        before, after = (indexes_by_table(chosen).get(table, []) for chosen in (old, new))
        return change + self.write_cost(table, after) - self.write_cost(table, before)

    def size(self, index: IndexKey) -> int:
        """Bytes: real ones where it was once built."""
        if index not in self.sizes:
            self.sizes[index] = self.planner.bytes(index)
        return self.sizes[index]

    def bytes(self, chosen: Iterable[IndexKey]) -> int:
        """Bytes of all of them."""
        return sum(self.size(index) for index in chosen)


@dataclass(frozen=True)
class Candidates:
    """Indexes that a step may add, and columns with which a chosen one may go on, by its first.

    `starts` are indexes of one column that statements search by, of two such columns of one statement, and such as hold
    all that one statement wants of a table: half of those would bring nothing, so no step leads to them.
    """

    starts: tuple[IndexKey, ...]
    further: Mapping[tuple[Relation, str], frozenset[str]]

    @classmethod
    def of(cls, mentions: Iterable[Mentioned]) -> Candidates:
        """Of what the statements search by and name."""
        starts: set[IndexKey] = set()
        further: dict[tuple[Relation, str], set[str]] = {}
        for mention in mentions:
            for table, columns in mention.searched.items():
                for column in columns:
                    starts.update(IndexKey(*table, key) for key in _begun(column, columns, mention.named[table]))
                    further.setdefault((table, column), set()).update(mention.named[table] - {column})
        return cls(tuple(sorted(starts)), {start: frozenset(columns) for start, columns in further.items()})

    def wider(self, index: IndexKey) -> list[IndexKey]:
        """An index with one more column."""
        if len(index.columns) >= WIDTH_MAX:
            return []
        further = self.further.get(((index.schema, index.table), index.columns[0]), frozenset())
        return [
            IndexKey(index.schema, index.table, (*index.columns, column))
            for column in sorted(further.difference(index.columns))
        ]

    def all(self) -> Chosen:
        """Every start: more than anybody would keep, a bound for what they can bring."""
        return frozenset(self.starts)


def _begun(column: str, searched_columns: Collection[str], named: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Keys that begin with a column, for a statement that searches by and names these."""
    others = sorted(set(searched_columns) - {column})
    yield (column,)
    yield from ((column, other) for other in others)
    rest = [*others, *sorted(set(named) - {column, *others})]
    if 1 < len(rest) < WIDTH_MAX:
        yield (column, *rest)


def searched(
    costs: Costs,
    candidates: Candidates,
    budget: int,
    out_of_time: Callable[[], bool],
    begin: Chosen = frozenset(),
    without: Chosen = frozenset(),
) -> Chosen:
    """The indexes that save most within a budget of bytes; what was found so far when the time is over."""
    chosen = grown(costs, candidates, budget, begin, out_of_time, without)
    for _ in range(_SWAPS_MAX):
        better = swapped(costs, candidates, budget, chosen, out_of_time, without)
        if better == chosen:
            break
        chosen = better
    return chosen


def grown(
    costs: Costs,
    candidates: Candidates,
    budget: int,
    chosen: Chosen,
    out_of_time: Callable[[], bool],
    without: Chosen = frozenset(),
) -> Chosen:
    """Extend: from a choice on, the best step again and again; never one to an index of `without`.

    What a step brought before is taken for the most that it can bring now, so that few are asked again; before the
    search ends, all are.
    """
    floor = _GAIN_MIN * costs.total(frozenset())
    ratios: dict[IndexKey, float] = {}
    for _ in range(_STEPS_MAX):
        best: tuple[float, Chosen] = (0.0, chosen)
        held = costs.bytes(chosen)
        steps = [step for step in _steps(candidates, chosen) if step[0] not in without]
        for index, step in sorted(steps, key=lambda step: (-ratios.get(step[0], math.inf), step[0])):
            if out_of_time():
                return best[1]
            if ratios.get(index, math.inf) <= best[0]:
                break
            more = costs.bytes(step) - held
            gain = -costs.change(chosen, step, (index.schema, index.table))
            ratios[index] = gain / max(more, 8192)
            if gain > floor and ratios[index] > best[0] and held + more <= budget:
                best = (ratios[index], step)
        if best[1] == chosen:
            break
        chosen = best[1]
    return chosen


def swapped(
    costs: Costs,
    candidates: Candidates,
    budget: int,
    chosen: Chosen,
    out_of_time: Callable[[], bool],
    without: Chosen = frozenset(),
) -> Chosen:
    """The best choice that differs by one index removed, and its bytes used otherwise."""
    best, least = chosen, costs.total(chosen)
    for index in sorted(chosen):
        if out_of_time():
            break
        other = grown(costs, candidates, budget, chosen - {index}, out_of_time, without | {index})
        if costs.total(other) < least * (1 - _GAIN_MIN):
            best, least = other, costs.total(other)
    return best


def _steps(candidates: Candidates, chosen: Chosen) -> list[tuple[IndexKey, Chosen]]:
    """Every choice that is one step further, and its new index. What a new index begins with goes."""
    wider = [wide for index in sorted(chosen) for wide in candidates.wider(index)]
    return [
        (index, frozenset(other for other in chosen if not _begins(other, index)) | {index})
        for index in dict.fromkeys([*candidates.starts, *wider])
        if not any(_begins(index, other) for other in chosen)
    ]


def _begins(index: IndexKey, other: IndexKey) -> bool:
    """Whether an index is the beginning of another one, or all of it."""
    same = (index.schema, index.table) == (other.schema, other.table)
    return same and other.columns[: len(index.columns)] == index.columns
