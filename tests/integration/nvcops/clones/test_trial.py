"""Proposals are tried on a real copy: what spills gains from memory, what changes nothing is not recommended."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from clone_world import RUN, CloneWorld, clone_world

from nvcops.core.workload import Statement
from nvcops.database.copies import untried
from nvcops.database.optimization.hints import Aged, plan_hints, removal
from nvcops.database.optimization.proposals import Churned, Kind, Proposal, Setting, Signs, of, proposals
from nvcops.database.optimization.trial import gain, side_by_side, tried

PAGE = "SELECT id, day FROM shop.orders ORDER BY id OFFSET 50000 LIMIT 10"
LOWER = "SELECT count(*) FROM shop.orders WHERE lower(note) = 'x'"
EACH = "SELECT count(*) FROM shop.orders o WHERE (SELECT max(quantity) FROM shop.line l WHERE l.order_id = o.id) = 7"


def statement(number: int, text: str, calls: float = 100.0) -> Statement:
    return Statement(id=number, text=text, calls=calls, total_s=calls * 0.1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloneWorld]:
    with clone_world(tmp_path_factory.mktemp("trial")) as world:
        world.clones.make(RUN)
        yield world
        world.clones.discard(RUN)


def test_what_helps_much_is_worth_it_and_what_hurts_is_not(made: CloneWorld) -> None:
    found = "SELECT count(*) FROM shop.orders WHERE customer = 17"
    by_key = "SELECT day FROM shop.orders WHERE id = 4711"
    # Without any index at all: hundreds of times as slow, on whatever machine.
    off = {"enable_indexscan": "off", "enable_bitmapscan": "off", "enable_indexonlyscan": "off"}
    hurts = Proposal(kind=Kind.SESSION, subject="indexes", was="on", to="off", sign="a test", settings=off)
    index = ("CREATE INDEX ON shop.orders (customer)", "ANALYZE shop.orders")
    helps = Proposal(kind=Kind.TABLE, subject="shop.orders", was="", to="an index", sign="a test", prepare=index)
    bad, good = (
        gain(tried(made.clones, RUN, [one], [statement(1, text)])[0]) for one, text in ((hurts, by_key), (helps, found))
    )
    assert bad is not None
    assert not bad.worth
    assert bad.slower[1] > 2
    assert good is not None
    assert good.share > 0.5
    assert not good.slower


def test_a_restart_and_a_table_are_tried_too(made: CloneWorld) -> None:
    signs = Signs(
        settings=(Setting("shared_buffers", "2048", "8kB", "postmaster"),),
        hit=1e5,
        read=1e5,
        churned=(Churned(schema="shop", table="orders", live=6e4, dead=6e3),),
    )
    found = proposals(signs)
    assert [one.kind for one in found] == [Kind.RESTART, Kind.TABLE]
    trials = tried(made.clones, RUN, found, [statement(1, "SELECT count(*) FROM shop.orders")])
    assert all(trial.rounds and not trial.trouble for trial in trials), trials


def test_a_proposal_with_which_it_does_not_come_up_says_why(made: CloneWorld) -> None:
    absurd = of(Setting("shared_buffers", "2048", "8kB", "postmaster"), "1", "too little")
    trial = tried(made.clones, RUN, [absurd], [statement(1, "SELECT 1")])[0]
    assert "shared_buffers" in trial.trouble
    assert gain(trial) is None


def test_what_plans_do_in_vain_is_found_and_measured(made: CloneWorld) -> None:
    with made.clones.opened(RUN) as copy:
        found = {
            hint.id: hint for hint in plan_hints(copy, [statement(1, PAGE), statement(2, LOWER), statement(3, EACH)])
        }
        assert plan_hints(copy, [statement(4, "SELECT * FROM shop.orders WHERE id = 7")]) == []
    assert "OFFSET" in found[1].instead
    assert "expression" in found[2].instead
    assert "sub-query ran 60,000 times" in found[3].seen


def test_old_rows_are_quicker_to_drop_than_to_remove(made: CloneWorld) -> None:
    with made.clones.opened(RUN) as copy:
        hint = removal(copy, Aged("shop", "line", "shipped", 180_000, 20_000, 10 << 20))
        left = copy.rows("SELECT to_regclass('nvcops_oldest')::text AS name")
    assert hint is None or "partition it by shipped" in hint.instead
    assert left == [{"name": None}], "the table of the measurement is gone"


def test_sessions_side_by_side_are_measured(made: CloneWorld) -> None:
    with made.clones.opened(RUN) as copy:
        found = side_by_side(copy, [statement(1, "SELECT count(*) FROM shop.orders WHERE id < 100")], 2)
    assert [one.sessions for one in found] == [1, 2]
    assert all(one.load.calls and not one.load.failed for one in found)


def test_a_copy_on_which_somebody_who_was_killed_tried_something_is_made_anew(made: CloneWorld) -> None:
    run = "killed@1"
    try:
        untried(made.clones, run)
        with made.clones.opened(run) as copy:
            copy.execute("CREATE INDEX left_behind ON shop.orders (day)")
        untried(made.clones, run)
        with made.clones.opened(run) as copy:
            assert copy.rows("SELECT to_regclass('shop.left_behind') IS NULL AS anew")[0]["anew"]
    finally:
        made.clones.discard(run)
