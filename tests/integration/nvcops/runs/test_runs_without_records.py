"""When no records can be kept, reading goes on and its evidence is folded in later; acting is refused."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from platform_file import evidence, open_runs, read_manifest

from nvcops.adapters.evidence.spool import Spool
from nvcops.core import procedures
from nvcops.core.checks import Verdict
from nvcops.core.errors import StateError
from nvcops.core.evidence import Entry
from nvcops.core.evidence.entry import encode
from nvcops.core.runs import RunState


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


def locked(state: Path) -> Iterator[None]:
    """Somebody holds the records' file."""
    holder = sqlite3.connect(state / "ops.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    yield
    holder.close()


def journal_locked(state: Path) -> Iterator[None]:
    """Somebody holds the journal."""
    holder = sqlite3.connect(state / "runs.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    yield
    holder.close()


def damaged(state: Path) -> Iterator[None]:
    """The records' file holds something else."""
    file = state / "ops.sqlite"
    kept = file.read_bytes()
    file.write_bytes(b"no database" * 1000)
    yield
    file.write_bytes(kept)


def no_folder(state: Path) -> Iterator[None]:
    """A file stands where the state folder should be: it can be neither made nor used, not even by root."""
    aside = state.with_name("aside")
    state.rename(aside)
    state.touch()
    yield
    state.unlink()
    aside.rename(state)


Trouble = Callable[[Path], Iterator[None]]
TROUBLES = [locked, journal_locked, damaged, no_folder]


@pytest.fixture(params=TROUBLES, ids=[trouble.__name__ for trouble in TROUBLES])
def trouble(request: pytest.FixtureRequest, folder: Path) -> Iterator[Callable[[], object]]:
    """A state folder that worked once, and what ends the trouble with it."""
    with open_runs(read_manifest(folder), folder) as runs:
        runs.start(procedures.find("tanks-check"))
    for file in (folder / "state").glob("ops.sqlite-*"):
        file.unlink()
    going_on = request.param(folder / "state")
    next(going_on)
    yield lambda: next(going_on, None)
    next(going_on, None)


def test_reading_goes_on_and_its_evidence_is_folded_in_later(folder: Path, trouble: Callable[[], object]) -> None:
    said: list[str] = []
    with open_runs(read_manifest(folder), folder, notify=said.append) as runs:
        record = runs.start(procedures.find("tanks-check"))
    assert (record.state, record.verdict) == (RunState.CONCLUDED, Verdict.OK)
    assert [step.name for step in record.steps] == ["levels", "conclude"]
    assert any(sentence.endswith("the run goes on without a journal") for sentence in said), said

    trouble()

    with open_runs(read_manifest(folder), folder, notify=said.append) as runs:
        assert len(runs.list()) == 1
    kinds = [entry.kind for entry in evidence(folder) if entry.run == record.id]
    assert kinds == ["run.requested", "run.started", "step.finished", "verdict", "run.finished"]


def test_acting_is_refused_with_a_sentence(folder: Path, trouble: Callable[[], object]) -> None:
    with (
        open_runs(read_manifest(folder), folder) as runs,
        pytest.raises(StateError, match=r"(ops|runs)\.sqlite cannot be (opened|written|read)"),
    ):
        runs.start(procedures.find("tanks-fill"))
    assert not (folder / "acts").exists()
    trouble()
    with open_runs(read_manifest(folder), folder) as runs:
        assert runs.start(procedures.find("tanks-fill")).state is RunState.CONCLUDED


def test_an_act_under_no_lock_is_not_begun_either(folder: Path, trouble: Callable[[], object]) -> None:
    with open_runs(read_manifest(folder), folder) as runs:
        record = runs.start(procedures.find("tanks-stir"))
    assert (record.state, record.exit_code) == (RunState.FAILED, 3)
    assert "nothing is acted on while no records of runs can be kept" in record.error
    assert not (folder / "acts").exists()
    trouble()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write into a read-only folder")
def test_a_read_only_state_folder(folder: Path) -> None:
    (folder / "state").mkdir(mode=0o500)
    with open_runs(read_manifest(folder), folder) as runs:
        assert runs.start(procedures.find("tanks-check")).verdict is Verdict.OK
    (folder / "state").chmod(0o700)


def test_without_a_state_folder_evidence_waits_elsewhere(folder: Path) -> None:
    said: list[str] = []
    (folder / "state").touch()
    with open_runs(read_manifest(folder), folder, notify=said.append) as runs:
        assert runs.start(procedures.find("tanks-check")).verdict is Verdict.OK
    elsewhere = Path(tempfile.gettempdir()) / f"nvcops-{os.getuid()}" / "tanks"
    assert list(elsewhere.glob("*.spool"))
    assert any(str(elsewhere) in sentence for sentence in said)
    shutil.rmtree(elsewhere)


def readable(folder: Path) -> None:
    """A folder that others may look into."""
    folder.mkdir(mode=0o755, parents=True)


def linked(folder: Path) -> None:
    """A way to somewhere else."""
    (folder.parent / "theirs").mkdir(mode=0o700, parents=True)
    folder.symlink_to(folder.parent / "theirs")


@pytest.mark.parametrize("planted", [readable, linked])
@pytest.mark.parametrize("around", [False, True])
def test_a_folder_elsewhere_that_is_not_ours_alone_is_not_used(
    folder: Path, planted: Callable[[Path], None], around: bool
) -> None:
    outer = Path(tempfile.gettempdir()) / f"nvcops-{os.getuid()}"
    if not around:
        outer.mkdir(mode=0o700)
    planted(outer if around else outer / "tanks")
    (folder / "state").touch()
    with (
        open_runs(read_manifest(folder), folder) as runs,
        pytest.raises(StateError, match="is not a private folder of ours"),
    ):
        runs.start(procedures.find("tanks-check"))
    assert not list(outer.parent.rglob("*.spool"))


@pytest.mark.parametrize("planted", [readable, linked])
@pytest.mark.parametrize("around", [False, True])
def test_what_others_plant_elsewhere_becomes_no_evidence(
    folder: Path, planted: Callable[[Path], None], around: bool
) -> None:
    outer = Path(tempfile.gettempdir()) / f"nvcops-{os.getuid()}"
    if not around:
        outer.mkdir(mode=0o700)
    planted(outer if around else outer / "tanks")
    (outer / "tanks").mkdir(mode=0o700, exist_ok=True)
    entry = Entry(id="forged", time="2026-11-23T13:00:00Z", kind="approval")
    Spool(outer / "tanks").keep([encode(entry)])
    said: list[str] = []
    with open_runs(read_manifest(folder), folder, notify=said.append):
        pass
    assert any("nothing that lies in it becomes evidence" in sentence for sentence in said), said
    assert evidence(folder) == []
