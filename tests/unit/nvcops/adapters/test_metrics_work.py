"""How much SQLite works for a window: it must not grow with what was kept before it."""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path

import pytest

from nvcops.adapters.metrics import store as metrics_store
from nvcops.adapters.metrics.store import MetricsStore
from nvcops.adapters.metrics.write import Observation
from nvcops.core.exposition import Page

BEGIN = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
STEP = dt.timedelta(minutes=5)
KEYS = [f'{name}_total{{route="{route}"}}' for name in ("asked", "paid") for route in range(10)]


def steps_of(store: MetricsStore, end: dt.datetime, monkeypatch: pytest.MonkeyPatch) -> int:
    """The steps of SQLite's machine, in tens, for ten minutes of ten counters."""
    opened, count = metrics_store.opened, [0]

    def counting(path: Path) -> sqlite3.Connection:
        connection = opened(path)

        def step() -> int:
            count[0] += 1
            return 0

        connection.set_progress_handler(step, 10)
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(metrics_store, "opened", counting)
        assert sum(one.value for one in store.increases("shop", "asked_total", end - 2 * STEP, end)) == 20
    return count[0]


def test_the_work_for_ten_minutes_does_not_grow_with_what_was_kept_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MetricsStore(tmp_path / "metrics.sqlite", raw_s=48 * 3600, rollups_s=400 * 86400)
    work = []
    for tick in range(301):
        page = Page(dict.fromkeys(KEYS, float(tick)))
        store.record(BEGIN + tick * STEP, [Observation("shop", "shop-1", "ready", page=page)], STEP.total_seconds())
        if tick in (10, 300):
            work.append(steps_of(store, BEGIN + tick * STEP, monkeypatch))
    assert work[1] < 1.5 * work[0], work
