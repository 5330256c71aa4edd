from __future__ import annotations

import time

import pytest

from nvcops.core.clones import Copy
from nvcops.core.errors import Refused
from nvcops.core.workload import IndexKey, Statement

ODD = 'Odd "table'
INDEXES = [
    IndexKey("shop", "line", ("part",)),
    IndexKey("shop", "line", ("shipped", "price")),
    IndexKey("shop", "line", ("shipped",)),
    IndexKey("shop", "orders", ("customer",)),
    IndexKey("shop", "orders", ("note",)),
    IndexKey("shop", "orders", ("state", "day")),
    IndexKey("shop", "orders", ("day",)),
    IndexKey("shop", ODD, ("who", "at")),
    IndexKey("shop", "event", ("kind",)),
]
QUERIES = {
    "SELECT * FROM shop.line WHERE part = $1": ("1500",),
    "SELECT sum(price) FROM shop.line WHERE shipped > $1 AND shipped < $2": ("'2020-03-01'", "'2020-03-09'"),
    "SELECT o.id, sum(quantity) FROM shop.orders o JOIN shop.line l ON l.order_id = o.id WHERE o.customer = $1"
    " GROUP BY 1": ("77",),
    'SELECT count(*) FROM shop."Odd ""table" WHERE who = $1': ("'customer 8'",),
    "SELECT * FROM shop.event WHERE kind = $1": ("8",),
    "SELECT * FROM shop.orders WHERE note = $1": ("'x'",),
    "SELECT max(day), min(day) FROM shop.orders WHERE state = $1 AND day > $2": ("'open'", "'2022-01-01'"),
    'SELECT * FROM shop.orders o JOIN shop."Odd ""table" t ON t.at::date = o.day JOIN shop.line l ON l.shipped = o.day'
    " WHERE o.id < $1": ("40",),
    "SELECT l.part, count(*) FROM shop.line l JOIN shop.orders o ON o.day = l.shipped GROUP BY 1 ORDER BY 1 LIMIT $1": (
        "10",
    ),
}
STATEMENTS = [
    Statement(id=number, text=text, calls=1, total_s=1, arguments=(arguments,))
    for number, (text, arguments) in enumerate(QUERIES.items())
]
_SIZE = """
SELECT sum(pg_relation_size(i.indexrelid))::bigint AS bytes FROM pg_index i WHERE i.indexrelid IN (
    SELECT relid FROM pg_partition_tree(%(name)s::regclass) UNION SELECT %(name)s::regclass)"""


def real_costs(copy: Copy) -> list[float]:
    return [copy.explain(statement)[0]["Total Cost"] for statement in STATEMENTS]


def test_the_planner_says_of_an_index_that_is_not_there_what_it_says_of_the_real_one(copy: Copy) -> None:
    with copy.what_if() as asked:
        without = [asked.cost(statement, []) for statement in STATEMENTS]
        pretended = {index: [asked.cost(statement, [index]) for statement in STATEMENTS] for index in INDEXES}
        together = [asked.cost(statement, INDEXES) for statement in STATEMENTS]
        sizes = {index: asked.bytes(index) for index in INDEXES}
    assert without == pytest.approx(real_costs(copy))

    for index in INDEXES:
        copy.execute(index.create(concurrently=False))
        real = copy.rows(_SIZE, {"name": f'shop."{index.name}"'})[0]["bytes"]
        # A real index tells where a column begins and ends, a sampled histogram only nearly: a few units.
        assert pretended[index] == pytest.approx(real_costs(copy), rel=0.03, abs=15), index.title
        assert sizes[index] == pytest.approx(real, rel=0.15), index.title
        copy.execute(index.drop(concurrently=False))
    for index in INDEXES:
        copy.execute(index.create(concurrently=False))
    assert together == pytest.approx(real_costs(copy), rel=0.03, abs=15)
    copy.execute(*(index.drop(concurrently=False) for index in INDEXES))
    gained = [best for best, before in zip(together, without, strict=True) if best < before * 0.9]
    assert len(gained) >= 6


def test_nothing_of_what_was_asked_stays(copy: Copy) -> None:
    relations = "SELECT count(*) FROM pg_class"
    before = copy.rows(relations)
    plans = real_costs(copy)
    with copy.what_if() as asked:
        asked.cost(STATEMENTS[0], INDEXES)
        asked.bytes(INDEXES[-1])
    assert copy.rows(relations) == before
    assert real_costs(copy) == plans
    assert copy.rows("SELECT count(*) FROM shop.line WHERE part = 1500") != [{"count": 0}]


def test_what_is_refused_costs_nothing_else(copy: Copy) -> None:
    good = INDEXES[0]
    with copy.what_if() as asked:
        for wrong in (
            IndexKey("shop", "line", ("nothing",)),
            IndexKey("shop", "nowhere", ("x",)),
            IndexKey("pg_catalog", "pg_stat_activity", ("pid",)),
        ):
            with pytest.raises(Refused):
                asked.bytes(wrong)
        with pytest.raises(Refused):
            asked.cost(Statement(id=1, text="SELECT nothing FROM shop.line", calls=1, total_s=1), [])
        with pytest.raises(Refused):
            asked.cost(Statement(id=2, text="VACUUM", calls=1, total_s=1), [])
        before, after = asked.cost(STATEMENTS[0], []), asked.cost(STATEMENTS[0], [good])
        assert after < before / 2
        assert asked.cost(STATEMENTS[0], []) == before
        generic = Statement(id=3, text="SELECT * FROM shop.line WHERE part = $1", calls=1, total_s=1)
        assert asked.cost(generic, [good]) < asked.cost(generic, [])


def test_thousands_of_questions_take_seconds_and_few_locks(copy: Copy) -> None:
    columns = ["order_id", "part", "quantity", "price", "shipped"]
    many = [
        IndexKey("shop", "line", (a, b, c)) for a in columns for b in columns for c in columns if len({a, b, c}) > 2
    ]
    began = time.perf_counter()
    with copy.what_if() as asked:
        plain = asked.cost(STATEMENTS[0], [])
        costs = [asked.cost(STATEMENTS[0], [one, other]) for one in many for other in many[:25]]
    assert time.perf_counter() - began < 60
    assert len(costs) == 1500
    assert min(costs) < plain / 2
