"""The risk of a change: nothing is said without enough data, and what is said is calibrated."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.changes import risk
from nvcops.changes.risk import POINTS, RARER_MIN, Outcome, assess, calibration, fit, points_of, wilson

FEATURES = st.dictionaries(st.sampled_from(sorted(POINTS)), st.floats(0, 1))


def drawn(count: int, seed: int, intercept: float = -4.0, slope: float = 1.0) -> list[Outcome]:
    """Changes that fail as the curve says."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        points = draw.uniform(0, 7.2)
        found.append(Outcome(points, draw.random() < 1 / (1 + math.exp(-(intercept + slope * points)))))
    return found


@pytest.mark.parametrize(
    ("failed", "good", "enough"),
    [(0, 0, False), (19, 500, False), (500, 19, False), (20, 19, False), (20, 20, True), (20, 500, True)],
)
def test_there_is_enough_with_ten_of_the_rarer_kind_for_each_number(failed: int, good: int, enough: bool) -> None:
    history = [Outcome(1.0, True)] * failed + [Outcome(2.0, False)] * good
    said = risk.too_few(history)
    assert (said == "") == enough
    assert (fit(history) is not None) == enough
    if not enough:
        assert f"of {failed + good} closed changes {failed} failed" in said
        assert str(RARER_MIN) in said
        assert assess({}, history).probability is None
        assert "not enough data" in assess({}, history).why
        assert calibration(history).brier is None


def test_the_curve_is_found_again() -> None:
    curve = fit(drawn(4_000, 1))
    assert curve is not None
    assert curve.intercept == pytest.approx(-4.0, abs=0.35)
    assert curve.slope == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("flat", [True, False])
def test_points_that_tell_nothing_or_everything_leave_the_curve_finite(flat: bool) -> None:
    history = [Outcome(3.0 if flat else 1.0 + 5 * bad, bool(bad)) for bad in (0, 1) for _ in range(30)]
    curve = fit(history)
    assert curve is not None
    assert math.isfinite(curve.intercept)
    assert math.isfinite(curve.slope)
    assert 0 <= curve.probability(1.0) <= curve.probability(6.0) <= 1
    if flat:
        assert curve.probability(3.0) == pytest.approx(0.5, abs=1e-6)


def test_the_mean_of_what_is_fitted_is_the_rate() -> None:
    history = drawn(800, 2)
    curve = fit(history)
    assert curve is not None
    said = sum(curve.probability(one.points) for one in history) / len(history)
    assert said == pytest.approx(curve.failed / curve.changes, abs=1e-6)


def test_what_is_predicted_before_the_outcome_is_calibrated() -> None:
    """Each bin's interval has what was predicted there; five at 95 % may miss once in a while, not twice."""
    found = calibration(drawn(1_000, 3))
    assert found.brier is not None
    assert found.base_brier is not None
    assert found.brier < found.base_brier
    assert "better than always saying" in risk.verdict_on(found)
    missed = [line for line in found.bins if not line.interval[0] <= line.predicted <= line.interval[1]]
    assert len(missed) <= 1, found.bins
    assert sum(line.changes for line in found.bins) == found.predicted
    assert all(line.low <= line.predicted <= line.high for line in found.bins)


def test_points_that_tell_nothing_are_no_better_than_the_rate() -> None:
    draw = random.Random(4)
    found = calibration([Outcome(draw.uniform(0, 7), draw.random() < 0.2) for _ in range(600)])
    assert found.brier == pytest.approx(found.base_brier, abs=0.01)


def test_a_prediction_knows_nothing_of_what_came_later() -> None:
    history = drawn(300, 5)
    turned = history[:-50] + [Outcome(one.points, not one.failed) for one in history[-50:]]
    first, second = calibration(history), calibration(turned)
    assert first.predicted == second.predicted
    assert first.base_brier is not None
    same = [Outcome(one.points, one.failed) for one in history[:-50]]
    assert calibration(same).bins == calibration(turned[:-50]).bins


CURVE = fit(drawn(400, 6)) or pytest.fail("four hundred changes are enough")


@given(FEATURES)
@settings(max_examples=50)
def test_points_are_within_their_bounds_and_the_sum_shows_each(features: dict[str, float]) -> None:
    assert 0 <= points_of(features) <= points_of(dict.fromkeys(POINTS, 1.0))
    said = risk.sum_of(features)
    assert all(name in said for name in POINTS)
    assert said.count("?") == len(POINTS) - len(features)


@given(FEATURES, st.sampled_from(sorted(POINTS)), st.floats(0, 1))
def test_more_of_a_measure_is_never_less_risk(features: dict[str, float], name: str, value: float) -> None:
    worse = max(features.get(name, risk.NOT_MEASURED), value)
    before, after = points_of(features), points_of(features | {name: worse})
    assert CURVE.probability(after) >= CURVE.probability(before) - 1e-12


@given(st.integers(0, 50), st.integers(0, 50))
def test_an_interval_has_its_share(part: int, rest: int) -> None:
    whole = part + rest
    low, high = wilson(part, whole)
    assert 0 <= low <= high <= 1
    assert whole == 0 or low - 1e-12 <= part / whole <= high + 1e-12
