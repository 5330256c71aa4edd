"""Looks are kept as they are taken, and a line that a crash cut off was never there."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvcops.adapters.looks_file import LooksFiles
from nvcops.core.errors import StateError

RUN = "deploy@2026-11-22T16:00:00Z-abc"


def test_what_is_appended_is_there_in_its_order(tmp_path: Path) -> None:
    looks = LooksFiles(tmp_path / "analyses")
    assert looks.lines(RUN, 2) == []
    for line in (b"one", b"two"):
        looks.append(RUN, 2, line)
    looks.append(RUN, 3, b"other")
    assert looks.lines(RUN, 2) == [b"one", b"two"]
    assert looks.lines(RUN, 3) == [b"other"]


@pytest.mark.parametrize("torn", [b"tw", b"", b"{"])
def test_a_line_that_was_cut_off_is_not_there_and_does_not_spoil_the_next(tmp_path: Path, torn: bytes) -> None:
    looks = LooksFiles(tmp_path)
    looks.append(RUN, 2, b"one")
    path = next(tmp_path.rglob("2.jsonl"))
    with path.open("ab") as file:
        file.write(torn)
    assert looks.lines(RUN, 2) == [b"one"]
    looks.append(RUN, 2, b"three")
    assert looks.lines(RUN, 2) == [b"one", b"three"]


def test_a_first_line_that_was_cut_off_leaves_nothing(tmp_path: Path) -> None:
    looks = LooksFiles(tmp_path)
    looks.append(RUN, 2, b"one")
    next(tmp_path.rglob("2.jsonl")).write_bytes(b"on")
    assert looks.lines(RUN, 2) == []
    looks.append(RUN, 2, b"one")
    assert looks.lines(RUN, 2) == [b"one"]


def test_a_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    looks = LooksFiles(tmp_path / "analyses")
    looks.append("../../etc/passwd", 1, b"x")
    assert [path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.jsonl")] == ["analyses"]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.joinpath("analyses").write_text("a file")
    with pytest.raises(StateError, match="cannot be"):
        LooksFiles(tmp_path / "analyses").append(RUN, 1, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["analyses"]


def test_looks_of_rollouts_that_nobody_remembers_are_removed(tmp_path: Path) -> None:
    looks = LooksFiles(tmp_path / "analyses")
    assert looks.forget([]) == 0
    for run in (RUN, "deploy@2"):
        looks.append(run, 1, b"x")
    assert looks.forget([RUN]) == 1
    assert looks.lines(RUN, 1) == [b"x"]
    assert looks.lines("deploy@2", 1) == []
