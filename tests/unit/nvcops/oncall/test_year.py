"""A year of pages in simulated time: who was asked, when, and never twice by one step."""

from __future__ import annotations

import datetime as dt
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from desk import MemoryDesk, MemoryRecords
from nvcops.core.alerts import Category
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, MessageState, Page
from nvcops.oncall import paging
from nvcops.oncall.overrides import override
from nvcops.oncall.rotation import on_call, standing_overrides

Make = Callable[..., Manifest]
MINUTE, HOUR, DAY = dt.timedelta(minutes=1), dt.timedelta(hours=1), dt.timedelta(days=1)
TIMERS = {Category.CRITICAL: 5, Category.HIGH: 30, Category.MEDIUM: 120, Category.LOW: 1440}


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Asia/Kolkata"])
def test_a_year_of_pages_asks_who_is_on_call_at_each_step_exactly_when_its_time_has_passed(
    make: Make, zone: str
) -> None:
    """Four pages a day: each step falls on its minute, whatever the clocks do and whoever stands in."""
    manifest, random_ = make(zone=zone), random.Random(2026)
    start = dt.datetime(2026, 1, 6, tzinfo=dt.UTC)
    began, steps = time.perf_counter(), 0
    for number in range(4 * 360):
        desk = MemoryDesk()
        at = start + number * 6 * HOUR + random_.randrange(360) * MINUTE
        starts = at + random_.randrange(60) * MINUTE
        override(
            desk,
            manifest=manifest,
            rotation="primary",
            person="lee",
            starts=starts,
            ends=starts + 3 * HOUR,
            author="dana",
            reason="x",
            at=at,
        )
        category = list(TIMERS)[number % 4]
        answered_at = at + random_.randrange(1, 40) * TIMERS[category] * MINUTE / 4
        page = begin(desk, manifest, at, category)
        moments = [at]
        due = page.next
        while due is not None and due < answered_at:
            moments.append(due)
            due = paging.advance(desk, manifest=manifest, at=due)
        assert moments == [at + n * TIMERS[category] * MINUTE for n in range(len(moments))]
        for n, moment in enumerate(moments[:9]):
            wanted = [
                on_call(manifest, standing_overrides(desk, moment), moment)[name].person
                for name in ("primary", "secondary")
            ]
            asked = {message.to for message in desk.find(Message, created=moment)}
            assert asked == set([*wanted, "manager"][: n % 3 + 1])
        steps += len(moments)
        assert len({message.id for message in desk.every(Message)}) == len(desk.every(Message))
        paging.acknowledge(desk, about="root", person="dana", at=answered_at, manifest=manifest)
        assert paging.advance(desk, manifest=manifest, at=answered_at + 400 * DAY) is None
    print(f"{zone}: a year of {4 * 360:,} pages, {steps:,} steps in {time.perf_counter() - began:.2f} s")


def begin(desk: MemoryDesk, manifest: Manifest, at: dt.datetime, category: Category, about: str = "root") -> Page:
    said: dict[str, Any] = {"policy": "oncall", "summary": "it fails", "body": "details"}
    return paging.begin(desk, manifest=manifest, about=about, category=category, at=at, **said)


class Paging(RuleBasedStateMachine):
    """Pages as an engine drives them: asked, sent, failed, acknowledged, by an engine that dies and tries again."""

    manifest: Manifest
    abouts = st.sampled_from(["a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.records = MemoryRecords()
        self.at = dt.datetime(2026, 3, 6, 12, tzinfo=dt.UTC)  # over the change of the clock
        self.acknowledged: dict[str, str] = {}

    def twice(self, act: Callable[[MemoryDesk], object]) -> None:
        """Do it in a transaction that dies, then in one that does not: what is written is the same."""
        before: list[Message] = []

        def die(desk: MemoryDesk) -> None:
            act(desk)
            before.extend(desk.every(Message))
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), self.records.changing() as desk:
            die(desk)
        with self.records.changing() as desk:
            act(desk)
            assert desk.every(Message) == before

    @rule(about=abouts, category=st.sampled_from(list(Category)))
    def begin(self, about: str, category: Category) -> None:
        self.twice(lambda desk: begin(desk, self.manifest, self.at, category, about))
        self.twice(lambda desk: begin(desk, self.manifest, self.at, category, about))

    @rule(minutes=st.integers(1, 2000))
    def time_passes(self, minutes: int) -> None:
        self.at += minutes * MINUTE
        self.twice(lambda desk: paging.advance(desk, manifest=self.manifest, at=self.at))

    @rule()
    def the_engine_looks_when_the_next_is_due(self) -> None:
        with self.records.reading() as desk:
            upcoming = [page.next for page in desk.every(Page) if page.next]
        if upcoming:
            self.at = max(self.at, min(upcoming))
            self.twice(lambda desk: paging.advance(desk, manifest=self.manifest, at=self.at))

    @rule(state=st.sampled_from([MessageState.SENT, MessageState.DEAD, MessageState.SENDING]), some=st.integers(1, 3))
    def the_sender_works(self, state: MessageState, some: int) -> None:
        with self.records.changing() as desk:
            waiting = desk.find(Message, state=MessageState.WAITING)[::some]
            desk.put(*(msgspec.structs.replace(message, state=state) for message in waiting))

    @rule(about=abouts, person=st.sampled_from(["dana", "omar", "lee", "manager"]))
    def acknowledge(self, about: str, person: str) -> None:
        with self.records.reading() as desk:
            asked = [p for p in desk.find(Page, about=about, resolved__isnull=True) if p.acknowledged is None]
        self.twice(
            lambda desk: paging.acknowledge(desk, about=about, person=person, at=self.at, manifest=self.manifest)
        )
        self.acknowledged |= {page.id: person for page in asked}

    @rule(about=abouts)
    @precondition(lambda self: self.at.minute % 2)
    def resolve(self, about: str) -> None:
        self.twice(lambda desk: paging.resolve(desk, manifest=self.manifest, about=about, body="over", at=self.at))

    @invariant()
    def nobody_is_asked_twice_by_one_step(self) -> None:
        with self.records.reading() as desk:
            asking = [m for m in desk.every(Message) if m.purpose in ("page", "escalation")]
            times = Counter((m.page, m.id.removeprefix(f"{m.page}/").split("/")[0], m.to, m.channel) for m in asking)
            assert all(count == 1 for count in times.values())
            assert all(m.id.startswith(f"{m.page}/") for m in asking)

    @invariant()
    def a_page_that_somebody_has_or_that_is_over_asks_nobody(self) -> None:
        with self.records.reading() as desk:
            ended = {p.id: p for p in desk.every(Page) if p.acknowledged or p.resolved}
            assert all(page.next is None for page in ended.values())
            assert not [
                m for m in desk.find(Message, state=MessageState.WAITING) if m.page in ended and m.purpose == "page"
            ]
            for page in ended.values():
                end = min(moment for moment in (page.acknowledged, page.resolved) if moment)
                assert all(
                    m.created <= end for m in desk.find(Message, page=page.id, purpose__in=["page", "escalation"])
                )

    @invariant()
    def one_page_is_open_about_a_thing_and_the_first_word_counts(self) -> None:
        with self.records.reading() as desk:
            open_now = Counter(page.about for page in desk.every(Page) if page.resolved is None)
            assert all(count == 1 for count in open_now.values())
            said = {page.id: page.acknowledged_by for page in desk.every(Page) if page.acknowledged}
            assert said == self.acknowledged

    @invariant()
    def what_waits_for_a_step_has_its_category_s_time_at_most(self) -> None:
        with self.records.reading() as desk:
            for page in desk.every(Page):
                assert page.next is None or page.next <= self.at + TIMERS[page.category] * MINUTE


def test_whatever_happens_nobody_is_asked_twice_and_nothing_goes_on_after_its_end(bank: Manifest) -> None:
    machine: Any = type("PagingOfTheBank", (Paging,), {"manifest": bank})
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=25, deadline=None))
