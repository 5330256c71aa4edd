"""The procedure backup-retention on a repository of files: rehearsed, carried out, read again."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from files_world import World, acted, world

from nvcops.core.backups import Kind
from nvcops.core.catalogue import present
from nvcops.core.checks import Verdict
from nvcops.core.errors import NotFoundError, TargetError

KEEP = '\n[backups.keep]\nconfiguration = { count = 2, age = "1 d" }\n'


@pytest.fixture
def ship(tmp_path: Path) -> World:
    """Five configurations, three of them taken by a clock that was a month behind."""
    made = world(tmp_path, keep=KEEP)
    for number in range(5):
        made.write("etc/bank.toml", f"workers = {number}\n" * 1000)
        acted("configuration-backup", made, started=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=number))
    return made


def later() -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(days=30)


def test_a_rehearsal_says_what_would_go(ship: World) -> None:
    before = ship.objects("")
    run = acted("backup-retention", ship, dry_run=True, started=later())
    assert run.of("recovery.retention")[0].observed.startswith("may go: 3 entries and 0 segments of the log, ")
    assert ship.objects("") == before


def test_what_is_old_goes_and_the_rest_comes_back(ship: World) -> None:
    run = acted("backup-retention", ship, started=later())
    assert run.verdict is Verdict.OK, run.findings
    assert run.of("recovery.retention")[0].observed.startswith("removed: 3 entries")
    left = [entry for entry in present(ship.repository.catalogue.entries()) if entry.kind is Kind.CONFIGURATION]
    assert len(left) == 2
    assert len({key.split("/")[1] for key in ship.objects()}) == 2
    acted("restore-config", ship, date=left[0].began.isoformat())
    assert (ship.folder / "etc/bank.toml").read_text() == "workers = 3\n" * 1000
    again = acted("backup-retention", ship, started=later())
    assert again.of("recovery.retention")[0].observed == "removed: nothing"


def test_nothing_is_old(ship: World) -> None:
    before = ship.objects("")
    assert acted("backup-retention", ship).of("recovery.retention")[0].observed == "removed: nothing"
    assert ship.objects("") == before


def test_the_repository_is_gone(ship: World) -> None:
    (ship.folder / "repository").rename(ship.folder / "elsewhere")
    try:
        run = acted("backup-retention", ship, started=later())
    except (TargetError, NotFoundError):
        return
    assert run.of("recovery.retention")[0].observed == "removed: nothing"
