"""How long the data's disk lasts: by series in a real metrics file, a real folder, and a real database's size."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from checked import platform
from database_world import NAME, Lines, World

from nvcops.adapters.host import LocalHost
from nvcops.adapters.metrics.store import MetricsStore
from nvcops.adapters.metrics.write import Figures
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import StateError
from nvcops.core.manifest import DiskEntry, RecoveryEntry
from nvcops.core.runs import RunRecord, RunState
from nvcops.core.target import Target
from nvcops.core.units import Bytes
from nvcops.core.watch import PROBE_VALUE, WATCHED
from nvcops.database.checks.capacity import SIZE, capacity, capacity_findings

NOW = dt.datetime(2026, 7, 30, 8, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
QUOTA = 100 << 20


@dataclass
class Runs:
    """Earlier runs that found the database that large, so many days ago."""

    sizes: dict[int, float]

    def between(self, start: dt.datetime, end: dt.datetime) -> list[RunRecord]:
        began = {NOW - days * DAY: size for days, size in self.sizes.items()}
        return [_run(moment, size) for moment, size in began.items() if start <= moment < end]


def _run(moment: dt.datetime, size: float) -> RunRecord:
    found = Finding(check=SIZE.name, title=SIZE.title, verdict=Verdict.OK, value=size, unit="bytes")
    return RunRecord(
        id="db-performance-check@then",
        procedure="db-performance-check",
        platform="checked",
        state=RunState.CONCLUDED,
        requested_by="schedule",
        requested=moment,
        started=moment,
        findings=(found,),
    )


def lines(
    world: World, folder: Path, seen: dict[int, float], sizes: dict[int, float] | None = None, **limits: Any
) -> Lines:
    """The lines about a disk of 100 MiB, of which 50 are used now, and which was so full so many days ago."""
    disk = DiskEntry(name="the data", path=folder / "disk", quota=Bytes(QUOTA))
    disk.path.mkdir()
    (disk.path / "filler").write_bytes(b"x" * (QUOTA // 2))
    store = MetricsStore(folder / "metrics.sqlite", 400 * 86400, 400 * 86400)
    for days, share in sorted(seen.items(), reverse=True):
        gauge = f'{PROBE_VALUE}{{probe="disk.the-data",kind="disk"}}'
        store.keep(NOW - days * DAY, [Figures(service=WATCHED, rises={}, gauges={gauge: share})])
    manifest = msgspec.structs.replace(platform(limits), disks=(disk,), recovery=RecoveryEntry(data=disk.path / "main"))
    target: Target = world.target(manifest=manifest, host=LocalHost((disk,), ()), metrics=store, runs=Runs(sizes or {}))
    return Lines(capacity_findings(capacity(target, NOW), manifest, NAME))


@pytest.mark.parametrize(
    ("seen", "verdict", "observed"),
    [
        ({}, "OK", "its growth is known after a day"),
        ({7: 0.5}, "OK", "it does not grow"),
        ({7: 0.6}, "OK", "it does not grow"),
        ({7: 0.43}, "OK", "full in 50"),
        ({7: 0.36}, "WARNING", "full in 25"),
        ({7: 0.02}, "WARNING", "full in 7.2"),
        ({1: 0.4}, "CRITICAL", "full in 5"),
        ({7: 0.36, 1: 0.4}, "WARNING", "full in 25"),
    ],
)
def test_when_the_disk_is_full(
    world: World, tmp_path: Path, seen: dict[int, float], verdict: str, observed: str
) -> None:
    line = lines(world, tmp_path, seen).of("database.disk_left")
    assert (line.verdict.name, line.subject) == (verdict, "the data")
    assert observed in line.observed
    assert bool(line.next_step) is (verdict != "OK")


def test_where_nobody_watched_the_disk_it_lasts_as_the_database_grows(world: World, tmp_path: Path) -> None:
    size = float(world.value("SELECT pg_database_size(current_database())"))
    line = lines(world, tmp_path, {}, {7: size - (14 << 20)}).of("database.disk_left")
    assert line.verdict.name == "WARNING"
    assert "2 MiB more a day" in line.observed


@pytest.mark.parametrize(("grown", "verdict"), [(0.1, "OK"), (0.5, "WARNING"), (2.0, "CRITICAL")])
def test_a_database_that_grows_quickly(world: World, tmp_path: Path, grown: float, verdict: str) -> None:
    size = float(world.value("SELECT pg_database_size(current_database())"))
    found = lines(world, tmp_path, {}, {7: size / (1 + grown)}, database_growth_min=Bytes(1 << 20))
    line = found.of("database.size")
    assert (line.verdict.name, line.subject, line.unit) == (verdict, NAME, "bytes")
    assert "more in a week" in line.observed
    assert line.value == pytest.approx(size, rel=0.1), "what the next run compares with"


def test_a_past_that_cannot_be_read_is_no_past(world: World, tmp_path: Path) -> None:
    class Broken:
        def between(self, start: dt.datetime, end: dt.datetime) -> Sequence[RunRecord]:
            raise StateError(f"the journal cannot be read from {start} to {end}")

    manifest = platform()
    (tmp_path / "metrics.sqlite").write_text("this is no database")
    target = world.target(manifest=manifest, metrics=MetricsStore(tmp_path / "metrics.sqlite", 60, 60), runs=Broken())
    found = Lines(capacity_findings(capacity(target, NOW), manifest, NAME))
    assert found.of("database.size").verdict is Verdict.OK
    assert "known after a day" in found.of("database.size").observed
