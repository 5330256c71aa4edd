"""What people do in an incident: what is allowed when, what it writes, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from incident_world import DOOR, NOON, ONE, hours, lines, minutes, notice, opened, over, resolved

from desk import MemoryDesk
from nvcops.core.alerts import Category
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.incidents import Clock, Event, Incident, IncidentState, Role, Severity
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, Page
from nvcops.incidents import leading, opening, timeline
from nvcops.incidents.postmortem import publish
from nvcops.oncall import paging


@pytest.fixture
def number(desk: MemoryDesk, manifest: Manifest) -> int:
    incident = opened(desk, manifest, DOOR)
    paging.begin(
        desk,
        manifest=manifest,
        about="incident/1",
        policy="oncall",
        category=Category.CRITICAL,
        summary=incident.title,
        body="",
        at=minutes(0.2),
        incident=incident.number,
    )
    return incident.number


def test_acknowledged_nobody_else_is_asked(desk: MemoryDesk, manifest: Manifest, number: int) -> None:
    incident = leading.acknowledge(desk, number, manifest=manifest, person="dana", at=minutes(5))
    assert (incident.state, incident.acknowledged, incident.acknowledged_by) == (
        IncidentState.RESPONDING,
        minutes(5),
        "dana",
    )
    page = desk.every(Page)[0]
    assert (page.acknowledged_by, page.next) == ("dana", None)
    assert lines(desk, number, "acknowledged") == ["acknowledged after 5 min, in time"]
    assert next(entry for entry in desk.notes if entry.kind == "incident.acknowledged").actor == "dana"


def test_the_second_who_acknowledges_is_told_who_was_first(desk: MemoryDesk, manifest: Manifest, number: int) -> None:
    leading.acknowledge(desk, number, manifest=manifest, person="dana", at=minutes(2))
    with pytest.raises(UsageError, match="was acknowledged by dana at 17:02:00"):
        leading.acknowledge(desk, number, manifest=manifest, person="omar", at=minutes(3))


def test_a_page_that_began_after_the_acknowledgement_is_acknowledged_too(
    desk: MemoryDesk, manifest: Manifest, number: int
) -> None:
    leading.acknowledge(desk, number, manifest=manifest, person="dana", at=minutes(2))
    paging.begin(
        desk,
        manifest=manifest,
        about="incident/1/other",
        policy="oncall",
        category=Category.CRITICAL,
        summary="it is worse",
        body="",
        at=minutes(3),
        incident=number,
    )
    incident = leading.acknowledge(desk, number, manifest=manifest, person="omar", at=minutes(4))
    assert (incident.acknowledged, incident.acknowledged_by) == (minutes(2), "dana")
    assert {page.about: page.acknowledged_by for page in desk.every(Page)} == {
        "incident/1": "dana",
        "incident/1/other": "omar",
    }
    assert lines(desk, number, "page")[-1] == "omar has what it was paged of again"
    with pytest.raises(UsageError, match="was acknowledged by dana"):
        leading.acknowledge(desk, number, manifest=manifest, person="omar", at=minutes(5))


def test_a_stranger_cannot_acknowledge(desk: MemoryDesk, manifest: Manifest, number: int) -> None:
    with pytest.raises(NotFoundError, match="mallory"):
        leading.acknowledge(desk, number, manifest=manifest, person="mallory", at=minutes(2))


def test_roles_are_given_and_told(desk: MemoryDesk, manifest: Manifest, number: int) -> None:
    for role, name in ((Role.COMMANDER, "omar"), (Role.BUSINESS, "cto"), (Role.COMMANDER, "dana")):
        leading.assign(desk, number, manifest=manifest, role=role, to=name, person="dana", at=minutes(4))
    assert desk.every(Incident)[0].roles == {"incident commander": "dana", "business lead": "cto"}
    told = [message for message in desk.every(Message) if "You are" in message.subject]
    assert {message.to for message in told} == {"dana", "omar", "cto"}
    with pytest.raises(UsageError, match="'nobody' is nobody"):
        leading.assign(desk, number, manifest=manifest, role=Role.TECHNICAL, to="nobody", person="dana", at=minutes(5))


def test_a_persons_severity_holds_whatever_data_say(desk: MemoryDesk, manifest: Manifest, number: int) -> None:
    said = leading.override(
        desk, number, manifest=manifest, severity=Severity.P2, reason="a test bank", person="dana", at=minutes(2)
    )
    assert (said.severity, said.inferred) == (Severity.P2, Severity.P0)
    after = opening.of_notice(
        desk, notice(minutes(3), [ONE], [over(DOOR, minutes(3))]), manifest=manifest, at=minutes(3)
    )
    assert after
    assert (after.severity, after.inferred) == (Severity.P2, Severity.P1)
    assert "dana said P2, which holds" in lines(desk, number, "severity")[0]
    with pytest.raises(UsageError, match="the reason of a severity says nothing"):
        leading.override(
            desk, number, manifest=manifest, severity=Severity.P0, reason=" ", person="dana", at=minutes(4)
        )


def test_an_incident_from_its_detection_to_its_end(desk: MemoryDesk, manifest: Manifest, number: int) -> None:
    with_desk: dict[str, Any] = {"manifest": manifest, "person": "dana"}
    leading.acknowledge(desk, number, at=minutes(3), **with_desk)
    assert leading.investigate(desk, number, at=minutes(4), **with_desk).state is IncidentState.INVESTIGATING
    leading.note(desk, number, text="the pool is full", at=minutes(5), **with_desk)
    mitigated = leading.mitigate(desk, number, text="restarted bank-1", at=minutes(9), **with_desk)
    assert (mitigated.state, mitigated.mitigated) == (IncidentState.MITIGATED, minutes(9))
    with pytest.raises(UsageError, match="1 alerts of incident 1 still fire: ProbeDown bank does not answer"):
        leading.resolve(desk, number, text="a larger pool", at=minutes(11), **with_desk)
    opening.of_notice(desk, notice(minutes(10), resolved=[over(DOOR, minutes(9))]), manifest=manifest, at=minutes(10))
    done = leading.resolve(desk, number, text="a larger pool", at=minutes(20), **with_desk)
    assert (done.state, done.resolution, done.mitigated) == (IncidentState.RESOLVED, "a larger pool", minutes(9))
    assert all(page.resolved for page in desk.every(Page))
    with pytest.raises(UsageError, match="was P0, and its post-mortem is not published"):
        leading.close(desk, number, at=hours(2), **with_desk)
    publish(desk, number, manifest=manifest, text="# Post-mortem\nAll is said.", person="dana", at=hours(3))
    assert leading.close(desk, number, at=hours(4), **with_desk).state is IncidentState.CLOSED
    kinds = [event.kind for event in timeline.events(desk, number)]
    assert kinds[0] == "opened"
    assert kinds[-1] == "closed"
    assert leading.note(desk, number, text="thank you", at=hours(5), **with_desk)


def test_it_is_over_in_spite_of_alerts_where_somebody_says_why(
    desk: MemoryDesk, manifest: Manifest, number: int
) -> None:
    leading.acknowledge(desk, number, manifest=manifest, person="dana", at=minutes(3))
    leading.resolve(
        desk,
        number,
        manifest=manifest,
        text="moved",
        person="dana",
        at=minutes(5),
        despite="the old host is being removed",
    )
    assert lines(desk, number, "resolved") == ["moved; in spite of 1 alerts that fire: the old host is being removed"]
    still = opening.of_notice(desk, notice(hours(5), [DOOR]), manifest=manifest, at=hours(5))
    assert still
    assert (still.number, still.state) == (1, IncidentState.RESOLVED)


ACTS: dict[str, Callable[..., Incident]] = {
    "acknowledge": leading.acknowledge,
    "investigate": leading.investigate,
    "mitigate": leading.mitigate,
    "resolve": leading.resolve,
    "close": leading.close,
}
ALLOWED = {
    IncidentState.DETECTED: {"acknowledge"},
    IncidentState.RESPONDING: {"investigate", "mitigate", "resolve"},
    IncidentState.INVESTIGATING: {"mitigate", "resolve"},
    IncidentState.MITIGATED: {"resolve"},
    IncidentState.RESOLVED: {"close"},
    IncidentState.CLOSED: set(),
}


@pytest.mark.parametrize("state", IncidentState)
@pytest.mark.parametrize("act", ACTS)
def test_what_is_not_allowed_is_refused_with_a_sentence(
    desk: MemoryDesk, manifest: Manifest, act: str, state: IncidentState
) -> None:
    acknowledged = NOON if state is not IncidentState.DETECTED else None
    desk.put(
        Incident(
            number=7,
            title="t",
            state=state,
            severity=Severity.P3,
            inferred=Severity.P3,
            source="person",
            began=NOON,
            detected=NOON,
            acknowledged=acknowledged,
            acknowledged_by="omar" if acknowledged else "",
        )
    )
    words = {"text": "it was the pool"} if act in ("mitigate", "resolve") else {}
    if act in ALLOWED[state]:
        assert ACTS[act](desk, 7, manifest=manifest, person="dana", at=minutes(9), **words).state is not state
        return
    with pytest.raises(UsageError, match="incident 7") as refused:
        ACTS[act](desk, 7, manifest=manifest, person="dana", at=minutes(9), **words)
    assert refused.value.hint
    assert not desk.every(Event)


def test_what_is_over_before_anybody_acknowledged_it_is_acknowledged_first(
    desk: MemoryDesk, manifest: Manifest, number: int
) -> None:
    opening.of_notice(desk, notice(minutes(2), resolved=[over(DOOR, minutes(2))]), manifest=manifest, at=minutes(2))
    with pytest.raises(UsageError, match="nobody acknowledged incident 1"):
        leading.resolve(desk, number, manifest=manifest, text="gone", person="dana", at=minutes(5))
    seen = leading.acknowledge(desk, number, manifest=manifest, person="dana", at=minutes(6))
    assert seen.state is IncidentState.MITIGATED
    leading.resolve(desk, number, manifest=manifest, text="gone by itself", person="dana", at=minutes(7))


def test_personal_data_start_the_clock_of_who_supervises_them(desk: MemoryDesk) -> None:
    from incident_world import example

    manifest = example("gdpr")
    number = opened(desk, manifest, DOOR).number
    leading.personal_data(desk, number, manifest=manifest, reason="a dump was read", person="dana", at=hours(1))
    clock = desk.every(Clock)[0]
    assert (clock.rule, clock.began, clock.due) == ("gdpr-72h", hours(1), hours(73))
    assert desk.every(Incident)[0].personal_data


def test_the_worst_that_it_ever_was_decides_about_the_post_mortem(desk: MemoryDesk, manifest: Manifest) -> None:
    incident = resolved(desk, manifest)
    milder = leading.override(
        desk,
        incident.number,
        manifest=manifest,
        severity=Severity.P3,
        reason="nobody cared",
        person="dana",
        at=hours(2),
    )
    assert leading.worst_ever(desk, milder) is Severity.P0
    assert leading.needs_postmortem(desk, milder)


@pytest.mark.parametrize("text", ["", "   ", "x" * 5_000])
def test_a_note_says_something_and_not_too_much(desk: MemoryDesk, manifest: Manifest, number: int, text: str) -> None:
    with pytest.raises(UsageError, match="a note"):
        leading.note(desk, number, manifest=manifest, text=text, person="dana", at=minutes(2))


def test_there_is_no_such_incident(desk: MemoryDesk, manifest: Manifest) -> None:
    with pytest.raises(NotFoundError, match="there is no incident 99"):
        leading.acknowledge(desk, 99, manifest=manifest, person="dana", at=NOON)
