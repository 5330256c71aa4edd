"""Freezes and windows at their edges, also where the clocks change."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from changes_world import DAY, HOUR, MINUTE, NOON, change, manifest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nvcops.changes import freezes
from nvcops.core.changes import ChangeCategory, ChangeState, Consent
from nvcops.core.manifest.delivery import Freeze

NEW_YORK = ZoneInfo("America/New_York")
SECOND = dt.timedelta(seconds=1)
NORMAL = ChangeCategory.NORMAL


def wall(written: str) -> dt.datetime:
    """A moment without an offset, as the manifest has it."""
    return dt.datetime.fromisoformat(written)


def freeze(start: dt.datetime, end: dt.datetime, **fields: Any) -> Freeze:
    return Freeze(name="close", start=start, end=end, reason="books", **fields)


def held(one: Freeze, at: dt.datetime, category: ChangeCategory = NORMAL) -> bool:
    return bool(freezes.frozen(manifest(freezes=(one,)), category, at))


def utc(day: int, hour: int, minute: int = 0, month: int = 11) -> dt.datetime:
    return dt.datetime(2026, month, day, hour, minute, tzinfo=dt.UTC)


def test_its_beginning_belongs_to_it_and_its_end_does_not() -> None:
    one = freeze(wall("2026-11-20 18:00"), wall("2026-11-21 06:00"))  # in New York
    begins, ends = utc(20, 23), utc(21, 11)
    assert [held(one, at) for at in (begins - SECOND, begins, ends - SECOND, ends)] == [False, True, True, False]


def test_an_offset_is_taken_as_it_stands() -> None:
    berlin = dt.timezone(dt.timedelta(hours=1))
    one = freeze(dt.datetime(2026, 11, 20, 18, tzinfo=berlin), dt.datetime(2026, 11, 20, 20, tzinfo=berlin))
    assert held(one, utc(20, 17))
    assert not held(one, utc(20, 19))


def test_a_night_in_which_an_hour_comes_twice_is_frozen_through_both() -> None:
    one = freeze(wall("2026-11-01 01:00"), wall("2026-11-01 01:30"))
    assert [held(one, utc(1, hour, minute)) for hour, minute in ((4, 59), (5, 0), (5, 45), (6, 29), (6, 30))] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_night_in_which_an_hour_is_missing_is_frozen_around_it() -> None:
    one = freeze(wall("2026-03-08 02:30"), wall("2026-03-08 03:30"))  # 02:00 to 03:00 is skipped
    moments = [utc(8, hour, minute, 3) for hour, minute in ((6, 29), (6, 30), (7, 0), (7, 29), (7, 30))]
    assert [held(one, at) for at in moments] == [False, True, True, True, False]


def test_only_what_is_exempt_passes() -> None:
    one = freeze(wall("2026-11-20 00:00"), wall("2026-11-30 00:00"))
    assert [held(one, NOON, category) for category in ChangeCategory] == [False, True, True, True]
    both = freeze(one.start, one.end, exempt=(ChangeCategory.EMERGENCY, ChangeCategory.STANDARD))
    assert [held(both, NOON, category) for category in ChangeCategory] == [False, False, True, True]
    none = freeze(one.start, one.end, exempt=())
    assert all(held(none, NOON, category) for category in ChangeCategory)


@given(
    st.datetimes(wall("2026-01-01 00:00"), wall("2027-01-01 00:00")),
    st.integers(0, 60 * 24 * 14),
    st.integers(-(2**20), 2**20),
)
def test_what_is_within_by_the_wall_clock_is_frozen(start: dt.datetime, minutes: int, seconds: int) -> None:
    one = freeze(start, start + minutes * MINUTE)
    at = start.replace(tzinfo=NEW_YORK).astimezone(dt.UTC) + seconds * SECOND
    wall = at.astimezone(NEW_YORK).replace(tzinfo=None, fold=0)
    if one.start <= wall < one.end:
        assert held(one, at)
    low, high = freezes.span_of(one, NEW_YORK)
    assert high - low >= minutes * MINUTE - HOUR  # an hour that is missing is all that may be missing
    assert held(one, at) == (low <= at < high)


def test_a_budget_that_is_used_up_freezes_its_service_but_for_emergencies() -> None:
    given_manifest = manifest()
    for left, frozen in ((0.0999, True), (0.1, False), (-2.0, True)):
        budgets = {"bank-errors": left}
        assert bool(freezes.frozen(given_manifest, NORMAL, NOON, budgets)) == frozen
        assert not freezes.frozen(given_manifest, ChangeCategory.EMERGENCY, NOON, budgets)


@pytest.mark.parametrize(
    ("people", "broken"),
    [
        ((), False),
        ((("dana", "a"),), False),
        ((("dana", "a"), ("omar", "b")), True),
        ((("dana", "a"), ("omar", "a")), False),
        ((("dana", "a"), ("dana", "b")), False),
    ],
)
def test_two_people_with_two_keys_break_the_glass(people: tuple[tuple[str, str], ...], broken: bool) -> None:
    consents = tuple(Consent(person=name, key=key, time=NOON) for name, key in people)
    assert freezes.broken(change(break_glass=consents)) == broken


def test_a_window_has_its_beginning_and_not_its_end() -> None:
    planned = change(planned_start=NOON, planned_end=NOON + HOUR)
    moments = (NOON - SECOND, NOON, NOON + HOUR - SECOND, NOON + HOUR)
    assert [bool(freezes.outside_of_window(planned, at, NEW_YORK)) for at in moments] == [True, False, False, True]
    urgent = replace(planned, category=ChangeCategory.EMERGENCY)
    assert not any(freezes.outside_of_window(urgent, at, NEW_YORK) for at in moments)
    assert not freezes.outside_of_window(change(), NOON, NEW_YORK)


def planned(number: int, start: float, end: float, *services: str, **fields: Any) -> Any:
    window = {"planned_start": NOON + start * HOUR, "planned_end": NOON + end * HOUR}
    return change(number, services=services, **(window | fields))


def test_overlaps_on_a_service_are_said() -> None:
    mine = planned(1, 0, 2, "bank")
    others = [
        planned(2, 1, 3, "bank"),
        planned(3, 1, 3, "cards"),
        planned(4, 2.5, 3, "bank"),
        planned(5, 1, 3),  # nobody knows what it touches
        planned(6, 1, 3, "bank", state=ChangeState.CANCELLED),
        change(7, services=("bank",)),
    ]
    assert [one.number for one in freezes.overlapping(mine, [mine, *others])] == [2, 5]


def test_the_calendar_has_freezes_and_changes_by_their_beginning() -> None:
    one = freeze(wall("2026-11-25 00:00"), wall("2026-11-26 00:00"))
    found = [planned(1, 0, 2, "bank"), planned(2, 1, 3, "bank"), planned(3, 1000, 1001, "bank")]
    lines = freezes.calendar(manifest(freezes=(one,)), found, NOON, NOON + 7 * DAY)
    assert [line.what.split()[0] for line in lines] == ["C-1", "C-2", "freeze"]
    assert lines[0].overlaps == ("C-2",)
    assert freezes.calendar(manifest(), [], NOON, NOON + DAY) == []


def test_a_freeze_in_the_window_is_said_at_the_request() -> None:
    one = freeze(wall("2026-11-24 13:00"), wall("2026-11-24 15:00"))  # noon in New York, and an hour later
    given = manifest(freezes=(one,))
    assert [
        len(freezes.meeting(given, planned(1, start, end))) for start, end in ((0, 0.9), (0, 1), (2.9, 4), (3, 4))
    ] == [
        0,
        1,
        1,
        0,
    ]
    assert not freezes.meeting(given, planned(1, 0, 9, category=ChangeCategory.EMERGENCY))
    assert not freezes.meeting(given, change())
