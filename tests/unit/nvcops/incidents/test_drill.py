"""A drill: what it does, what it scores, and that it is undone whatever happens."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from incident_world import DOOR, NOON, alert, notice, opened, over
from platform_world import ActingRun, platform

from desk import MemoryRecords
from nvcops.core.alerts import Category
from nvcops.core.errors import UsageError
from nvcops.core.incidents import Event, Incident
from nvcops.core.manifest import ControlEntry, Manifest
from nvcops.core.oncall import Message, MessageState
from nvcops.core.procedures import find
from nvcops.incidents import drill, opening
from nvcops.incidents.announced import drill_announced

DRILL = find("incident-drill").function
PROGRAMS = ControlEntry(start=("true",), stop=("true",), break_host=("true",), mend_host=("true",))


@dataclass
class Time:
    """The machine's clock, moved by the test."""

    at: dt.datetime = NOON

    def now(self) -> dt.datetime:
        return self.at

    def later(self, seconds: float) -> dt.datetime:
        self.at += dt.timedelta(seconds=seconds)
        return self.at


@dataclass
class House:
    """What notices alerts, and who answers them: the alarm and the control of a drill, without their processes."""

    manifest: Manifest
    clock: Time
    records: MemoryRecords
    answers: bool = True
    sleeps: bool = False
    done: list[str] = field(default_factory=list)

    def say(self, labels: Mapping[str, str], annotations: Mapping[str, str], *, over: bool = False) -> None:
        self.done.append("over" if over else "said")
        assert annotations["summary"]
        one = alert("IncidentDrill", drill=labels["drill"], run=labels["run"])
        self._notice(one, ends=over)

    def stop(self, name: str) -> None:
        self.done.append(f"stop {name}")
        self._notice(DOOR, ends=False)

    def start(self, name: str) -> None:
        self.done.append(f"start {name}")
        self._notice(DOOR, ends=True)

    def _notice(self, one: Any, *, ends: bool) -> None:
        """As `nvcops serve` would: two seconds later the incident is there, then the page, then a person."""
        if self.sleeps:
            return
        at = self.clock.later(2)
        with self.records.changing() as desk:
            said = notice(at, resolved=[over(one, at)]) if ends else notice(at, [self._fresh(one, at)])
            found = opening.of_notice(desk, said, manifest=self.manifest, at=at)
            assert found
            if not ends:
                self._page(desk, found.number)
                if self.answers:
                    opening.acknowledge(
                        desk, found.number, manifest=self.manifest, person="dana", at=self.clock.later(60)
                    )

    def _fresh(self, one: Any, at: dt.datetime) -> Any:
        return msgspec.structs.replace(one, noticed=at)

    def _page(self, desk: Any, number: int) -> None:
        sent = self.clock.later(1)
        desk.put(
            Message(
                id=f"page-{number}",
                to="dana",
                channel="0:sms",
                subject="s",
                body="b",
                purpose="page",
                created=sent,
                due=sent,
                state=MessageState.SENT,
                sent=sent,
                incident=number,
            )
        )


@pytest.fixture
def house(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(drill, "_DETECTED_S", 0.0)
    monkeypatch.setattr(drill, "_CONTAINED_S", 0.0)
    monkeypatch.setattr(drill, "_SLACK_S", -1e9)
    return House(msgspec.structs.replace(manifest, control=PROGRAMS), Time(), MemoryRecords())


def drilled(house: House, run: ActingRun | None = None, **options: Any) -> ActingRun:
    run = run or ActingRun(started=NOON, id="incident-drill@x")
    target = platform(house.manifest, records=house.records, alarm=house, control=house, host=house.clock)
    DRILL(run, target, **({"kind": "synthetic", "part": ""} | options))
    return run


def only(house: House) -> Incident:
    with house.records.reading() as desk:
        (found,) = desk.every(Incident)
        return found


def test_a_harmless_alert_is_said_noticed_answered_and_over(house: House) -> None:
    run = drilled(house)
    assert house.done == ["said", "over"]
    assert run.approvals == [
        "drill: A drill: one harmless alert is said; who is on call is paged; no part of the platform is touched"
    ]
    assert run.verdicts() == dict.fromkeys(
        ("drill.detected", "drill.paged", "drill.acknowledged", "drill.contained"), "OK"
    )
    assert [finding.observed for finding in run.findings] == ["2 s", "3 s", "1.02 min", "1.08 min"]
    assert all(finding.subject == "incident 1" for finding in run.findings)
    assert (only(house).source, only(house).began) == ("drill", NOON)


def test_its_figures_stand_in_its_timeline_and_in_the_evidence(house: House) -> None:
    drilled(house)
    with house.records.reading() as desk:
        event = next(event for event in desk.every(Event) if event.incident == 1 and event.kind == "drill")
        assert event.data["seconds"] == {"detected": 2.0, "paged": 3.0, "acknowledged": 61.0, "contained": 65.0}
        assert not drill_announced(desk, house.clock.later(1))


def test_a_part_is_really_stopped_and_started(house: House) -> None:
    run = drilled(house, kind="stop", part="bank-1")
    assert house.done == ["stop bank-1", "start bank-1"]
    assert run.steps == [
        "carry out a change",
        "announce the drill",
        "stop of bank-1",
        "undo it: stop of bank-1",
        "C-1 is done",
        "enter the figures",
    ]
    assert only(house).source == "drill"


def test_what_nobody_answered_is_critical(house: House) -> None:
    house.answers = False
    run = drilled(house)
    assert run.verdicts() == {
        "drill.detected": "OK",
        "drill.paged": "OK",
        "drill.acknowledged": "CRITICAL",
        "drill.contained": "OK",
    }


def test_without_anybody_noticing_all_lines_say_so(house: House) -> None:
    house.sleeps = True
    run = drilled(house)
    assert set(run.verdicts().values()) == {"CRITICAL"}
    assert [finding.observed for finding in run.findings] == [
        "nobody noticed it",
        "nobody was sent a page",
        "nobody acknowledged it",
        "its effect did not end",
    ]
    assert house.done == ["said", "over"]


def test_what_could_not_be_done_is_undone_all_the_same(house: House) -> None:
    broken = ActingRun(started=NOON, id="incident-drill@x", breaks={"stop of bank-1": "stop ended with 1"})
    house.sleeps = True
    run = drilled(house, broken, kind="stop", part="bank-1")
    assert house.done == ["start bank-1"]
    assert [(finding.check, finding.verdict.name, finding.observed) for finding in run.findings] == [
        ("drill.ready", "CRITICAL", "stop ended with 1")
    ]


def test_what_could_not_be_undone_is_critical(house: House) -> None:
    stuck = ActingRun(started=NOON, id="incident-drill@x", breaks={"undo it: stop of bank-1": "start ended with 1"})
    run = drilled(house, stuck, kind="stop", part="bank-1")
    assert run.verdicts()["drill.mended"] == "CRITICAL"
    assert run.verdicts()["drill.contained"] == "CRITICAL"


def test_it_is_not_begun_while_something_serious_goes_on(house: House) -> None:
    with house.records.changing() as desk:
        opened(desk, house.manifest, DOOR)
    run = drilled(house)
    assert run.findings[0].observed == "not begun: P0 incident 1: bank does not answer"
    assert not run.steps
    assert not house.done


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"kind": "stop"}, "which part? stop is done to one: --part NAME"),
        ({"kind": "freeze", "part": "db-1"}, "[control] does not say how to do freeze, and how to undo it"),
    ],
)
def test_it_is_not_begun_where_it_could_not_be_undone(house: House, options: dict[str, str], why: str) -> None:
    house.manifest = msgspec.structs.replace(house.manifest, control=ControlEntry(stop=("x",), start=("x",)))
    run = drilled(house, **options)
    assert run.findings[0].observed == f"not begun: {why}"
    assert not run.steps


def test_there_is_no_such_drill(house: House) -> None:
    with pytest.raises(UsageError, match="no drill of the kind 'flood'"):
        drilled(house, kind="flood")


def test_a_lab_asks_nobody(house: House) -> None:
    lab = msgspec.structs.replace(house.manifest.incidents, change_for_drills=False)
    house.manifest = msgspec.structs.replace(house.manifest, incidents=lab)
    assert drilled(house).approvals == []


def test_a_minor_incident_keeps_no_drill_back(house: House) -> None:
    with house.records.changing() as desk:
        opened(desk, house.manifest, alert(kind="replication", probe="db-2", category=Category.HIGH))
    house.clock.later(3_600)
    assert "say a harmless alert" in drilled(house).steps
