"""After a change: successful when its objectives held, failed when they got worse, open while nobody knows."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from changes_world import DAY, HOUR, MINUTE, NOON, World, change
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nvcops.changes.validation import Held, change_validation, tail, worsened
from nvcops.core.changes import Change, ChangeCategory, ChangeState, Consent
from nvcops.core.checks import Verdict
from nvcops.core.incidents import Event, Incident, IncidentState, Severity
from nvcops.core.runs import RunState
from nvcops.core.slo import Events
from nvcops.core.target import ScrapeSummary

VALIDATING = ChangeState.VALIDATING


def watched(**fields: Any) -> Change:
    """One that was done at noon, and whose objectives are watched for half an hour."""
    given = {
        "state": VALIDATING,
        "began": NOON - 10 * MINUTE,
        "done": NOON,
        "validate_until": NOON + 30 * MINUTE,
        "services": ("bank",),
        "executor": "nvcops",
    }
    return change(1, **(given | fields))


def availability(world: World, before: tuple[int, int], after: tuple[int, int]) -> None:
    """The front door was asked and ready so often, before noon and after it; no other objective."""
    known = tuple(one for one in world.manifest.slos if one.indicator == "availability")
    world.target.manifest = replace(world.manifest, slos=known)

    def scrapes(_service: str, start: dt.datetime, end: dt.datetime) -> ScrapeSummary:
        asked, ready = before if end <= NOON + MINUTE else after
        return ScrapeSummary(asked, ready, (end - start).total_seconds(), start, end)

    world.figures.scrapes = scrapes  # type: ignore[method-assign]


def validated(world: World) -> dict[str, tuple[Verdict, str]]:
    run = world.run("schedule", "change-validation", key="")
    change_validation.function(run, world.target)
    return {line.subject: (line.verdict, line.observed) for line in run.findings}


def test_it_is_successful_when_its_time_is_over_and_all_held(world: World) -> None:
    availability(world, (1000, 1000), (1000, 1000))
    world.put(watched())
    world.at = NOON + 30 * MINUTE - dt.timedelta(seconds=1)
    assert validated(world)["C-1"][0] is Verdict.OK
    assert world.change().state is VALIDATING
    world.at = NOON + 30 * MINUTE
    assert validated(world)["C-1"][0] is Verdict.OK
    assert world.change().state is ChangeState.SUCCESSFUL
    assert world.change().ended == world.at
    assert validated(world) == {"": (Verdict.OK, "no change is being carried out or watched")}


def test_it_failed_as_soon_as_something_is_worse(world: World) -> None:
    availability(world, (1000, 1000), (300, 240))
    world.put(watched())
    world.at = NOON + 5 * MINUTE
    verdict, said = validated(world)["C-1"]
    assert verdict is Verdict.CRITICAL
    assert "60 of 300 were bad after it" in said
    assert world.change().state is ChangeState.FAILED


def test_what_was_as_bad_before_is_not_the_changes_fault(world: World) -> None:
    availability(world, (1000, 800), (1000, 800))
    world.put(watched())
    world.at = NOON + 31 * MINUTE
    validated(world)
    assert world.change().state is ChangeState.SUCCESSFUL


@pytest.mark.parametrize("after", [(0, 0), (19, 19)])
def test_no_data_is_no_pass(world: World, after: tuple[int, int]) -> None:
    availability(world, (1000, 1000), after)
    world.put(watched())
    world.at = NOON + 10 * HOUR
    verdict, said = validated(world)["C-1"]
    assert verdict is Verdict.UNKNOWN
    assert "nobody knows how it did" in said
    assert world.change().state is VALIDATING


def test_metrics_that_do_not_answer_are_no_pass(world: World) -> None:
    world.figures.down = True
    world.put(watched())
    world.at = NOON + 10 * HOUR
    assert validated(world)["C-1"][0] is Verdict.UNKNOWN
    assert world.change().state is VALIDATING


def test_nothing_with_an_objective_is_no_pass(world: World) -> None:
    world.target.manifest = replace(world.manifest, slos=())
    world.put(watched())
    world.at = NOON + 10 * HOUR
    assert validated(world)["C-1"][0] is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("run", "state"),
    [
        ({"state": RunState.CONCLUDED, "verdict": Verdict.WARNING}, VALIDATING),
        ({"state": RunState.CONCLUDED, "verdict": Verdict.CRITICAL}, ChangeState.FAILED),
        ({"state": RunState.CONCLUDED, "verdict": Verdict.UNKNOWN}, ChangeState.FAILED),
        ({"state": RunState.FAILED}, ChangeState.FAILED),
        ({"state": RunState.CANCELLED}, ChangeState.FAILED),
        ({"state": RunState.WAITING}, ChangeState.EXECUTING),
        ({"state": RunState.ENQUEUED}, ChangeState.EXECUTING),
    ],
)
def test_a_run_that_ended_without_a_word_says_by_its_end(world: World, run: dict[str, Any], state: ChangeState) -> None:
    carried = world.run()
    world.journal.runs[carried.id] = replace(world.journal.runs[carried.id], **run)
    world.put(change(1, state=ChangeState.EXECUTING, runs=(carried.id,), began=NOON, executor="nvcops"))
    validated(world)
    assert world.change().state is state


def test_a_run_that_nobody_knows_leaves_the_change_open(world: World) -> None:
    world.put(change(1, state=ChangeState.EXECUTING, runs=("gone",), began=NOON))
    assert validated(world)["C-1"][0] is Verdict.UNKNOWN
    assert world.change().state is ChangeState.EXECUTING


def incident(**fields: Any) -> Incident:
    given = {
        "title": "payments fail",
        "state": IncidentState.DETECTED,
        "severity": Severity.P1,
        "inferred": Severity.P1,
        "source": "alerts",
        "services": ("bank",),
        "began": NOON + MINUTE,
        "detected": NOON + 2 * MINUTE,
    }
    return Incident(number=7, **(given | fields))


def test_an_incident_that_begins_under_a_change_ends_it_and_is_linked(world: World) -> None:
    availability(world, (1000, 1000), (1000, 1000))
    with world.desk() as desk:
        desk.put(watched(), incident())
    world.at = NOON + 5 * MINUTE
    assert validated(world)["C-1"][0] is Verdict.CRITICAL
    with world.records.reading() as reading:
        after, told = reading.get(Incident, 7), reading.find(Event, incident=7)
    assert (world.change().state, world.change().incident) == (ChangeState.FAILED, 7)
    assert after is not None
    assert [link["id"] for link in after.links] == ["C-1"]
    assert [event.kind for event in told] == ["change"]


@pytest.mark.parametrize(
    "fields",
    [
        {"services": ("other",)},
        {"severity": Severity.P3},
        {"source": "drill"},
        {"began": NOON - 11 * MINUTE},
        {"began": NOON + 31 * MINUTE, "detected": NOON + 32 * MINUTE},
    ],
)
def test_other_incidents_do_not(world: World, fields: dict[str, Any]) -> None:
    availability(world, (1000, 1000), (1000, 1000))
    with world.desk() as desk:
        desk.put(watched(), incident(**fields))
    world.at = NOON + HOUR
    validated(world)
    assert (world.change().state, world.change().incident) == (ChangeState.SUCCESSFUL, None)


def test_an_emergency_that_nobody_approves_becomes_critical_and_is_reviewed(world: World) -> None:
    late = NOON + DAY
    done = change(1, category=ChangeCategory.EMERGENCY, state=ChangeState.SUCCESSFUL, began=NOON, consent_until=late)
    world.put(done)
    world.at = late - MINUTE
    assert validated(world)["C-1"][0] is Verdict.WARNING
    world.at = late
    assert validated(world)["C-1"][0] is Verdict.CRITICAL
    world.put(replace(done, approved_by=(Consent(person="omar", time=NOON),)))
    assert validated(world)["C-1"] == (Verdict.WARNING, "an index: nobody reviewed it yet")
    world.put(replace(done, approved_by=(Consent(person="omar", time=NOON),), reviewed=late))
    assert "C-1" not in validated(world)


@given(st.integers(0, 200), st.integers(1, 200), st.floats(0.0001, 0.5))
def test_the_tail_is_a_probability_and_falls(bad: int, total: int, share: float) -> None:
    bad = min(bad, total)
    chance = tail(bad, total, share)
    assert 0 <= chance <= 1
    assert tail(bad + 1, total, share) <= chance + 1e-9 or bad == total


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_what_is_within_its_objective_never_worsened(before: int, after: int) -> None:
    held = Held(objective="a", target=0.5, before=Events(10_000, before), after=Events(10_000, after))
    assert worsened(held) == ""
