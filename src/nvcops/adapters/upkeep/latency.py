"""What customers feel while the database is kept: the p99 of each service, off its own /metrics, second by second."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from nvcops.adapters.http import Address, exchange
from nvcops.core import slo
from nvcops.core.errors import Refused, TargetError
from nvcops.core.exposition import parse_page, parse_series
from nvcops.core.manifest import ServiceEntry
from nvcops.core.units import Seconds

_LOOK_S = 1.0
_KEPT_S = 30.0  # where few requests come, a look back reaches this far to have enough of them
_BLIND_S = 5.0
_END_SHARE = 0.4
Buckets = dict[float, float]  # how many requests were not above an edge; all of them are at infinity


@dataclass(slots=True)
class Latency:
    """The latency histogram of one service, its instances together, the routes that machines ask left out."""

    entry: ServiceEntry
    requests_min: int
    looks: deque[tuple[float, Buckets]] = field(default_factory=deque)
    seen: float = 0.0
    trouble: str = ""
    _last: dict[str, Buckets] = field(default_factory=dict)

    async def look(self) -> None:
        """Read all its instances; what one that is silent counted is in the next look that it answers."""
        urls = {one.name: one.url for one in self.entry.instances} or {"": self.entry.url}
        answers = await asyncio.gather(*(self._page(url) for url in urls.values()))
        rise, at = _nothing(), monotonic()
        for name, answer in zip(urls, answers, strict=True):
            if isinstance(answer, TargetError):
                self.trouble = answer.sentence
                continue
            self.seen = at
            if name in self._last:
                _add(rise, risen(self._last[name], answer))
            self._last[name] = answer
        self.looks.append((at, rise))
        while self.looks[0][0] < at - _KEPT_S:
            self.looks.popleft()

    def p99(self, since: float, window_s: float) -> Seconds | None:
        """Of the last `window_s`, or further back to `since` until there are enough requests; None: too few."""
        if not self.looks:
            return None
        rise, end = _nothing(), self.looks[-1][0]
        for at, more in reversed(self.looks):
            if at <= since or (at <= end - window_s and rise[math.inf] >= self.requests_min):
                break
            _add(rise, more)
        return self._of(rise)

    def _of(self, rise: Buckets) -> Seconds | None:
        if rise[math.inf] < self.requests_min:
            return None
        edges = [(edge, count) for edge, count in rise.items() if math.isfinite(edge)]
        if not edges:
            return None
        found = slo.percentile(edges, rise[math.inf], 0.99)
        return Seconds(max(edges)[0]) if found is None else found

    async def _page(self, url: str) -> Buckets | TargetError:
        entry = self.entry
        address = Address.of(url, entry.ca_file, entry.deadline)
        try:
            answer = await exchange(address, entry.metrics or "/")
            if answer.status != 200:
                return Refused(f"{address.where(entry.metrics or '/')} answers {answer.status}")
            return self._buckets(answer.body.decode())
        except TargetError as error:
            return error
        except ValueError as error:
            return Refused(f"{address.where(entry.metrics or '/')} is no page of metrics: {error}")

    def _buckets(self, text: str) -> Buckets:
        series, found = self.entry.series, _nothing()
        if series is None:
            return found
        for key, value in parse_page(text).rising.items():
            if key.startswith(f"{series.latency}_bucket{{"):
                labels = parse_series(key)[1]
                if labels.get(series.route_label) not in series.probe_routes:
                    _add(found, {float(labels["le"]): value})
        return found


def risen(before: Buckets, after: Buckets) -> Buckets:
    """What was counted between two readings; a counter that began anew counts from zero.

    >>> risen({0.1: 3, math.inf: 4}, {0.1: 5, math.inf: 9})
    {0.1: 2, inf: 5}
    >>> risen({math.inf: 4}, {math.inf: 1})
    {inf: 1}
    """
    if after[math.inf] < before[math.inf]:
        return after
    return {edge: max(0, count - before.get(edge, 0)) for edge, count in after.items()}


def _nothing() -> Buckets:
    return {math.inf: 0}


def _add(buckets: Buckets, more: Buckets) -> None:
    for edge, count in more.items():
        buckets[edge] = buckets.get(edge, 0) + count


class Meter:
    """All services that say how quick they are. `before_s` is how long is looked before an order begins.

    Below `requests_min` requests nothing is known: one slow request of twenty is no p99. What was learned of the time
    before serves the orders of the next `fresh_s`, so that each need not wait.
    """

    def __init__(
        self,
        services: Sequence[ServiceEntry],
        *,
        before_s: float = 10.0,
        window_s: float = 5.0,
        requests_min: int = 100,
        fresh_s: float = 600.0,
    ) -> None:
        self._services = [Latency(entry, requests_min) for entry in services if entry.metrics and entry.series]
        self._before_s, self._window_s, self._fresh_s = before_s, window_s, fresh_s
        self._before: dict[str, Seconds] = {}
        self._learned = -math.inf
        self._began = 0.0
        self._last: dict[str, Seconds] = {}
        self._now: dict[str, Seconds] = {}
        self._worst: dict[str, Seconds] = {}

    async def learn(self) -> None:
        """Look how quick the services are while nothing is done to the database."""
        if not self._services or monotonic() - self._learned < self._fresh_s:
            return
        await self._look()  # what was counted before is not of this time
        since = monotonic()
        while (left := since + self._before_s - monotonic()) > 0:
            await asyncio.sleep(min(_LOOK_S, left))
            await self._look()
        found = {latency.entry.name: latency.p99(since, self._before_s) for latency in self._services}
        self._before = {name: p99 for name, p99 in found.items() if p99}
        self._learned = monotonic()

    async def follow(self) -> None:
        """Look each second until it is cancelled."""
        await self._look()
        self._began, self._worst, self._now, self._last = monotonic(), {}, {}, {}
        for latency in self._services:
            latency.seen = self._began
        while self._services:
            await asyncio.sleep(_LOOK_S)
            await self._look()
            for latency in self._services:
                self._judge(latency)

    def trouble(self, slowdown: float, *, passing: bool = False) -> str:
        """Why an order must stop: a service was too slow, or says nothing any more; empty while all is well.

        passing: a service that has become quick again is no trouble, for one who can wait.
        """
        for latency in self._services:
            name = latency.entry.name
            felt, before = (self._now if passing else self._worst).get(name), self._before.get(name)
            if felt and before and felt > slowdown * before:
                return f"the p99 of {name} rose to {felt}, more than {slowdown:g} times the {before} of before"
            if name in self._before and monotonic() - latency.seen > _BLIND_S:
                return f"the metrics of {name} cannot be read any more: {latency.trouble}"
        return ""

    @property
    def p99s(self) -> tuple[Seconds | None, Seconds | None]:
        """Of the service that slowed down most: before, and at worst since."""
        known = [name for name in self._before if name in self._worst]
        if not known:
            return max(self._before.values(), default=None), None
        name = max(known, key=lambda one: self._worst[one] / self._before[one])
        return self._before[name], self._worst[name]

    async def _look(self) -> None:
        await asyncio.gather(*(latency.look() for latency in self._services))

    def _judge(self, latency: Latency) -> None:
        """As slow as the window was, its end still is, and the look before said too: a hiccup that is over is none."""
        name = latency.entry.name
        whole, end = (latency.p99(self._began, share * self._window_s) for share in (1.0, _END_SHARE))
        if whole is None or end is None or name not in self._before:
            self._last.pop(name, None)
            self._now.pop(name, None)
            return
        p99 = min(whole, end)
        if name in self._last:
            lasting = min(p99, self._last[name])
            self._now[name] = lasting
            self._worst[name] = max(lasting, self._worst.get(name, lasting))
        self._last[name] = p99
