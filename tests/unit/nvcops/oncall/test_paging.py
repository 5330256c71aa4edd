"""Pages: the timers to the second, who is asked by which step, and what those who were asked are told."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from desk import MemoryDesk
from nvcops.core.alerts import Category
from nvcops.core.errors import NotFoundError
from nvcops.core.incidents import Event, Incident, IncidentState, Severity
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, MessageState, Page
from nvcops.oncall import paging

INSTANT = dt.timedelta(microseconds=1)
MINUTES = {Category.CRITICAL: 5, Category.HIGH: 30, Category.MEDIUM: 120, Category.LOW: 1440}


def begin(desk: MemoryDesk, bank: Manifest, at: dt.datetime, **other: Any) -> Page:
    said = {
        "about": "root",
        "policy": "oncall",
        "category": Category.HIGH,
        "summary": "Payments fail",
        "body": "of bank",
    }
    return paging.begin(desk, manifest=bank, at=at, **{**said, **other})


def asked(desk: MemoryDesk, at: dt.datetime) -> list[str]:
    return [f"{one.to} {one.channel}" for one in desk.every(Message) if one.created == at]


def set_state(desk: MemoryDesk, state: MessageState, **where: Any) -> None:
    desk.put(*(msgspec.structs.replace(message, state=state) for message in desk.find(Message, **where)))


@pytest.mark.parametrize(("category", "minutes"), MINUTES.items())
def test_an_unacknowledged_page_escalates_when_its_time_has_passed_and_not_before(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime, category: Category, minutes: int
) -> None:
    page = begin(desk, bank, monday, category=category)
    due = monday + dt.timedelta(minutes=minutes)
    assert page.next == due
    assert paging.advance(desk, manifest=bank, at=due - INSTANT) == due
    assert desk.every(Page) == [page]
    assert paging.advance(desk, manifest=bank, at=due) == due + dt.timedelta(minutes=minutes)
    (escalated,) = desk.every(Page)
    assert (escalated.step, escalated.round) == (1, 0)
    assert {who.split()[0] for who in asked(desk, due)} == {"dana", "omar"}


def test_each_step_asks_those_before_it_again_and_after_the_last_round_the_page_stays_open(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    due = begin(desk, bank, monday, incident=7).next
    moments = [monday]
    while due is not None:
        moments.append(due)
        due = paging.advance(desk, manifest=bank, at=due)
    seen = [sorted(who.split()[0] for who in asked(desk, moment)) for moment in moments]
    once = [["dana"], ["dana", "omar"], ["dana", "manager", "omar"]]
    assert seen == [*once, *once, *once, ["cto", "manager"]]
    assert moments[-1] == monday + 9 * dt.timedelta(minutes=30)
    (page,) = desk.every(Page)
    assert (page.next, page.resolved, page.acknowledged) == (None, None, None)
    assert [entry.kind for entry in desk.notes][-1] == "page.unanswered"
    assert desk.find(Event, incident=7, order="time")[-1].text.startswith("nobody answers")
    assert paging.acknowledge(desk, about="incident/7", person="lee", at=moments[-1], manifest=bank)


def test_a_step_without_anybody_is_passed_over_at_once(desk: MemoryDesk, make: Any, monday: dt.datetime) -> None:
    manifest = make(
        """
        [[oncall.rotations]]
        name = "later"
        people = ["dana"]
        starts = 2027-01-01
        [[oncall.policies]]
        name = "oncall"
        steps = [{ rotation = "later" }, { contact = "hosting" }, { person = "lee" }]
        repeat = 0
        """
    )
    page = begin(desk, manifest, monday, incident=3)
    assert page.step == 2
    assert asked(desk, monday) == ["lee 0:email"]
    why = [event.text for event in desk.every(Event) if "nobody to ask" in event.text]
    assert why == [
        "nobody to ask: hosting has no contact for high alerts",
        "nobody to ask: nobody is on call for later",
    ]


def test_where_nobody_can_be_asked_the_page_is_kept_and_tried_again_each_round(
    desk: MemoryDesk, make: Any, monday: dt.datetime
) -> None:
    manifest = make('[[oncall.policies]]\nname = "p"\nsteps = [{ contact = "hosting" }]\nrepeat = 1\n')
    page = begin(desk, manifest, monday)
    assert desk.every(Message) == []
    assert page.next == monday + dt.timedelta(minutes=30)
    assert paging.advance(desk, manifest=manifest, at=page.next) == page.next + dt.timedelta(minutes=30)
    assert paging.advance(desk, manifest=manifest, at=page.next + dt.timedelta(minutes=30)) is None
    assert [entry.kind for entry in desk.notes] == ["page.nobody-to-ask", "page.nobody-to-ask", "page.unanswered"]
    assert {one.to for one in desk.every(Message)} == {"manager", "cto"}


def test_without_a_policy_the_management_is_told_at_once(desk: MemoryDesk, make: Any, monday: dt.datetime) -> None:
    page = begin(desk, make(""), monday)
    assert page.next is None
    assert {one.to: one.body for one in desk.every(Message)} == {"manager": "of bank", "cto": "of bank"}


def test_something_critical_goes_out_on_two_kinds_of_channel_at_once_and_the_rest_on_the_first_that_takes_it(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    for number, category in enumerate(Category):
        begin(desk, bank, monday + number * INSTANT, about=f"g{number}", category=category)
    sent = [asked(desk, monday + number * INSTANT) for number in range(4)]
    assert sent == [["dana 0:sms", "dana 1:email"], ["dana 0:sms"], ["dana 1:email"], ["dana 1:email"]]


def test_the_first_line_fits_a_short_message_and_says_what_since_when_how_bad_and_how_to_acknowledge(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    desk.put(incident(12, monday - dt.timedelta(minutes=2)))
    begin(desk, bank, monday, incident=12, about="a", summary="P0 Payments fail")
    begin(desk, bank, monday, about='{}/{service="bank"}', summary="the pool – " * 40)
    lines = [message.subject for message in desk.every(Message)]
    assert "P0 #12: Payments fail. Since Mon 05 Jan 09:58 EST. Ack: nvcops ack 12" in lines
    cut = next(line for line in lines if line.startswith("HIGH: the pool - the pool"))
    page = desk.find(Page, incident__isnull=True)[0]
    assert cut.endswith(f".. Since Mon 05 Jan 10:00 EST. Ack: nvcops oncall ack {page.id}".replace(".. ", "... "))
    assert all(len(line) <= 160 and line.isascii() for line in lines)


def test_acknowledging_ends_the_escalation_and_says_to_the_others_who_has_it(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    begin(desk, bank, monday)
    set_state(desk, MessageState.SENT)
    due = monday + dt.timedelta(minutes=30)
    paging.advance(desk, manifest=bank, at=due)
    omars = desk.find(Message, to="omar")[0]
    desk.put(msgspec.structs.replace(omars, state=MessageState.SENDING))
    later = due + dt.timedelta(minutes=1)
    assert paging.acknowledge(desk, about="root", person="omar", at=later, manifest=bank)
    assert not paging.acknowledge(desk, about="root", person="dana", at=later, manifest=bank)
    assert asked(desk, later) == ["dana 0:sms"]
    (told,) = [message for message in desk.every(Message) if message.created == later]
    assert (told.purpose, told.subject) == ("update", "UPDATE HIGH: omar has it: Payments fail")
    assert [m.state for m in desk.find(Message, to="dana", created=due)] == [MessageState.DROPPED]
    assert paging.advance(desk, manifest=bank, at=later + dt.timedelta(days=3)) is None
    (page,) = desk.every(Page)
    assert (page.acknowledged, page.acknowledged_by) == (later, "omar")


@pytest.mark.parametrize("person", ["mallory", "hosting", ""])
def test_who_is_neither_of_the_roster_nor_of_the_management_acknowledges_nothing(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime, person: str
) -> None:
    page = begin(desk, bank, monday)
    with pytest.raises(NotFoundError, match="cannot acknowledge"):
        paging.acknowledge(desk, about="root", person=person, at=monday, manifest=bank)
    assert desk.every(Page) == [page]
    assert paging.acknowledge(desk, about=page.id, person="manager", at=monday, manifest=bank)


def test_only_those_who_were_asked_hear_that_it_changed_and_that_it_is_over(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    begin(desk, bank, monday, incident=4)
    set_state(desk, MessageState.SENT)
    at = [monday + dt.timedelta(minutes=n) for n in range(1, 4)]
    paging.update(desk, manifest=bank, about="incident/4", body="now P1", at=at[0])
    paging.update(desk, manifest=bank, about="incident/4", body="now P1", at=at[0])
    paging.resolve(desk, manifest=bank, about="root", body="it answers again", at=at[1])
    paging.resolve(desk, manifest=bank, about="root", body="it answers again", at=at[2])
    assert [asked(desk, moment) for moment in at] == [["dana 0:sms"], ["dana 0:sms"], []]
    assert [m.subject for m in desk.find(Message, created=at[1])] == ["RESOLVED #4: it answers again"]


def test_whom_no_page_reached_is_not_told_that_it_is_over(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    begin(desk, bank, monday)
    paging.resolve(desk, manifest=bank, about="root", body="over", at=monday + INSTANT)
    assert [message.state for message in desk.every(Message)] == [MessageState.DROPPED]


def test_a_page_is_one_while_it_is_open_and_something_worse_asks_anew(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    first = begin(desk, bank, monday)
    paging.acknowledge(desk, about="root", person="omar", at=monday, manifest=bank)
    again = begin(desk, bank, monday + INSTANT, category=Category.MEDIUM)
    assert again.id == first.id
    worse = begin(desk, bank, monday + 2 * INSTANT, category=Category.CRITICAL)
    assert (worse.id == first.id, worse.acknowledged, worse.step) == (False, None, 0)
    assert [page.id for page in desk.find(Page, resolved__isnull=True)] == [worse.id]
    paging.resolve(desk, manifest=bank, about="root", body="over", at=monday + 3 * INSTANT)
    assert begin(desk, bank, monday + 2 * INSTANT).id not in (first.id, worse.id)


def test_a_step_whose_messages_all_failed_does_not_wait_for_its_time(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    begin(desk, bank, monday, category=Category.CRITICAL)
    later = monday + dt.timedelta(minutes=1)
    set_state(desk, MessageState.DEAD, channel="0:sms")
    paging.advance(desk, manifest=bank, at=later)
    assert asked(desk, later) == []
    set_state(desk, MessageState.FALLEN_BACK, channel="1:email")
    paging.advance(desk, manifest=bank, at=later)
    assert {who.split()[0] for who in asked(desk, later)} == {"dana", "omar"}
    paging.advance(desk, manifest=bank, at=later + INSTANT)
    assert asked(desk, later + INSTANT) == []


def test_late_by_hours_it_asks_one_step_and_that_one_has_its_whole_time(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    begin(desk, bank, monday, category=Category.CRITICAL)
    late = monday + dt.timedelta(hours=3)
    assert paging.advance(desk, manifest=bank, at=late) == late + dt.timedelta(minutes=5)
    assert [(page.step, page.round) for page in desk.every(Page)] == [(1, 0)]


def test_a_message_is_written_once_per_cause_and_to_whoever_can_be_told(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    def tell(to: str, **other: Any) -> bool:
        said = {"subject": "Silence ends", "body": "soon", "purpose": "expiry", "cause": "silence/7"}
        return paging.tell(desk, manifest=bank, to=to, at=monday, **{**said, **other})

    assert [tell("dana"), tell("dana"), tell("receiver:chat", payload="{}"), tell("hosting"), tell("nobody")] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert [message.id for message in desk.every(Message)] == [
        "silence/7/dana/1:email",
        "silence/7/receiver:chat/0:webhook",
    ]
    assert [entry.subject for entry in desk.notes] == ["hosting", "nobody"]


def incident(number: int, began: dt.datetime) -> Incident:
    return Incident(
        number=number,
        title="Payments fail",
        state=IncidentState.DETECTED,
        severity=Severity.P0,
        inferred=Severity.P0,
        source="alerts",
        began=began,
        detected=began,
    )
