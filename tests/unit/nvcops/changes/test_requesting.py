"""Who may decide what about a change: author, colleague, executive, stranger; and one person with two names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from changes_world import DAY, HOUR, KEYS, NOON, World, approved, change
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nvcops.changes import duties, freezes, requesting
from nvcops.changes.lifecycle import number_of
from nvcops.changes.requesting import Hand, Request
from nvcops.core.changes import Change, ChangeCategory, ChangeKind, ChangeState
from nvcops.core.errors import NotAllowed, NotFoundError, NvcopsError, UsageError

STATES = tuple(ChangeState)


def hand(name: str, key: str = "", at: Any = NOON) -> Hand:
    return Hand(name, KEYS[key or name], at)


def act(world: World, name: str, by: Hand, number: int = 1, **given: Any) -> Change:
    with world.desk() as desk:
        return getattr(requesting, name)(desk, number, by, manifest=world.manifest, **given)


def wanted(**fields: Any) -> Request:
    given = {
        "category": ChangeCategory.NORMAL,
        "kind": ChangeKind.INDEX,
        "title": "an index",
        "reason": "slow",
        "rollback_plan": "drop it",
    }
    return Request(**(given | fields))


# --- approving ---


def test_a_colleague_approves(world: World) -> None:
    world.put(change())
    done = act(world, "approve", hand("omar"), note="seen")
    assert (done.state, [one.person for one in done.approved_by]) == (ChangeState.APPROVED, ["omar"])
    assert done.approved_by[0].key == KEYS["omar"]


@pytest.mark.parametrize(
    ("by", "says"),
    [
        (hand("dana"), "'dana' requested C-1"),
        (hand("omar", "dana"), "'omar' requested C-1"),  # another name with the author's key
        (hand("dana", "omar"), "'dana' requested C-1"),  # the author's name with another key
        (hand("stranger"), "'stranger' is no approver"),
    ],
)
def test_author_twin_and_stranger_do_not_approve(world: World, by: Hand, says: str) -> None:
    world.put(change())
    with pytest.raises(NotAllowed, match=says):
        act(world, "approve", by)
    assert world.change().approved_by == ()


def test_a_second_approval_is_a_third_persons(world: World) -> None:
    world.settings(approvals=2)
    world.put(change())
    assert act(world, "approve", hand("omar")).state is ChangeState.REQUESTED
    for by in (hand("omar"), hand("ines", "omar")):
        with pytest.raises(NotAllowed, match="approved C-1 already"):
            act(world, "approve", by)
    assert act(world, "approve", hand("ines")).state is ChangeState.APPROVED
    with pytest.raises(UsageError, match="cannot be approved"):
        act(world, "approve", hand("carla"))


def test_of_a_major_change_only_an_executives_is_an_executives(world: World) -> None:
    world.put(change(category=ChangeCategory.MAJOR))
    assert duties.missing(world.manifest, world.change()) == "an executive and 1 more"
    act(world, "approve", hand("omar"))
    assert duties.missing(world.manifest, world.change()) == "an executive"
    act(world, "approve", hand("ines"))
    assert world.change().state is ChangeState.REQUESTED
    assert act(world, "approve", hand("carla")).state is ChangeState.APPROVED


def test_an_executive_first_leaves_one_more(world: World) -> None:
    world.put(change(category=ChangeCategory.MAJOR))
    act(world, "approve", hand("carla"))
    assert duties.missing(world.manifest, world.change()) == "1 more"
    assert act(world, "approve", hand("omar")).state is ChangeState.APPROVED


def test_an_emergency_is_approved_while_and_after_it_is_carried_out_by_another(world: World) -> None:
    for state in (ChangeState.EXECUTING, ChangeState.VALIDATING, ChangeState.SUCCESSFUL, ChangeState.FAILED):
        world.put(change(category=ChangeCategory.EMERGENCY, state=state, executor="ines", executor_key=KEYS["ines"]))
        with pytest.raises(NotAllowed, match="carried C-1 out"):
            act(world, "approve", hand("ines"))
        done = act(world, "approve", hand("omar"))
        assert done.state is state
        with pytest.raises(UsageError, match="has all its approvals"):
            act(world, "approve", hand("carla"))


# --- the other decisions ---


@pytest.mark.parametrize(
    ("name", "by", "allowed"),
    [
        ("reject", "omar", True),
        ("reject", "stranger", False),
        ("cancel", "dana", True),
        ("cancel", "omar", True),
        ("cancel", "stranger", False),
    ],
)
def test_who_ends_a_request(world: World, name: str, by: str, allowed: bool) -> None:
    world.put(change())
    if not allowed:
        with pytest.raises(NotAllowed):
            act(world, name, hand(by), note="no")
        return
    assert act(world, name, hand(by), note="no").outcome == "no"


@pytest.mark.parametrize("name", ["reject", "cancel", "break_glass"])
def test_a_decision_has_its_reason(world: World, name: str) -> None:
    world.put(change())
    with pytest.raises(UsageError, match="says nothing"):
        act(world, name, hand("omar"), note="  ")


def test_the_glass_is_broken_by_two_people_with_two_keys(world: World) -> None:
    world.put(change())
    once = act(world, "break_glass", hand("dana"), note="payments stand")
    assert not freezes.broken(once)
    for by in (hand("dana"), hand("omar", "dana"), hand("dana", "omar")):
        with pytest.raises(NotAllowed, match="broke the glass for C-1 already and cannot break it"):
            act(world, "break_glass", by, note="again")
    assert freezes.broken(act(world, "break_glass", hand("omar"), note="yes"))
    with pytest.raises(UsageError, match="may pass the freeze already"):
        act(world, "break_glass", hand("ines"), note="too")


@pytest.mark.parametrize(
    ("by", "allowed"),
    [("omar", True), ("dana", False), ("ines", False)],
)
def test_that_it_went_well_says_who_has_no_part_in_it(world: World, by: str, allowed: bool) -> None:
    world.put(approved(1, "omar", state=ChangeState.VALIDATING, executor="ines", executor_key=KEYS["ines"]))
    if allowed:
        done = act(world, "close", hand(by), state=ChangeState.SUCCESSFUL, note="seen")
        assert (done.state, done.outcome) == (ChangeState.SUCCESSFUL, "omar: seen")
        return
    with pytest.raises(NotAllowed, match="cannot judge it"):
        act(world, "close", hand(by), state=ChangeState.SUCCESSFUL, note="seen")
    assert act(world, "close", hand(by), state=ChangeState.FAILED, note="bad").state is ChangeState.FAILED


def test_a_review_is_neither_the_authors_nor_the_executors(world: World) -> None:
    done = change(
        category=ChangeCategory.EMERGENCY, state=ChangeState.SUCCESSFUL, executor="ines", executor_key=KEYS["ines"]
    )
    world.put(done)
    for by in ("dana", "ines"):
        with pytest.raises(NotAllowed):
            act(world, "review", hand(by), note="fine")
    assert act(world, "review", hand("omar"), note="fine").reviewed_by == "omar"
    with pytest.raises(UsageError, match="needs no review"):
        act(world, "review", hand("carla"), note="again")
    world.put(change(2, state=ChangeState.SUCCESSFUL))
    with pytest.raises(UsageError, match="needs no review"):
        act(world, "review", hand("omar"), 2, note="why not")


# --- requests ---


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"category": ChangeCategory.STANDARD}, UsageError, "it approves itself"),
        ({"rollback_plan": " "}, UsageError, "how is it taken back"),
        ({"services": ("nowhere",)}, NotFoundError, "there is no service 'nowhere'"),
        ({"planned_start": NOON - HOUR}, UsageError, "in the past"),
        ({"planned_start": NOON + HOUR, "planned_end": NOON + HOUR}, UsageError, "ends before it begins"),
        ({"planned_end": NOON + 40 * DAY}, UsageError, "at most 31 days"),
    ],
)
def test_a_request_that_makes_no_sense(
    world: World, fields: dict[str, Any], error: type[NvcopsError], says: str
) -> None:
    with pytest.raises(error, match=says):
        requesting.check(world.manifest, wanted(**fields), NOON)


def test_nobody_could_approve_a_major_change(world: World) -> None:
    world.settings(executives=())
    with pytest.raises(UsageError, match="nobody could approve a major change"):
        requesting.check(world.manifest, wanted(category=ChangeCategory.MAJOR), NOON)


@pytest.mark.parametrize("written", ["", "  ", "x" * 301])
def test_a_title_says_something(written: str) -> None:
    with pytest.raises(UsageError, match="the title"):
        requesting.draft(wanted(title=written), None, hand("dana"), 1)  # type: ignore[arg-type]


def test_a_number_is_taken_once(world: World) -> None:
    world.put(change(1))
    for number in (1, 3):
        with pytest.raises(UsageError, match="somebody was quicker"), world.desk() as desk:
            requesting.request(desk, change(number), manifest=world.manifest)
    with world.desk() as desk:
        requesting.request(desk, change(2), manifest=world.manifest)
    with pytest.raises(NotAllowed), world.desk() as desk:
        requesting.request(desk, change(3, author="stranger"), manifest=world.manifest)


@pytest.mark.parametrize("written", ["C-", "C-0", "seven", "C-1-2", "-1", "C-99999999999"])
def test_what_is_no_change(written: str) -> None:
    with pytest.raises(UsageError, match="is no change"):
        number_of(written)


# --- the machine of states ---


class Machine(RuleBasedStateMachine):
    """Whatever people try in whatever order: what must never be, never is."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.put(change())
        self.ended: ChangeState | None = None

    def attempt(self, decide: Callable[[], Change]) -> None:
        before = self.world.change()
        try:
            decide()
        except NvcopsError:
            assert self.world.change() == before, "what is refused changes nothing"

    @rule(
        name=st.sampled_from(["dana", "omar", "ines", "carla", "stranger"]), key=st.sampled_from(["", "dana", "omar"])
    )
    def approve(self, name: str, key: str) -> None:
        self.attempt(lambda: act(self.world, "approve", hand(name, key)))

    @rule(
        name=st.sampled_from(["reject", "cancel", "break_glass", "review"]),
        by=st.sampled_from(["dana", "omar", "ines"]),
    )
    def decide(self, name: str, by: str) -> None:
        self.attempt(lambda: act(self.world, name, hand(by), note="because"))

    @rule(by=st.sampled_from(["dana", "omar", "ines"]))
    def carry_out(self, by: str) -> None:
        from nvcops.changes.carrying import carry

        self.attempt(
            lambda: carry(self.world.run(by), self.world.target, ChangeKind.INDEX, "x", number=1)  # type: ignore[arg-type, return-value]
        )

    @precondition(lambda self: self.world.change().state is ChangeState.EXECUTING)
    @rule(how=st.sampled_from(list(ChangeState)), by=st.sampled_from(["dana", "omar", "carla"]))
    def close(self, how: ChangeState, by: str) -> None:
        self.attempt(lambda: act(self.world, "close", hand(by), state=how, note="seen"))

    @invariant()
    def duties_are_separate(self) -> None:
        now = self.world.change()
        people = [one.person for one in now.approved_by]
        keys = [one.key for one in now.approved_by]
        assert len(set(people)) == len(people)
        assert len(set(keys)) == len(keys)
        assert now.author not in people
        assert now.author_key not in keys
        if now.executor:
            assert now.executor not in people
            assert now.executor != now.author
            assert now.executor_key not in (*keys, now.author_key)
        if now.began:
            assert people, "nothing is carried out without an approval"

    @invariant()
    def what_is_over_stays_over(self) -> None:
        now = self.world.change()
        assert self.ended in (None, now.state)
        self.ended = now.state if now.state.ended else None
        assert now.state.ended == (now.ended is not None)


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)
TestMachine = Machine.TestCase
