"""Looks as series: counted by how they ended, gauges of the newest, and nothing lost where it cannot be written."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from nvcops.adapters.metrics.looks import LOOKS, LookSeries
from nvcops.adapters.metrics.store import MetricsStore
from nvcops.adapters.metrics.write import Observation
from nvcops.core.alerts import Category
from nvcops.core.errors import StateError
from nvcops.core.exposition import Page
from nvcops.core.schedule import now
from nvcops.core.units import Seconds
from nvcops.core.watch import PROBE_DURATION, PROBE_SUCCESS, PROBE_VALUE, WATCHED, Look, Probe

LATER = dt.timedelta(minutes=1)


def probe(name: str, service: str = "bank") -> Probe:
    return Probe(
        name=name,
        kind="http",
        service=service,
        interval=Seconds(1),
        deadline=Seconds(1),
        failures=2,
        recoveries=3,
        category=Category.HIGH,
    )


def look(name: str, why: str = "", seconds: float = 0.1, value: float | None = None, *, known: bool = True) -> Look:
    return Look(probe=name, time=now(), why=why, seconds=seconds, value=value, known=known)


@pytest.fixture
def store(tmp_path: Path) -> MetricsStore:
    return MetricsStore(tmp_path / "state" / "metrics.sqlite", raw_s=3600, rollups_s=86400)


def counted(store: MetricsStore) -> dict[tuple[str, str], float]:
    rises = store.increases(WATCHED, LOOKS, now() - LATER, now() + LATER)
    return {(rise.labels["probe"], rise.labels["outcome"]): rise.value for rise in rises}


def gauge(store: MetricsStore, series: str) -> dict[str, float]:
    found = store.samples(WATCHED, series, now() - LATER, now() + LATER)
    return {sample.labels["probe"]: sample.value for sample in found}


def test_looks_are_counted_by_how_they_ended(store: MetricsStore) -> None:
    series = LookSeries(store, [probe("door"), probe("disk", "")], 15)
    series.hear([look("door"), look("door", "answers 503"), look("door", "descriptors", known=False)])
    series.hear([look("door", seconds=0.3), look("disk", value=0.25), look("nobody's")])
    series()
    assert counted(store) == {
        ("door", "good"): 2,
        ("door", "failed"): 1,
        ("door", "unknown"): 1,
        ("disk", "good"): 1,
    }
    assert gauge(store, PROBE_SUCCESS) == {"door": 1, "disk": 1}
    assert gauge(store, PROBE_DURATION)["door"] == pytest.approx((0.1 + 0.1 + 0.3) / 3)
    assert gauge(store, PROBE_VALUE) == {"disk": 0.25}


def test_each_writing_adds_what_was_heard_since_the_last(store: MetricsStore) -> None:
    series = LookSeries(store, [probe("door")], 15)
    for why in ("", "gone", "gone"):
        series.hear([look("door", why)])
        series()
    series()
    assert counted(store) == {("door", "good"): 1, ("door", "failed"): 2}
    assert gauge(store, PROBE_SUCCESS) == {"door": 0}


def test_what_is_unknown_is_no_gauge(store: MetricsStore) -> None:
    series = LookSeries(store, [probe("door")], 15)
    series.hear([look("door", "descriptors", known=False)])
    series()
    assert gauge(store, PROBE_SUCCESS) == gauge(store, PROBE_DURATION) == {}


def test_what_cannot_be_written_is_kept_for_the_next_time(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file where a folder should be")
    store = MetricsStore(blocked / "metrics.sqlite", raw_s=3600, rollups_s=86400)
    series = LookSeries(store, [probe("door")], 15)
    series.hear([look("door")])
    with pytest.raises(StateError):
        series()
    blocked.unlink()
    series.hear([look("door")])
    series()
    assert counted(store) == {("door", "good"): 2}


def test_the_page_of_a_service_and_looks_at_it_do_not_disturb_one_another(store: MetricsStore) -> None:
    series = LookSeries(store, [probe("door")], 15)
    for number in range(3):
        page = Page({"paid_total": 10.0 * number}, gauges={"queue": float(number)})
        store.record(now() - dt.timedelta(seconds=30 - number), [Observation("bank", "", "ready", page=page)], 1)
        series.hear([look("door")])
        series()
    assert counted(store) == {("door", "good"): 3}
    assert [rise.value for rise in store.increases("bank", "paid_total", now() - LATER, now())] == [20]
    assert [sample.value for sample in store.samples("bank", "queue", now() - LATER, now())] == [2]
