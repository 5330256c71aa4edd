"""A plan as a few words: its nodes, where its estimate is worst, which large table it reads from end to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from nvcops.core.units import Count

_NODES_MAX = 200
_LARGE_ROWS = 10_000
_WRONG = 10.0  # times

# --- Facts ---


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan: its nodes from the top, by which means it was had, and the trouble with having it."""

    statement: int
    means: str = ""
    trouble: str = ""
    cost: float = 0.0
    nodes: tuple[str, ...] = ()
    scanned: tuple[str, ...] = ()
    wrong: str = ""


# --- Rules ---


def summarised(statement: int, means: str, explained: Mapping[str, Any]) -> Plan:
    """What EXPLAIN or auto_explain wrote as JSON, without the conditions: they hold constants.

    >>> scan = {"Node Type": "Seq Scan", "Schema": "bank", "Relation Name": "entry", "Plan Rows": 50000}
    >>> top = {"Node Type": "Aggregate", "Total Cost": 900.5, "Plan Rows": 1, "Plans": [scan]}
    >>> told(summarised(5, "EXPLAIN", {"Plan": top}))
    'Aggregate > Seq Scan on entry; reads all of entry (about 50,000 rows)'
    """
    top = explained.get("Plan", {})
    nodes = list(_nodes(top))
    return Plan(
        statement=statement,
        means=means,
        cost=float(top.get("Total Cost", 0.0)),
        nodes=tuple(_named(node) for node in nodes),
        scanned=tuple(_scanned(node) for node in nodes if _reads_all(node)),
        wrong=_worst(nodes),
    )


def told(plan: Plan, most: int = 6) -> str:
    """A plan in a line."""
    if plan.trouble:
        return plan.trouble
    more = f" and {len(plan.nodes) - most} more" if len(plan.nodes) > most else ""
    parts = [" > ".join(plan.nodes[:most]) + more]
    parts += [f"reads all of {one}" for one in plan.scanned[:2]]
    parts += [plan.wrong] if plan.wrong else []
    return "; ".join(parts)


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    left = [node]
    for _ in range(_NODES_MAX):
        if not left:
            return
        one = left.pop()
        yield one
        left += reversed(one.get("Plans", []))


def _named(node: Mapping[str, Any]) -> str:
    on = node.get("Relation Name")
    by = node.get("Index Name")
    name = str(node.get("Node Type", "?"))
    return name + (f" by {by}" if by else "") + (f" on {on}" if on else "")


def _rows(node: Mapping[str, Any]) -> float:
    """Rows that a node reads: those that it gave and those that it threw away, where it was run."""
    if "Actual Rows" in node:
        loops = float(node.get("Actual Loops", 1))
        return (float(node["Actual Rows"]) + float(node.get("Rows Removed by Filter", 0))) * loops
    return float(node.get("Plan Rows", 0))


def _reads_all(node: Mapping[str, Any]) -> bool:
    return str(node.get("Node Type", "")).endswith("Seq Scan") and _rows(node) >= _LARGE_ROWS


def _scanned(node: Mapping[str, Any]) -> str:
    return f"{node.get('Relation Name', '?')} (about {Count(_rows(node))} rows)"


def _worst(nodes: list[Mapping[str, Any]]) -> str:
    """The node whose rows were estimated most wrongly, where the statement was run and it matters."""
    ratios = [(_wrong(node), node) for node in nodes if "Actual Rows" in node]
    ratio, node = max(ratios, key=lambda one: one[0], default=(1.0, {}))
    if ratio < _WRONG:
        return ""
    expected, came = Count(float(node.get("Plan Rows", 0))), Count(float(node["Actual Rows"]))
    return f"expected {expected} rows of {_named(node)}, and {came} came"


def _wrong(node: Mapping[str, Any]) -> float:
    expected, came = max(float(node.get("Plan Rows", 0)), 1.0), max(float(node["Actual Rows"]), 1.0)
    return max(expected / came, came / expected)
