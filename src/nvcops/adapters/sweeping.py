"""The cache is cleaned second by second, with an eye on what customers feel and on how often the database is asked.

What is gone from the cache is asked of the database: so a sweep that is too quick shows there first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from nvcops.adapters.postgres import KeptSession, PostgresServer
from nvcops.adapters.upkeep.latency import Meter
from nvcops.core.caches import Cache, Pace, Sweep
from nvcops.core.errors import TargetError
from nvcops.core.manifest import ServiceEntry
from nvcops.core.progress import tell

_SLICE_S = 1.0
_LEARN_S = 5.0
_QUIET = 50.0  # transactions a second: below, a multiple says nothing
_RATE = "SELECT sum(xact_commit + xact_rollback)::float8 AS count FROM pg_stat_database"


@dataclass(slots=True)
class Asked:
    """How many transactions a second the database sees; None where it cannot be known."""

    session: KeptSession | None
    before: float | None = None
    now: float | None = None
    worst: float | None = None
    _last: tuple[float, float] | None = None

    async def look(self) -> None:
        """Read the counter; the rate is since the last look."""
        if self.session is None:
            return
        try:
            count = float((await self.session.rows(_RATE))[0]["count"])
        except TargetError:
            self._last = self.now = None
            return
        at = monotonic()
        if self._last is not None and at > self._last[0]:
            self.now = max(0.0, count - self._last[1]) / (at - self._last[0])
            self.worst = max(self.now, self.worst or 0.0)
        self._last = (at, count)

    def trouble(self, factor: float) -> str:
        """Why the sweep waits; empty while the database is asked as before."""
        if self.before is None or self.now is None or self.now <= factor * max(self.before, _QUIET):
            return ""
        return f"the database is asked {self.now:.0f} times a second, {self.before:.0f} before"


@dataclass(slots=True, kw_only=True)
class GuardedSweeper:
    """See core.caches.Sweeper."""

    cache: Cache
    services: Sequence[ServiceEntry]
    database: PostgresServer | None
    learn_s: float = _LEARN_S
    requests_min: int = 100

    def sweep(self, pattern: str, pace: Pace, *, spared: Sequence[str] = ()) -> Sweep:
        """Remove every key of a pattern, but those of others."""
        return asyncio.run(_Going(self, pattern, pace, spared).to_its_end())


@dataclass(slots=True)
class _Going:
    sweeper: GuardedSweeper
    pattern: str
    pace: Pace
    spared: Sequence[str] = ()
    removed: int = 0
    waited_s: float = 0.0
    meter: Meter = field(init=False)
    asked: Asked = field(init=False)

    async def to_its_end(self) -> Sweep:
        sweeper, began = self.sweeper, monotonic()
        self.meter = Meter(sweeper.services, before_s=sweeper.learn_s, requests_min=sweeper.requests_min)
        session = KeptSession(sweeper.database) if sweeper.database else None
        self.asked = Asked(session)
        try:
            await self.asked.look()
            await self.meter.learn()
            await self.asked.look()
            self.asked.before, self.asked.worst = self.asked.now, None
            following = asyncio.create_task(self.meter.follow())
            try:
                stopped = await self._sweep(began)
            finally:
                following.cancel()
        finally:
            if session:
                session.close()
        before, worst = self.meter.p99s
        return Sweep(
            removed=self.removed,
            seconds=monotonic() - began,
            waited_s=self.waited_s,
            stopped=stopped,
            p99_before_s=before,
            p99_worst_s=worst,
            queries_before=self.asked.before,
            queries_worst=self.asked.worst,
        )

    async def _sweep(self, began: float) -> str:
        """Slice after slice; why it gave up."""
        cursor = 0
        while True:
            slice_ = await asyncio.to_thread(
                self.sweeper.cache.sweep,
                self.pattern,
                cursor,
                keys_max=self.pace.rate,
                seconds=_SLICE_S,
                spared=self.spared,
            )
            cursor, self.removed = slice_.cursor, self.removed + slice_.removed
            tell(0, 0, f"{self.removed:,} keys removed")
            if cursor == 0:
                return ""
            if monotonic() - began > self.pace.deadline:
                return f"it took longer than {self.pace.deadline}"
            if trouble := await self._until_quiet():
                return trouble

    async def _until_quiet(self) -> str:
        """Wait while others pay for it; why it is not worth waiting any longer."""
        since = monotonic()
        while True:
            await self.asked.look()
            trouble = self.meter.trouble(self.pace.slowdown, passing=True) or self.asked.trouble(self.pace.queries)
            if not trouble:
                return ""
            if monotonic() - since > self.pace.patience:
                return trouble
            await asyncio.sleep(_SLICE_S)
            self.waited_s += _SLICE_S
