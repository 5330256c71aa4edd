from __future__ import annotations

import math
import random

import pytest
from canary_draws import crossing, two_sided
from hypothesis import given
from hypothesis import strategies as st

from nvcops.delivery.betting import STEPS, Bets, Counts, Guard, Measure, share_at

COUNTS = st.tuples(st.integers(5, 50), st.integers(5, 500)).flatmap(
    lambda n: st.builds(Counts, st.just(n[0]), st.just(n[1]), st.integers(0, n[0]), st.integers(0, n[1]))
)
INTERVALS = st.lists(COUNTS, min_size=1, max_size=12)


def measured(intervals: list[Counts], margin: float = 2, cluster: float = 1) -> Measure:
    measure = Measure("errors", margin, cluster)
    for interval in intervals:
        measure.add(interval)
    return measure


def expected_stake(odds: float, factor: float, canary: int, control: int, bad: int) -> float:
    """The exact mean of factor ** X, where X is drawn from Fisher's noncentral hypergeometric distribution."""
    falls = range(max(0, bad - control), min(canary, bad) + 1)
    weights = [math.comb(canary, x) * math.comb(control, bad - x) * odds**x for x in falls]
    return sum(weight * factor**x for weight, x in zip(weights, falls, strict=True)) / sum(weights)


@pytest.mark.parametrize("margin", [1, 1.1, 1.5, 2, 5, 20])
def test_no_bet_against_a_worse_canary_is_unfair_by_every_small_table(margin: float) -> None:
    for canary in range(1, 8):
        for control in range(1, 10):
            for bad in range(1, canary + control + 1):
                share = share_at(margin, canary, control, bad)
                for factor in (1 / step for step in STEPS):
                    for odds in (margin, 1.5 * margin):
                        mean = expected_stake(odds, factor, canary, control, bad)
                        assert mean <= (1 + share * (factor - 1)) ** bad * (1 + 1e-12)


@pytest.mark.parametrize("odds", [0.3, 1])
def test_no_bet_against_a_good_canary_is_unfair_by_every_small_table(odds: float) -> None:
    for canary in range(1, 8):
        for control in range(1, 10):
            for bad in range(1, canary + control + 1):
                share = share_at(1, canary, control, bad)
                for factor in STEPS:
                    mean = expected_stake(odds, factor, canary, control, bad)
                    assert mean <= (1 + share * (factor - 1)) ** bad * (1 + 1e-12)


def test_the_formula_is_the_one_that_is_written_down() -> None:
    seen = [Counts(100, 900, 3, 9), Counts(300, 700, 2, 5)]
    by_hand = [
        math.exp(5 * math.log(w) - 12 * math.log(1 + 0.1 * (w - 1)) - 7 * math.log(1 + 0.3 * (w - 1))) for w in STEPS
    ]
    assert measured(seen).worse.log_e == pytest.approx(math.log(sum(by_hand) / len(by_hand)))


@given(INTERVALS, st.randoms())
def test_the_order_of_intervals_does_not_matter(intervals: list[Counts], rng: random.Random) -> None:
    shuffled = rng.sample(intervals, len(intervals))
    one, other = measured(intervals), measured(shuffled)
    assert one.worse.log_e == pytest.approx(other.worse.log_e)
    assert one.safe.log_e == pytest.approx(other.safe.log_e)


@given(COUNTS, st.integers(2, 6))
def test_intervals_of_one_share_may_be_merged(one: Counts, times: int) -> None:
    merged = Counts(one.canary * times, one.control * times, one.canary_bad * times, one.control_bad * times)
    split = measured([one] * times)
    assert split.worse.log_e == pytest.approx(measured([merged]).worse.log_e)
    assert split.safe.log_e == pytest.approx(measured([merged]).safe.log_e)


@given(INTERVALS, st.integers(5, 500), st.integers(5, 500))
def test_requests_without_a_bad_one_say_nothing(intervals: list[Counts], canary: int, control: int) -> None:
    with_quiet = measured([*intervals, Counts(canary, control, 0, 0)])
    assert with_quiet.worse.logs == measured(intervals).worse.logs
    assert with_quiet.safe.logs == measured(intervals).safe.logs


@given(INTERVALS, COUNTS)
def test_a_bad_event_of_the_canary_is_never_in_its_favour(intervals: list[Counts], last: Counts) -> None:
    bad = last.canary_bad + last.control_bad
    if not last.control_bad or last.canary_bad == last.canary:
        return
    fallen = Counts(last.canary, last.control, last.canary_bad + 1, last.control_bad - 1)
    assert fallen.canary_bad + fallen.control_bad == bad
    one, other = measured([*intervals, last]), measured([*intervals, fallen])
    assert other.worse.log_e > one.worse.log_e
    assert other.safe.log_e < one.safe.log_e


@given(INTERVALS)
def test_a_wider_margin_is_proven_sooner(intervals: list[Counts]) -> None:
    assert measured(intervals, margin=1.5).safe.log_e <= measured(intervals, margin=3).safe.log_e + 1e-9


@given(st.integers(1, 1000), st.integers(1, 1000), st.data(), st.floats(1, 50))
def test_the_share_lies_between_the_even_one_and_that_of_rare_events(
    canary: int, control: int, data: st.DataObject, odds: float
) -> None:
    bad = data.draw(st.integers(0, canary + control))
    share = share_at(odds, canary, control, bad)
    assert canary / (canary + control) <= share * (1 + 1e-9)
    assert share <= odds * canary / (odds * canary + control) * (1 + 1e-9)


def test_a_canary_without_traffic_or_without_a_control_says_nothing() -> None:
    for seen in (Counts(0, 100, 0, 9), Counts(100, 0, 9, 0)):
        for odds in (1.0, 2.0):
            bets = Bets(odds, STEPS, 1)
            bets.add(seen)
            assert bets.logs == pytest.approx([0] * len(STEPS))


def test_a_look_at_each_request_finds_what_a_look_at_many_finds() -> None:
    """Alone, each request is all of its interval: its share is 0 or 1, and nothing is learnt."""
    rng = random.Random(3)
    sides = [rng.random() < 0.3 for _ in range(400)]
    requests = [Counts(side, not side, side and rng.random() < 0.2, 0) for side in sides]
    bets = Bets(1, STEPS, 1)
    for request in requests:
        bets.add(request)
    assert bets.logs == pytest.approx([0] * len(STEPS))
    assert measured(requests).worse.log_e > math.log(1000)


@given(INTERVALS, st.integers(2, 10))
def test_errors_in_clusters_count_as_one(intervals: list[Counts], size: int) -> None:
    """Each bad event `size` times over, and at most `size` to a user: what is known of whom is the same."""
    grown = [Counts(*(size * n for n in (i.canary, i.control, i.canary_bad, i.control_bad))) for i in intervals]
    assert measured(grown, cluster=size).worse.log_e == pytest.approx(measured(intervals).worse.log_e)


def test_silence_is_heard() -> None:
    heard = [measured([Counts(100, 900, 5, 45), Counts(100, 900, 0, bad)]).silent for bad in (28, 29)]
    assert heard == [False, True]  # 0.9 ** 28.4 is 5 %
    assert not measured([Counts(100, 900, 0, 45), Counts(100, 900, 1, 45)]).silent


@pytest.mark.parametrize(("failing", "rows"), [(0.02, 10), (0.2, 40), (0.6, 40)])
def test_good_canaries_are_not_called_worse_at_any_look(failing: float, rows: int) -> None:
    runs, alpha = 200, 0.05
    false = sum(
        crossing(two_sided(seed, failing, 1, rows), Bets(1, STEPS, 1), bad_max=200) >= -math.log(alpha)
        for seed in range(runs)
    )
    assert false <= alpha * runs


@pytest.mark.parametrize(("failing", "rows"), [(0.02, 10), (0.2, 40), (0.6, 40)])
def test_canaries_exactly_at_the_margin_do_not_pass_at_any_look(failing: float, rows: int) -> None:
    runs, beta = 200, 0.05
    safer = [1 / step for step in STEPS]
    false = sum(
        crossing(two_sided(seed, failing, 2, rows), Bets(2, safer, 1), bad_max=200) >= -math.log(beta)
        for seed in range(runs)
    )
    assert false <= beta * runs


@pytest.mark.parametrize(("odds", "wrongly"), [(1, "worse"), (2, "safe")])
def test_pools_of_single_requests_are_fair_too(odds: float, wrongly: str) -> None:
    runs, level, false = 150, 0.05, 0
    for seed in range(runs):
        measure, draws, most = Measure("errors", 2, 1), two_sided(seed, 0.2, odds, 1, share=0.3), -math.inf
        for _ in range(600):
            measure.add(next(draws))
            most = max(most, getattr(measure, wrongly).log_e)
        false += most >= -math.log(level)
    assert false <= level * runs


def test_users_whose_errors_come_in_clusters_do_not_fool_it() -> None:
    """One user in a hundred fails, 1 to 8 times running: counted plainly that is a false alarm, divided it is none."""
    runs, alpha = 200, 0.05

    def highest(seed: int, cluster: float) -> float:
        rng, bets, most = random.Random(seed), Bets(1, STEPS, cluster), -math.inf
        for _ in range(60):
            is_canary = rng.random() < 0.1
            for _ in range(rng.randint(1, 8)):
                bets.add(Counts(1_000, 9_000, is_canary, not is_canary))
                most = max(most, bets.log_e)
        return most

    plain, divided = (sum(highest(seed, cluster) >= -math.log(alpha) for seed in range(runs)) for cluster in (1, 8))
    assert divided <= alpha * runs < plain


def test_the_guard_leaves_alone_who_fails_as_much_as_is_allowed() -> None:
    runs, alpha, false = 200, 0.05, 0
    for seed in range(runs):
        rng, guard = random.Random(seed), Guard(0.1, 600)
        most = -math.inf
        for _ in range(600):
            guard.add(Counts(3, 30, sum(rng.random() < 0.1 for _ in range(3)), 0), 1)
            most = max(most, guard.log_e)
        false += most >= -math.log(alpha)
    assert false <= alpha * runs


def test_the_guard_finds_who_begins_to_fail_late() -> None:
    rng, guard = random.Random(1), Guard(0.1, 3600)
    for _ in range(1800):
        guard.add(Counts(10, 90, 0, 0), 1)
    errors = 0
    while guard.log_e < math.log(1000) and errors < 100:
        bad = rng.random() < 0.5
        errors += bad
        guard.add(Counts(1, 9, bad, 0), 0.1)
    assert errors < 40
