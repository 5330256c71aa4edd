"""The procedure database-backup, acting on a real server and a real repository."""

from __future__ import annotations

import datetime as dt
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import backup_world
from backup_world import World

from nvcops.adapters.backup import spool
from nvcops.adapters.files import load_manifest
from nvcops.adapters.target import connect
from nvcops.core.backups import Kind
from nvcops.core.checks import Finding, Verdict
from nvcops.recovery import backup

BEGAN = dt.datetime(2026, 11, 22, 6, tzinfo=dt.UTC)


@dataclass
class ActingRun:
    """A run in memory that acts; what it reads crosses JSON, as in the journal. In a dry run nothing is done."""

    started: dt.datetime
    dry: bool = False
    id: str = "in-memory"
    titles: list[str] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)

    def read(self, fact: Callable[..., Any], /, *args: Any) -> Any:
        return msgspec.json.decode(msgspec.json.encode(fact(*args)), type=typing.get_type_hints(fact)["return"])

    def step(self, title: str, act: Callable[..., Any], /, *args: Any) -> Any:
        self.titles.append(title)
        return None if self.dry else act(*args)

    def conclude(self, findings: Sequence[Finding], *, summary: str = "") -> None:
        assert not summary
        self.findings = {finding.check: finding for finding in findings}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with backup_world.world(tmp_path, encrypted=True) as started:
        yield started


def carry_out(world: World, began: dt.datetime, *, dry: bool = False, **options: Any) -> ActingRun:
    run = ActingRun(began, dry)
    target = connect(load_manifest(world.folder / "platform.toml"))
    backup.database_backup.function(run, target, **options)
    return run


def test_it_takes_reads_back_and_enters_the_platform_point(world: World) -> None:
    with world.receiving():
        world.server.reload(synchronous_standby_names=spool.STANDBY_NAME)
        world.wait(lambda: world.backups.receiver().synchronous)
        first = carry_out(world, BEGAN)
        second = carry_out(world, BEGAN + dt.timedelta(hours=6))
        again = carry_out(world, BEGAN + dt.timedelta(hours=6))
        full = carry_out(world, BEGAN + dt.timedelta(hours=12), full=True)
    for run in (first, second, again, full):
        restorable = run.findings["recovery.restorable"]
        assert restorable.verdict is Verdict.OK, restorable
        assert run.findings["recovery.receiver"].verdict is Verdict.OK
        assert run.findings["recovery.archive"].verdict is Verdict.OK
    assert second.titles == ["take an incremental backup of the database", "enter the platform point"]
    entries = world.backups.catalogue()
    kinds = [Kind.FULL, Kind.POINT, Kind.INCREMENTAL, Kind.POINT, Kind.FULL, Kind.POINT]
    assert [entry.kind for entry in entries] == kinds
    for taken, point in zip(entries[::2], entries[1::2], strict=True):
        assert taken.database is not None
        assert point.point is not None
        assert (point.point.database, point.point.lsn) == (taken.id, taken.database.stop_lsn)


def test_a_rehearsal_takes_nothing(world: World) -> None:
    run = carry_out(world, BEGAN, dry=True)
    assert run.titles == ["take a full backup of the database"]
    assert world.backups.catalogue() == []
    assert run.findings["recovery.backup_age"].verdict is Verdict.CRITICAL


def test_without_its_log_a_backup_is_not_called_restorable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "_ARRIVAL_S", 1)
    monkeypatch.setattr(backup, "_LOOK_S", 0.01)
    run = carry_out(world, BEGAN)
    restorable = run.findings["recovery.restorable"]
    assert restorable.verdict is Verdict.CRITICAL
    assert "did not arrive" in restorable.observed
    assert run.findings["recovery.receiver"].verdict is Verdict.CRITICAL
