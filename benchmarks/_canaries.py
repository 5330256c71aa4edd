"""Canaries made up: what each second brings, by the laws of chance, from a seed."""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate

import msgspec

from nvcops.delivery.betting import Counts
from nvcops.delivery.looks import Latency, Plan
from nvcops.delivery.readings import Interval

EDGES_S = (0.05, 0.1, 0.2, 0.5)
PLAN = Plan(canary=("c1", "c2"), control=("b1", "b2"))
TIMED = Plan(
    canary=("c1", "c2"),
    control=("b1", "b2"),
    latency=Latency(edges=tuple(str(edge) for edge in EDGES_S), prove=("0.1",), margin=1.5),
)
QUIET_S = 30
MEDIAN_S, SPREAD = 0.06, 0.6


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service: requests a second, the canary's share, the control's rate of errors; how much worse the canary is."""

    rps: float = 100
    share: float = 0.1
    failing: float = 0.002
    odds: float = 1
    slower: float = 1

    @property
    def canary_failing(self) -> float:
        """The canary's rate of errors."""
        return self.odds * self.failing / (1 - self.failing + self.odds * self.failing)


def served(rng: random.Random, service: Service, seconds: float) -> tuple[float, float]:
    """Requests of canary and control: the canary's share wavers by a fifth, whatever the nominal weight is.

    Never below what an interval needs to be settled alone: else the quiet ones behind would be pooled with the bad
    ones, and these are picked by their errors.
    """
    total = round(service.rps * seconds)
    canary = round(total * service.share * rng.uniform(0.8, 1.2))
    return canary, total - canary


def errors(seed: int, service: Service, limit_s: float) -> Iterator[tuple[float, Interval]]:
    """Rare errors: the seconds that have one, and the quiet ones between them as intervals of their own.

    Seconds without an error leave the bets as they are and can only lower the guard: a look then decides nothing.
    """
    rng, done = random.Random(seed), 0.0
    rate = service.rps * (service.share * service.canary_failing + (1 - service.share) * service.failing)
    arrival = rng.expovariate(rate)
    while arrival < limit_s:
        second = math.floor(arrival)
        while second > done:
            quiet = min(second - done, QUIET_S)
            yield (done := done + quiet), interval(quiet, *served(rng, service, quiet), 0, 0)
        canary, control = served(rng, service, 1)
        falls = service.odds * canary / (service.odds * canary + control)
        bad = [0, 0]
        while arrival < second + 1:
            bad[rng.random() >= falls] += 1
            arrival += rng.expovariate(rate)
        done = second + 1
        yield done, interval(1, max(canary, bad[0]), max(control, bad[1]), *bad)


def frequent(seed: int, service: Service, limit_s: float) -> Iterator[tuple[float, Interval]]:
    """Every second, request by request."""
    rng = random.Random(seed)
    for second in range(1, round(limit_s) + 1):
        counts = served(rng, service, 1)
        yield second, interval(1, *counts, *bad_of(rng, service, counts))


def bad_of(rng: random.Random, service: Service, counts: tuple[float, float]) -> tuple[int, int]:
    """How many of each side's requests are bad."""
    canary, control = (
        sum(rng.random() < failing for _ in range(round(count)))
        for count, failing in zip(counts, (service.canary_failing, service.failing), strict=True)
    )
    return canary, control


def interval(seconds: float, canary: float, control: float, canary_bad: float, control_bad: float) -> Interval:
    """One without latency."""
    return Interval(seconds, Counts(canary, control, canary_bad, control_bad), {})


def timed(seed: int, service: Service, limit_s: float) -> Iterator[tuple[float, Interval]]:
    """Every second, with errors and how many took longer than each edge."""
    rng = random.Random(seed)
    weights = [list(accumulate(_shares(scale))) for scale in (service.slower, 1.0)]
    for second in range(1, round(limit_s) + 1):
        counts = served(rng, service, 1)
        over = []
        for count, cumulative in zip(counts, weights, strict=True):
            falls = [bisect(cumulative, rng.random()) for _ in range(round(count))]
            over.append([sum(fall > at for fall in falls) for at in range(len(EDGES_S))])
        slower = {str(edge): Counts(*counts, over[0][at], over[1][at]) for at, edge in enumerate(EDGES_S)}
        yield second, Interval(1, Counts(*counts, *bad_of(rng, service, counts)), slower)


def _shares(scale: float) -> list[float]:
    """Which share of requests ends between the edges; the last is left out."""
    below = [0.5 * math.erfc(-math.log(edge / (MEDIAN_S * scale)) / SPREAD / math.sqrt(2)) for edge in EDGES_S]
    return [later - earlier for earlier, later in zip([0.0, *below], below, strict=False)]
