"""Gauges: the newest reading in a window, from readings and from what is kept of 5 minutes; files of older formats."""

from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from nvcops.adapters.metrics.store import MetricsStore
from nvcops.adapters.metrics.write import Observation
from nvcops.core.exposition import Page

BEGIN = dt.datetime(2026, 7, 1, 11, 58, tzinfo=dt.UTC)
KEY = 'queue_length{queue="out"}'
INTERVAL_S = 15.0


def at(seconds: float) -> dt.datetime:
    return BEGIN + dt.timedelta(seconds=seconds)


@pytest.fixture
def store(tmp_path: Path) -> MetricsStore:
    return MetricsStore(tmp_path / "metrics.sqlite", raw_s=3600, rollups_s=86400)


def read(store: MetricsStore, seconds: float, value: float, *, instance: str = "a", key: str = KEY) -> None:
    page = Page(gauges={key: value})
    store.record(at(seconds), [Observation("bank", instance, "ready", page=page)], INTERVAL_S)


def values(store: MetricsStore, start: float, end: float, name: str = "queue_length") -> dict[str, tuple[float, float]]:
    """Value and age at the beginning of all time, by instance."""
    found = store.samples("bank", name, at(start), at(end))
    return {sample.labels["instance"]: (sample.value, (sample.time - BEGIN).total_seconds()) for sample in found}


def test_nothing_was_ever_read(store: MetricsStore, tmp_path: Path) -> None:
    assert store.samples("bank", "queue_length", at(0), at(60)) == []
    assert list(tmp_path.iterdir()) == []


def test_the_newest_of_a_window_counts_and_its_end_is_not_in_it(store: MetricsStore) -> None:
    for seconds, value in ((0, 3.0), (15, -7.5), (30, 9.0)):
        read(store, seconds, value)
    assert values(store, 0, 30) == {"a": (-7.5, 15)}
    assert values(store, 0, 31) == {"a": (9.0, 30)}
    assert values(store, 31, 60) == {}
    assert values(store, 0, 60, name="queue") == {}


def test_each_set_of_labels_and_each_instance_has_its_own(store: MetricsStore) -> None:
    read(store, 0, 1)
    read(store, 1, 2, instance="b")
    read(store, 2, 3, instance="b", key='queue_length{queue="in",instance="mine"}')
    found = store.samples("bank", "queue_length", at(0), at(60))
    assert {(sample.value, *sorted(sample.labels.items())) for sample in found} == {
        (1, ("instance", "a"), ("queue", "out")),
        (2, ("instance", "b"), ("queue", "out")),
        (3, ("exported_instance", "mine"), ("instance", "b"), ("queue", "in")),
    }


def test_a_service_without_instances_is_its_own_instance(store: MetricsStore) -> None:
    read(store, 0, 1, instance="")
    assert values(store, 0, 60) == {"bank": (1, 0)}


@pytest.mark.parametrize(("start", "end"), [(0, 4000), (1, 3000), (2999, 3001), (100, 119), (299, 601), (120, 1500)])
def test_a_window_reads_the_same_from_readings_and_from_rollups(store: MetricsStore, start: int, end: int) -> None:
    """The gauge fell silent at 3000 s: windows that end later find it where the last minutes are not looked at."""
    for number in range(201):
        read(store, 15 * number, number)
    expected = max((n for n in range(201) if start <= 15 * n < end), default=None)
    assert values(store, start, end) == ({} if expected is None else {"a": (expected, 15 * expected)})


def test_an_old_reading_is_found_by_its_5_minutes_when_readings_are_gone(tmp_path: Path) -> None:
    store = MetricsStore(tmp_path / "metrics.sqlite", raw_s=600, rollups_s=4 * 3600)
    for seconds in range(0, 3 * 3600, 60):
        read(store, seconds, seconds)
    with closing(sqlite3.connect(tmp_path / "metrics.sqlite")) as connection:
        (oldest,) = connection.execute("SELECT min(at) FROM reading").fetchone()
    assert oldest > at(3600).timestamp() * 1000
    assert values(store, 0, 1320) == {"a": (1260, 1260)}
    assert values(store, 0, 3 * 3600) == {"a": (10740, 10740)}


def test_a_gauge_that_is_long_gone_is_forgotten(tmp_path: Path) -> None:
    store = MetricsStore(tmp_path / "metrics.sqlite", raw_s=600, rollups_s=3600)
    for seconds in range(0, 4 * 3600, 300):
        read(store, seconds, 1, key=KEY if seconds < 600 else "other")
    with closing(sqlite3.connect(tmp_path / "metrics.sqlite")) as connection:
        assert connection.execute("SELECT key FROM gauge").fetchall() == [("other",)]


def test_a_file_of_the_first_format_is_read_and_then_extended(store: MetricsStore, tmp_path: Path) -> None:
    """A release without gauges wrote it: its counters stay, and gauges are kept from the next round on."""
    path = tmp_path / "metrics.sqlite"
    schema = resources.files("nvcops.adapters.metrics").joinpath("schema.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema)
        connection.execute("PRAGMA user_version = 1")
        moment = int(at(0).timestamp() * 1000)
        connection.execute("INSERT INTO series VALUES (1, 'bank', 'a', 'paid_total', '{}', 'paid_total')")
        connection.execute("INSERT INTO latest VALUES (1, 100)")
        connection.execute("INSERT INTO raw VALUES (?, 1, 40)", (moment,))
        connection.execute("INSERT INTO rollup VALUES (1, ?, 40)", (moment - moment % 300_000,))
        connection.execute("INSERT INTO state VALUES ('bank', 'a', ?, 'ready', '', '', ?)", (moment, moment))
        connection.commit()
    assert store.samples("bank", "queue_length", at(0), at(60)) == []
    assert [rise.value for rise in store.increases("bank", "paid_total", at(-1), at(60))] == [40]
    page = Page({"paid_total": 102.0}, gauges={KEY: 5.0})
    store.record(at(15), [Observation("bank", "a", "ready", page=page)], INTERVAL_S)
    assert [rise.value for rise in store.increases("bank", "paid_total", at(-1), at(60))] == [42]
    assert values(store, 0, 60) == {"a": (5, 15)}
