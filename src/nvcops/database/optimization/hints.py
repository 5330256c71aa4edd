"""What only somebody who writes the application can mend: read off plans that were carried out, with their seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from nvcops.core.clones import Copy
from nvcops.core.errors import TargetError
from nvcops.core.units import Bytes, Ratio, Seconds
from nvcops.core.workload import Statement, quoted

Node = dict[str, Any]

# --- Facts ---


class Aged(msgspec.Struct, frozen=True):
    """A table whose rows are removed when they are old: how many are, of how many, and by which column it is known."""

    schema: str
    table: str
    column: str
    live: float
    deleted: float
    bytes: float


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """Something about a statement (`id`) or a table, what was measured of it, and what to write instead."""

    about: str
    seen: str
    instead: str
    id: int = 0


def plan_hints(copy: Copy, statements: Sequence[Statement]) -> list[Hint]:
    """Carry each statement out on the copy, and read what its plan did in vain."""
    found = []
    for statement in statements:
        try:
            plans = copy.explain(statement, analyze=True, settings={"statement_timeout": f"{_EXPLAINED_S:g}s"})
        except TargetError:
            continue  # it is measured elsewhere, where its trouble is told
        for plan in plans[:1]:
            found += hints_of(statement, plan)
    return found


def removal(copy: Copy, aged: Aged) -> Hint | None:
    """How long the oldest hundredth of a table takes to remove: row by row, and as its own table; None: no gain."""
    table, column = f"{quoted(aged.schema)}.{quoted(aged.table)}", quoted(aged.column)
    edge = f"SELECT percentile_disc(0.01) WITHIN GROUP (ORDER BY {column}) FROM {table}"  # noqa: S608 - quoted names
    oldest = f"FROM {table} WHERE {column} <= ({edge})"
    try:
        copy.execute(f"DROP TABLE IF EXISTS {_APART}", f"CREATE TABLE {_APART} AS SELECT * {oldest}")
        rows = copy.rows(f"SELECT count(*) AS n FROM {_APART}")[0]["n"]  # noqa: S608 - a name of ours
        by_row = _took(copy, f"DELETE {oldest}")
        as_one = _took(copy, f"DROP TABLE {_APART}")
    except TargetError as error:
        why = f"removing its oldest rows could not be measured: {error.sentence}"
        return Hint(about=f"{aged.schema}.{aged.table}", seen=why, instead="try it again when the copy can be read")
    if not rows or by_row < _REMOVAL_FACTOR * as_one:
        return None
    return Hint(
        about=f"{aged.schema}.{aged.table}",
        seen=f"its {rows:,} oldest rows took {Seconds(by_row)} to remove row by row ({Bytes(aged.bytes)} in all)",
        instead=f"partition it by {aged.column}: as a table of their own they were dropped in {Seconds(as_one)}",
    )


def _took(copy: Copy, sql: str) -> float:
    before = copy.rows(_NOW)[0]["now"]
    copy.execute(sql)
    return float(copy.rows(_NOW)[0]["now"] - before)


# --- Rules ---

_EXPLAINED_S = 60.0
_APART = "nvcops_oldest"
_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8 AS now"
_REMOVAL_FACTOR = 10
_ROWS_MIN = 10_000
_IN_VAIN = 0.99
_LOOPS_MIN = 1_000
_SHARE_MIN = 0.2
_OFFSET_FACTOR = 10


def hints_of(statement: Statement, plan: Node) -> list[Hint]:
    """What one carried out plan did in vain, where it took a fifth of its time or more."""
    whole = float(plan.get("Execution Time", 0.0)) / 1000
    if whole <= 0:
        return []
    found = []
    for node in nodes(plan):
        share = Ratio(round(min(1.0, seconds_of(node) / whole), 3))
        if share < _SHARE_MIN:
            continue
        for seen, instead in _in_vain(node):
            told = f"{seen}: {share} of its {Seconds(round(whole, 6))}"
            found.append(Hint(about=f"statement {statement.id}", seen=told, instead=instead, id=statement.id))
    return found[:1]  # the uppermost: what is below it is a part of it


def _in_vain(node: Node) -> Iterator[tuple[str, str]]:
    loops = node.get("Actual Loops", 1)
    removed = node.get("Rows Removed by Filter", 0) * loops
    rows = node.get("Actual Rows", 0) * loops
    if node.get("Subplan Name", "").startswith("SubPlan") and loops >= _LOOPS_MIN:
        yield f"its sub-query ran {loops:,} times", "write it as a join, or with LATERAL and an index"
    if node["Node Type"] == "Limit":
        below = sum(child.get("Actual Rows", 0) for child in node.get("Plans", ()))
        if below >= _ROWS_MIN and below >= _OFFSET_FACTOR * max(rows, 1):
            seen = f"{below:,.0f} rows were read to give {rows:,.0f}"
            yield seen, "page by the last key seen (WHERE key > ...) instead of OFFSET"
    if removed >= _ROWS_MIN and removed >= _IN_VAIN * (removed + rows):
        table = node.get("Relation Name", "what it joined")
        seen = f"{removed:,.0f} rows of {table} were read in vain, {rows:,.0f} were meant"
        if "(" in _inside(str(node.get("Filter", ""))):
            yield seen, "its condition is on an expression: compare the bare column, or index the expression"
        else:
            yield seen, "`nvcops run optimize-indexes` looks for what it can begin with"


def _inside(condition: str) -> str:
    """A condition without the casts and brackets that every one has.

    >>> _inside("((lower(name))::text = 'x'::text)"), _inside("((amount)::numeric > '5'::numeric)")
    ('lower(name', 'amount')
    """
    left = condition.replace("((", "(").partition(" ")[0].partition("::")[0]
    return left.strip("()") if left.count("(") < 2 else left.lstrip("(").rstrip(")")


def nodes(top: Node) -> Iterator[Node]:
    """A plan's nodes, the uppermost first."""
    yield top
    for child in top.get("Plans", ()):
        yield from nodes(child)


def seconds_of(node: Node) -> float:
    """How long a node took, with what is below it, all its loops together."""
    return float(node.get("Actual Total Time", 0.0)) * float(node.get("Actual Loops", 1)) / 1000
