"""When a primary is given up: what the rule never does, whatever is seen, and what it does when it must."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvcops.core.cluster import Look, Manager, decide, fallen

AFTER_S = 2.0


def look(at: float, **changed: object) -> Look:
    """A look at a primary of which nothing is heard, 0.1 s long."""
    return Look(
        **{  # type: ignore[arg-type]
            "began": at,
            "ended": at + 0.1,
            "known": True,
            "leader": "db-1",
            "standby": "db-2",
            "lease_left": 15,
            **changed,
        }
    )


def silence(seconds: float = 2.5, **changed: object) -> list[Look]:
    return [look(0.5 * number, **changed) for number in range(int(seconds / 0.5) + 1)]


names = st.sampled_from(["db-1", "db-2", ""])
anything = st.builds(
    Look,
    began=st.just(0.0),
    ended=st.just(0.0),
    known=st.booleans(),
    leader=names,
    paused=st.booleans(),
    handing_over=st.booleans(),
    answers=st.booleans(),
    manager=st.sampled_from(Manager),
    standby=names,
    lease_left=st.none() | st.integers(0, 20),
)
steps = st.tuples(anything, st.floats(0, 1.5), st.floats(0, 3))


@st.composite
def histories(draw: st.DrawFn) -> list[Look]:
    """Looks in order, often of a primary that has been silent for a while, at any distance."""
    found, moment = [], 0.0
    for seen, took, pause in draw(st.lists(steps, max_size=6)):
        found.append(msgspec.structs.replace(seen, began=moment, ended=moment + took))
        moment += took + pause
    return found + [
        msgspec.structs.replace(one, began=one.began + moment, ended=one.ended + moment)
        for one in silence(draw(st.sampled_from([0.0, 1.0, 2.0, 3.0])))
    ]


@given(histories(), anything | st.just(look(0.0)), st.sampled_from(["", "db-1", "db-2"]))
def test_nobody_is_fenced_without_every_reason(history: list[Look], last: Look, fenced: str) -> None:
    end = history[-1].ended + 0.4 if history else 0.0
    looks = [*history, msgspec.structs.replace(last, began=end, ended=end + 0.1)]
    victim = decide(looks, AFTER_S, fenced=fenced)
    if not victim:
        return
    newest = looks[-1]
    recent = [one for one in looks if one.ended > newest.ended - AFTER_S]
    assert victim == newest.leader
    assert newest.standby not in ("", victim), "somebody must be there to take over"
    assert fenced in ("", victim), "never two at once"
    for one in recent:
        assert one.known, "unknown is not failed"
        assert not one.answers, "it answered within guard_after"
        assert not one.paused
        assert one.leader == victim
        assert one.manager in (Manager.SILENT, Manager.STOPPED)


@given(histories())
def test_what_only_we_cannot_see_is_not_fenced(history: list[Look]) -> None:
    cut = [msgspec.structs.replace(one, known=False, answers=False, manager=Manager.SILENT) for one in history]
    assert decide(cut, AFTER_S) == ""


def test_a_primary_of_which_nothing_is_heard_is_fenced_when_the_time_is_over() -> None:
    looks = silence()
    assert [decide(looks[:count], AFTER_S) for count in range(len(looks) + 1)] == ["", "", "", "", "", "db-1", "db-1"]


def test_one_whose_server_is_down_by_its_own_managers_word_is_fenced() -> None:
    assert decide(silence(manager=Manager.STOPPED), AFTER_S) == "db-1"
    assert decide(silence(manager=Manager.STOPPED, handing_over=True), AFTER_S) == ""
    assert decide(silence(manager=Manager.SILENT, handing_over=True), AFTER_S) == "db-1"


@pytest.mark.parametrize("manager", [Manager.RUNNING, Manager.BUSY])
def test_what_a_living_manager_is_at_is_left_to_it(manager: Manager) -> None:
    assert decide(silence(manager=manager), AFTER_S) == ""


def test_a_lease_that_is_renewed_says_that_only_we_are_cut_off() -> None:
    looks = [look(0.5 * number, lease_left=left) for number, left in enumerate([18, 17, 20, 19, 18, 20, 19])]
    assert decide(looks, AFTER_S) == ""
    alive = [look(0.5 * number, lease_left=left, manager=Manager.STOPPED) for number, left in enumerate([18, 20] * 3)]
    assert decide(alive, AFTER_S) == "db-1", "its manager itself says that it is down"


def test_a_primary_of_which_its_standby_hears_is_not_fenced() -> None:
    """It is us who are cut off; the lease may be renewed too seldom to tell."""
    assert decide(silence(heard_s=0.1), AFTER_S) == ""
    assert decide(silence(heard_s=AFTER_S), AFTER_S) == "db-1"
    assert decide(silence(heard_s=None), AFTER_S) == "db-1"


def test_a_pause_in_our_own_looking_begins_the_count_anew() -> None:
    assert decide([look(0.0), look(60.0)], AFTER_S) == ""
    assert decide([look(0.0), look(60.0), look(60.5)], AFTER_S) == ""


def test_without_a_synchronous_standby_nobody_is_fenced() -> None:
    looks = [*silence(), look(3.0, standby="")]
    assert decide(looks, AFTER_S) == ""


def test_one_look_says_nothing_while_the_lease_is_not_known() -> None:
    assert fallen(look(0.0))
    assert not fallen(look(0.0, known=False))
    assert not fallen(look(0.0, leader=""))


def test_a_cluster_in_maintenance_is_left_alone() -> None:
    assert decide(silence(paused=True), AFTER_S) == ""
    assert decide([*silence(), look(3.0, paused=True)], AFTER_S) == ""


def test_a_new_primary_is_not_blamed_for_the_old_ones_silence() -> None:
    assert decide([*silence(), look(3.0, leader="db-2", standby="db-1")], AFTER_S) == ""
    both = [*silence(), look(3.0, leader="db-2", standby="db-1"), look(3.5, leader="db-2", standby="db-1")]
    assert decide(both, AFTER_S) == ""
