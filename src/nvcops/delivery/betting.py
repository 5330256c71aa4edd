"""Who do bad events fall to? Evidence about a canary that may be looked at as often as one likes: test martingales.

Given how many bad events an interval had, each one's side is a draw. If the canary is no worse, one falls to the canary
with the share of requests that the canary was seen to serve. A bettor who multiplies the stake by w for each of these,
and pays the fair price for all events, does not grow rich; who does (Ville: to 1/alpha with a probability of alpha at
most, at any look) has shown that the canary is worse. docs/decisions/canary.md has the formulas and their proofs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

STEPS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
_SAFER = tuple(1 / step for step in STEPS)
_SILENCE = 0.05
_EVENTS_MAX = 1e12
_HALVINGS = 30


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an interval saw: requests (or whatever the unit is) of canary and control, and how many of each were bad."""

    canary: float
    control: float
    canary_bad: float
    control_bad: float


NOTHING = Counts(0, 0, 0, 0)


def both(one: Counts, other: Counts) -> Counts:
    """Two intervals as one."""
    return Counts(
        one.canary + other.canary,
        one.control + other.control,
        one.canary_bad + other.canary_bad,
        one.control_bad + other.control_bad,
    )


def share_at(odds: float, canary: float, control: float, bad: float) -> float:
    """The share of bad events that falls to a canary whose odds of one are `odds` (at least 1) times the control's.

    It is never more than the true mean share: what is bet against a canary that is worse stays fair. At odds of 1 it is
    the canary's share of requests.

    >>> share_at(1, 10, 90, 7)
    0.1
    >>> round(share_at(2, 10, 90, 0), 4), round(share_at(2, 10, 90, 50), 4), share_at(2, 10, 90, 100)
    (0.1818, 0.1303, 0.1)
    >>> share_at(2, 0, 90, 5), share_at(2, 10, 0, 5)
    (0.0, 1.0)
    """
    if not canary:
        return 0.0
    if not bad or not control:
        return odds * canary / (odds * canary + control)
    middle = control - bad + odds * (canary + bad)
    root = math.sqrt(max(0.0, middle * middle - 4 * (odds - 1) * odds * canary * bad))
    return 2 * odds * canary / (middle + root)


def log_mean(logs: Sequence[float]) -> float:
    """The logarithm of the mean of what these are the logarithms of.

    >>> round(math.exp(log_mean([math.log(1), math.log(3)])), 9), log_mean([])
    (2.0, -inf)
    >>> log_mean([1000.0, 1000.0])
    1000.0
    """
    return log_sum(logs) - math.log(len(logs)) if logs else -math.inf


def log_sum(logs: Iterable[float]) -> float:
    """The logarithm of the sum of what these are the logarithms of.

    >>> round(log_sum([math.log(1), math.log(3)]), 9) == round(math.log(4), 9), log_sum([-math.inf])
    (True, -inf)
    """
    logs = list(logs)
    most = max(logs, default=-math.inf)
    if math.isinf(most):
        return most
    return most + math.log(sum(math.exp(one - most) for one in logs))


class Bets:
    """Stakes on the canary's part of the bad events, one for each factor; their mean is the evidence.

    odds: what is bet against. 1: the canary is no worse (factors above 1 win when it is). The margin: it is worse by
    that (factors below 1 win when it is not). cluster: the most bad events that one user makes.
    """

    def __init__(self, odds: float, factors: Sequence[float], cluster: float) -> None:
        self._odds = odds
        self._bets = [(math.log(factor), factor - 1) for factor in factors]
        self._cluster = cluster
        self.logs = [0.0] * len(factors)

    def add(self, seen: Counts) -> None:
        """Settle an interval."""
        bad = seen.canary_bad + seen.control_bad
        if not bad:
            return
        share = share_at(self._odds, seen.canary, seen.control, bad)
        for at, (gain, stake) in enumerate(self._bets):
            self.logs[at] += (seen.canary_bad * gain - bad * math.log1p(share * stake)) / self._cluster

    @property
    def log_e(self) -> float:
        """The logarithm of the e-value."""
        return log_mean(self.logs)


class Pool:
    """Collects intervals until each side has had some requests; which side an error fell to is then worth a bet.

    With a look at each request the observed share would be 0 or 1, and say nothing. When a pool is settled depends on
    requests alone, never on what was bad: so the bets stay fair.

    >>> pool = Pool()
    >>> [pool.add(Counts(canary, 4, 1, 0)) for canary in (4, 1)]
    [None, Counts(canary=5, control=8, canary_bad=2, control_bad=0)]
    """

    _REQUESTS_MIN = 5

    def __init__(self) -> None:
        self._open = NOTHING

    def add(self, seen: Counts) -> Counts | None:
        """What is to be settled now."""
        self._open = both(self._open, seen)
        if min(self._open.canary, self._open.control) < self._REQUESTS_MIN:
            return None
        settled, self._open = self._open, NOTHING
        return settled


class Measure:
    """One kind of bad event, and both questions: is the canary worse; is it proven to be better than the margin?"""

    def __init__(self, name: str, margin: float, cluster: float) -> None:
        self.name = name
        self.margin = margin
        self.cluster = cluster
        self.worse = Bets(1, STEPS, cluster)
        self.safe = Bets(margin, _SAFER, cluster)
        self.total = NOTHING
        self._pool = Pool()
        self._silence = 0.0

    def add(self, seen: Counts) -> None:
        """Take an interval in; it is settled when each side has had some requests."""
        if settled := self._pool.add(seen):
            self._settle(settled)

    def _settle(self, seen: Counts) -> None:
        self.worse.add(seen)
        self.safe.add(seen)
        self.total = both(self.total, seen)
        if seen.canary_bad:
            self._silence = 0.0
        elif seen.control_bad and seen.control:
            share = seen.canary / (seen.canary + seen.control)
            self._silence += seen.control_bad * math.log1p(-share) / self.cluster

    @property
    def silent(self) -> bool:
        """Whether the canary has had no bad event for so long, while the control had them, that none may be counted."""
        return self._silence < math.log(_SILENCE)

    def missing(self, log_e: float) -> float | None:
        """How many more bad events the proof of safety takes, if the canary is as good as the control.

        None: nothing bad was counted yet. The evidence is the mean of bets of which each goes its own way, so where it
        crosses is searched.

        >>> measure = Measure("errors", margin=2, cluster=1)
        >>> measure.add(Counts(10_000, 90_000, 10, 90))
        >>> round(measure.missing(math.log(20)))
        69
        """
        seen = self.total
        bad = seen.canary_bad + seen.control_bad
        if not bad or not seen.canary or not seen.control:
            return None
        even = seen.canary / (seen.canary + seen.control)
        worse = share_at(self.margin, seen.canary, seen.control, bad)
        growths = [(even * math.log(w) - math.log1p(worse * (w - 1))) / self.cluster for w in _SAFER]

        def short(more: float) -> bool:
            return log_mean([log + more * growth for log, growth in zip(self.safe.logs, growths, strict=True)]) < log_e

        low, high = 0.0, 1.0
        while short(high):
            low, high = high, 2 * high
            if high > _EVENTS_MAX:
                return None
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if short(middle) else (low, middle)
        return high if short(0) else 0.0


class Guard:
    """Whether the canary fails more than a stated share of its own requests, whatever the control does.

    Half of the stake is laid at the start; the other half is laid evenly over the time limit, so that a canary that
    fails late is not protected by its good past.

    >>> guard = Guard(limit=0.1, time_limit_s=3600)
    >>> guard.add(Counts(18, 160, 9, 0), 1)
    >>> guard.log_e > math.log(1000)
    True
    >>> guard = Guard(limit=0.1, time_limit_s=3600)
    >>> guard.add(Counts(90, 160, 9, 0), 1)
    >>> guard.log_e < 0
    True
    """

    _FAILING = 0.5

    def __init__(self, limit: float, time_limit_s: float, cluster: float = 1) -> None:
        if not 0 < limit < self._FAILING:
            raise ValueError(f"a guard against failing half its requests is set below half, not at {limit}")
        self._bad = math.log(self._FAILING / limit) / cluster
        self._good = math.log((1 - self._FAILING) / (1 - limit)) / cluster
        self._time_limit_s = time_limit_s
        self._laid = -math.inf
        self._left = 1.0
        self.total = NOTHING

    def add(self, seen: Counts, seconds: float) -> None:
        """Settle an interval of so many seconds."""
        stake = 0.5 if self._left == 1 else min(self._left, 0.5 * seconds / self._time_limit_s)
        self._left -= stake
        self.total = both(self.total, seen)
        laid = log_sum((self._laid, math.log(stake))) if stake > 0 else self._laid
        self._laid = laid + seen.canary_bad * self._bad + (seen.canary - seen.canary_bad) * self._good

    @property
    def log_e(self) -> float:
        """The logarithm of the e-value."""
        return log_sum((self._laid, math.log(self._left) if self._left > 0 else -math.inf))
