"""Counting across restarts, gaps and the edges of a window."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from nvcops.adapters.metrics import store as metrics_store
from nvcops.adapters.metrics.store import MetricsStore
from nvcops.adapters.metrics.write import Observation
from nvcops.core.errors import StateError
from nvcops.core.exposition import Page

BEGIN = dt.datetime(2026, 7, 1, 11, 58, tzinfo=dt.UTC)
INTERVAL_S = 15.0
KEY = 'paid_total{outcome="settled"}'


def at(seconds: float) -> dt.datetime:
    return BEGIN + dt.timedelta(seconds=seconds)


@pytest.fixture
def store(tmp_path: Path) -> MetricsStore:
    return MetricsStore(tmp_path / "state" / "metrics.sqlite", raw_s=48 * 3600, rollups_s=400 * 86400)


@pytest.fixture
def scrape(store: MetricsStore) -> Callable[..., None]:
    def one(
        seconds: float, value: float | None, *, instance: str = "a", ready: str = "ready", began: float = 0.0
    ) -> None:
        page = None if value is None else Page({KEY: value}, began)
        seen = [
            Observation("bank", "", ready, seconds=0.01),
            Observation("bank", instance, ready, page=page, seconds=0.2),
        ]
        store.record(at(seconds), seen if instance == "a" else seen[1:], INTERVAL_S)

    return one


def rose(store: MetricsStore, start: float = -1, end: float = 10**6) -> float:
    return sum(increase.value for increase in store.increases("bank", "paid_total", at(start), at(end)))


def test_before_the_first_scrape_everything_is_empty_and_no_file_is_made(store: MetricsStore, tmp_path: Path) -> None:
    assert store.increases("bank", "paid_total", at(0), at(60)) == []
    assert store.scrapes("bank", at(0), at(60)).asked == 0
    assert store.changes(at(0), at(60)) == []
    assert list(tmp_path.iterdir()) == []


def test_counting_begins_with_the_first_scrape(store: MetricsStore, scrape: Callable[..., None]) -> None:
    scrape(0, 1_000)
    assert rose(store) == 0
    scrape(15, 1_010)
    scrape(30, 1_010)
    scrape(45, 1_025)
    assert rose(store) == 25
    assert store.increases("bank", "paid_total", at(0), at(99))[0].labels == {"outcome": "settled"}


def test_a_counter_that_fell_rose_from_zero(store: MetricsStore, scrape: Callable[..., None]) -> None:
    for number, value in enumerate((100, 110, 4, 6)):
        scrape(15 * number, value)
    assert rose(store) == 10 + 4 + 2


def test_a_restart_that_the_counter_hides_is_seen_by_its_beginning(
    store: MetricsStore, scrape: Callable[..., None]
) -> None:
    scrape(0, 10, began=1.7e9)
    scrape(15, 20, began=1.7e9)
    scrape(30, 25, began=1.8e9)
    assert rose(store) == 10 + 25
    assert [change.what for change in store.changes(at(20), at(40))] == ["start"]


def test_a_series_that_is_born_between_two_scrapes_rose_from_zero(store: MetricsStore) -> None:
    store.record(at(0), [Observation("bank", "a", "ready", page=Page({}))], INTERVAL_S)
    store.record(at(15), [Observation("bank", "a", "ready", page=Page({KEY: 7.0}))], INTERVAL_S)
    assert rose(store) == 7


def test_a_series_that_went_away_with_its_process_begins_anew(store: MetricsStore) -> None:
    for seconds, rising in ((0, {KEY: 5.0}), (15, {KEY: 9.0}), (30, {}), (45, {KEY: 20.0})):
        store.record(at(seconds), [Observation("bank", "a", "ready", page=Page(rising))], INTERVAL_S)
    assert rose(store) == 4 + 20


def test_instances_are_added_up(store: MetricsStore, scrape: Callable[..., None]) -> None:
    for seconds, value in ((0, 1), (15, 2)):
        scrape(seconds, value)
    for seconds, value in ((1, 100), (16, 110)):
        scrape(seconds, value, instance="b")
    assert rose(store) == 11


def test_what_rose_in_a_gap_belongs_to_the_day_and_not_to_now(store: MetricsStore, scrape: Callable[..., None]) -> None:
    scrape(0, 0)
    scrape(15, 10)
    scrape(15 + 3600, 1_010)
    assert rose(store) == 1_010
    assert rose(store, start=3600 - 300) == 0


@pytest.mark.parametrize(("start", "end"), [(0, 900), (7, 893), (100, 120), (290, 310), (0, 15), (299, 601), (16, 17)])
def test_a_window_counts_the_same_by_rollups_and_by_readings(
    store: MetricsStore, scrape: Callable[..., None], start: int, end: int
) -> None:
    for number in range(61):
        scrape(15 * number, number)
    expected = sum(start <= 15 * number < end for number in range(1, 61))
    assert rose(store, start, end) == expected
    seen = store.scrapes("bank", at(start), at(end))
    assert seen.asked == seen.ready == sum(start <= 15 * number < end for number in range(61))


def test_availability_knows_what_nobody_watched(store: MetricsStore, scrape: Callable[..., None]) -> None:
    scrape(0, 1)
    scrape(15, None, ready="answers 503")
    scrape(3615, 2)
    seen = store.scrapes("bank", at(0), at(7200))
    assert (seen.asked, seen.ready) == (3, 2)
    assert seen.observed_s == 15 + 15 + 2 * INTERVAL_S
    assert seen.first == at(-480 + 480)
    assert seen.last == at(3615)
    assert seen.pages == {"a": at(3615)}


def test_answers_say_how_quickly(store: MetricsStore, scrape: Callable[..., None]) -> None:
    for number in range(4):
        scrape(15 * number, number)
    found = {answers.instance: answers for answers in store.answers("bank", at(0), at(31))}
    assert found["a"].count == 3
    assert found["a"].mean_s == pytest.approx(0.2)
    assert found[""].mean_s == pytest.approx(0.01)


def test_changes_are_told_once(store: MetricsStore) -> None:
    story = (("ready", "1.0"), ("ready", "1.0"), ("answers 503", "1.0"), ("no answer", ""), ("ready", "1.1"))
    for number, (ready, version) in enumerate(story):
        store.record(at(15 * number), [Observation("bank", "a", ready, version=version)], INTERVAL_S)
    told = [(change.what, change.before, change.after) for change in store.changes(at(0), at(100))]
    assert told == [
        ("ready", "", "ready"),
        ("version", "", "1.0"),
        ("ready", "ready", "answers 503"),
        ("ready", "no answer", "ready"),
        ("version", "1.0", "1.1"),
    ]


@pytest.mark.parametrize("seconds", [15, 14.5, -3600])
def test_out_of_order_is_refused_whole(store: MetricsStore, scrape: Callable[..., None], seconds: float) -> None:
    scrape(0, 1)
    scrape(15, 2)
    with pytest.raises(StateError, match="out of order"):
        scrape(seconds, 50)
    scrape(30, 3)
    assert rose(store) == 2


def test_what_is_too_old_is_removed(tmp_path: Path) -> None:
    store = MetricsStore(tmp_path / "metrics.sqlite", raw_s=3600, rollups_s=4 * 3600)
    for number in range(0, 8 * 3600, 300):
        store.record(at(number), [Observation("bank", "", "ready", page=Page({KEY: float(number)}))], 300)
    with sqlite3.connect(tmp_path / "metrics.sqlite") as connection:
        (raw,) = connection.execute("SELECT count(*) FROM raw").fetchone()
        (rollup,) = connection.execute("SELECT count(*) FROM rollup").fetchone()
    connection.close()
    assert 1 <= raw <= 2 * 12 + 1
    assert 1 <= rollup <= 5 * 12 + 1
    assert store.scrapes("bank", at(0), at(8 * 3600)).asked <= 5 * 12 + 1


def test_a_series_that_is_long_gone_is_forgotten(tmp_path: Path) -> None:
    store = MetricsStore(tmp_path / "metrics.sqlite", raw_s=3600, rollups_s=2 * 3600)
    for number in range(0, 6 * 3600, 600):
        rising = {KEY: float(number)} if number < 3600 else {"other_total": float(number)}
        store.record(at(number), [Observation("bank", "a", "ready", page=Page(rising))], 600)
    assert store.increases("bank", "paid_total", at(0), at(10**6)) == []
    assert store.increases("bank", "other_total", at(0), at(10**6)) != []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    store = MetricsStore(tmp_path / "state" / "metrics.sqlite", 3600, 3600)
    with pytest.raises(StateError, match=r"cannot be written.*") as error:
        store.record(at(0), [Observation("bank", "", "ready")], INTERVAL_S)
    assert "disk full" in error.value.hint


def test_a_full_store_is_refused_and_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MetricsStore(tmp_path / "metrics.sqlite", 3600, 3600)
    monkeypatch.setattr(metrics_store, "_PAGES_MAX", 40)
    number = 0

    def fill() -> None:
        nonlocal number
        for number in range(1_000):
            rising = {f'a_total{{n="{label}"}}': float(number) for label in range(300)}
            store.record(at(15 * number), [Observation("bank", "a", "ready", page=Page(rising))], INTERVAL_S)

    with pytest.raises(StateError, match="full"):
        fill()
    assert number > 0
    assert store.scrapes("bank", at(0), at(10**6)).pages == {"a": at(15 * (number - 1))}


def test_another_release_s_file_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "metrics.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    store = MetricsStore(tmp_path / "metrics.sqlite", 3600, 3600)
    with pytest.raises(StateError, match="another release"):
        store.scrapes("bank", at(0), at(1))


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "metrics.sqlite").write_bytes(b"not a database" * 100)
    store = MetricsStore(tmp_path / "metrics.sqlite", 3600, 3600)
    with pytest.raises(StateError, match="cannot be read"):
        store.scrapes("bank", at(0), at(1))
