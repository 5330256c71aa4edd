"""When procedures are due: the table of cases, and what must hold over years and zones."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.core.manifest import Calendar
from nvcops.core.schedule import (
    HolidayCountry,
    Standing,
    TimeRange,
    When,
    due_times,
    is_open,
    moment_of,
    next_due,
    outstanding,
    standing,
)
from nvcops.core.units import Seconds

DAY = dt.timedelta(days=1)
US = Calendar(holidays=HolidayCountry.read("US"))
PLAIN = Calendar()
ZONES = ["America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "UTC", "America/Sao_Paulo"]


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """A line of schedule_cases.json: the local times at which `when` is due from the morning of `start`, for `days`."""

    says: str
    when: str
    start: dt.date
    days: int
    due: list[str]
    zone: str = "America/New_York"
    holidays: str = "US"
    closed: tuple[dt.date, ...] = ()


CASES = msgspec.json.decode(Path(__file__).with_name("schedule_cases.json").read_bytes(), type=list[Case])


@pytest.mark.parametrize("case", CASES, ids=[case.says for case in CASES])
def test_due(case: Case) -> None:
    zone = ZoneInfo(case.zone)
    calendar = Calendar(holidays=HolidayCountry.read(case.holidays) if case.holidays else None, closed=case.closed)
    start = dt.datetime.combine(case.start, dt.time(0), zone)
    due = due_times(When.read(case.when), calendar, zone, start, start + case.days * DAY)
    assert [moment.astimezone(zone).strftime("%a %m-%d %H:%M %z") for moment in due] == case.due


patient = settings(deadline=None)  # the first look at a year's holidays takes its time
times = st.times().map(lambda t: f"{t:%H:%M}")
days = st.sampled_from(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
forms = st.one_of(
    times.map("daily {}".format),
    times.map("weekdays {}".format),
    st.builds("{} {}".format, days, times),
    st.builds("{},{} {}".format, days, days, times),
    st.builds("{} {} {}".format, st.sampled_from(["first", "second", "third", "fourth"]), days, times),
    times.map("quarterly {}".format),
    times.map("yearly {}".format),
    st.builds("yearly {:%m-%d} {}".format, st.dates(dt.date(2023, 1, 1), dt.date(2023, 12, 31)), times),
    st.builds("every {} {}".format, st.integers(1, 100), st.just("h")),
).map(When.read)
zones = st.sampled_from(ZONES).map(ZoneInfo)
moments = st.integers(0, 12 * 365 * 86_400).map(
    lambda s: dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=s)
)
calendars = st.sampled_from([US, PLAIN, Calendar(holidays=HolidayCountry.read("DE"), closed=(dt.date(2026, 3, 9),))])


@patient
@given(forms, calendars, zones, moments, st.lists(st.integers(1, 40 * 24), min_size=1, max_size=4))
def test_a_time_cut_into_parts_has_the_same_due_moments(
    when: When, calendar: Calendar, zone: ZoneInfo, start: dt.datetime, parts: list[int]
) -> None:
    edges = [start]
    for hours in parts:
        edges.append(edges[-1] + dt.timedelta(hours=hours))
    whole = due_times(when, calendar, zone, start, edges[-1])
    pieces = [due_times(when, calendar, zone, a, b) for a, b in pairwise(edges)]
    assert whole == [due for piece in pieces for due in piece]
    assert whole == sorted(set(whole))


@patient
@given(forms, calendars, zones, moments)
def test_the_next_one_is_the_first_one_after(
    when: When, calendar: Calendar, zone: ZoneInfo, after: dt.datetime
) -> None:
    following = next_due(when, calendar, zone, after)
    assert following is not None
    assert following > after
    between = due_times(when, calendar, zone, after + dt.timedelta(microseconds=1), following)
    assert between == []
    assert due_times(when, calendar, zone, following, following + dt.timedelta(seconds=1)) == [following]


@patient
@given(times, zones, st.dates(dt.date(2020, 1, 1), dt.date(2031, 1, 1)))
def test_a_daily_procedure_is_due_once_on_every_day_of_the_wall(time: str, zone: ZoneInfo, day: dt.date) -> None:
    start, end = (moment_of(d, dt.time(0), zone) for d in (day, day + 400 * DAY))
    due = due_times(When.read(f"daily {time}"), PLAIN, zone, start, end)
    assert [moment.astimezone(zone).date() for moment in due] == [day + n * DAY for n in range(400)]
    wall = [f"{moment.astimezone(zone):%H:%M}" for moment in due]
    assert sum(shown != time for shown in wall) <= 2, "but for the days on which the clock skips that time"


@patient
@given(st.dates(dt.date(1990, 1, 1), dt.date(2037, 1, 1)), st.times(), zones)
def test_a_wall_time_becomes_a_moment_that_shows_it_or_ends_the_gap(
    day: dt.date, time: dt.time, zone: ZoneInfo
) -> None:
    time = time.replace(microsecond=0, fold=0)
    moment = moment_of(day, time, zone)
    shown = moment.astimezone(zone)
    if shown.replace(tzinfo=None) != dt.datetime.combine(day, time):
        before = (moment - dt.timedelta(seconds=1)).astimezone(zone)
        assert before.utcoffset() != shown.utcoffset(), "right after a change of the clock"
        assert before.replace(tzinfo=None) < dt.datetime.combine(day, time) < shown.replace(tzinfo=None)
    assert shown.fold == 0, "the first of two"


@patient
@given(forms.filter(lambda when: when.form in ("weekdays", "quarterly", "yearly")), calendars, zones, moments)
def test_what_keeps_to_open_days_is_never_due_on_a_closed_one(
    when: When, calendar: Calendar, zone: ZoneInfo, start: dt.datetime
) -> None:
    for due in due_times(when, calendar, zone, start, start + 100 * DAY):
        local = due.astimezone(zone)
        skipped = local.strftime("%H:%M") != when[-5:]  # a gap at midnight may push a due into the next day
        assert skipped or is_open(calendar, local.date())


@patient
@given(moments, st.integers(1, 10_000), st.integers(0, 40_000))
def test_intervals_are_exact_whatever_the_clock_does(start: dt.datetime, minutes: int, span_min: int) -> None:
    minutes = min(minutes, 7 * 24 * 60)
    interval = dt.timedelta(minutes=minutes)
    due = due_times(
        When.read(f"every {minutes} min"),
        US,
        ZoneInfo("America/New_York"),
        start,
        start + dt.timedelta(minutes=span_min),
    )
    assert all(later - earlier == interval for earlier, later in pairwise(due))
    assert not due or start <= due[0] < start + interval


@pytest.mark.parametrize("text", ["never", "continuous"])
def test_what_has_no_moment_is_never_due(text: str) -> None:
    when, start = When.read(text), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert due_times(when, US, ZoneInfo("UTC"), start, start + 400 * DAY) == []
    assert next_due(when, US, ZoneInfo("UTC"), start) is None


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (When, "sometimes", "is no cadence"),
        (When, "daily 25:00", "'25:00' is no time of day"),
        (When, "Moon 09:00", "is no cadence"),
        (When, "Mon,Fro 09:00", "'Fro' is no day of the week"),
        (When, "fifth Mon 09:00", "is no cadence"),
        (When, "yearly 02-29 09:00", "'02-29' is no day of every year"),
        (When, "every 0 min", "'0 min' is no interval"),
        (When, "every 8 d", "'8 d' is no interval"),
        (When, 8, "8 is not text"),
        (TimeRange, "9-18", "is no range of hours"),
        (TimeRange, "09:00-24:30", "'24:30' is no time of day"),
        (TimeRange, "09:00-09:00", "ends before it begins"),
        (HolidayCountry, "USA!", "no holidays are known for 'USA!'"),
        (HolidayCountry, "US-XX", "no holidays are known for 'US-XX'"),
        (HolidayCountry, None, "None is not text"),
    ],
)
def test_what_says_nothing_is_refused_with_a_sentence(
    kind: type[When | TimeRange | HolidayCountry], text: object, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        kind.read(text)


def test_they_print_as_written_and_are_values() -> None:
    assert f"{When.read('first Mon 09:00')}" == "first Mon 09:00"
    assert len({When.read("daily 08:00"), When.read("daily 08:00")}) == 1
    assert dt.date(2026, 7, 3) in HolidayCountry.read("US"), "observed on the Friday before the Saturday"
    assert dt.date(2026, 2, 12) in HolidayCountry.read("US-NY")


def test_missed_and_late() -> None:
    eight = dt.datetime(2026, 11, 23, 13, tzinfo=dt.UTC)
    half_an_hour, second = Seconds(1800), dt.timedelta(seconds=1)
    limit = eight + dt.timedelta(minutes=30)
    assert standing(eight, None, limit, half_an_hour) is Standing.DUE
    assert standing(eight, None, limit + second, half_an_hour) is Standing.MISSED
    assert standing(eight, limit, limit + DAY, half_an_hour) is Standing.BEGUN
    assert standing(eight, limit + second, limit + DAY, half_an_hour) is Standing.LATE
    times = [eight - DAY, eight, eight + DAY]
    known = {eight - DAY: eight - DAY}
    stand = [due.standing for due in outstanding("check", times, known, limit + second, half_an_hour)]
    assert stand == [Standing.BEGUN, Standing.MISSED], "what is still to come is not outstanding"
