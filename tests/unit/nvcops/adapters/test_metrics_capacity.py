"""How large the metrics file becomes: 500 series each 15 s, kept for 48 h, and their 5 minutes for 400 days."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import pytest

from nvcops.adapters.metrics.store import MetricsStore
from nvcops.adapters.metrics.write import Observation
from nvcops.core.exposition import Page

SERIES, INTERVAL_S, RAW_S, ROLLUPS_S, BUCKET_S = 500, 15, 48 * 3600, 400 * 86400, 300
BYTES_MAX = 5e9
BEGIN = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)


def page(series: int, number: int, kind: str) -> Page:
    """Figures that do not repeat: nothing about them can be stored more cheaply."""
    values = {f'figure_total{{n="{name}"}}': 1000.0 * number + random.random() for name in range(series)}
    return Page(rising=values) if kind == "counters" else Page(gauges=values)


def size(folder: Path, kind: str, rounds: int, interval_s: int) -> int:
    """Bytes of a file after so many rounds, each in its own 5 minutes where they are that far apart."""
    path = folder / f"{kind}-{rounds}-{interval_s}.sqlite"
    store = MetricsStore(path, RAW_S, ROLLUPS_S)
    for number in range(rounds):
        moment = BEGIN + dt.timedelta(seconds=interval_s * number)
        store.record(moment, [Observation("bank", "a", "ready", page=page(SERIES, number, kind))], interval_s)
    return sum(file.stat().st_size for file in folder.glob(f"{path.name}*"))


@pytest.mark.parametrize("kind", ["counters", "gauges"])
def test_500_series_fit_into_5_gigabytes(tmp_path: Path, kind: str) -> None:
    """Bytes of a reading and of a 5 minutes' row, each from what a file grows by, times how many are kept."""
    few, many, buckets = 20, 120, 100
    # Within 5 minutes only readings are added; 5 minutes apart each round adds a reading and a row to every series.
    reading = (size(tmp_path, kind, many, 2) - size(tmp_path, kind, few, 2)) / ((many - few) * SERIES)
    both = (size(tmp_path, kind, few + buckets, BUCKET_S) - size(tmp_path, kind, few, BUCKET_S)) / (buckets * SERIES)
    rollup = both - reading
    kept = SERIES * (reading * RAW_S / INTERVAL_S + rollup * ROLLUPS_S / BUCKET_S)
    print(f"{kind}: {reading:.1f} bytes a reading, {rollup:.1f} a row of 5 minutes, {kept / 1e9:.2f} GB in all")
    assert 10 < reading < 60
    assert 10 < rollup < 80
    assert kept < BYTES_MAX
