"""A service with a canary, made up: what its counters say, look by look, from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from nvcops.delivery.looks import Latency, Look, Plan, Reading

EDGES = ("0.05", "0.1", "0.25")
PLAN = Plan(canary=("c1", "c2"), control=("b1", "b2"))
TIMED = Plan(canary=("c1", "c2"), control=("b1", "b2"), latency=Latency(edges=EDGES, prove=("0.1",), margin=2.0))
MEDIAN_S = 0.06
SPREAD = 0.7


def draw(rng: random.Random, trials: int, share: float) -> int:
    """How many of so many happen."""
    return sum(rng.random() < share for _ in range(trials))


class Instance:
    """An instance that serves requests and counts them."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name, self._rng = name, rng
        self._requests = self._bad = 0
        self._buckets = dict.fromkeys((*EDGES, "+Inf"), 0)

    def serve(self, requests: int, failing: float, slower: float) -> None:
        for _ in range(requests):
            seconds = self._rng.lognormvariate(0, SPREAD) * MEDIAN_S * slower
            for edge in self._buckets:
                self._buckets[edge] += seconds <= float(edge)
        self._requests += requests
        self._bad += draw(self._rng, requests, failing)

    def read(self, time: float) -> Reading:
        buckets: dict[str, float | None] = dict(self._buckets)
        return Reading(instance=self.name, time=time, requests=self._requests, bad=self._bad, buckets=buckets)


def looks(
    seed: int,
    *,
    seconds: int,
    every: int = 10,
    rps: int = 100,
    share: float = 0.1,
    failing: float = 0.02,
    worse: float = 1.0,
    slower: float = 1.0,
    canary: Sequence[str] = ("c1", "c2"),
    control: Sequence[str] = ("b1", "b2"),
) -> Iterator[Look]:
    """Looks at a service whose canary fails `worse` times as often and takes `slower` times as long."""
    rng = random.Random(seed)
    arms = [(Instance(name, rng), True) for name in canary] + [(Instance(name, rng), False) for name in control]
    yield look(0, arms)
    for now in range(every, seconds + 1, every):
        for _ in range(rps * every):
            side = rng.random() < share
            instance, is_canary = rng.choice([one for one in arms if one[1] is side])
            instance.serve(1, failing * (worse if is_canary else 1), slower if is_canary else 1)
        yield look(now, arms)


def look(now: float, arms: Sequence[tuple[Instance, bool]]) -> Look:
    return Look(time=now, readings=tuple(instance.read(now) for instance, _ in arms))
