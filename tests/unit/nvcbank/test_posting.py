"""The group: who waits with whom, what happens when it fails. The database is a pool that answers as told."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from nvcbank import posting
from nvcbank.errors import PartDown
from nvcbank.metrics import Metrics
from nvcbank.posting import KeyConflict, Order, Overloaded, Poster, Verdict

NOW = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
Rows = list[tuple[int, str, dt.datetime, str]]


def order(number: int, request: bytes = b"r" * 16) -> Order:
    return Order(1, b"%016d" % number, request, 1, 2, number, "EUR", "")


class ToldPool:
    """Remembers the groups it was given; `answer` gives the rows or raises."""

    size = 2

    def __init__(self, answer: Callable[[list[int]], Rows]) -> None:
        self.groups: list[list[int]] = []
        self._answer = answer
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, _query: str, *columns: list[Any], within_s: float) -> Rows:
        assert 0 < within_s <= posting.DEADLINE_S
        self.groups.append(columns[5])
        await self.gate.wait()
        return self._answer(columns[5])


def settle(amounts: list[int]) -> Rows:
    return [(amount, "settled", NOW, "new") for amount in amounts]


def poster(pool: ToldPool) -> Poster[tuple[int, str]]:
    def render(_order: Order, verdict: Verdict) -> tuple[int, str]:
        return verdict.transfer_id, verdict.outcome

    return Poster(pool, Metrics(), render)  # type: ignore[arg-type] # only `fetch` and `size` are asked


def go(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_what_is_in_flight_together_is_posted_together_and_answered_apart() -> None:
    async def scenario() -> None:
        pool = ToldPool(settle)
        posts = poster(pool)
        answers = await asyncio.gather(*(posts.submit(order(number)) for number in range(1, 101)))
        assert answers == [(number, "settled") for number in range(1, 101)]
        assert pool.groups == [list(range(1, 101))]
        assert posts.waiting == 0

    go(scenario)


def test_a_group_has_at_most_500_and_at_most_two_are_on_their_way() -> None:
    async def scenario() -> None:
        pool = ToldPool(settle)
        pool.gate.clear()
        posts = poster(pool)
        futures = [posts.submit(order(number)) for number in range(1, 1_801)]
        await asyncio.sleep(0.05)
        assert [len(group) for group in pool.groups] == [500, 500]
        pool.gate.set()
        assert len(await asyncio.gather(*futures)) == 1_800
        assert [len(group) for group in pool.groups] == [500, 500, 500, 300]

    go(scenario)


def test_one_order_in_flight_twice_is_one_and_another_request_with_its_key_is_a_conflict() -> None:
    async def scenario() -> None:
        pool = ToldPool(settle)
        posts = poster(pool)
        first = posts.submit(order(1))
        assert posts.submit(order(1)) is first
        with pytest.raises(KeyConflict):
            posts.submit(order(1, b"x" * 16))
        assert await first == (1, "settled")
        assert pool.groups == [[1]]

    go(scenario)


def test_a_conflict_in_the_database_is_a_conflict_for_that_order_only() -> None:
    def conflict(amounts: list[int]) -> Rows:
        return [(amount, "settled", NOW, "conflict" if amount == 2 else "new") for amount in amounts]

    async def scenario() -> None:
        posts = poster(ToldPool(conflict))
        answers = await asyncio.gather(*(posts.submit(order(number)) for number in (1, 2, 3)), return_exceptions=True)
        assert answers[0] == (1, "settled")
        assert isinstance(answers[1], KeyConflict)
        assert answers[2] == (3, "settled")

    go(scenario)


def test_one_spoilt_order_does_not_spoil_its_group() -> None:
    def spoil(amounts: list[int]) -> Rows:
        if 2 in amounts:
            raise asyncpg.CheckViolationError
        return settle(amounts)

    async def scenario() -> None:
        pool = ToldPool(spoil)
        posts = poster(pool)
        answers = await asyncio.gather(*(posts.submit(order(number)) for number in (1, 2, 3)), return_exceptions=True)
        assert [answers[0], answers[2]] == [(1, "settled"), (3, "settled")]
        assert isinstance(answers[1], asyncpg.CheckViolationError)
        assert pool.groups == [[1, 2, 3], [1], [2], [3]]

    go(scenario)


def test_two_instances_that_meet_at_one_key_look_again() -> None:
    met: list[int] = []

    def meet(amounts: list[int]) -> Rows:
        if not met:
            met.append(1)
            raise asyncpg.UniqueViolationError
        return settle(amounts)

    async def scenario() -> None:
        assert await poster(ToldPool(meet)).submit(order(1)) == (1, "settled")

    go(scenario)


def test_a_lost_connection_fails_all_that_were_on_their_way_and_nobody_waits_for_ever() -> None:
    def lose(_amounts: list[int]) -> Rows:
        raise PartDown("database", "gone")

    async def scenario() -> None:
        posts = poster(ToldPool(lose))
        answers = await asyncio.gather(*(posts.submit(order(number)) for number in (1, 2)), return_exceptions=True)
        assert all(isinstance(answer, PartDown) for answer in answers)
        assert posts.waiting == 0

    go(scenario)


def test_what_waits_behind_a_stuck_database_is_failed_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "DEADLINE_S", 0.1)

    async def scenario() -> None:
        pool = ToldPool(settle)
        pool.gate.clear()
        posts = poster(pool)
        for number in range(1, 1_001):
            posts.submit(order(number))
        await asyncio.sleep(0.01)
        late = posts.submit(order(2_000))
        await asyncio.sleep(0.15)
        posts.expire()
        with pytest.raises(PartDown):
            await late
        pool.gate.set()
        await posts.drain(5)
        assert posts.waiting == 0
        assert [2_000] not in pool.groups

    go(scenario)


def test_more_than_can_be_posted_in_time_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "MOST_WAITING", 3)

    async def scenario() -> None:
        posts = poster(ToldPool(settle))
        futures = [posts.submit(order(number)) for number in range(1, 4)]
        with pytest.raises(Overloaded):
            posts.submit(order(4))
        await asyncio.gather(*futures)

    go(scenario)
