"""How likely a change fails: points for what was measured, and a probability once enough changes ended. Pure.

The points are fixed and stand here; from the closed changes' outcomes two numbers are fitted, the intercept and the
slope of a logistic curve over the points (logistic recalibration). So nothing is learned that cannot be read, and a
few dozen failures are enough. Calibration is measured on predictions made before the outcome was known.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import msgspec

from nvcops.core.units import Count, Ratio

POINTS: Mapping[str, tuple[float, str]] = {
    "size": (1.5, "lines changed: none 0, 10,000 and more 1, by their logarithm"),
    "history": (1.0, "commits to the same files in 90 days: none 0, 100 and more 1, by their logarithm"),
    "time": (0.7, "outside of business hours 1, the last four hours before they end for the week 0.5, else 0"),
    "inexperience": (1.0, "share of the changed files that the author did not commit to within a year"),
    "uncovered": (0.8, "share of the changed files' lines that no test covers"),
    "schema": (1.2, "the schema is changed 1, columns or tables are removed too: 1 as well, else 0"),
    "blast": (1.0, "share of the platform's services that it touches, dependants included"),
}
NOT_MEASURED = 0.5  # what is not known counts as the middle: neither good nor bad
RARER_MIN = 20  # ten outcomes of the rarer kind for each of the two fitted numbers
HISTORY_MAX = 1_000
_EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
_FITS_MAX = 200
_STEPS_MAX = 50
_Z = 1.96


class Outcome(msgspec.Struct, frozen=True):
    """What a closed change had been given, and whether it failed or was rolled back."""

    points: float
    failed: bool


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The curve: logit of the probability = intercept + slope x points."""

    intercept: float
    slope: float
    changes: int
    failed: int

    def probability(self, points: float) -> float:
        """Of a failure.

        >>> Fit(intercept=-2.0, slope=1.0, changes=100, failed=20).probability(2.0)
        0.5
        """
        return _logistic(self.intercept + self.slope * points)


class Assessed(msgspec.Struct, frozen=True, kw_only=True):
    """The risk of a change; None while there is not enough data. `why` shows the whole sum."""

    points: float
    probability: float | None
    why: str


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the reliability table: what was predicted from `low` to `high`, and what came of it (95 % interval)."""

    low: float
    high: float
    changes: int
    predicted: float
    failed: int
    observed: float
    interval: tuple[float, float]


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How well the risk was said; None and `why` while there is not enough data.

    `brier` is of predictions made before the outcome was known, `base_brier` that of always saying the rate so far.
    """

    changes: int
    failed: int
    predicted: int = 0
    brier: float | None = None
    base_brier: float | None = None
    bins: tuple[Bin, ...] = ()
    fit: Fit | None = None
    why: str = ""


def points_of(features: Mapping[str, float]) -> float:
    """The points of what was measured.

    >>> points_of({name: 0.0 for name in POINTS}), round(points_of({name: 1.0 for name in POINTS}), 6)
    (0.0, 7.2)
    >>> round(points_of({}), 6)
    3.6
    """
    return sum(weight * features.get(name, NOT_MEASURED) for name, (weight, _) in POINTS.items())


def sum_of(features: Mapping[str, float]) -> str:
    """The points as a sum that can be checked by hand.

    >>> sum_of({"schema": 1.0, "size": 0.5})[:58]
    'size 1.5 x 0.5 + history 1 x ? + time 0.7 x ? + inexperien'
    """
    parts = [
        f"{name} {weight:g} x {features[name]:.2g}" if name in features else f"{name} {weight:g} x ?"
        for name, (weight, _) in POINTS.items()
    ]
    return " + ".join(parts)


def too_few(history: Sequence[Outcome]) -> str:
    """Why nothing can be said from a history yet; empty where there is enough."""
    failed = sum(one.failed for one in history)
    rarer = min(failed, len(history) - failed)
    if rarer >= RARER_MIN:
        return ""
    return (
        f"not enough data: of {len(history)} closed changes {failed} failed; two numbers are fitted, and each takes ten"
        f" outcomes of the rarer kind: {RARER_MIN}"
    )


def fit(history: Sequence[Outcome]) -> Fit | None:
    """The curve through a history; None while there is too little of it.

    The slope has a prior (1, standard deviation 1), so that it stays finite where points separate the outcomes.
    """
    if too_few(history):
        return None
    middle = sum(one.points for one in history) / len(history)
    centred = [(one.points - middle, float(one.failed)) for one in history]
    rate = sum(failed for _, failed in centred) / len(centred)
    level, slope = math.log(rate / (1 - rate)), 0.0
    for _ in range(_STEPS_MAX):
        step = _newton(centred, level, slope)
        level, slope = level + step[0], slope + step[1]
        if max(map(abs, step)) < 1e-9:
            break
    return Fit(
        intercept=level - slope * middle,
        slope=slope,
        changes=len(history),
        failed=sum(one.failed for one in history),
    )


def _newton(centred: Sequence[tuple[float, float]], level: float, slope: float) -> tuple[float, float]:
    """One step towards the most likely curve, halved where it would be a leap."""
    first, second = 0.0, -(slope - 1.0)
    ll, ls, ss = 0.0, 0.0, 1.0
    for points, failed in centred:
        chance = _logistic(level + slope * points)
        first += failed - chance
        second += (failed - chance) * points
        weight = chance * (1 - chance)
        ll, ls, ss = ll + weight, ls + weight * points, ss + weight * points * points
    determinant = ll * ss - ls * ls
    if determinant <= 1e-12:
        return 0.0, 0.0
    steps = (ss * first - ls * second) / determinant, (ll * second - ls * first) / determinant
    longest = max(map(abs, steps))
    return steps if longest <= 2 else (steps[0] * 2 / longest, steps[1] * 2 / longest)


def assess(features: Mapping[str, float], history: Sequence[Outcome]) -> Assessed:
    """The risk of a change from what was measured of it and what became of those before."""
    points = points_of(features)
    said = f"{points:.2f} points of {points_of(dict.fromkeys(POINTS, 1.0)):.1f}: {sum_of(features)}"
    curve = fit(history)
    if curve is None:
        return Assessed(points=points, probability=None, why=f"{said}; {too_few(history)}")
    chance = curve.probability(points)
    formula = f"logit = {curve.intercept:.2f} + {curve.slope:.2f} x points, from {curve.changes} closed changes"
    return Assessed(points=points, probability=chance, why=f"{Ratio(chance)}: {said}; {formula}")


def of_runs(successes: int) -> float:
    """What is said of the risk where only an unbroken row of successes is known (Laplace's rule of succession).

    >>> of_runs(0), round(of_runs(10), 3)
    (0.5, 0.083)
    """
    return 1 / (successes + 2)


def calibration(history: Sequence[Outcome]) -> Calibration:
    """How well the risk was said of a history in the order of its requests: each from those that had ended before."""
    found = list(history[-HISTORY_MAX:])
    failed = sum(one.failed for one in found)
    told: list[tuple[float, float, bool]] = []
    every, curve = max(1, len(found) // _FITS_MAX), None
    for index, one in enumerate(found):
        if curve is None or index % every == 0:
            curve = fit(found[:index])
        if curve is not None:
            told.append((curve.probability(one.points), curve.failed / curve.changes, one.failed))
    if not told:
        return Calibration(changes=len(found), failed=failed, why=too_few(found) or "no change was closed since")
    return Calibration(
        changes=len(found),
        failed=failed,
        predicted=len(told),
        brier=sum((chance - bad) ** 2 for chance, _, bad in told) / len(told),
        base_brier=sum((base - bad) ** 2 for _, base, bad in told) / len(told),
        bins=tuple(_bins(told)),
        fit=fit(found),
    )


def _bins(told: Sequence[tuple[float, float, bool]]) -> list[Bin]:
    lines = []
    for low, high in itertools.pairwise(_EDGES):
        meant = [(chance, bad) for chance, _, bad in told if low <= chance < high or (high == chance == 1.0)]
        if meant:
            failed = sum(bad for _, bad in meant)
            lines.append(
                Bin(
                    low=low,
                    high=high,
                    changes=len(meant),
                    predicted=sum(chance for chance, _ in meant) / len(meant),
                    failed=failed,
                    observed=failed / len(meant),
                    interval=wilson(failed, len(meant)),
                )
            )
    return lines


def wilson(part: int, whole: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson's).

    >>> [round(bound, 3) for bound in wilson(2, 10)]
    [0.057, 0.51]
    >>> wilson(0, 0)
    (0.0, 1.0)
    """
    if whole == 0:
        return 0.0, 1.0
    share, square = part / whole, _Z * _Z / whole
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / whole + square / (4 * whole))
    return max(0.0, middle - half), min(1.0, middle + half)


def verdict_on(calibrated: Calibration) -> str:
    """The calibration in one sentence."""
    if calibrated.brier is None or calibrated.base_brier is None:
        return calibrated.why
    better = calibrated.brier < calibrated.base_brier
    word = "better than" if better else "no better than"
    return (
        f"Brier score {calibrated.brier:.4f} of {Count(calibrated.predicted)} predictions, {word} always saying the"
        f" rate so far ({calibrated.base_brier:.4f})"
    )


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
