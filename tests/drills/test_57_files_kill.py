"""kill -9 at every change of the file system: files are backed up, removed and put back whole, or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/backup_files"))

from files_world import World, draft, tree, world

from nvcops.adapters.backup.files import fetch_files, keep
from nvcops.adapters.backup.files_gather import configuration
from nvcops.adapters.backup.files_index import Source
from nvcops.core.backups import Kind
from nvcops.core.catalogue import present

HELPERS = Path(__file__).parents[1] / "integration/nvcops/backup_files"
pytestmark = pytest.mark.drill
DEADLINE_S = 60
CHANGES = {"put-back": 74, "deliver": 45, "keep": 14, "remove": 9}  # test_every_change_is_known compares
DEPTH = 5  # of the folder for which they were counted


def sampled(what: str) -> list[object]:
    """Every change; a few of them, the first and the last too, in the sample."""
    last = CHANGES[what]
    few = {last // 2, last}
    return [pytest.param(n, marks=pytest.mark.sample if n in few else ()) for n in range(1, last + 1)]


def child(ship: World, die_at: int, what: str) -> int | None:
    """Run the child; None: it was killed, else how many changes it made."""
    command = [sys.executable, str(HELPERS / "killed.py"), str(ship.folder), str(die_at), what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def sources(ship: World) -> list[Source]:
    assert ship.manifest.backups
    return configuration(ship.manifest.backups.configuration, (), encrypted=True).sources


@pytest.fixture
def ship(tmp_path: Path) -> World:
    """A configuration that was backed up, and then changed in every way."""
    made = world(tmp_path, encrypted=True)
    made.write("etc/bank.toml", "workers = 4\n")
    for name in "abcd":
        made.write(f"etc/conf.d/{name}.conf", f"{name}\n" * 1000)
    made.write("etc/conf.d/deep/e.conf", "e\n")
    (tmp_path / "etc/conf.d/current").symlink_to("a.conf")
    keep(made.repository, draft("one-C", Kind.CONFIGURATION), sources(made))
    return made


def changed(ship: World) -> None:
    ship.write("etc/bank.toml", "workers = 8\n")
    ship.write("etc/conf.d/a.conf", "another\n")
    ship.write("etc/conf.d/new.conf", "new\n")
    (ship.folder / "etc/conf.d/b.conf").unlink()
    (ship.folder / "etc/conf.d/c.conf").chmod(0o600)
    (ship.folder / "etc/conf.d/deep/e.conf").unlink()
    (ship.folder / "etc/conf.d/deep").rmdir()
    (ship.folder / "etc/conf.d/current").unlink()
    (ship.folder / "etc/conf.d/current").symlink_to("b.conf")


def what_counts(folder: Path) -> dict[str, object]:
    """Contents, permissions, owners; no times."""
    return {name: seen[:4] for name, seen in tree(folder).items() if isinstance(seen, tuple)}


def leftovers(ship: World) -> list[Path]:
    return list(ship.folder.rglob(".*nvcops*"))


@pytest.mark.sample
@pytest.mark.parametrize("what", sorted(CHANGES))
def test_every_change_is_known(ship: World, what: str) -> None:
    changed(ship)
    if what == "remove":
        keep(ship.repository, draft("zero-C", Kind.CONFIGURATION), sources(ship))
    # Each folder on the way to where the files were is made there too: one change, and one for its permissions.
    deeper = 2 * (len(ship.folder.parts) - DEPTH) if what == "deliver" else 0
    assert child(ship, 0, what) == CHANGES[what] + deeper


@pytest.mark.parametrize("change", sampled("put-back"))
def test_a_configuration_that_is_being_put_back(ship: World, change: int) -> None:
    wanted = what_counts(ship.folder / "etc")
    changed(ship)
    assert child(ship, change, "put-back") is None
    assert child(ship, 0, "put-back") is not None
    assert what_counts(ship.folder / "etc") == wanted
    assert leftovers(ship) == []


@pytest.mark.parametrize("change", sampled("deliver"))
def test_a_configuration_that_is_being_written_into_a_folder(ship: World, change: int) -> None:
    wanted = what_counts(ship.folder / "etc")
    assert child(ship, change, "deliver") is None
    there = ship.folder / "there"
    assert not there.exists() or what_counts(there / str(ship.folder / "etc").lstrip("/")) == wanted
    assert child(ship, 0, "deliver") is not None
    assert what_counts(there / str(ship.folder / "etc").lstrip("/")) == wanted
    assert leftovers(ship) == []


@pytest.mark.parametrize("change", sampled("keep"))
def test_files_that_are_being_backed_up(ship: World, change: int) -> None:
    changed(ship)
    assert child(ship, change, "keep") is None
    after = keep(ship.repository, draft("three-C", Kind.CONFIGURATION), sources(ship)).entry
    check_repository(ship)
    fetch_files(ship.repository, after.id, ship.folder / "there")
    there = what_counts(ship.folder / "there" / str(ship.folder / "etc").lstrip("/"))
    assert there == what_counts(ship.folder / "etc")


@pytest.mark.parametrize("change", sampled("remove"))
def test_files_that_are_being_removed(ship: World, change: int) -> None:
    changed(ship)
    keep(ship.repository, draft("zero-C", Kind.CONFIGURATION), sources(ship))
    assert child(ship, change, "remove") is None
    for entry in present(ship.repository.catalogue.entries()):
        if entry.objects:
            fetch_files(ship.repository, entry.id, ship.folder / entry.id)
    assert child(ship, 0, "remove") is not None
    assert [entry.id for entry in present(ship.repository.catalogue.entries()) if entry.objects] == ["zero-C"]
    check_repository(ship)


def check_repository(ship: World) -> None:
    """Every object is in the catalogue, and every object of the catalogue is there."""
    entries = present(ship.repository.catalogue.entries())
    assert set(ship.objects()) == {stored.key for entry in entries for stored in entry.objects}
    assert ship.repository.store.sweep() == 0
