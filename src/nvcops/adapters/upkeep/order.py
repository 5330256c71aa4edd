"""An order from its first attempt to its last: cleared, carried out under its guard, tried again, cleared."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic

from nvcops.adapters.postgres import PostgresServer
from nvcops.adapters.upkeep.latency import Meter
from nvcops.adapters.upkeep.statement import End, Ended, Seen, Statement, asked
from nvcops.core.errors import TargetError
from nvcops.core.schedule import now
from nvcops.core.units import Seconds
from nvcops.core.upkeep import Done, Guard, Order, Outcome

_CONCURRENTLY = re.compile(r"^\s*(CREATE|DROP|REINDEX)\b.*\bCONCURRENTLY\b", re.IGNORECASE | re.DOTALL)
_REINDEX = re.compile(r"^\s*REINDEX\b", re.IGNORECASE)
_PATIENCE_S = 60.0  # CONCURRENTLY waits for transactions that began before it: that queues nobody up
_TRANSACTIONS = ("virtualxid", "transactionid")
_CLEARING_S = 120.0
_SLACK_S = 5.0  # we end it ourselves and say why; the server does where we cannot
_MARGIN_S = 0.4  # two looks: it is cancelled before the limit, not after it
_OUTCOMES = {End.DONE: Outcome.DONE, End.STOPPED: Outcome.STOPPED, End.REFUSED: Outcome.REFUSED}


@dataclass(slots=True, kw_only=True)
class Carrying:
    """One order on one server."""

    server: PostgresServer
    order: Order
    guard: Guard
    meter: Meter
    old_s: float
    _began: float = field(default_factory=monotonic, init=False)
    _queued_s: float = field(default=0.0, init=False)

    async def done(self) -> Done:
        """Carry it out as its guard allows.

        Raises:
            TargetError: the server was lost.
        """
        ended = Ended(End.STOPPED, self._over())
        attempts = 0
        while not (over := self._over()) and attempts < self.guard.attempts:
            if attempts:
                await self._pause()
            attempts += 1
            ended = await self._attempt()
            if ended.end is not End.NOT_NOW:
                return self._told(ended, attempts)
        if over:
            why = f"{over}; {ended.why}" if attempts else over
            return self._told(Ended(End.STOPPED, why), attempts)
        return self._told(Ended(End.REFUSED, f"{ended.why} ({attempts} attempts)"), attempts)

    def _told(self, ended: Ended, attempts: int) -> Done:
        before, worst = self.meter.p99s
        return Done(
            outcome=_OUTCOMES[ended.end],
            why=ended.why,
            seconds=monotonic() - self._began,
            attempts=attempts,
            queued_s=self._queued_s,
            p99_before_s=before,
            p99_worst_s=worst,
        )

    async def _attempt(self) -> Ended:
        """Clear what lies there, carry it out, and clear again unless it was done."""
        if left := await self._cleared():
            return left
        if why := await self._held_up(self.order.sql):
            return Ended(End.NOT_NOW, why)
        try:
            ended = await self._carried(self.order.sql, self.order.settings, guarded=True)
        except TargetError:
            await self._cleared_if_possible()
            raise
        if ended.end is End.DONE:
            return ended
        left = await self._cleared(patience_s=_CLEARING_S)
        return Ended(ended.end, f"{ended.why}; not cleared away: {left.why}") if left else ended

    async def _carried(self, sql: str, settings: Mapping[str, str], *, guarded: bool) -> Ended:
        """One statement; what clears away has no window and no deadline, but never makes anybody wait either."""
        concurrently = _CONCURRENTLY.match(sql) is not None
        statement = Statement(
            server=self.server,
            sql=sql,
            title=self.order.title,
            settings=settings,
            lock_s=max(self.guard.lock, _PATIENCE_S) if concurrently else self.guard.lock,
            deadline_s=_SLACK_S + (self._left_s() if guarded else _CLEARING_S),
            judge=self._must_end if guarded else self._must_wait,
        )
        ended = await statement.carried_out()
        self._queued_s = max(self._queued_s, ended.queued_s)
        return ended

    # --- what ends it ---

    def _over(self) -> str:
        """Why nothing more may begin."""
        guard = self.guard
        if guard.until and now() >= guard.until:
            return "the window is over"
        if monotonic() - self._began >= guard.deadline:
            return f"it took longer than {guard.deadline}"
        if trouble := self.meter.trouble(guard.slowdown):
            return trouble
        return ""

    def _must_end(self, seen: Seen) -> Ended | None:
        over = self._over()
        return Ended(End.STOPPED, over) if over else self._must_wait(seen)

    def _must_wait(self, seen: Seen) -> Ended | None:
        """Somebody waits behind it, or it waits itself for too long."""
        limit = max(self.guard.queue - _MARGIN_S, self.guard.queue / 2)
        if seen.behind and min(seen.behind_s, monotonic() - self._began) >= limit:
            return Ended(End.STOPPED, f"pid {seen.behind} waited {Seconds(seen.behind_s)} behind it")
        if seen.waits_for and seen.waits_for not in _TRANSACTIONS and seen.waits_s >= self.guard.lock:
            holder = f": {seen.blockers} has it" if seen.blockers else ""
            return Ended(End.NOT_NOW, f"it did not get its lock{holder}")
        return None

    def _left_s(self) -> float:
        left = self.guard.deadline - (monotonic() - self._began)
        if self.guard.until:
            left = min(left, (self.guard.until - now()).total_seconds())
        return max(left, 0.001)

    async def _pause(self) -> None:
        """Between attempts, not always equally long: whoever holds the lock may come back as regularly."""
        wanted = self.guard.pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        await asyncio.sleep(min(wanted, self._left_s()))

    # --- what is left behind, and what is in the way ---

    async def _cleared(self, patience_s: float = 0.0) -> Ended | None:
        """Carry out what clears away; None when nothing is left, else why it could not be."""
        for sql in await self._undo():
            end = monotonic() + patience_s
            while (ended := await self._clear(sql)).end is not End.DONE:
                if ended.end is End.REFUSED or monotonic() >= end:
                    return ended
                await self._pause_clearing()
        return None

    async def _clear(self, sql: str) -> Ended:
        if _CONCURRENTLY.match(sql) and (why := await self._held_up(sql)):
            return Ended(End.NOT_NOW, why)
        ended = await self._carried(sql, {}, guarded=False)
        return Ended(End.NOT_NOW, ended.why) if ended.end is End.STOPPED else ended

    async def _pause_clearing(self) -> None:
        await asyncio.sleep(min(self.guard.pause, 2.0))

    async def _undo(self) -> list[str]:
        """The order's own statements, and what a stopped REINDEX CONCURRENTLY leaves."""
        left = await asked(self.server, "leftovers") if _REINDEX.match(self.order.sql) else []
        return [*self.order.undo, *(str(row["clear"]) for row in left)]

    async def _cleared_if_possible(self) -> None:
        """After a session was lost: the server may be there, and must not keep what is half done."""
        try:
            await self._cleared(patience_s=10.0)
        except TargetError:
            return  # it is not there: whoever carries the order out again clears it first

    async def _held_up(self, sql: str) -> str:
        """Who keeps a transaction open for which CONCURRENTLY would wait, and nobody knows how long."""
        if not _CONCURRENTLY.match(sql):
            return ""
        rows = await asked(self.server, "old_transactions", old_s=self.old_s)
        if not rows:
            return ""
        age = Seconds(float(str(rows[0]["age_s"])))
        return f"{rows[0]['who']} has a transaction open for {age}, and CONCURRENTLY would wait for it"
