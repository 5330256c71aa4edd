"""The door by which a run changes something: named, standard, asked in the run, afterwards, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from changes_world import DAY, HOUR, KEYS, MINUTE, NOON, World, WorldRun, approved, change
from msgspec.structs import replace

from nvcops.changes.carrying import Ended, carry, done
from nvcops.core.changes import ChangeCategory, ChangeKind, ChangeState
from nvcops.core.checks import Verdict
from nvcops.core.errors import NotAllowed, StateError, StepFailed
from nvcops.core.manifest.delivery import Freeze, Standard
from nvcops.core.units import Ratio

INDEX = Standard(name="index", kind=ChangeKind.INDEX, procedures=("optimize-indexes",), runs=3, risk_max=Ratio(0.3))


def go(run: WorldRun, **given: Any) -> int:
    return carry(run, run.world.target, ChangeKind.INDEX, "make an index", **given)  # type: ignore[arg-type]


def freeze(world: World, **fields: Any) -> None:
    given = {"name": "close", "start": NOON - HOUR, "end": NOON + HOUR, "reason": "the books are closed"}
    world.settings(freezes=(Freeze(**(given | fields)),))


def test_the_runs_own_approval_is_the_changes(world: World) -> None:
    run = world.run()
    assert go(run, step="indexes") == 1
    assert run.asked == [("indexes", "make an index")]
    made = world.change()
    assert (made.state, made.category, made.author) == (ChangeState.EXECUTING, ChangeCategory.NORMAL, "dana")
    assert [(one.person, one.run) for one in made.approved_by] == [("omar", run.id)]
    assert made.executor == "nvcops"
    assert made.risk is None
    assert "not enough data" in made.risk_why
    assert "bank" in made.impact
    done(run, world.target, 1, Ended.DONE)  # type: ignore[arg-type]
    after = world.change()
    assert (after.state, after.validate_until) == (ChangeState.VALIDATING, NOON + 30 * MINUTE)
    assert world.kinds() == ["change.requested", "change.executing", "change.done"]


def test_a_resumed_run_carries_the_same_change(world: World) -> None:
    run = world.run()
    assert go(run, step="indexes") == go(run.again(), step="indexes") == 1
    run.lose_the_last()  # the act was done, and killed before the journal had it
    assert go(run.again(), step="indexes") == 1
    lost = WorldRun(world, run.id)  # all of the journal was lost: nobody is asked again
    assert go(lost, step="indexes") == 1
    assert lost.asked == []
    assert world.kinds().count("change.executing") == 1


def test_what_is_done_twice_ends_once(world: World) -> None:
    run = world.run()
    number = go(run, step="indexes")
    done(run, world.target, number, Ended.ROLLED_BACK, "it got slower")  # type: ignore[arg-type]
    run.lose_the_last()
    done(run, world.target, number, Ended.DONE)  # type: ignore[arg-type]
    assert world.change().state is ChangeState.ROLLED_BACK
    assert world.change().outcome == "it got slower"


def test_a_named_change_is_carried_out_by_a_third_person(world: World) -> None:
    world.put(approved())
    run = world.run("ines")
    assert go(run, number=1, step="indexes") == 1
    assert run.asked == []
    assert (world.change().executor, world.change().executor_key) == ("ines", KEYS["ines"])


@pytest.mark.parametrize(
    ("by", "key", "says"),
    [
        ("dana", None, "requested C-1"),
        ("omar", None, "approved C-1"),
        ("ines", KEYS["dana"], "requested C-1"),  # two names, one key
        ("ines", KEYS["omar"], "approved C-1"),
        ("stranger", "", "did not sign"),
        ("schedule", "", "did not sign"),
    ],
)
def test_who_had_another_part_carries_nothing_out(world: World, by: str, key: str | None, says: str) -> None:
    world.put(approved())
    with pytest.raises(NotAllowed, match=says):
        go(world.run(by, key=key), number=1, step="indexes")
    assert world.change().state is ChangeState.APPROVED


def test_an_author_may_carry_out_where_that_is_allowed_and_an_approver_never(world: World) -> None:
    world.settings(separate_executor=False)
    world.put(approved())
    with pytest.raises(NotAllowed, match="approved C-1"):
        go(world.run("omar"), number=1)
    assert go(world.run("dana"), number=1) == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": ChangeKind.DEPLOYMENT}, "is about deployment"),
        ({"procedure": "db-optimization"}, "carried out by db-optimization"),
        ({"digest": "ab" * 32}, "is about the release abab"),
        ({"planned_start": NOON + MINUTE}, "planned from 2026-11-24 12:01 EST"),
        ({"planned_end": NOON}, "window of C-1 ended"),
        ({"state": ChangeState.CANCELLED}, "is cancelled"),
        ({"state": ChangeState.SUCCESSFUL}, "is successful"),
        ({"budgets": {"bank-errors": 0.05}}, "5 % of the error budget of bank-errors"),
        ({"category": ChangeCategory.MAJOR}, "waits for an executive"),
    ],
)
def test_a_change_about_something_else_or_another_time_is_refused(
    world: World, fields: dict[str, Any], says: str
) -> None:
    world.put(approved(1, "omar", **fields))
    with pytest.raises(NotAllowed, match=says):
        go(world.run("ines"), number=1, digest="cd" * 32)


def test_a_change_that_is_not_there_or_not_approved_is_refused(world: World) -> None:
    with pytest.raises(NotAllowed, match="there is no change C-7"):
        go(world.run("ines"), number=7)
    world.put(change())
    with pytest.raises(NotAllowed, match="C-1 is requested, it waits for 1 more"):
        go(world.run("ines"), number=1)


def test_a_freeze_holds_everything_but_what_is_exempt(world: World) -> None:
    freeze(world)
    world.put(approved(1), approved(2, category=ChangeCategory.EMERGENCY))
    for given in ({"number": 1}, {"step": "indexes"}):
        with pytest.raises(NotAllowed, match="the freeze close holds until 2026-11-24 13:00 EST"):
            go(world.run("ines"), **given)
    assert go(world.run("ines"), number=2) == 2
    assert go(world.run("dana"), step="indexes", category=ChangeCategory.EMERGENCY) == 3


def test_a_freeze_that_begins_while_the_approval_is_waited_for(world: World) -> None:
    freeze(world, start=NOON + HOUR, end=NOON + 2 * HOUR)
    run = world.run()
    approve = run.approve
    run.approve = lambda name, title: (setattr(world, "at", NOON + HOUR), approve(name, title))[1]  # type: ignore[method-assign]
    with pytest.raises(StepFailed, match="the freeze close holds"):
        go(run, step="indexes")
    world.at = NOON + 2 * HOUR
    assert go(world.run(), step="indexes") == 1


def test_an_emergency_is_approved_afterwards(world: World) -> None:
    run = world.run()
    assert go(run, category=ChangeCategory.EMERGENCY) == 1
    made = world.change()
    assert made.approved_by == ()
    assert made.executor == "dana"
    assert made.consent_until == NOON + DAY
    with pytest.raises(NotAllowed, match="no approved change") as unsigned:
        go(world.run("schedule", key=""), category=ChangeCategory.EMERGENCY)
    assert "--as NAME" in unsigned.value.hint


def test_nothing_goes_on_without_a_change(world: World) -> None:
    with pytest.raises(NotAllowed, match="no approved change allows this: make an index") as refused:
        go(world.run())
    assert "--change" in refused.value.hint


def test_where_none_is_required_the_run_still_asks(world: World) -> None:
    world.settings(required=False)
    run = world.run()
    assert go(run, step="indexes") == 0
    assert run.asked
    assert go(world.run()) == 0
    with world.records.reading() as reading:
        assert reading.count(type(change())) == 0


def standard(world: World, **fields: Any) -> None:
    world.settings(standard=(replace(INDEX, **fields),))
    world.figures.asked_of = (1000, 1000)
    known = tuple(one for one in world.manifest.slos if one.indicator == "availability")  # the others have no series
    world.target.manifest = replace(world.manifest, slos=known)


def test_a_standard_change_approves_itself_when_its_evidence_verifies(world: World) -> None:
    standard(world)
    for _ in range(3):
        world.ran("optimize-indexes")
    run = world.run("schedule", key="")
    assert go(run) == 1
    assert (world.change().category, world.change().standard) == (ChangeCategory.STANDARD, "index")
    assert run.asked == []


@pytest.mark.parametrize("last", [Verdict.CRITICAL, Verdict.UNKNOWN, None])
def test_one_bad_run_breaks_the_row(world: World, last: Verdict | None) -> None:
    standard(world)
    for verdict in (Verdict.OK, Verdict.WARNING, Verdict.OK, Verdict.OK, last):
        world.ran("optimize-indexes", verdict)
    with pytest.raises(NotAllowed, match="0 of the last 3 runs were successful"):
        go(world.run())


def test_a_run_whose_change_failed_later_was_no_success(world: World) -> None:
    standard(world)
    runs = [world.ran("optimize-indexes") for _ in range(3)]
    world.put(change(9, state=ChangeState.FAILED, runs=(runs[0].id,)))
    with pytest.raises(NotAllowed, match="2 of the last 3 runs"):
        go(world.run())


def test_a_standard_changes_risk_and_budget_have_limits(world: World) -> None:
    for _ in range(3):
        world.ran("optimize-indexes")
    standard(world, risk_max=Ratio(0.2))  # three successes say 1 in 5
    with pytest.raises(NotAllowed, match="risk 20 % by 3 successful runs, 20 % is the limit"):
        go(world.run())
    standard(world)
    world.figures.asked_of = (1000, 900)
    with pytest.raises(NotAllowed, match="is left, less than"):
        go(world.run())
    world.figures.down = True
    with pytest.raises(NotAllowed, match="not standard: the error budget of"):
        go(world.run())
    world.figures.down = False
    world.figures.asked_of = (0, 0)
    with pytest.raises(NotAllowed, match="is not known"):
        go(world.run())


def test_a_repair_does_not_wait_for_our_own_records(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def down() -> Any:
        raise StateError("the records cannot be opened")

    monkeypatch.setattr(world.records, "reading", down)
    monkeypatch.setattr(world.records, "changing", down)
    run = world.run()
    assert go(run, step="indexes") == 0
    assert run.asked
    with pytest.raises(NotAllowed, match="cannot be opened"):
        go(world.run("ines"), number=1, step="indexes")
    with pytest.raises(NotAllowed, match="cannot be opened"):
        go(world.run())
    assert go(world.run(), category=ChangeCategory.EMERGENCY) == 0
    with pytest.raises(NotAllowed, match="cannot be opened") as named:
        go(world.run(), category=ChangeCategory.EMERGENCY, number=1)
    assert named.value.hint == "leave the change out, if this is an emergency"
    with pytest.raises(NotAllowed, match="cannot be opened"):
        go(world.run("schedule", key=""), category=ChangeCategory.EMERGENCY)


def test_a_rehearsal_is_not_held_up_and_changes_nothing(world: World) -> None:
    freeze(world)
    run = world.run()
    world.journal.runs[run.id] = replace(world.journal.runs[run.id], dry_run=True)
    run.rehearsal = True
    assert go(run, step="indexes") == 0
    assert world.kinds() == []
