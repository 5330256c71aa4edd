"""The file of statements and waits: what rises is kept, whatever becomes of the server's counters and of us."""

from __future__ import annotations

import datetime as dt
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from nvcops.adapters.statements.rises import Counted, Reading
from nvcops.adapters.statements.store import StatementStore
from nvcops.core.errors import StateError

BEGIN = dt.datetime(2027, 3, 1, 8, tzinfo=dt.UTC)
RESET = BEGIN - dt.timedelta(days=3)
MINUTE, HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> StatementStore:
    return StatementStore(tmp_path / "state" / "statements.sqlite")


def said(*calls: float, server: str = "db-1", reset: dt.datetime = RESET, since: dt.datetime | None = None) -> Reading:
    """Statement n was called so often, each call for n ms."""
    counted = [Counted(10, n, f"SELECT {n}", count, n * count, count, since) for n, count in enumerate(calls, 1)]
    return Reading(server=server, reset=reset, forgotten=0, counted=counted)


def calls(store: StatementStore, start: dt.datetime = BEGIN, end: dt.datetime = BEGIN + 400 * HOUR) -> dict[int, float]:
    found = store.between(start, end, "db-1")
    return {one.id: one.calls for one in found.statements} if found else {}


def test_nothing_is_known_before_the_second_reading(store: StatementStore) -> None:
    assert store.between(BEGIN, BEGIN + HOUR, "db-1") is None
    store.keep_reading(BEGIN, said(100))
    assert store.between(BEGIN - HOUR, BEGIN + HOUR, "db-1") is None


def test_what_rose_is_known_and_since_when(store: StatementStore) -> None:
    store.keep_reading(BEGIN, said(100, 50))
    store.keep_reading(BEGIN + 5 * MINUTE, said(130, 90))
    store.keep_reading(BEGIN + 10 * MINUTE, said(130, 91, 7))
    found = store.between(BEGIN, BEGIN + HOUR, "db-1")
    assert found is not None
    assert [(one.id, one.calls, one.total_s, one.text) for one in found.statements] == [
        (2, 41.0, 0.082, "SELECT 2"),
        (1, 30.0, 0.03, "SELECT 1"),
        (3, 7.0, 0.021, "SELECT 3"),
    ]
    assert (found.since, found.until, found.share) == (BEGIN, BEGIN + 10 * MINUTE, 1.0)
    assert calls(store, BEGIN + 5 * MINUTE) == {2: 1.0, 3: 7.0}


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        (said(40), 40.0),  # the counters fell
        (said(140, reset=BEGIN + MINUTE), 140.0),  # they were reset, and rose above what they were
        (said(140, since=BEGIN + MINUTE), 140.0),  # the statement was forgotten and came again
        (said(140), 40.0),
    ],
)
def test_a_reset_is_bridged(store: StatementStore, later: Reading, expected: float) -> None:
    store.keep_reading(BEGIN, said(100))
    store.keep_reading(BEGIN + 5 * MINUTE, later)
    assert calls(store) == {1: expected}


def test_another_primary_has_counters_of_its_own(store: StatementStore) -> None:
    store.keep_reading(BEGIN, said(100))
    store.keep_reading(BEGIN + 5 * MINUTE, said(9_000, server="db-2"))
    store.keep_reading(BEGIN + 10 * MINUTE, said(9_005, server="db-2"))
    assert calls(store) == {1: 5.0}


def test_a_clock_that_goes_back_counts_nothing_twice(store: StatementStore) -> None:
    store.keep_reading(BEGIN + HOUR, said(100))
    store.keep_reading(BEGIN, said(150))
    store.keep_reading(BEGIN + 5 * MINUTE, said(160))
    assert calls(store) == {1: 10.0}


def test_hours_go_on_where_single_readings_end(store: StatementStore) -> None:
    for hour in range(60):
        store.keep_reading(BEGIN + hour * HOUR, said(hour * 10))
    assert calls(store, BEGIN - HOUR) == {1: 590.0}
    assert calls(store, BEGIN + HOUR * 50.5) == {1: 90.0}
    assert calls(store, BEGIN + 2 * HOUR, BEGIN + 5 * HOUR) == {1: 30.0}  # the hours 2, 3 and 4 as they began
    later = BEGIN + 36 * 24 * HOUR
    store.keep_reading(later, said(600))
    assert calls(store, BEGIN - HOUR, later + HOUR) == {1: 370.0}  # of the first day nothing is left


def test_many_statements_stay_few(store: StatementStore) -> None:
    store.keep_reading(BEGIN, said())
    store.keep_reading(BEGIN + MINUTE, said(*([1.0] * 1_000)))
    found = store.between(BEGIN, BEGIN + HOUR, "db-1")
    assert found is not None
    assert len(found.statements) == 200
    assert found.share == pytest.approx(sum(range(801, 1001)) / sum(range(1, 1001)))


def test_waits_are_summed_by_the_minute(store: StatementStore) -> None:
    assert store.waits(BEGIN, BEGIN + HOUR).observed_s == 0
    lock, work = ("Lock", "tuple", 7, "bank-1"), ("", "", 0, "bank-2")
    store.keep_waits(BEGIN, 15.0, {lock: 30.0, work: 1.0})
    store.keep_waits(BEGIN, 15.0, {lock: 12.0})
    store.keep_waits(BEGIN + 5 * MINUTE, 60.0, {work: 60.0})
    found = store.waits(BEGIN, BEGIN + MINUTE)
    assert (found.observed_s, found.sessions) == (30.0, pytest.approx(43 / 30))
    assert [(one.title, one.query, one.application, one.seconds) for one in found.waited] == [
        ("Lock: tuple", 7, "bank-1", 42.0),
        ("working", 0, "bank-2", 1.0),
    ]
    assert store.waits(BEGIN, BEGIN + HOUR).observed_s == 90.0


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look at" * 50, None])
def test_a_file_that_cannot_be_used_is_said(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "statements.sqlite"
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(content)
    with pytest.raises(StateError, match=r"statements\.sqlite"):
        StatementStore(path).keep_reading(BEGIN, said(1))
    with pytest.raises(StateError, match=r"statements\.sqlite"):
        StatementStore(path).between(BEGIN, BEGIN + HOUR, "db-1")


_WRITES = """
import sys, datetime as dt
from pathlib import Path
from nvcops.adapters.statements.rises import Counted, Reading
from nvcops.adapters.statements.store import StatementStore
store, at = StatementStore(Path(sys.argv[1])), dt.datetime(2027, 3, 1, 8, tzinfo=dt.UTC)
for n in range(100_000):
    counted = [Counted(10, q, "SELECT 1", n, n, n) for q in range(50)]
    reading = Reading(server="db-1", reset=None, forgotten=0, counted=counted)
    store.keep_reading(at + n * dt.timedelta(seconds=1), reading)
    print(n, flush=True)
"""


def test_a_kill_loses_no_reading_and_no_half_of_one(tmp_path: Path) -> None:
    path = tmp_path / "statements.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", _WRITES, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    written = 0
    with writer:
        for line in writer.stdout:
            written = int(line)
            if written == 25:
                os.kill(writer.pid, signal.SIGKILL)
    found = StatementStore(path).between(BEGIN - HOUR, BEGIN + HOUR, "db-1")
    assert found is not None
    assert found.until is not None
    readings = (found.until - BEGIN).total_seconds()
    assert readings >= written
    assert {one.calls for one in found.statements} == {readings}
