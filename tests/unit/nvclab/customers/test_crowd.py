from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from itertools import islice

from nvclab.customers.behaviour import Behaviour, Customer
from nvclab.customers.crowd import Crowd
from nvclab.customers.figures import Figures
from nvclab.customers.wire import Pool


class Recorder(Behaviour):
    """Notes whose turn it was instead of asking the bank; may be as slow as a blocked process."""

    def __init__(self, customers: int, block_s: float = 0.0) -> None:
        pool = Pool(1, connections_max=1, waiting_max=1, deadline_s=1)
        people = [Customer(f"c{n}", n, came=True) for n in range(customers)]
        super().__init__(people, "secret", pool, Figures())
        self.turns: list[tuple[float, int]] = []
        self.block_s = block_s

    def act(self, customer: Customer, due: float) -> None:
        self.turns.append((due, customer.account))
        time.sleep(self.block_s)


def test_each_user_comes_once_in_each_period() -> None:
    crowd = Crowd(Recorder(100), users=100, think_s=10.0)
    arrivals = list(islice(crowd._arrivals(), 300))
    moments = [at - crowd._start for at, _ in arrivals]
    assert moments == sorted(moments)
    for period in range(3):
        turns = arrivals[period * 100 : (period + 1) * 100]
        assert sorted(customer.account for _, customer in turns) == list(range(100))
        assert all(period * 10 <= at - crowd._start <= (period + 1) * 10 for at, _ in turns)


def test_a_user_comes_when_its_customer_has_signed_in() -> None:
    recorder = Recorder(10)
    crowd = Crowd(recorder, users=25, think_s=0.05)
    assert crowd.active == 25
    for customer in crowd.behaviour.customers[3:]:
        customer.came = False
    assert crowd.active == 3 * 3
    asyncio.run(stopped(crowd.arrive(), 0.2))
    assert {account for _, account in recorder.turns} == {0, 1, 2}


async def stopped(endless: Coroutine[None, None, None], after_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(endless, after_s)


def test_more_users_than_customers_share_them() -> None:
    crowd = Crowd(Recorder(10), users=100, think_s=10.0)
    turns = [customer.account for _, customer in islice(crowd._arrivals(), 100)]
    assert all(turns.count(customer) == 10 for customer in range(10))


def test_a_slow_process_skips_nobody_and_the_due_moments_stay() -> None:
    """The loop is open: what comes late is still counted from the moment at which it was due."""
    slow = Recorder(50, block_s=0.004)
    crowd = Crowd(slow, users=50, think_s=0.1)

    asyncio.run(stopped(crowd.arrive(), 0.5))
    assert len(slow.turns) >= 60
    due = [at - crowd._start for at, _ in slow.turns]
    assert all(int(at / 0.1 + 1e-9) in (number // 50, number // 50 + 1) for number, at in enumerate(due))
