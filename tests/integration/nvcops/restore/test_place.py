"""The renames of an in-place restore, interrupted before each: every state goes on, and every one rolls back."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvcops.adapters.backup import restores_place as place
from nvcops.core.backups import RestoreTarget
from nvcops.core.errors import NotFoundError, Refused, StateError, UsageError
from nvcops.core.restores import Purpose, RestorePlan


class Killed(BaseException):
    """kill -9 of ourselves, at a rename."""


def plan_in(folder: Path, purpose: Purpose = Purpose.IN_PLACE) -> RestorePlan:
    return RestorePlan(
        run="run@1",
        purpose=purpose,
        backup="b",
        chain=("b",),
        target=RestoreTarget(),
        system_identifier="7",
        major=17,
        timelines=(1,),
        first_segment="",
        last_segment="",
        bytes=0,
        fetched_bytes=0,
        wal_bytes=0,
        needed=0,
        free=0,
        work_path=str(folder / "data.restoring-1"),
        into_path=str(folder / "data"),
    )


def data(folder: Path, what: str) -> None:
    folder.mkdir(parents=True)
    (folder / "PG_VERSION").write_text("17")
    (folder / "what").write_text(what)


@pytest.fixture(params=[True, False], ids=["with old data", "without old data"])
def restored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[RestorePlan, place.Works, bool]:
    """A finished copy in the folder of work, beside what it is to replace."""
    plan, works = plan_in(tmp_path), place.Works(tmp_path / "works")
    works.note(plan)
    data(plan.work / "data", "new")
    if request.param:
        data(tmp_path / "data", "old")
    return plan, works, request.param


def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die at the rename of that number, before it is made."""
    real, made = Path.rename, []

    def rename(self: Path, target: Path) -> Path:
        made.append(target)
        if len(made) == number:
            raise Killed
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)


def deliver_until(number: int, plan: RestorePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        killed_at(number, patched)
        try:
            place.deliver(plan)
        except Killed:
            return


@pytest.mark.parametrize("rename", [1, 2, 3])
def test_killed_at_any_rename_it_goes_on(
    restored: tuple[RestorePlan, place.Works, bool], rename: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, works, old = restored
    deliver_until(rename, plan, monkeypatch)
    place.deliver(plan)
    place.deliver(plan)
    assert place.delivered(plan)
    assert plan.into
    assert (plan.into / "what").read_text() == "new"
    place.forget(plan, works)
    assert not plan.work.exists()
    kept = place.old_data(plan.into)
    assert [(entry.run, Path(entry.folder, "what").read_text()) for entry in kept] == (
        [("run@1", "old")] if old else []
    )
    place.release(plan.into, "run@1", works)
    assert place.old_data(plan.into) == []


@pytest.mark.parametrize("back", [1, 2, 3])
@pytest.mark.parametrize("rename", [1, 2, 3])
def test_killed_at_any_rename_it_rolls_back_even_when_that_is_killed_too(
    restored: tuple[RestorePlan, place.Works, bool], rename: int, back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, works, old = restored
    deliver_until(rename, plan, monkeypatch)
    with monkeypatch.context() as patched:
        killed_at(back, patched)
        try:
            place.discard(plan, works)
        except Killed:
            assert list(works.others("another@2")) == [plan]
    assert place.discard(plan, works) is old
    assert plan.into
    assert plan.into.exists() is old
    if old:
        assert (plan.into / "what").read_text() == "old"
    assert not plan.work.exists()
    assert place.old_data(plan.into) == []
    assert list(works.others("another@2")) == []


def test_what_was_not_delivered_never_takes_the_live_data_for_its_own(tmp_path: Path) -> None:
    """Killed before the copy was finished: there is no copy, and the data that stand there are the live ones."""
    plan, works = plan_in(tmp_path), place.Works(tmp_path / "works")
    works.note(plan)
    plan.work.mkdir()
    data(tmp_path / "data", "live")
    assert place.discard(plan, works)
    assert (tmp_path / "data" / "what").read_text() == "live"


def test_old_data_of_a_restore_that_is_under_way_are_not_released(tmp_path: Path) -> None:
    plan, works = plan_in(tmp_path), place.Works(tmp_path / "works")
    works.note(plan)
    data(tmp_path / "data.before-run@1", "old")
    with pytest.raises(Refused, match="is not over"):
        place.release(tmp_path / "data", "run@1", works)
    assert place.old_data(tmp_path / "data")


def test_a_folder_that_was_filled_meanwhile_is_not_touched(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, Purpose.FOLDER)
    data(plan.work / "data", "new")
    data(tmp_path / "data", "somebody's")
    with pytest.raises(Refused, match="cannot be put in place"):
        place.deliver(plan)
    assert (tmp_path / "data" / "what").read_text() == "somebody's"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden"])
def test_a_run_is_no_path(name: str) -> None:
    with pytest.raises((NotFoundError, UsageError)):
        place.checked(name)


def test_restored_data_that_were_started_are_put_aside_and_not_thrown_away(
    restored: tuple[RestorePlan, place.Works, bool],
) -> None:
    """Whoever started them may have let customers write, if only for a second."""
    plan, works, with_old = restored
    (plan.work / "data" / "postmaster.opts").write_text("by the copy's own server")
    place.deliver(plan)
    into = plan.work.parent / "data"
    (into / "postmaster.opts").write_text("by the platform's")
    assert place.discard(plan, works) is with_old
    given_up = into.with_name("data.before-run@1.given-up")
    assert (given_up / "what").read_text() == "new"
    assert (into / "what").read_text() == "old" if with_old else not into.exists()
    assert [kept.run for kept in place.old_data(into)] == ["run@1.given-up"]
    place.release(into, "run@1.given-up", works)
    assert not given_up.exists()


def test_a_note_that_was_torn_is_named(tmp_path: Path) -> None:
    works = place.Works(tmp_path / "works")
    works.note(plan_in(tmp_path))
    (tmp_path / "works" / "run@1").write_bytes(b"")
    with pytest.raises(StateError, match="works/run@1 cannot be read"):
        list(works.others("run@2"))
