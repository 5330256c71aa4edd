"""The notes of what nobody has accepted: whole or not at all, and loud when they cannot be read."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from nvcops.adapters.upkeep.pending import PendingFile
from nvcops.core.errors import StateError
from nvcops.core.upkeep import Pending

MOMENT = dt.datetime(2026, 11, 22, 13, tzinfo=dt.UTC)


def change(run: str, subject: str) -> Pending:
    return Pending(run=run, subject=subject, server="db-1", since=MOMENT, change="{}")


def test_what_is_noted_stays_until_its_own_run_settles_it(tmp_path: Path) -> None:
    notes = PendingFile(tmp_path / "upkeep" / "pending.json")
    assert notes.read() == []
    for one in (change("a@1", "jit"), change("b@1", "jit"), change("a@1", "jit")):
        notes.note(one)
    assert notes.read() == [change("a@1", "jit"), change("b@1", "jit")]
    notes.settle("a@1", ["jit", "what was never noted"])
    assert PendingFile(notes.path).read() == [change("b@1", "jit")]


def test_what_is_not_what_was_written_is_an_error_and_is_not_written_over(tmp_path: Path) -> None:
    notes = PendingFile(tmp_path / "pending.json")
    notes.path.write_text("[{]")
    with pytest.raises(StateError, match="does not say which changes nobody has accepted"):
        notes.note(change("a@1", "jit"))
    assert notes.path.read_text() == "[{]"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_keeps_the_change_from_being_made(tmp_path: Path) -> None:
    (tmp_path / "upkeep").mkdir(mode=0o500)
    with pytest.raises(StateError):
        PendingFile(tmp_path / "upkeep" / "pending.json").note(change("a@1", "jit"))
