"""Service levels: what the figures are, and how much of the error budget is left. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec

from nvcops.core.units import Ratio, Seconds


def share(part: float, whole: float) -> Ratio | None:
    """A part of a whole; None of nothing.

    >>> share(999, 1000), share(0, 10), share(0, 0)
    (0.999, 0.0, None)
    """
    return Ratio(part / whole) if whole > 0 else None


def mean(total_s: float, count: float) -> Seconds | None:
    """The average duration; None of nothing.

    >>> mean(12.0, 60), mean(0.0, 0)
    (0.2, None)
    """
    return Seconds(total_s / count) if count > 0 else None


def percentile(buckets: Sequence[tuple[float, float]], count: float, quantile: float) -> Seconds | None:
    """A percentile from a histogram; None of nothing, or when it lies beyond the last edge, where nothing is known.

    `buckets` are (upper edge, how many were not above it) of the finite edges, in any order; `count` is all of them.
    Between two edges the durations are taken to be spread evenly.

    >>> edges = [(0.1, 90.0), (0.2, 99.0)]
    >>> round(percentile(edges, 100, 0.9), 3), round(percentile(edges, 100, 0.945), 3), percentile(edges, 100, 0.999)
    (0.1, 0.15, None)
    >>> percentile([(0.1, 0.0)], 0, 0.99) is None
    True
    """
    rank, low, below = quantile * count, 0.0, 0.0
    if count <= 0:
        return None
    for edge, reached in sorted(buckets):
        if reached >= rank:
            within = (rank - below) / (reached - below) if reached > below else 1.0
            return Seconds(low + (edge - low) * within)
        low, below = edge, reached
    return None


def budget_left(objective: float, good: float) -> Ratio:
    """How much of the error budget is left: 1 when nothing failed, 0 when all of it is used, below 0 beyond.

    >>> str(budget_left(0.999, 0.9995)), str(budget_left(0.999, 0.998)), str(budget_left(1.0, 1.0))
    ('50 %', '-100 %', '100 %')
    """
    allowed, used = 1 - objective, 1 - good
    if allowed <= 0:
        return Ratio(1.0 if used <= 0 else -1.0)
    return Ratio(round(1 - used / allowed, 9))


class Events(msgspec.Struct, frozen=True):
    """What was counted in a window: all that counts, and how much of it was bad."""

    total: float
    bad: float

    @property
    def bad_share(self) -> Ratio | None:
        """The share that was bad; None of nothing."""
        return share(self.bad, self.total)

    def __sub__(self, other: Events) -> Events:
        return Events(self.total - other.total, self.bad - other.bad)

    def __add__(self, other: Events) -> Events:
        return Events(self.total + other.total, self.bad + other.bad)


NOTHING = Events(0, 0)


class BurnWindow(msgspec.Struct, frozen=True):
    """A pace at which the error budget is used up, and over which windows it is believed.

    `factor` 1 uses up the budget exactly by the end of the objective's window. The long window says that it matters,
    the short one that it goes on. `step` is how many categories below the objective's own it is alerted.
    """

    factor: float
    long: Seconds
    short: Seconds
    step: int


# 2 % of a month's budget in an hour; 5 % in six; 10 % in three days.
BURN = "burn"  # the label of a burn-rate alert: its factor
BURN_WINDOWS = (
    BurnWindow(14.4, Seconds(3600), Seconds(300), 0),
    BurnWindow(6, Seconds(6 * 3600), Seconds(1800), 1),
    BurnWindow(1, Seconds(3 * 86400), Seconds(6 * 3600), 2),
)


def burn_rate(target: float, events: Events) -> float | None:
    """How many times faster than allowed the error budget is used up; None of nothing.

    >>> round(burn_rate(0.999, Events(1000, 1)), 6), burn_rate(0.999, Events(1000, 0)), burn_rate(0.999, NOTHING)
    (1.0, 0.0, None)
    """
    bad = events.bad_share
    return None if bad is None else bad / (1 - target)


EXCLUSIONS_MAX = 1_000


class Exclusion(msgspec.Struct, frozen=True, kw_only=True):
    """Time of a service (empty: of all) that an objective leaves out, because an approved change took it.

    It counts from its approval on: nobody approves an outage away that has begun.

    Raises:
        ValueError: it has no change, no approver, or no duration.
    """

    start: dt.datetime
    end: dt.datetime
    change: str
    approved_by: str
    approved: dt.datetime
    service: str = ""

    def __post_init__(self) -> None:
        if not self.change or not self.approved_by:
            raise ValueError("time is left out of an objective only under an approved change: name it and who approved")
        if self.end <= self.start:
            raise ValueError(f"the change {self.change} ends before it begins")

    @property
    def begins(self) -> dt.datetime:
        """The first moment that is left out."""
        return max(self.start, self.approved)


Span = tuple[dt.datetime, dt.datetime]


def left_out(exclusions: Iterable[Exclusion], service: str, start: dt.datetime, end: dt.datetime) -> list[Span]:
    """The spans of a window that are left out for a service, in order and without overlap.

    >>> t = [dt.datetime(2026, 1, 1, hour, tzinfo=dt.UTC) for hour in range(6)]
    >>> change = Exclusion(start=t[0], end=t[2], change="C-1", approved_by="omar", approved=t[0])
    >>> later = Exclusion(start=t[1], end=t[5], change="C-2", approved_by="omar", approved=t[3])
    >>> [(a.hour, b.hour) for a, b in left_out([later, change], "bank", t[1], t[4])]
    [(1, 2), (3, 4)]
    """
    meant = [exclusion for exclusion in exclusions if exclusion.service in ("", service)]
    if len(meant) > EXCLUSIONS_MAX:
        raise ValueError(f"{len(meant):,} exclusions are more than the {EXCLUSIONS_MAX:,} that are looked at")
    spans: list[Span] = []
    for exclusion in sorted(meant, key=lambda exclusion: exclusion.begins):
        low, high = max(exclusion.begins, start), min(exclusion.end, end)
        if low >= high:
            continue
        if spans and low <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(high, spans[-1][1]))
        else:
            spans.append((low, high))
    return spans


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How an objective stands over its window: as it was, and without what approved changes took. Both are kept.

    `changes` are those that took any of the window; `left_out_s` is how much of it.
    """

    objective: str
    service: str
    target: Ratio
    window: Seconds
    raw: Events
    corrected: Events
    left_out_s: Seconds = Seconds(0)
    changes: tuple[str, ...] = ()

    @property
    def is_young(self) -> bool:
        """Whether so little was counted that not even one of it may be bad: then one bad event says nothing yet.

        >>> def of(total):
        ...     counted = Events(total, 1)
        ...     return Budget(objective="o", service="s", target=Ratio(0.999), window=Seconds(60), raw=counted,
        ...                   corrected=counted)
        >>> of(999).is_young, of(1000).is_young
        (True, False)
        """
        return self.raw.total * (1 - self.target) < 1 - 1e-9

    @property
    def raw_left(self) -> Ratio | None:
        """How much of the error budget is left; None where nothing was counted."""
        return _left(self.target, self.raw)

    @property
    def corrected_left(self) -> Ratio | None:
        """The same without what is left out."""
        return _left(self.target, self.corrected)


def _left(target: float, events: Events) -> Ratio | None:
    bad = events.bad_share
    return None if bad is None else budget_left(target, 1 - bad)
