"""A change in a real run: journaled by the engine, kept in real records, signed with real keys, verified offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from changes_house import House

from nvcops import wiring
from nvcops.adapters.runs.door import Runs
from nvcops.changes import carrying
from nvcops.core import procedures
from nvcops.core.changes import ChangeCategory, ChangeKind, ChangeState
from nvcops.core.checks import Check, Verdict
from nvcops.core.errors import NotAllowed
from nvcops.core.procedures import Procedure, procedure
from nvcops.core.runs import Run, RunRecord, RunState
from nvcops.core.target import Target

SHELF = Check("shelf.moved", "Shelf", "move it")
ASK = ("changes", "request", "move the shelf", "--kind", "setting", "--reason", "too high", "--rollback", "back")


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, house: House) -> Procedure:
    """A procedure that moves a shelf, under a change; its act leaves a line."""
    monkeypatch.setattr(procedures, "_REGISTRY", dict(procedures._REGISTRY))

    def move(where: Path) -> int:
        """Move it."""
        with where.open("a") as file:
            return file.write("moved\n")

    @procedure("shelf-move", lock="shelf", approval=True)
    def shelf_move(run: Run, target: Target, *, change: str = "") -> None:
        """Move the shelf."""
        given = carrying.number_of(change)
        number = carrying.carry(run, target, ChangeKind.SETTING, "move the shelf", number=given, step="shelf")
        run.step("move it", move, house.folder / "moved")
        carrying.done(run, target, number, carrying.Ended.DONE)
        run.conclude([SHELF.finding(Verdict.OK, f"under C-{number}")])

    return shelf_move


@pytest.fixture
def begin(house: House, shelf: Procedure) -> Callable[..., RunRecord]:
    def started(by: str, **options: str) -> RunRecord:
        with runs_of(house) as runs:
            record = runs.start(shelf, options=options, signer=house.signer(by))
        house.fold_in()
        return record

    return started


def runs_of(house: House) -> Runs:
    return wiring.open_runs(house.manifest, notify=lambda _sentence: None)


def test_a_runs_approval_is_its_changes(house: House, begin: Callable[..., RunRecord]) -> None:
    waiting = begin("dana")
    assert waiting.state is RunState.WAITING
    assert house.change(1) is None
    with runs_of(house) as runs:
        with pytest.raises(NotAllowed, match="requested this run and cannot approve it"):
            runs.approve(waiting.id, "shelf", house.signer("dana"))
        record = runs.approve(waiting.id, "shelf", house.signer("omar"))
    assert (record.state, record.findings[0].observed) == (RunState.CONCLUDED, "under C-1")
    made = house.change(1)
    assert made is not None
    assert (made.state, made.author, made.category) == (ChangeState.VALIDATING, "dana", ChangeCategory.NORMAL)
    assert [(one.person, one.run) for one in made.approved_by] == [("omar", record.id)]
    house.fold_in()
    said = house.verified(record.id)
    assert said.returncode == 0, said.stdout
    assert "1 approvals by somebody else than asked" in said.stdout


def test_a_named_change_is_carried_out_by_a_third_person(house: House, begin: Callable[..., RunRecord]) -> None:
    house.call(*ASK, by="dana")
    refused = begin("ines", change="C-1")
    assert refused.state is RunState.FAILED
    assert refused.error.startswith("C-1 is requested, it waits for 1 more")
    house.call("changes", "approve", "C-1", by="omar")
    for name, did in (("dana", "requested C-1"), ("omar", "approved C-1 already")):
        record = begin(name, change="C-1")
        assert record.state is RunState.FAILED
        assert record.error.startswith(f"{name!r} {did} and cannot carry it out")
    assert not (house.folder / "moved").exists()
    done = begin("ines", change="C-1")
    assert done.state is RunState.CONCLUDED, done.error
    after = house.change(1)
    assert after is not None
    assert (after.state, after.executor, after.runs) == (ChangeState.VALIDATING, "ines", (done.id,))
    again = begin("ines", change="C-1")
    assert again.error.startswith("C-1 is validating")
    assert (house.folder / "moved").read_text() == "moved\n"
    said = house.verified("change/1")
    assert said.returncode == 0, said.stdout
    assert "carried out by ines" in house.call("changes", "show", "1").output
    with pytest.raises(NotAllowed, match="carried C-1 out and cannot judge it"):
        house.call("changes", "close", "1", "successful", "--note", "it stands", by="ines")
    closed = house.json("changes", "close", "1", "successful", "--note", "it stands", by="carla")
    assert closed["state"] == "successful"


def test_a_rehearsal_makes_no_change(house: House, shelf: Procedure) -> None:
    with runs_of(house) as runs:
        record = runs.start(shelf, signer=house.signer("dana"), dry_run=True)
    assert record.state is RunState.CONCLUDED, record.error
    assert house.change(1) is None
    assert not (house.folder / "moved").exists()


def test_nobody_knows_how_a_change_did_of_which_nothing_is_counted(
    house: House, begin: Callable[..., RunRecord]
) -> None:
    with runs_of(house) as runs:
        found = runs.start(procedures.find("change-validation"))
    assert [line.observed for line in found.findings] == ["no change is being carried out or watched"]
    house.call(*ASK, by="dana")
    house.call("changes", "approve", "1", by="omar")
    begin("ines", change="C-1")
    with runs_of(house) as runs:
        found = runs.start(procedures.find("change-validation"))
    assert [(line.subject, line.verdict) for line in found.findings] == [("C-1", Verdict.OK)]
    assert "watched until" in found.findings[0].observed
