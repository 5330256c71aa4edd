"""The release: every file of it with its version, as often as it is backed up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from files_world import World, acted, world

from nvcops.adapters.backup.files import fetch_files
from nvcops.core.checks import Verdict
from nvcops.core.errors import LockHeld, StateError


@pytest.fixture
def ship(tmp_path: Path) -> World:
    return world(tmp_path)


def test_a_release_with_its_version(ship: World) -> None:
    ship.write("release/VERSION", "1.4.0\nbuilt on a Tuesday\n")
    ship.write("release/requirements.lock", "bank==1.4.0\n")
    run = acted("application-backup", ship)
    assert run.verdict is Verdict.OK
    assert run.of("recovery.application_backup")[0].observed.startswith("version 1.4.0: 2 files, ")
    (entry,) = ship.repository.catalogue.entries()
    assert entry.version == "1.4.0"
    fetch_files(ship.repository, entry.id, ship.folder / "there")
    assert (ship.folder / "there/requirements.lock").read_text() == "bank==1.4.0\n"


def test_a_rehearsal_keeps_nothing(ship: World) -> None:
    ship.write("release/VERSION", "1.4.0\n")
    run = acted("application-backup", ship, dry_run=True)
    assert run.verdict is Verdict.UNKNOWN
    assert not (ship.folder / "repository").exists()


def test_an_empty_release_is_no_backup(ship: World) -> None:
    assert acted("application-backup", ship).verdict is Verdict.CRITICAL


def test_no_release_at_all(ship: World) -> None:
    (ship.folder / "release").rmdir()
    with pytest.raises(StateError, match="there is no release in"):
        acted("application-backup", ship)
    assert ship.repository.catalogue.entries() == []


@pytest.mark.parametrize("procedure", ["application-backup", "configuration-backup", "log-backup"])
def test_two_at_once(ship: World, procedure: str) -> None:
    ship.write("release/VERSION", "1.4.0\n")
    ship.write("etc/bank.toml", "a\n")
    ship.write("logs/application.log", "a\n")
    with ship.repository.lock("files"), pytest.raises(LockHeld) as caught:
        acted(procedure, ship)
    assert caught.value.hint
    assert ship.repository.catalogue.entries() == []


@pytest.mark.parametrize("procedure", ["application-backup", "configuration-backup", "log-backup"])
def test_no_room(ship: World, procedure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ship.write("release/VERSION", "1.4.0\n")
    ship.write("etc/bank.toml", "a\n")
    ship.write("logs/application.log", "a\n")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StateError, match=r"the disk of .* is full") as caught:
            acted(procedure, ship)
    assert caught.value.hint
    assert ship.repository.catalogue.entries() == []
    assert ship.objects("") == []
