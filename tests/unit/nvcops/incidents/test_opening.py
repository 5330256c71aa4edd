"""Alerts become incidents: opened, joined, updated, seen to be over."""

from __future__ import annotations

import datetime as dt

import pytest
from incident_world import (
    DOOR,
    NOON,
    ONE,
    TWO,
    alert,
    lines,
    minutes,
    notice,
    opened,
    over,
    resolved,
)

from desk import MemoryDesk
from nvcops.core.alerts import Category
from nvcops.core.errors import UsageError
from nvcops.core.incidents import Incident, IncidentAlert, IncidentState, Severity, Signal
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, Page
from nvcops.incidents import opening
from nvcops.incidents.announced import announce_drill, end_drill
from nvcops.incidents.severity import Sign


def test_an_alert_opens_an_incident_with_its_reasons(desk: MemoryDesk, manifest: Manifest) -> None:
    incident = opened(desk, manifest, DOOR)
    assert (incident.number, incident.severity, incident.state) == (1, Severity.P0, IncidentState.DETECTED)
    assert incident.title == "bank does not answer"
    assert [(reason.rule, reason.source) for reason in incident.reasons] == [
        ("complete outage", f"alert:{DOOR.fingerprint}")
    ]
    assert (incident.began, incident.services, incident.source) == (NOON, ("bank",), "alerts")
    assert incident.suggestions[0].procedure == "system-status"
    assert "is a sign of an outage" in incident.suggestions[0].evidence
    entry = next(entry for entry in desk.notes if entry.kind == "incident.opened")
    assert entry.body["severity"] == "P0"
    assert entry.platform == "nvc-bank"


def test_the_same_notice_twice_is_one_incident_and_says_each_thing_once(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, DOOR)
    before = lines(desk, 1), len(desk.notes), len(desk.every(Message))
    again = opening.of_notice(desk, notice(minutes(5), [DOOR]), manifest=manifest, at=minutes(5))
    assert again
    assert again.number == 1
    assert (lines(desk, 1), len(desk.notes), len(desk.every(Message))) == before


def test_what_is_at_most_p3_opens_nothing(desk: MemoryDesk, manifest: Manifest) -> None:
    low = alert("DiskGrows", category=Category.LOW, probe="data")
    assert opening.of_notice(desk, notice(NOON, [low]), manifest=manifest, at=NOON) is None
    assert not desk.every(Incident)


def test_what_is_over_and_belongs_to_nothing_opens_nothing(desk: MemoryDesk, manifest: Manifest) -> None:
    ended = notice(minutes(1), resolved=[over(DOOR, minutes(1))])
    assert opening.of_notice(desk, ended, manifest=manifest, at=minutes(1)) is None


def test_alerts_of_the_same_service_join(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, ONE)
    slow = alert("ErrorBudgetBurn", indicator="latency", service="bank", starts=minutes(25), category=Category.HIGH)
    joined = opening.of_notice(desk, notice(minutes(26), [slow], key="other"), manifest=manifest, at=minutes(26))
    assert joined
    assert joined.number == 1
    assert lines(desk, 1, "joined") == ["1 alert joins: the same service: bank"]


def test_alerts_that_began_together_join_whatever_they_are_of(desk: MemoryDesk, manifest: Manifest) -> None:
    database = alert(kind="sql", probe="db-1", starts=NOON)
    opened(desk, manifest, database)
    door = alert(kind="http", service="bank", probe="bank", starts=minutes(0.1))
    joined = opening.of_notice(desk, notice(minutes(1), [door], key="other"), manifest=manifest, at=minutes(1))
    assert joined
    assert joined.number == 1
    assert joined.services == ("bank",)
    assert lines(desk, 1, "joined") == ["1 alert joins: it began within 6 s of it"]


@pytest.mark.parametrize(("after", "number"), [(4.9, 1), (5.1, 2)])
def test_alerts_of_nothing_in_common_are_two_incidents_after_five_minutes(
    desk: MemoryDesk, manifest: Manifest, after: float, number: int
) -> None:
    opened(desk, manifest, DOOR)
    later = alert("Cache", kind="cache", probe="cache", starts=minutes(after))
    found = opening.of_notice(desk, notice(minutes(6), [later], key="x"), manifest=manifest, at=minutes(6))
    assert found
    assert found.number == number


def test_the_last_instance_makes_it_an_outage_and_stakeholders_are_told(desk: MemoryDesk, manifest: Manifest) -> None:
    assert opened(desk, manifest, ONE).severity is Severity.P1
    both = opening.of_notice(desk, notice(minutes(2), [ONE, TWO]), manifest=manifest, at=minutes(2))
    assert both
    assert both.severity is Severity.P0
    assert both.reasons[0].seen == "all 2 instances of bank are down"
    assert lines(desk, 1, "severity") == ["data say P0 after P1: complete outage: all 2 instances of bank are down"]


def test_severity_falls_when_data_say_so_and_the_line_says_which(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, ONE, TWO)
    up = notice(minutes(9), [TWO], [over(ONE, minutes(9))])
    after = opening.of_notice(desk, up, manifest=manifest, at=minutes(9))
    assert after
    assert (after.severity, after.state) == (Severity.P1, IncidentState.DETECTED)
    assert "over: complete outage (service:bank)" in lines(desk, 1, "severity")[0]


def test_severity_stays_where_nobody_could_look(desk: MemoryDesk, manifest: Manifest) -> None:
    number = opened(desk, manifest, ONE).number
    paid = Sign(signal=Signal.PAYMENTS, seen="30 of 100 fail", source="figure:bank/outcomes", share=0.3)
    worse = opening.infer_again(desk, number, [paid], ["figure:bank/outcomes"], manifest=manifest, at=minutes(2))
    assert worse.severity is Severity.P0
    blind = opening.infer_again(desk, number, [], [], manifest=manifest, at=minutes(3))
    assert blind.severity is Severity.P0
    fine = opening.infer_again(desk, number, [], ["figure:bank/outcomes"], manifest=manifest, at=minutes(4))
    assert fine.severity is Severity.P1
    assert "over: payments fail (figure:bank/outcomes)" in lines(desk, number, "severity")[-1]


def test_when_every_alert_is_over_it_is_mitigated_and_keeps_its_severity(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, DOOR)
    quiet = notice(minutes(12), resolved=[over(DOOR, minutes(11))])
    after = opening.of_notice(desk, quiet, manifest=manifest, at=minutes(12))
    assert after
    assert (after.state, after.mitigated, after.severity) == (IncidentState.MITIGATED, minutes(11), Severity.P0)
    assert lines(desk, 1, "mitigated") == ["every alert is over; a person says what resolved it"]


def test_it_comes_back(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, DOOR)
    ended = over(DOOR, minutes(11))
    opening.of_notice(desk, notice(minutes(12), resolved=[ended]), manifest=manifest, at=minutes(12))
    anew = alert(kind="http", service="bank", probe="bank", starts=minutes(15), summary="bank does not answer")
    back = opening.of_notice(desk, notice(minutes(15), [anew]), manifest=manifest, at=minutes(15))
    assert back
    assert (back.number, back.state, back.mitigated) == (1, IncidentState.DETECTED, None)
    assert lines(desk, 1, "back") == ["it is back: alerts fire again"]


def test_a_new_firing_after_the_resolution_is_a_new_incident(desk: MemoryDesk, manifest: Manifest) -> None:
    resolved(desk, manifest)
    anew = alert(kind="http", service="bank", probe="bank", starts=minutes(70), summary="bank does not answer")
    found = opening.of_notice(desk, notice(minutes(70), [anew]), manifest=manifest, at=minutes(70))
    assert found
    assert found.number == 2


def test_a_storm_is_one_incident_with_a_bounded_timeline(desk: MemoryDesk, manifest: Manifest) -> None:
    storm = [alert("Node", kind="process", probe=f"node-{n}") for n in range(3_000)]
    opened(desk, manifest, *storm)
    assert len(desk.every(Incident)) == 1
    assert len(desk.every(IncidentAlert)) == 2_000
    assert len(lines(desk, 1)) < 30
    assert "and 1,981 more" in lines(desk, 1, "alert")


def test_what_a_drill_brings_about_is_known_as_a_drill(desk: MemoryDesk, manifest: Manifest) -> None:
    announce_drill(desk, "incident-drill@x", NOON, minutes(10), "dana")
    assert opened(desk, manifest, DOOR).source == "drill"
    end_drill(desk, "incident-drill@x", minutes(5))
    later = alert(kind="cache", probe="cache", starts=minutes(9))
    after = opening.of_notice(desk, notice(minutes(9), [later], key="k"), manifest=manifest, at=minutes(9))
    assert after
    assert (after.number, after.source) == (2, "alerts")


def test_opened_by_hand_somebody_is_paged(desk: MemoryDesk, manifest: Manifest) -> None:
    incident = opening.open_by_hand(
        desk,
        manifest=manifest,
        title="customers cannot sign in",
        severity=Severity.P1,
        reason="three calls",
        services=["bank"],
        person="dana",
        at=NOON,
    )
    page = desk.every(Page)[0]
    assert (page.incident, page.category, page.about) == (incident.number, Category.HIGH, "incident/1")
    assert {message.to for message in desk.every(Message)} >= {"cto", "compliance-officer"}
    assert incident.overridden_by == "dana"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"title": "  "}, "an incident's title says nothing"),
        ({"title": "x" * 300}, "has 300 characters"),
        ({"services": ["shop"]}, "there is no service 'shop'"),
        ({"began": NOON + dt.timedelta(hours=1)}, "yet to come"),
    ],
)
def test_a_mistake_by_hand_is_a_sentence(
    desk: MemoryDesk, manifest: Manifest, said: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        opening.open_by_hand(desk, **({"manifest": manifest, "title": "t", "person": "dana", "at": NOON} | said))
    assert not desk.every(Incident)
