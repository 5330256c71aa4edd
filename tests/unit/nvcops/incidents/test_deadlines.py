"""What falls due by itself: stakeholders' messages, warnings of regulators' clocks, post-mortems, action items."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from incident_world import DOOR, ONE, example, hours, lines, minutes, notice, opened, over, resolved

from desk import MemoryDesk
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.incidents import ActionItem, Clock, Severity
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, Page
from nvcops.incidents import actions, clocks, deadlines, leading, messages, opening


def told(desk: MemoryDesk, name: str) -> list[str]:
    found = sorted(desk.find(Message, to=name), key=lambda message: message.created)
    return [message.body for message in found if message.purpose == "status"]


def test_stakeholders_are_told_at_once_and_then_every_half_hour(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, DOOR)
    assert len(told(desk, "cto")) == 1
    first = told(desk, "cto")[0]
    assert "we have a P0 incident" in first
    assert "Next message: 2026-11-22 12:30 EST" in first
    counts = []
    for moment in (10, 29.9, 30, 31, 60, 200):
        deadlines.advance(desk, manifest=manifest, at=minutes(moment))
        counts.append(len(told(desk, "cto")))
    assert counts == [1, 1, 2, 2, 3, 4]  # what was slept over is not made up for


def test_the_next_moment_is_when_something_falls_due(desk: MemoryDesk, manifest: Manifest) -> None:
    assert deadlines.advance(desk, manifest=manifest, at=minutes(0)) is None
    opened(desk, manifest, DOOR)
    assert deadlines.advance(desk, manifest=manifest, at=minutes(1)) == minutes(5)  # the response to a P0
    assert deadlines.advance(desk, manifest=manifest, at=minutes(5)) == minutes(30)
    assert lines(desk, 1, "response-late") == ["nobody acknowledged it within 5 min"]


def test_advancing_twice_writes_nothing_new(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, DOOR)
    deadlines.advance(desk, manifest=manifest, at=minutes(35))
    before = len(desk.every(Message)), len(desk.notes), lines(desk, 1)
    deadlines.advance(desk, manifest=manifest, at=minutes(36))
    assert (len(desk.every(Message)), len(desk.notes), lines(desk, 1)) == before


def test_a_severity_that_concerns_them_later_is_told_then(desk: MemoryDesk, manifest: Manifest) -> None:
    hand = {"manifest": manifest, "person": "dana"}
    number = opening.open_by_hand(desk, title="slow", severity=Severity.P2, at=minutes(0), **hand).number
    assert not told(desk, "cto")
    leading.override(desk, number, severity=Severity.P1, reason="all are slow", at=minutes(50), **hand)
    assert len(told(desk, "cto")) == 1
    assert "we have a P1 incident" in told(desk, "cto")[0]


def test_they_are_told_that_it_is_over_and_nothing_after_that(desk: MemoryDesk, manifest: Manifest) -> None:
    resolved(desk, manifest)
    assert "the incident is over" in told(desk, "cto")[-1]
    assert "the pool was enlarged" in told(desk, "cto")[-1]
    count = len(told(desk, "cto"))
    deadlines.advance(desk, manifest=manifest, at=hours(3))
    assert len(told(desk, "cto")) == count


def test_a_persons_update_goes_out_at_once_and_into_the_next_message(desk: MemoryDesk, manifest: Manifest) -> None:
    number = opened(desk, manifest, DOOR).number
    messages.update(desk, number, manifest=manifest, text="Cards work.", person="dana", at=minutes(8), public=True)
    assert "Cards work." in told(desk, "compliance-officer")[-1]
    deadlines.advance(desk, manifest=manifest, at=minutes(30))
    assert "Cards work." in told(desk, "compliance-officer")[-1]


def test_a_missing_post_mortem_is_said_once(desk: MemoryDesk, manifest: Manifest) -> None:
    incident = resolved(desk, manifest)
    due = deadlines.postmortem_due(incident, manifest)
    assert due == minutes(60) + dt.timedelta(days=5)
    for later in (due - dt.timedelta(seconds=1), due, due + dt.timedelta(days=1)):
        deadlines.advance(desk, manifest=manifest, at=later)
    assert len(lines(desk, 1, "postmortem-late")) == 1


def test_an_overdue_action_item_is_told_to_its_owner(desk: MemoryDesk, manifest: Manifest) -> None:
    resolved(desk, manifest)
    actions.add(
        desk,
        1,
        manifest=manifest,
        text="alarm on the pool",
        owner="omar",
        due=dt.date(2026, 11, 30),
        person="dana",
        at=hours(1),
        measure="monitoring",
    )
    deadlines.advance(desk, manifest=manifest, at=dt.datetime(2026, 12, 1, 4, 59, tzinfo=dt.UTC))
    assert not lines(desk, 1, "action-item-late")
    deadlines.advance(desk, manifest=manifest, at=dt.datetime(2026, 12, 1, 5, tzinfo=dt.UTC))
    assert lines(desk, 1, "action-item-late") == ["action item 1-1 was due 2026-11-30: alarm on the pool"]
    assert any("1-1 is overdue" in message.subject for message in desk.find(Message, to="omar"))


# --- regulators ---


@pytest.mark.parametrize(
    ("regime", "rule", "due"),
    [
        ("us", "us-36h", dt.timedelta(hours=36)),
        ("gdpr", "gdpr-72h", dt.timedelta(hours=72)),
        ("dora", "dora-4h", dt.timedelta(hours=4)),
        ("dora", "dora-24h", dt.timedelta(hours=24)),
    ],
)
def test_a_clock_begins_when_a_person_says_since_when(
    desk: MemoryDesk, regime: str, rule: str, due: dt.timedelta
) -> None:
    manifest = example(regime)
    opened(desk, manifest, ONE)
    clock = clocks.begin(
        desk, 1, manifest=manifest, rule=rule, person="omar", at=hours(2), began=hours(1), reason="it is one"
    )
    assert (clock.began, clock.due) == (hours(1), hours(1) + due)
    assert next(entry for entry in desk.notes if entry.kind == "incident.clock").actor == "omar"


def test_warnings_come_before_the_end_and_the_end_pages(desk: MemoryDesk) -> None:
    manifest = example("us")
    opened(desk, manifest, DOOR)
    clocks.begin(desk, 1, manifest=manifest, rule="us-36h", person="omar", at=hours(0.1), reason="payments stood still")
    moments = [17, 18.2, 20, 27.2, 32.6, 36.2, 40]
    counts = []
    for moment in moments:
        deadlines.advance(desk, manifest=manifest, at=hours(moment))
        counts.append(len(lines(desk, 1, "clock-warning")))
    assert counts == [0, 1, 1, 2, 3, 4, 4]
    assert any("Regulator's deadline" in message.subject for message in desk.find(Message, to="compliance-officer"))
    assert "OVERDUE" in lines(desk, 1, "clock-warning")[-1]
    page = next(page for page in desk.every(Page) if page.about == "incident/1/clock/us-36h")
    assert page.category == "critical"
    met = clocks.meet(desk, "1/us-36h", manifest=manifest, reference="FRB-77", person="omar", at=hours(41))
    assert met.met_by == "omar"
    assert desk.get(Page, page.id).resolved
    assert clocks.in_words(met, hours(42), manifest).endswith("by omar, LATE")


def test_dora_runs_from_awareness_and_its_reports_follow_one_another(desk: MemoryDesk) -> None:
    manifest = example("dora")
    opened(desk, manifest, DOOR)
    deadlines.advance(desk, manifest=manifest, at=minutes(1))
    assert [(clock.rule, clock.due) for clock in desk.every(Clock)] == [("dora-24h", hours(24))]
    clocks.begin(desk, 1, manifest=manifest, rule="dora-4h", person="omar", at=hours(3), reason="major")
    clocks.meet(desk, "1/dora-4h", manifest=manifest, reference="EBA-1", person="omar", at=hours(5))
    by_rule = {clock.rule: clock for clock in desk.every(Clock)}
    assert by_rule["dora-24h"].met == hours(5)  # one initial notification meets both
    assert by_rule["dora-72h"].due == hours(5 + 72)
    clocks.meet(desk, "1/dora-72h", manifest=manifest, reference="EBA-2", person="omar", at=hours(70))
    final = next(clock for clock in desk.every(Clock) if clock.rule == "dora-1month")
    assert (final.began, f"{final.due:%m-%d}") == (hours(70), "12-25")


def test_what_need_not_be_reported_stops_and_nothing_follows(desk: MemoryDesk) -> None:
    manifest = example("dora")
    opened(desk, manifest, DOOR)
    deadlines.advance(desk, manifest=manifest, at=minutes(1))
    clocks.dismiss(desk, "1/dora-24h", manifest=manifest, reason="not major: 4 min", person="omar", at=hours(1))
    assert deadlines.advance(desk, manifest=manifest, at=hours(30))
    assert [clock.rule for clock in desk.every(Clock)] == ["dora-24h"]
    assert not lines(desk, 1, "clock-warning")


def test_a_drill_starts_no_clock(desk: MemoryDesk) -> None:
    manifest = example("dora", "us", "gdpr")
    opened(desk, manifest, msgspec.structs.replace(DOOR, labels=DOOR.labels | {"drill": "true"}))
    deadlines.advance(desk, manifest=manifest, at=minutes(1))
    assert not desk.every(Clock)
    assert all("[DRILL]" in message.subject for message in desk.find(Message, to="cto"))


def test_mistakes_with_clocks_are_sentences(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, ONE)
    hand = {"manifest": manifest, "person": "omar", "at": hours(1)}
    for rule, sentence in (("gdpr-72h", "no clock of this platform"), ("bell", "no clock of this platform")):
        with pytest.raises(UsageError, match=sentence):
            clocks.begin(desk, 1, rule=rule, reason="r", **hand)
    with pytest.raises(UsageError, match="yet to come"):
        clocks.begin(desk, 1, rule="us-36h", reason="r", began=hours(2), **hand)
    with pytest.raises(NotFoundError, match="no clock '1/us-36h' runs"):
        clocks.meet(desk, "1/us-36h", reference="x", **hand)
    with pytest.raises(UsageError, match="begins by itself"):
        clocks.begin(desk, 1, rule="dora-72h", reason="r", **{**hand, "manifest": example("dora")})


def test_what_is_over_is_not_told_of_again(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, DOOR)
    opening.of_notice(desk, notice(minutes(4), resolved=[over(DOOR, minutes(4))]), manifest=manifest, at=minutes(4))
    leading.acknowledge(desk, 1, manifest=manifest, person="dana", at=minutes(6))
    assert deadlines.advance(desk, manifest=manifest, at=minutes(7)) == minutes(30)
    assert not desk.find(ActionItem)
