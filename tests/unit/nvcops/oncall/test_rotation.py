"""Rotations: always exactly one person, through a year, over changes of the clock, whoever stands in."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Override
from nvcops.oncall.rotation import Shift, on_call, shifts

HOUR, DAY, INSTANT = dt.timedelta(hours=1), dt.timedelta(days=1), dt.timedelta(microseconds=1)
ZONES = ["America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]
HANDOVERS = ["Mon 09:00", "daily 02:30", "weekdays 09:00", "Mon,Thu 18:00", "every 12 h", "every 1 h", "daily 00:00"]
YEAR = dt.datetime(2026, 1, 1, 0, tzinfo=dt.UTC)
PEOPLE = ("dana", "omar", "lee")
Make = Callable[..., Manifest]


def rotation(handover: str, starts: str = "2026-01-05", people: str = '"dana", "omar", "lee"') -> str:
    return f"""
[[oncall.rotations]]
name = "primary"
people = [{people}]
handover = "{handover}"
starts = {starts}
"""


def override(person: str, starts: dt.datetime, ends: dt.datetime, made: int = 0) -> Override:
    return Override(
        id=f"{person}-{starts}-{made}",
        rotation="primary",
        person=person,
        starts=starts,
        ends=ends,
        author="omar",
        reason="test",
        created=YEAR + made * HOUR,
    )


def local(shift: Shift, zone: str) -> str:
    return f"{shift.person} {shift.starts.astimezone(ZoneInfo(zone)):%a %m-%d %H:%M %z}"


@pytest.mark.parametrize(
    ("zone", "around", "expected"),
    [
        (
            "America/New_York",
            dt.datetime(2026, 3, 8, tzinfo=dt.UTC),
            ["dana Sat 03-07 02:30 -0500", "omar Sun 03-08 03:00 -0400", "lee Mon 03-09 02:30 -0400"],
        ),
        (
            "Europe/Berlin",
            dt.datetime(2026, 10, 24, 12, tzinfo=dt.UTC),
            ["dana Sat 10-24 02:30 +0200", "omar Sun 10-25 02:30 +0200", "lee Mon 10-26 02:30 +0100"],
        ),
        (
            "Asia/Kolkata",
            dt.datetime(2026, 3, 7, 12, tzinfo=dt.UTC),
            ["dana Sat 03-07 02:30 +0530", "omar Sun 03-08 02:30 +0530", "lee Mon 03-09 02:30 +0530"],
        ),
    ],
)
def test_a_hand_over_in_a_night_of_a_change_of_the_clock(
    make: Make, zone: str, around: dt.datetime, expected: list[str]
) -> None:
    first = around.astimezone(ZoneInfo(zone)).date() - (around.astimezone(ZoneInfo(zone)).weekday() == 6) * DAY
    manifest = make(rotation("daily 02:30", starts=str(first)), zone=zone)
    start = dt.datetime.combine(first, dt.time(3, 30), ZoneInfo(zone))
    found = shifts(manifest, [], "primary", start, start + 2 * DAY)
    begins = [expected[0].replace("02:30", "00:00"), *expected[1:]]
    assert [local(shift, zone) for shift in found] == begins


def test_the_first_turn_begins_with_its_day_and_a_bank_holiday_moves_no_hand_over(make: Make) -> None:
    manifest = make(rotation("Mon 09:00", starts="2026-01-14"))
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    found = [local(shift, "America/New_York") for shift in shifts(manifest, [], "primary", start, start + 28 * DAY)]
    assert found == [
        "dana Wed 01-14 00:00 -0500",
        "omar Mon 01-19 09:00 -0500",  # Martin Luther King Jr. Day
        "lee Mon 01-26 09:00 -0500",
    ]
    assert on_call(manifest, [], dt.datetime(2026, 1, 14, 4, 59, tzinfo=dt.UTC)) == {}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("handover", HANDOVERS)
def test_in_a_year_everybody_takes_turns_without_a_gap_or_an_overlap(make: Make, zone: str, handover: str) -> None:
    manifest = make(rotation(handover, starts="2026-01-01"), zone=zone)
    begins = dt.datetime(2026, 1, 1, tzinfo=ZoneInfo(zone)).astimezone(dt.UTC)
    found = shifts(manifest, [], "primary", begins, begins + 365 * DAY)
    assert found[0].starts == begins
    assert all(one.ends == other.starts for one, other in pairwise(found))
    assert [shift.person for shift in found] == [PEOPLE[n % 3] for n in range(len(found))]
    assert found[-1].ends >= begins + 365 * DAY
    local_times = {shift.starts.astimezone(ZoneInfo(zone)).time() for shift in found[1:]}
    if not handover.startswith("every"):
        hour, minute = map(int, handover[-5:].split(":"))
        moved = {dt.time(3), dt.time(2, 30)} if handover == "daily 02:30" else set()
        assert local_times <= {dt.time(hour, minute)} | moved


@settings(max_examples=60, deadline=None)
@given(
    handover=st.sampled_from(HANDOVERS),
    zone=st.sampled_from(ZONES),
    spans=st.lists(
        st.tuples(st.sampled_from([*PEOPLE, "gone"]), st.integers(0, 24 * 365), st.integers(1, 24 * 31)), max_size=8
    ),
    hour=st.integers(72, 24 * 364),
)
def test_at_every_moment_exactly_one_person_has_a_rotation(
    make: Make, handover: str, zone: str, spans: list[tuple[str, int, int]], hour: int
) -> None:
    manifest = make(rotation(handover, starts="2026-01-01"), zone=zone)
    overrides = [
        override(person, YEAR + start * HOUR, YEAR + (start + hours) * HOUR, made)
        for made, (person, start, hours) in enumerate(spans)
    ]
    at = YEAR + hour * HOUR
    found = shifts(manifest, overrides, "primary", at - 2 * DAY, at + 2 * DAY)
    assert found[0].starts <= at - 2 * DAY
    assert found[-1].ends >= at + 2 * DAY
    assert all(one.starts < one.ends == other.starts for one, other in pairwise(found))
    covering = [shift for shift in found if shift.starts <= at < shift.ends]
    assert on_call(manifest, overrides, at) == {"primary": covering[0]}
    now = [one for one in overrides if one.starts <= at < one.ends and one.person != "gone"]
    plain = on_call(manifest, [], at)["primary"].person
    assert covering[0].person == (max(now, key=lambda one: one.created).person if now else plain)


def test_an_override_cuts_the_turn_in_three_and_says_for_whom(make: Make) -> None:
    manifest = make(rotation("Mon 09:00"))
    monday = dt.datetime(2026, 1, 12, 14, tzinfo=dt.UTC)
    stands_in = override("lee", monday + DAY, monday + 2 * DAY)
    found = shifts(manifest, [stands_in], "primary", monday, monday + 7 * DAY)
    assert [(shift.person, shift.starts, shift.instead_of) for shift in found] == [
        ("omar", monday, ""),
        ("lee", monday + DAY, "omar"),
        ("omar", monday + 2 * DAY, ""),
    ]


def test_what_cannot_be_asked_is_refused(make: Make) -> None:
    manifest = make(rotation("every 1 h"))
    start = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
    with pytest.raises(NotFoundError, match="there is no rotation 'third'"):
        shifts(manifest, [], "third", start, start + DAY)
    with pytest.raises(UsageError, match="more than 10,000 shifts"):
        shifts(manifest, [], "primary", start, start + 500 * DAY)
    with pytest.raises(UsageError, match="more than 50 years after"):
        on_call(manifest, [], dt.datetime(9000, 1, 1, tzinfo=dt.UTC))


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Asia/Kolkata"])
def test_a_year_is_looked_up_hour_by_hour(bank: Manifest, make: Make, zone: str) -> None:
    manifest = make(zone=zone) if zone != bank.platform.time_zone else bank
    overrides = [override(PEOPLE[n % 3], YEAR + n * 7 * DAY, YEAR + (n * 7 + 1) * DAY, n) for n in range(52)]
    began = time.perf_counter()
    hours = dict.fromkeys(PEOPLE, 0)
    for hour in range(24 * 6, 24 * 365):
        found = on_call(manifest, overrides, YEAR + hour * HOUR)
        assert set(found) == {"primary", "secondary"}
        hours[found["primary"].person] += 1
    print(f"{zone}: a year of {2 * sum(hours.values()):,} look-ups in {time.perf_counter() - began:.2f} s")
    assert all(2600 < count < 3200 for count in hours.values()), hours
