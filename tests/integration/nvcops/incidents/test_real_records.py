"""The same decisions in the real store: what a room writes stands there, all of it or nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from nvcops.adapters.records import open_records
from nvcops.alerts import desk as alerts
from nvcops.alerts.routing import default_routing
from nvcops.alerts.said import Said
from nvcops.core.incidents import Clock, Event, Incident, IncidentState, Severity
from nvcops.core.manifest import Contact, Informed, Manifest, parse
from nvcops.core.oncall import Message, Page
from nvcops.core.records import Records
from nvcops.incidents import actions, checklists, clocks, deadlines, leading, messages, opening, postmortem, status_page
from nvcops.oncall import paging

EXAMPLE = Path(__file__).parents[4] / "platforms" / "nvc-bank" / "platform.toml"
NOON = dt.datetime(2026, 11, 22, 17, tzinfo=dt.UTC)
DOWN = {"alertname": "ProbeDown", "category": "critical", "kind": "http", "service": "bank", "probe": "bank"}


def at(seconds: float) -> dt.datetime:
    return NOON + dt.timedelta(seconds=seconds)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    read = parse(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE)
    reached = (Contact(kind="email", url="mailto://example.com"),)
    told = (Informed(severities=(Severity.P0, Severity.P1), contacts=("cto",)),)
    return msgspec.structs.replace(
        read,
        platform=msgspec.structs.replace(read.platform, state=tmp_path / "state"),
        people=tuple(msgspec.structs.replace(person, contacts=reached) for person in read.people),
        contacts=tuple(msgspec.structs.replace(contact, contacts=reached) for contact in read.contacts),
        incidents=msgspec.structs.replace(read.incidents, informed=told, regulators=("us", "dora")),
    )


@pytest.fixture
def records(manifest: Manifest) -> Iterator[Records]:
    with closing(open_records(manifest)) as opened:
        yield opened


def said(records: Records, manifest: Manifest, *, moment: dt.datetime, over: bool = False) -> None:
    """As `nvcops serve` does with what a probe saw: taken in, and all that follows, in one transaction."""
    routing = default_routing(manifest)
    one = Said(labels=DOWN, annotations={"summary": "bank does not answer"}, source="probes", over=over)
    with records.changing() as desk:
        alerts.take(desk, [one], moment, manifest=manifest, routing=routing)
        tick(desk, manifest, moment)


def tick(desk: object, manifest: Manifest, moment: dt.datetime) -> None:
    alerts.tick(desk, moment, manifest=manifest, routing=default_routing(manifest))
    paging.advance(desk, manifest=manifest, at=moment)
    deadlines.advance(desk, manifest=manifest, at=moment)


def test_from_an_alert_to_the_end_of_its_incident(records: Records, manifest: Manifest) -> None:
    for moment in range(0, 60, 5):
        said(records, manifest, moment=at(moment))
    with records.reading() as reading:
        (incident,) = reading.find(Incident)
        assert (incident.severity, incident.title) == (Severity.P0, "bank does not answer")
        assert reading.count(Page, incident=1, acknowledged__isnull=True) == 1
        assert reading.count(Message, to="cto", purpose="status") == 1
        assert [clock.rule for clock in reading.find(Clock)] == ["dora-24h"]
    by = {"manifest": manifest, "person": "dana"}
    with records.changing() as desk:
        leading.acknowledge(desk, 1, at=at(90), **by)
        leading.investigate(desk, 1, at=at(100), **by)
        checklists.tick(desk, 1, item="Check monitoring dashboards", at=at(110), **by)
        messages.update(desk, 1, text="Cards work.", public=True, at=at(120), **by)
        clocks.begin(desk, 1, rule="us-36h", reason="payments stood still", at=at(130), **by)
    for moment in range(600, 1_200, 60):
        said(records, manifest, moment=at(moment), over=True)
    with records.changing() as desk:
        assert leading.resolve(desk, 1, text="a larger pool", at=at(3_600), **by).state is IncidentState.RESOLVED
        actions.add(
            desk, 1, text="alarm", owner="omar", due=dt.date(2026, 12, 1), measure="monitoring", at=at(3_700), **by
        )
        text = postmortem.write(postmortem.story(desk, 1, manifest=manifest), manifest, at(3_800))
        postmortem.publish(desk, 1, text=text.replace(postmortem.TO_WRITE, "It was:"), at=at(3_900), **by)
        leading.close(desk, 1, at=at(4_000), **by)
    with records.reading() as reading:
        closed = reading.get(Incident, 1)
        assert closed
        assert (closed.state, closed.acknowledged_by) == (IncidentState.CLOSED, "dana")
        assert closed.mitigated
        assert not reading.count(Page, resolved__isnull=True)
        page = status_page.render(reading, manifest=manifest, at=at(5_000))
        assert b"Cards work." in page["index.html"]
        kinds = [event.kind for event in reading.find(Event, incident=1, order="time")]
        assert {"opened", "acknowledged", "investigating", "check", "update", "clock", "mitigated", "resolved"} <= set(
            kinds
        )


def test_what_fails_in_the_middle_leaves_nothing(records: Records, manifest: Manifest) -> None:
    def fail_in_the_middle() -> None:
        with records.changing() as desk:
            opening.open_by_hand(desk, manifest=manifest, title="slow", severity=Severity.P1, person="dana", at=NOON)
            raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        fail_in_the_middle()
    with records.reading() as reading:
        assert [reading.count(kind) for kind in (Incident, Event, Page, Message)] == [0, 0, 0, 0]


def test_looking_at_deadlines_writes_nothing_where_nothing_is_due(records: Records, manifest: Manifest) -> None:
    with records.changing() as desk:
        for number in range(20):
            opening.open_by_hand(
                desk, manifest=manifest, title=f"i{number}", severity=Severity.P1, person="dana", at=NOON
            )
        deadlines.advance(desk, manifest=manifest, at=at(1))
    with records.reading() as reading:
        before = [reading.count(kind) for kind in (Event, Message, Page, Clock)]
    for moment in range(2, 20):
        with records.changing() as desk:
            deadlines.advance(desk, manifest=manifest, at=at(moment))
    with records.reading() as reading:
        assert [reading.count(kind) for kind in (Event, Message, Page, Clock)] == before
