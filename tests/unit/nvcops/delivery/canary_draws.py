"""Draws from two sides with given odds, and how high a bet on them gets."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from nvcops.delivery.betting import Bets, Counts


def two_sided(seed: int, failing: float, odds: float, rows: int, share: float = 0.15) -> Iterator[Counts]:
    """Intervals of about `rows` requests; the canary's odds of a bad one are `odds` times those of `failing`."""
    rng = random.Random(seed)
    worse = odds * failing / (1 - failing + odds * failing)
    while True:
        canary = sum(rng.random() < share for _ in range(rows))
        control = rows - canary
        canary_bad = sum(rng.random() < worse for _ in range(canary))
        yield Counts(canary, control, canary_bad, sum(rng.random() < failing for _ in range(control)))


def crossing(draws: Iterator[Counts], bets: Bets, bad_max: int) -> float:
    """The highest that the evidence gets, looked at after every interval."""
    highest, bad = -math.inf, 0.0
    for seen in draws:
        bets.add(seen)
        bad += seen.canary_bad + seen.control_bad
        if seen.canary_bad + seen.control_bad:
            highest = max(highest, bets.log_e)
        if bad >= bad_max:
            return highest
    return highest
