from __future__ import annotations

from pathlib import Path

from nvclab.faults.schema import Memory


def test_what_must_be_undone_is_remembered_until_it_is_undone(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "faults.json")
    assert memory.read() == {}
    memory.remember("drop-index", "CREATE INDEX a ON b (c)")
    memory.remember("raise-error-rate", "GRANT ...")
    memory.forget("drop-index")
    assert Memory(tmp_path / "faults.json").read() == {"raise-error-rate": "GRANT ..."}
