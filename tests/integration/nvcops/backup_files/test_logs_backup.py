"""Logs: what is new is backed up once, whatever rotation did in between, and nothing is skipped."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import random
import shutil
from pathlib import Path

import pytest
from files_world import ActingRun, World, acted, world

from nvcops.adapters.backup.files import fetch_files
from nvcops.core.backups import Kind
from nvcops.core.checks import Verdict


@pytest.fixture
def ship(tmp_path: Path) -> World:
    made = world(tmp_path)
    made.write("logs/db.json", "{}\n")
    made.write("logs/application.log", "")
    return made


class Writer:
    """A service that logs, and remembers all that it wrote."""

    def __init__(self, ship: World) -> None:
        self.path = ship.folder / "logs/application.log"
        self.written: list[str] = []

    def write(self, lines: int) -> None:
        new = [f'{{"line": {len(self.written) + number}}}\n' for number in range(lines)]
        self.written += new
        with self.path.open("a") as file:
            file.writelines(new)


def backed_up(ship: World, second: int) -> ActingRun:
    return acted("log-backup", ship, started=dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=second))


def told(run: ActingRun) -> str:
    return run.of("recovery.log_backup")[0].observed


def fetched(ship: World) -> str:
    """All of the application's log as the repository has it, in the order in which it was backed up."""
    lines = ""
    for entry in ship.repository.catalogue.entries():
        if entry.kind is Kind.LOGS:
            folder = ship.folder / "fetched" / entry.id
            folder.parent.mkdir(exist_ok=True)
            fetch_files(ship.repository, entry.id, folder)
            lines += "".join(
                sorted("".join(p.read_text() for p in folder.rglob("bank/*")).splitlines(True), key=number_of)
            )
    shutil.rmtree(ship.folder / "fetched")
    return lines


def number_of(line: str) -> int:
    return int(line.partition(": ")[2].rstrip("}\n"))


def rename(path: Path) -> None:
    for number in range(4, 0, -1):
        if (older := path.with_name(f"{path.name}.{number}")).exists():
            older.rename(path.with_name(f"{path.name}.{number + 1}"))
    path.rename(path.with_name(f"{path.name}.1"))
    path.touch()


def copy_and_empty(path: Path) -> None:
    for number in range(4, 0, -1):
        if (older := path.with_name(f"{path.name}.{number}")).exists():
            older.rename(path.with_name(f"{path.name}.{number + 1}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    path.write_text("")


def pack(path: Path) -> None:
    oldest = path.with_name(f"{path.name}.1")
    if oldest.exists():
        with (
            oldest.open("rb") as file,
            gzip.open(path.with_name(f"{path.name}-{random.randint(10**9, 10**10)}.gz"), "wb") as out,
        ):
            shutil.copyfileobj(file, out)
        oldest.unlink()


def nothing(path: Path) -> None:
    del path


def test_only_what_is_new_is_backed_up(ship: World) -> None:
    writer = Writer(ship)
    writer.write(100)
    assert "new" in told(backed_up(ship, 0))
    assert told(backed_up(ship, 1)) == "nothing new"
    writer.write(1)
    run = backed_up(ship, 2)
    assert f"{len(writer.written[-1])} B of it new" in told(run)
    assert fetched(ship) == "".join(writer.written)
    assert len(ship.repository.catalogue.entries()) == 2


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_or_kept_twice(ship: World, seed: int) -> None:
    choose = random.Random(seed)
    writer = Writer(ship)
    for second in range(8):
        writer.write(choose.randint(0, 2000))
        choose.choice([rename, copy_and_empty, pack, nothing])(writer.path)
        writer.write(choose.randint(0, 3))
        if choose.random() < 0.7:
            backed_up(ship, second)
    backed_up(ship, 100)
    assert fetched(ship) == "".join(writer.written), f"seed {seed}"


def test_a_log_that_cannot_be_read_is_named_and_nothing_of_it_is_skipped(ship: World) -> None:
    writer = Writer(ship)
    writer.write(10)
    backed_up(ship, 0)
    writer.write(10)
    away = writer.path.rename(ship.folder / "away")
    ship.write("logs/db.json", "{}\n{}\n")
    run = backed_up(ship, 1)
    assert run.verdict is Verdict.WARNING
    assert run.of("recovery.unreadable")[0].subject == str(writer.path)
    away.rename(writer.path)
    backed_up(ship, 2)
    assert fetched(ship) == "".join(writer.written)


def test_a_packed_log_that_is_cut_short_is_named(ship: World) -> None:
    Writer(ship).write(10)
    ship.write("logs/application.log-20260101.gz", gzip.compress(b"x" * 10000)[:30])
    run = backed_up(ship, 0)
    assert run.verdict is Verdict.WARNING
    assert "end-of-stream" in run.of("recovery.unreadable")[0].observed


def test_after_a_change_of_the_key_logs_are_backed_up_all_the_same(tmp_path: Path) -> None:
    ship = world(tmp_path, encrypted=True)
    writer = Writer(ship)
    writer.write(10)
    ship.write("logs/db.json", "")
    backed_up(ship, 1)
    (ship.folder / "repository.secret").write_text(base64.b64encode(bytes(32)).decode())
    writer.write(5)
    assert backed_up(ship, 2).verdict is Verdict.OK
    newest = ship.repository.catalogue.entries()[-1]
    fetch_files(ship.repository, newest.id, ship.folder / "back")
    assert "".join(path.read_text() for path in (ship.folder / "back").rglob("bank/*")) == "".join(writer.written)


def test_a_damaged_entry_keeps_no_log_from_being_backed_up(ship: World) -> None:
    writer = Writer(ship)
    writer.write(10)
    backed_up(ship, 1)
    index = ship.folder / "repository" / ship.repository.catalogue.entries()[-1].objects[-1].key
    index.write_bytes(index.read_bytes()[:-3])
    writer.write(5)
    assert backed_up(ship, 2).verdict is Verdict.OK
    newest = ship.repository.catalogue.entries()[-1]
    fetch_files(ship.repository, newest.id, ship.folder / "back")
    assert "".join(path.read_text() for path in (ship.folder / "back").rglob("bank/*")) == "".join(writer.written)
