"""Where the planner was wrong: what it expected of a plan's nodes against the rows that really came."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from nvcops.core.workload import quoted

# --- Rules ---

OFF = 10.0
MENDED = 5.0
_ROWS = 100.0  # fewer decide no plan
_NAME = r'(?:"(?:[^"]|"")+"|[A-Za-z_][\w$]*)'
_COLUMN = re.compile(rf"({_NAME})\.({_NAME})(?!\()")
_TEXT = re.compile(r"'(?:[^']|'')*'")
_ELSEWHERE = re.compile(r"\$\d|SubPlan|InitPlan|CTE|\bnextval\b|\brandom\b")
_CONDITIONS = ("Index Cond", "Recheck Cond", "Filter")
_BLOCKING = {"Sort", "Hash", "Incremental Sort", "WindowAgg"}


class Spot(msgspec.Struct, frozen=True, order=True):
    """Columns of a table of which the planner estimates how many rows have certain values in them.

    `grouped`: how many different values there are.
    """

    schema: str
    table: str
    columns: tuple[str, ...]
    grouped: bool = False

    @property
    def title(self) -> str:
        """How it is told.

        >>> Spot("bank", "entry", ("kind", "currency")).title
        'bank.entry (kind, currency)'
        """
        return f"{self.schema}.{self.table} ({', '.join(self.columns)})"


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """A node that was off. `condition` has values of customers in it: it is asked of the copy, and kept nowhere."""

    spot: Spot
    alias: str
    condition: str
    estimated: float
    actual: float

    @property
    def asked(self) -> str:
        """The query whose rows are to be estimated."""
        table = f"{quoted(self.spot.schema)}.{quoted(self.spot.table)}"
        if self.spot.grouped:
            columns = ", ".join(quoted(column) for column in self.spot.columns)
            return f"SELECT {columns} FROM {table} GROUP BY {columns}"  # noqa: S608 - names of the catalogue, quoted
        return f"SELECT 1 FROM {table} AS {self.alias} WHERE {self.condition}"  # noqa: S608 - the server's own words

    @property
    def counted(self) -> str:
        """The query that counts them."""
        return f"SELECT count(*) AS rows FROM ({self.asked}) nvcops_counted"  # noqa: S608 - as above


def off(estimated: float, actual: float) -> float:
    """How many times too many or too few; none is as good as one.

    >>> off(10, 100), off(100, 10), off(0, 1), off(7, 7)
    (10.0, 10.0, 1.0, 1.0)
    """
    more, fewer = max(estimated, actual, 1.0), max(min(estimated, actual), 1.0)
    return more / fewer


def suspects(plan: dict[str, Any]) -> list[Suspect]:
    """The nodes of a plan with real row counts that were off by ten times or more, and by enough rows to matter.

    A node that was stopped early, since nobody wanted more, says nothing when fewer rows came.
    """
    return list(_suspects(plan, stopped=False))


def _suspects(node: dict[str, Any], *, stopped: bool) -> Iterator[Suspect]:
    estimated, actual, loops = float(node["Plan Rows"]), float(node["Actual Rows"]), float(node["Actual Loops"])
    wrong = loops > 0 and off(estimated, actual) >= OFF and max(estimated, actual) * loops >= _ROWS
    if wrong and not (stopped and actual < estimated):
        yield from _scanned(node, estimated, actual)
        yield from _grouped(node, estimated, actual)
    for place, below in enumerate(node.get("Plans", ())):
        yield from _suspects(below, stopped=_stops(node, below, place, stopped=stopped))


def _stops(node: dict[str, Any], below: dict[str, Any], place: int, *, stopped: bool) -> bool:
    """Whether a node may take fewer rows from one below it than there are."""
    kind, join = node["Node Type"], node.get("Join Type")
    if kind in ("Limit", "Merge Join") or below.get("Parent Relationship") in ("InitPlan", "SubPlan"):
        return True
    if kind == "Nested Loop" and place == 1 and (join in ("Semi", "Anti") or node.get("Inner Unique")):
        return True
    if kind in _BLOCKING or (kind == "Aggregate" and node.get("Strategy") in ("Plain", "Hashed")):
        return False
    return stopped


def _scanned(node: dict[str, Any], estimated: float, actual: float) -> Iterator[Suspect]:
    """A table's rows that were read by conditions on constants."""
    if "Relation Name" not in node or "Alias" not in node:
        return
    conditions = [str(node[title]) for title in _CONDITIONS if title in node]
    condition = " AND ".join(conditions)
    columns = own_columns(condition, node["Alias"])
    if columns:
        spot = Spot(node["Schema"], node["Relation Name"], columns)
        alias = quoted(node["Alias"])
        yield Suspect(spot=spot, alias=alias, condition=condition, estimated=estimated, actual=actual)


def _grouped(node: dict[str, Any], estimated: float, actual: float) -> Iterator[Suspect]:
    """The different values of columns of one table, all of whose rows were read."""
    keys = [str(key) for key in node.get("Group Key", ())]
    scan = _only_scan(node)
    if not keys or node.get("Partial Mode", "Simple") == "Partial" or scan is None:
        return
    columns = own_columns(" AND ".join(keys), scan["Alias"])
    if len(columns) == len(keys) and all(_COLUMN.fullmatch(key) for key in keys):
        spot = Spot(scan["Schema"], scan["Relation Name"], columns, grouped=True)
        yield Suspect(spot=spot, alias="", condition="", estimated=estimated, actual=actual)


def _only_scan(node: dict[str, Any]) -> dict[str, Any] | None:
    """The scan of a whole table below a node, where there is nothing else."""
    while len(below := node.get("Plans", ())) == 1:
        node = below[0]
    whole = "Relation Name" in node and "Alias" in node and not any(title in node for title in _CONDITIONS)
    return node if whole and not below else None


def own_columns(condition: str, alias: str) -> tuple[str, ...]:
    r"""The columns of a condition, if it is about one table and constants and nothing else.

    >>> own_columns("((o.state = 'it''s.open'::text) AND (o.\"Day x\" > '2026-01-01'::date))", "o")
    ('Day x', 'state')
    >>> own_columns("(o.id = l.order_id)", "o"), own_columns("(o.id = $1)", "o"), own_columns("(SubPlan 1)", "o")
    ((), (), ())
    """
    bare = _TEXT.sub("''", condition)
    found = [(_plain(name), _plain(column)) for name, column in _COLUMN.findall(bare)]
    if not found or _ELSEWHERE.search(bare) or any(name != alias for name, _ in found):
        return ()
    return tuple(sorted({column for _, column in found}))


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def outline(plan: dict[str, Any]) -> str:
    """A plan in one line: how it is done, without what is looked for.

    >>> outline({"Node Type": "Hash", "Plans": [{"Node Type": "Index Scan", "Index Name": "a_pkey"}]})
    'Hash(Index Scan a_pkey)'
    """
    name = plan.get("Index Name") or plan.get("Relation Name") or ""
    below = ", ".join(outline(each) for each in plan.get("Plans", ()))
    return " ".join(filter(None, (plan["Node Type"], name))) + (f"({below})" if below else "")


def worst(found: Sequence[Suspect]) -> float:
    """By how much the worst of them is off."""
    return max((off(each.estimated, each.actual) for each in found), default=1.0)
