"""Group posting: payments in flight at the same time are posted by one statement and share one commit."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import asyncpg

from nvcbank.errors import BankError, PartDown

if TYPE_CHECKING:
    from nvcbank.database import Pool
    from nvcbank.metrics import Metrics

GATHER_S = 0.002
MOST_IN_GROUP = 500
MOST_WAITING = 10_000
DEADLINE_S = 1.8  # of the 2 s that a client is promised; the rest is for the way there and back
_POST = "SELECT transfer_id, verdict, posted_at, answer FROM bank.post_payments($1, $2, $3, $4, $5, $6, $7, $8)"
# Writes something, so that its commit waits for a synchronous standby: everything before it is safe there, too.
_MAKE_CERTAIN = "SELECT pg_logical_emit_message(true, 'nvcbank', 'replayed')"

Answer = TypeVar("Answer")


class Order(NamedTuple):
    """One payment as it goes to the database. `key` and `request_hash` are 16-byte digests."""

    customer_id: int
    key: bytes
    request_hash: bytes
    debit_account: int
    credit_account: int
    amount: int
    currency: str
    reference: str


class Verdict(NamedTuple):
    """What the database answered: `answer` is new, replay or conflict."""

    transfer_id: int
    outcome: str
    posted_at: datetime
    answer: str


class KeyConflict(BankError):
    """The idempotency key was used for another request."""


class Overloaded(BankError):
    """More payments wait than can be posted in time."""


def digest(text: str) -> bytes:
    """128 bits that stand for a text; in SQL: substring(sha256(convert_to(text, 'UTF8')) FOR 16).

    >>> digest("7 key-1").hex()
    '38d029b887745e67974e71c45f8317a4'
    """
    return hashlib.sha256(text.encode()).digest()[:16]


class _Waiting(Generic[Answer]):
    """An order in the queue, or in a group on its way, and who waits for it."""

    __slots__ = ("deadline", "future", "order")

    def __init__(self, order: Order, future: asyncio.Future[Answer], deadline: float) -> None:
        self.order = order
        self.future = future
        self.deadline = deadline


class Poster(Generic[Answer]):
    """Gathers orders for at most 2 ms or 500 of them, posts groups on the pool's connections, answers each order.

    `render` makes the answer of a verdict. An order that certainly was not posted fails with PartDown; one whose fate
    is unknown - the connection was lost, or the deadline passed while its group was on the way - with OutcomeUnknown:
    repeating it with the same key tells. An answer is given only when the commit behind it is safe on the synchronous
    standby, where there is one: a payment that is found again may be there since a commit that nobody saw end.
    """

    def __init__(self, pool: Pool, metrics: Metrics, render: Callable[[Order, Verdict], Answer]) -> None:
        self._pool = pool
        self._metrics = metrics
        self._render = render
        self._loop = asyncio.get_running_loop()
        self._queue: list[_Waiting[Answer]] = []
        self._by_key: dict[bytes, _Waiting[Answer]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._groups: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Orders that are not answered yet."""
        return len(self._by_key)

    def submit(self, order: Order) -> asyncio.Future[Answer]:
        """Queue an order; the future is its answer. The same order twice in flight is one order.

        Raises:
            KeyConflict: when the key is in flight with another request.
            Overloaded: when the queue is full.
        """
        known = self._by_key.get(order.key)
        if known is not None:
            if known.order.request_hash != order.request_hash:
                raise KeyConflict("this Idempotency-Key is in use for another payment")
            return known.future
        if len(self._by_key) >= MOST_WAITING:
            raise Overloaded("too many payments are waiting")
        waiting = _Waiting(order, self._loop.create_future(), self._loop.time() + DEADLINE_S)
        self._by_key[order.key] = waiting
        self._queue.append(waiting)
        if len(self._queue) >= MOST_IN_GROUP:
            self._dispatch()
        elif self._timer is None:
            self._timer = self._loop.call_later(GATHER_S, self._dispatch)
        return waiting.future

    async def drain(self, patience_s: float) -> None:
        """Wait until everything in flight is answered."""
        end = self._loop.time() + patience_s
        while self._by_key and self._loop.time() < end:  # noqa: ASYNC110 - once in a process's life
            await asyncio.sleep(0.005)

    def expire(self) -> None:
        """Fail the orders whose deadline passed in the queue: they were never sent. Called a few times a second."""
        now = self._loop.time()
        if self._queue and self._queue[0].deadline <= now:
            late = [waiting for waiting in self._queue if waiting.deadline <= now]
            self._queue = self._queue[len(late) :]
            self._fail(late, PartDown("database", "it did not answer in time"))

    def _dispatch(self) -> None:
        """Send groups while there are connections; what stays in the queue goes with the next free one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue and len(self._groups) < self._pool.size:
            group, self._queue = self._queue[:MOST_IN_GROUP], self._queue[MOST_IN_GROUP:]
            task = self._loop.create_task(self._post(group))
            self._groups.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._groups.discard(task)
        self._dispatch()

    async def _post(self, group: list[_Waiting[Answer]]) -> None:
        """Post one group and answer everybody in it, whatever happens."""
        self._metrics.group_size.observe(len(group))
        try:
            verdicts = await self._verdicts_again(group)
        except (asyncpg.PostgresError, ValueError) as error:
            if len(group) == 1:
                self._fail(group, error)
                return
            for waiting in group:  # one order spoils the group: post each on its own to find out which
                await self._post([waiting])
        except Exception as error:  # noqa: BLE001 - nobody may be left waiting
            self._fail(group, error)
        else:
            for waiting, verdict in zip(group, verdicts, strict=True):
                self._answer(waiting, verdict)

    async def _verdicts_again(self, group: list[_Waiting[Answer]]) -> list[asyncpg.Record]:
        """Two instances may post one key at the same moment: the second one looks again, and finds it."""
        try:
            return await self._verdicts(group)
        except asyncpg.UniqueViolationError:
            return await self._verdicts(group)

    async def _verdicts(self, group: list[_Waiting[Answer]]) -> list[asyncpg.Record]:
        columns = [list(column) for column in zip(*(waiting.order for waiting in group), strict=True)]
        verdicts = await self._pool.fetch(_POST, *columns, within_s=self._left_s(group))
        answers = {Verdict(*row).answer for row in verdicts}
        if "replay" in answers and "new" not in answers:  # found, and by no commit of ours known to be safe
            await self._pool.fetch(_MAKE_CERTAIN, within_s=self._left_s(group))
        return verdicts

    def _left_s(self, group: list[_Waiting[Answer]]) -> float:
        """What is left of the time in which a group must be answered; PartDown when nothing is."""
        left_s = group[0].deadline - self._loop.time()
        if left_s <= 0:
            raise PartDown("database", "it did not answer in time")
        return left_s

    def _answer(self, waiting: _Waiting[Answer], row: asyncpg.Record) -> None:
        self._by_key.pop(waiting.order.key, None)
        verdict = Verdict(*row)
        if verdict.answer == "conflict":
            waiting.future.set_exception(KeyConflict("this Idempotency-Key was used for another payment"))
            return
        if verdict.answer == "new":
            self._metrics.payments.add(verdict.outcome)
        waiting.future.set_result(self._render(waiting.order, verdict))

    def _fail(self, group: list[_Waiting[Answer]], error: Exception) -> None:
        for waiting in group:
            self._by_key.pop(waiting.order.key, None)
            waiting.future.set_exception(error)
