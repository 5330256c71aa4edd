"""The wiring knows every module of every room, in whatever folder of it; a procedure knows its room."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import nvcops
from nvcops import wiring
from nvcops.core.procedures import Procedure, runbook

HOME = Path(nvcops.__file__).parent
ROOMS = sorted({module.__name__.split(".")[1] for module in wiring.ROOMS})


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_of_a_room_is_loaded(room: str) -> None:
    files = {(HOME / room).joinpath(file) for file in (HOME / room).rglob("*.py")}
    assert files == {Path(str(module.__file__)) for module in wiring.ROOMS if module.__name__.split(".")[1] == room}


@pytest.mark.parametrize(
    "entry", [one for one in runbook() if one.function.__module__.startswith("nvcops.")], ids=lambda one: one.name
)
def test_a_procedure_stands_in_its_room_and_goes_on_under_all_of_it(entry: Procedure) -> None:
    assert entry.room in ROOMS
    room = HOME / entry.room
    sources = b"".join(file.read_bytes() for kind in ("*.py", "*.sql") for file in sorted(room.rglob(kind)))
    assert entry.content_hash == hashlib.sha256(sources).hexdigest()


def test_the_rooms_with_folders_are_among_them() -> None:
    deep = [entry.name for entry in runbook() if entry.function.__module__.count(".") > 2]
    assert {"db-maintenance", "db-optimization", "optimize-indexes", "update-db-stats"} <= set(deep)
    assert {entry.room for entry in runbook() if entry.name in deep} == {"database"}
