"""A catalogue that lost its end, or all of it: what nothing may throw away, and how it is begun anew on purpose."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import pytest
from files_world import World, acted, world

from nvcops.adapters.backup.catalogue import key_of
from nvcops.adapters.backup.native import NativeBackups
from nvcops.adapters.evidence.log import open_log
from nvcops.core.backups import Cause
from nvcops.core.checks import Verdict
from nvcops.core.errors import UsageError
from nvcops.core.evidence import Entry


@pytest.fixture
def ship(tmp_path: Path) -> World:
    """Two configurations, which an audit saw."""
    made = world(tmp_path)
    for number in range(2):
        made.write("etc/bank.toml", f"workers = {number}\n" * 1000)
        acted("configuration-backup", made, started=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=number))
    assert acted("backup-audit", made).of("recovery.catalogue")[0].verdict is Verdict.OK
    return made


def causes(ship: World) -> set[Cause]:
    return {fault.cause for fault in NativeBackups(ship.repository).examine(deep=False).faults}


def test_the_objects_of_an_entry_that_was_lost_are_not_swept(ship: World) -> None:
    """Whoever puts the entry back from a copy finds its objects there."""
    newest = ship.folder / "repository" / key_of(2)
    stored = newest.read_bytes()
    its = [key for key in ship.objects() if key.split("/")[1] == ship.repository.catalogue.entries()[1].id]
    newest.unlink()
    acted("log-backup", ship)
    acted("application-backup", ship)
    assert set(its) <= set(ship.objects())
    assert causes(ship) == {Cause.EDITED}
    ship.repository.store.delete(
        [file.key for file in ship.repository.store.list("catalogue/") if "1.json" not in file.key]
    )
    newest.write_bytes(stored)
    assert causes(ship) == set()


def entered(ship: World, run: str, findings: list[dict[str, str]]) -> None:
    """What a run found, as it stands in the evidence."""
    state = ship.manifest.platform.state
    with open_log(state, origin="ship.example.com/log", witness=None) as log:
        time = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
        log.append([Entry(id=run, time=time, kind="run.concluded", run=run, body={"findings": findings})])


def told(run: object) -> list[dict[str, str]]:
    return [
        {"check": finding.check, "subject": finding.subject, "observed": finding.observed}
        for finding in run.findings  # type: ignore[attr-defined]
    ]


@pytest.mark.parametrize("taken_since", [False, True], ids=["empty", "with a backup"])
def test_a_repository_that_was_emptied_is_missed_until_somebody_says_why(ship: World, *, taken_since: bool) -> None:
    entered(ship, "backup-audit@1", told(acted("backup-audit", ship)))
    shutil.rmtree(ship.folder / "repository")
    assert causes(ship) == {Cause.EDITED}
    with pytest.raises(UsageError, match="why"):
        acted("backup-begin-anew", ship, reason=" ")
    acted("backup-begin-anew", ship, dry_run=True, reason="the disk was replaced")
    assert causes(ship) == {Cause.EDITED}
    if taken_since:
        acted("configuration-backup", ship, started=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=9))
    run = acted("backup-begin-anew", ship, reason="the disk was replaced")
    assert "faults, the first: it is" in run.approved[0]
    assert "the disk was replaced" in run.of("recovery.anew")[0].observed
    assert causes(ship) == {Cause.EDITED}, "the evidence still says what there was: until the run stands in it, too"
    entered(ship, "backup-begin-anew@1", told(run))
    assert causes(ship) == set()
    acted("configuration-backup", ship, started=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=20))
    assert causes(ship) == set()
