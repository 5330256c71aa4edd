"""Service levels: what the figures are, and how much of the error budget is left. Pure."""

from __future__ import annotations

from collections.abc import Sequence

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
