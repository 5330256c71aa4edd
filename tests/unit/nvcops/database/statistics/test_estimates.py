"""Plans with real row counts: what of them is a wrong estimate."""

from __future__ import annotations

from typing import Any

import pytest

from nvcops.database.statistics.estimates import Spot, suspects


def node(kind: str, *below: dict[str, Any], rows: tuple[float, float] = (1, 1), **more: Any) -> dict[str, Any]:
    return {
        "Node Type": kind,
        "Plan Rows": rows[0],
        "Actual Rows": rows[1],
        "Actual Loops": 1,
        **({"Plans": list(below)} if below else {}),
        **more,
    }


def scan(estimated: float, actual: float, condition: str = "(o.state = 'x'::text)", **more: Any) -> dict[str, Any]:
    table = {"Schema": "shop", "Relation Name": "orders", "Alias": "o", "Filter": condition}
    return node("Seq Scan", rows=(estimated, actual), **{**table, **more})


def spots(plan: dict[str, Any]) -> list[Spot]:
    return [suspect.spot for suspect in suspects(plan)]


STATE = Spot("shop", "orders", ("state",))


@pytest.mark.parametrize(
    ("plan", "wrong"),
    [
        (scan(10, 100), [STATE]),
        (scan(1000, 100), [STATE]),
        (scan(10, 99), []),
        (scan(0, 90), []),
        (scan(1, 12, **{"Actual Loops": 50}), [STATE]),
        (scan(1, 500, **{"Actual Loops": 0}), []),
        (scan(1, 500, "(o.id = l.order_id)"), []),
        (scan(1, 500, "(o.id = $1)"), []),
        (
            scan(1, 500, "((o.state = 'a.b'::text) AND (o.day > '2026-01-01'::date))"),
            [Spot("shop", "orders", ("day", "state"))],
        ),
        (node("Limit", scan(5000, 10)), []),
        (node("Limit", scan(10, 5000)), [STATE]),
        (node("Limit", node("Sort", scan(5000, 10))), [STATE]),
        (node("Merge Join", scan(5000, 10), scan(1, 1)), []),
        (node("Nested Loop", scan(1, 1), scan(5000, 10), **{"Join Type": "Semi"}), []),
        (node("Nested Loop", scan(1, 1), scan(5000, 10), **{"Join Type": "Inner"}), [STATE]),
        (node("Result", scan(5000, 1, **{"Parent Relationship": "InitPlan"})), []),
    ],
)
def test_what_is_a_wrong_estimate(plan: dict[str, Any], wrong: list[Spot]) -> None:
    assert spots(plan) == wrong


def test_groups_are_those_of_a_whole_table() -> None:
    whole = scan(1000, 1000)
    del whole["Filter"]
    keys = {"Group Key": ["o.state", "o.day"], "Strategy": "Hashed", "Partial Mode": "Simple"}
    grouped = Spot("shop", "orders", ("day", "state"), grouped=True)
    assert spots(node("Aggregate", whole, rows=(900, 6), **keys)) == [grouped]
    assert spots(node("Aggregate", scan(1000, 1000), rows=(900, 6), **keys)) == []
    expression = {**keys, "Group Key": ["lower(o.state)"]}
    assert spots(node("Aggregate", whole, rows=(900, 6), **expression)) == []


def test_what_is_asked_of_the_copy_names_the_table_as_sql_has_it() -> None:
    odd = scan(1, 500, '("Odd t"."Key x" = 1)', **{"Relation Name": 'Odd "t', "Alias": "Odd t"})
    suspect = suspects(odd)[0]
    assert suspect.asked == 'SELECT 1 FROM "shop"."Odd ""t" AS "Odd t" WHERE ("Odd t"."Key x" = 1)'
    assert suspect.spot.columns == ("Key x",)
