from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from nvclab.customers.figures import WINDOW_S, Figures, Latencies


@given(st.lists(st.floats(0, 20_000), min_size=1, max_size=300), st.floats(0.01, 1))
def test_a_quantile_is_never_below_the_exact_one_and_at_most_a_millisecond_above(values: list[float], q: float) -> None:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    exact = sorted(values)[max(0, -(-int(q * len(values) * 1_000_000) // 1_000_000) - 1)]
    if exact < 9_999:
        assert latencies.quantile_ms(q) >= exact
    assert latencies.quantile_ms(1.0) <= max(values) + 1 or max(values) > 9_999


def test_the_window_forgets_and_the_totals_do_not() -> None:
    figures = Figures()
    for _ in range(100):
        figures.add("balance", "200", 500.0, error=False)
    figures.turn(WINDOW_S)
    for _ in range(50):
        figures.add("payment", "503", 10.0, error=True)
    figures.turn(2 * WINDOW_S)
    data = figures.as_data()
    assert data["requests"] == 150
    assert data["errors"] == 50
    assert (data["window_requests"], data["window_errors"], data["p99_ms"]) == (50, 50, 11.0)
    assert data["kinds"]["balance"]["p50_ms"] == 501.0
    assert data["outcomes"] == {"200": 100, "503": 50}


def test_whoever_reads_twice_can_compute_the_time_between() -> None:
    figures = Figures()
    before = figures.as_data()
    values = [random.uniform(0, 50) for _ in range(100)]
    for value in values:
        figures.add("balance", "200", value, error=False)
    after = figures.as_data()
    assert after["sum_ms"] - before["sum_ms"] == sum(values)
    assert sum(after["histogram_ms"].values()) == 100
