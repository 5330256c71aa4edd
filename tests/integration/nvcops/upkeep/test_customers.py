"""Customers come first: an order is stopped when a service slows down, and no order is stopped by noise."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from upkeep_world import QUICK, Bank, UpkeepWorld, upkeep_on

from nvclab.parts.postgres import Postgres
from nvcops.adapters.upkeep.latency import Meter
from nvcops.core.upkeep import Done, Order, Outcome

LONG = Order(title="the order", sql="SELECT pg_sleep(5)")


@pytest.fixture
def bank() -> Iterator[Bank]:
    with Bank().serving() as serving:
        yield serving


@pytest.fixture
def kept(upkeep_17: Postgres, bank: Bank) -> Iterator[UpkeepWorld]:
    meter = Meter([bank.entry()], before_s=3.0, window_s=2.0)
    with upkeep_on(upkeep_17, 17, meter=meter) as world:
        yield world


def carried_out(kept: UpkeepWorld, bank: Bank, **then: object) -> Done:
    """An order; once it is under way the service becomes as `then` says."""

    def change() -> None:
        kept.world.wait_until(lambda: kept.ours() > 0, "the order is under way")
        for name, value in then.items():
            setattr(bank, name, value)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        return kept.upkeep.carry_out(LONG, QUICK)
    finally:
        thread.join()


def test_an_order_under_which_the_p99_doubles_is_stopped(kept: UpkeepWorld, bank: Bank) -> None:
    done = carried_out(kept, bank, seconds=0.09)
    assert done.outcome is Outcome.STOPPED
    assert done.why.startswith("the p99 of bank rose to ")
    assert done.p99_before_s is not None
    assert done.p99_worst_s is not None
    assert done.p99_worst_s > 2 * done.p99_before_s
    kept.world.wait_until(lambda: kept.ours() == 0, "its sessions are gone")
    began = time.monotonic()
    assert kept.upkeep.carry_out(LONG, QUICK).outcome is Outcome.STOPPED  # it is as slow as it was stopped for
    assert time.monotonic() - began < 5 + 3  # and what it was before is known, and not learned anew


def test_a_little_slower_is_no_reason(kept: UpkeepWorld, bank: Bank) -> None:
    done = carried_out(kept, bank, seconds=0.024)
    assert done.outcome is Outcome.DONE
    assert done.p99_worst_s is not None


def test_few_requests_prove_nothing(kept: UpkeepWorld, bank: Bank) -> None:
    bank.requests = 3
    done = carried_out(kept, bank, seconds=0.9)
    assert (done.outcome, done.p99_before_s, done.p99_worst_s) == (Outcome.DONE, None, None)


def test_a_service_that_says_nothing_any_more_is_a_reason(kept: UpkeepWorld, bank: Bank) -> None:
    long = Order(title="the order", sql="SELECT pg_sleep(30)")
    threading.Timer(5.0, setattr, (bank, "silent", True)).start()
    done = kept.upkeep.carry_out(long, QUICK)
    assert done.outcome is Outcome.STOPPED
    assert "the metrics of bank cannot be read any more" in done.why
    assert "answers 503" in done.why
