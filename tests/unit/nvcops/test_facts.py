"""Recorded outputs and the facts that they are: an operator can add a case to tests/facts without Python."""

from __future__ import annotations

import importlib
import json
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

CASES = sorted((Path(__file__).parents[2] / "facts").rglob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_was_recorded_is_read_as_it_should_be(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    assert set(case) <= {"fact", "recorded", "output", "expected", "error"}
    module, _, name = case["fact"].rpartition(".")
    read = getattr(importlib.import_module(module), name)
    if "error" in case:
        with pytest.raises(Exception, match=case["error"]):
            read(_output(read, case["output"]))
        return
    assert json.loads(msgspec.json.encode(read(_output(read, case["output"])))) == case["expected"]


def _output(read: Any, output: Any) -> Any:
    """Lines of text stand in a list, because JSON has no long strings."""
    hints = typing.get_type_hints(read)
    kind = hints[next(name for name in hints if name != "return")]
    return "\n".join(output) + "\n" if kind is str and isinstance(output, list) else output


def test_there_are_cases() -> None:
    assert {path.parent.name for path in CASES} >= {"health", "database", "security"}
