"""What a run goes on under: the source of its whole room, however deep its files lie."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from nvcops.core.procedures import _content_hash, _source


@pytest.fixture
def room(tmp_path: Path) -> Path:
    for name in ("__init__.py", "doors/__init__.py", "doors/east.py", "doors/east.sql", "keys/iron/old.py"):
        file = tmp_path / "vault" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"-- {name}\n")
    return tmp_path / "vault"


@pytest.mark.parametrize("changed", ["__init__.py", "doors/east.py", "doors/east.sql", "keys/iron/old.py", "new/a.py"])
def test_a_change_anywhere_in_the_room_is_another_content(room: Path, changed: str) -> None:
    before = _content_hash(_source(room / "doors" / "east.py", "nvcops.vault.doors.east"))
    _content_hash.cache_clear()
    (room / changed).parent.mkdir(exist_ok=True)
    (room / changed).write_text("-- changed\n")
    assert _content_hash(_source(room / "doors" / "east.py", "nvcops.vault.doors.east")) != before


def test_what_is_no_source_is_no_content(room: Path) -> None:
    before = _content_hash(room)
    _content_hash.cache_clear()
    (room / "doors" / "__pycache__").mkdir()
    (room / "doors" / "__pycache__" / "east.cpython-311.pyc").write_bytes(b"compiled")
    assert _content_hash(room) == before


def test_every_procedure_of_a_room_has_the_content_of_that_room(room: Path) -> None:
    east = _source(room / "doors" / "east.py", "nvcops.vault.doors.east")
    assert east == _source(room / "keys" / "iron" / "old.py", "nvcops.vault.keys.iron.old") == room
    alone = room / "doors" / "east.py"
    assert _content_hash(_source(alone, "east")) == hashlib.sha256(alone.read_bytes()).hexdigest()
