"""The search for indexes against a planner in memory: a lookup costs a table's pages, or a few with the right index."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import pytest

from nvcops.core.workload import IndexKey, Statement
from nvcops.database.indexes.candidates import Mentioned, mentioned_in
from nvcops.database.indexes.extend import Candidates, Costs, searched
from nvcops.database.indexes.writes import Updated, Writes, updates_of

ACCOUNT, ENTRY = ("bank", "account"), ("bank", "entry")
PAGES = 1000.0


@dataclass
class PagesPlanner:
    """Each statement wants rows by columns of one table; each of them that an index begins with divides by ten."""

    wants: dict[int, tuple[tuple[str, str], tuple[str, ...]]]
    sizes: dict[IndexKey, int] = field(default_factory=dict)
    asked: int = 0

    def cost(self, statement: Statement, indexes: Collection[IndexKey]) -> float:
        self.asked += 1
        table, columns = self.wants[statement.id]
        served = [0]
        for index in indexes:
            if (index.schema, index.table) == table:
                depth = next((n for n, column in enumerate(index.columns) if column not in columns), len(index.columns))
                served.append(depth)
        return PAGES / 10.0 ** max(served)

    def bytes(self, index: IndexKey) -> int:
        return self.sizes.get(index, 100_000 * len(index.columns))


def costs(planner: PagesPlanner, calls: dict[int, float], writes: dict[tuple[str, str], Writes] | None = None) -> Costs:
    statements = [Statement(id=n, text="", calls=calls[n], total_s=1) for n in calls]
    mentions = {
        n: Mentioned(id=n, searched={planner.wants[n][0]: frozenset(planner.wants[n][1])}, named=_named(planner, n))
        for n in calls
    }
    return Costs(planner, statements, mentions, writes or {})


def _named(planner: PagesPlanner, n: int) -> dict[tuple[str, str], frozenset[str]]:
    return {planner.wants[n][0]: frozenset(planner.wants[n][1])}


def chosen(made: Costs, budget: int) -> set[tuple[str, ...]]:
    found = searched(made, Candidates.of(made.mentions.values()), budget, lambda: False)
    assert made.bytes(found) <= budget
    return {(index.table, *index.columns) for index in found}


def test_the_index_that_saves_most_per_byte_comes_first() -> None:
    planner = PagesPlanner({1: (ACCOUNT, ("owner",)), 2: (ENTRY, ("account",))})
    assert chosen(costs(planner, {1: 10, 2: 1000}), 100_000) == {("entry", "account")}
    assert chosen(costs(planner, {1: 10, 2: 1000}), 200_000) == {("entry", "account"), ("account", "owner")}


def test_an_index_is_widened_where_that_saves_more() -> None:
    planner = PagesPlanner({1: (ENTRY, ("account", "day"))})
    assert chosen(costs(planner, {1: 100}), 1 << 20) in ({("entry", "account", "day")}, {("entry", "day", "account")})


def test_one_index_serves_two_statements_rather_than_two_indexes() -> None:
    planner = PagesPlanner({1: (ENTRY, ("account",)), 2: (ENTRY, ("account", "day"))})
    assert chosen(costs(planner, {1: 100, 2: 100}), 1 << 20) == {("entry", "account", "day")}


def test_nothing_is_chosen_without_room() -> None:
    planner = PagesPlanner({1: (ENTRY, ("account",))})
    assert chosen(costs(planner, {1: 100}), 99_999) == set()


@pytest.mark.parametrize(("inserts", "there"), [(0, {("entry", "account")}), (100_000_000, set())])
def test_what_writes_pay_is_charged(inserts: float, there: set[tuple[str, ...]]) -> None:
    planner = PagesPlanner({1: (ENTRY, ("account",))})
    assert chosen(costs(planner, {1: 100}, {ENTRY: Writes(inserts=inserts)}), 1 << 20) == there


def test_a_column_that_ends_hot_updates_is_dear() -> None:
    planner = PagesPlanner({1: (ACCOUNT, ("owner", "balance"))})
    updates = (Updated(columns=("balance",), count=10_000),)
    writes = {ACCOUNT: Writes(updates=updates, hot=1.0, indexes=4)}
    assert chosen(costs(planner, {1: 100}, writes), 1 << 20) == {("account", "owner")}


def test_a_question_is_asked_once() -> None:
    planner = PagesPlanner({1: (ACCOUNT, ("owner",)), 2: (ENTRY, ("account",))})
    made = costs(planner, {1: 10, 2: 1000})
    chosen(made, 1 << 20)
    before = planner.asked
    made.total(frozenset([IndexKey(*ACCOUNT, ("owner",))]))
    assert planner.asked == before == made.asked


def test_a_search_that_is_out_of_time_says_what_it_has() -> None:
    made = costs(PagesPlanner({1: (ACCOUNT, ("owner",))}), {1: 10})
    assert searched(made, Candidates.of(made.mentions.values()), 1 << 20, lambda: True) == frozenset()


def test_columns_are_read_off_plans_and_texts() -> None:
    plan = {
        "Node Type": "Hash Join",
        "Hash Cond": "(e.account = a.id)",
        "Plans": [
            {
                "Node Type": "Seq Scan",
                "Schema": "bank",
                "Relation Name": "entry",
                "Alias": "e",
                "Filter": "(e.day > $1)",
            },
            {"Node Type": "Seq Scan", "Schema": "bank", "Relation Name": "account", "Alias": "a"},
        ],
    }
    there = {ENTRY: frozenset({"account", "day", "amount", "note"}), ACCOUNT: frozenset({"id", "owner"})}
    seen = mentioned_in(7, "SELECT sum(e.amount), 'note' FROM entry e JOIN account a ON ...", [plan], there)
    assert seen.searched == {ENTRY: {"account", "day"}, ACCOUNT: {"id"}}
    assert seen.named == {ENTRY: {"account", "day", "amount"}, ACCOUNT: {"id"}}


def test_updates_of_functions_are_laid_to_their_columns() -> None:
    body = "BEGIN UPDATE bank.account SET balance = balance + $1 WHERE id = $2; UPDATE other SET x = 1; END"
    assert updates_of(ACCOUNT, 50, [], [body]) == (Updated(columns=("balance",), count=50),)
