"""Calendars: what others read in our feed is the roster, to the second, and what they write is checked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from zoneinfo import ZoneInfo

import icalendar
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from desk import MemoryDesk
from nvcops.core.errors import NotFoundError, NvcopsError, UsageError
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Override
from nvcops.oncall import ical
from nvcops.oncall.rotation import shifts

Make = Callable[..., Manifest]
DAY = dt.timedelta(days=1)
ROTATION = """
[[oncall.rotations]]
name = "primary"
people = ["dana", "omar"]
handover = "{handover}"
starts = 2026-01-05
"""


def offset_in(part: icalendar.Component, moment: dt.datetime) -> dt.timedelta:
    """The offset of a VTIMEZONE at a moment, read as the standard says: an onset is in the time before it."""
    onsets = [
        (rule["DTSTART"].dt - rule["TZOFFSETFROM"].td, rule["TZOFFSETTO"].td)
        for rule in part.subcomponents
        if rule["DTSTART"].dt - rule["TZOFFSETFROM"].td <= moment.replace(tzinfo=None)
    ]
    return max(onsets)[1]


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"])
@pytest.mark.parametrize("month", [1, 3, 5, 9, 11])
def test_the_time_zone_of_a_feed_says_what_the_clocks_show(make: Make, zone: str, month: int) -> None:
    manifest = make(ROTATION.format(handover="daily 09:00"), zone=zone)
    at = dt.datetime(2026, month, 1, tzinfo=dt.UTC)
    calendar = icalendar.Calendar.from_ical(ical.feed(manifest, [], at=at))
    zones = calendar.walk("VTIMEZONE")
    assert [str(part["TZID"]) for part in zones] == ([] if zone == "UTC" else [zone])
    shown = shifts(manifest, [], "primary", at - 31 * DAY, at + 184 * DAY)
    for hour in range(0, 24 * 200, 1) if zones else ():
        moment = shown[0].starts + dt.timedelta(hours=hour)
        assert offset_in(zones[0], moment) == moment.astimezone(ZoneInfo(zone)).utcoffset(), moment


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "UTC"])
@pytest.mark.parametrize("handover", ["daily 01:30", "daily 02:30", "every 12 h", "Mon 09:00"])
def test_the_feed_is_the_roster(make: Make, zone: str, handover: str) -> None:
    manifest = make(ROTATION.format(handover=handover), zone=zone)
    at = dt.datetime(2026, 10, 20, tzinfo=dt.UTC)
    events = icalendar.Calendar.from_ical(ical.feed(manifest, [], at=at, rotation="primary")).walk("VEVENT")
    wanted = shifts(manifest, [], "primary", at - 31 * DAY, at + 184 * DAY)
    read = [(event["DTSTART"].dt.astimezone(dt.UTC), event["DTEND"].dt.astimezone(dt.UTC)) for event in events]
    assert read == [(shift.starts, shift.ends) for shift in wanted]
    assert len({str(event["UID"]) for event in events}) == len(wanted)
    names = {"dana": "Dana Whitfield", "omar": "Omar Castellanos"}
    assert [str(event["SUMMARY"]) for event in events] == [f"On call (primary): {names[s.person]}" for s in wanted]


def test_a_person_s_feed_has_their_shifts_and_for_whom_they_stand_in(bank: Manifest, monday: dt.datetime) -> None:
    stands_in = Override(
        id="o",
        rotation="primary",
        person="lee",
        starts=monday + DAY,
        ends=monday + 2 * DAY,
        author="omar",
        reason="x",
        created=monday,
    )
    calendar = icalendar.Calendar.from_ical(ical.feed(bank, [stands_in], at=monday, person="lee"))
    first = calendar.walk("VEVENT")[0]
    assert str(first["DESCRIPTION"]) == "instead of Dana Whitfield"
    assert all("Lee Park" in str(event["SUMMARY"]) for event in calendar.walk("VEVENT"))
    with pytest.raises(NotFoundError):
        ical.feed(bank, [], at=monday, person="mallory")
    with pytest.raises(NotFoundError):
        ical.feed(bank, [], at=monday, rotation="third")


def file_of(*events: str) -> bytes:
    whole = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN"]
    for number, event in enumerate(events):
        lines = event.strip().splitlines()
        whole += ["BEGIN:VEVENT", f"UID:{number}", "DTSTAMP:20260101T000000Z", *map(str.strip, lines), "END:VEVENT"]
    return "\r\n".join([*whole, "END:VCALENDAR", ""]).encode()


UTC_EVENT = "SUMMARY:primary: omar\nDTSTART:20260110T120000Z\nDTEND:20260111T120000Z\nDESCRIPTION:a wedding"


def test_overrides_are_read_in_every_form_of_time(bank: Manifest, monday: dt.datetime) -> None:
    found = ical.overrides_from(
        file_of(
            UTC_EVENT,
            "SUMMARY:secondary: Lee Park\nDTSTART;TZID=Europe/Berlin:20260112T090000\nDURATION:PT8H",
            "SUMMARY:primary: lee\nDTSTART;VALUE=DATE:20260115\nDTEND;VALUE=DATE:20260116",
            "SUMMARY:primary: dana\nDTSTART:20260117T090000\nDTEND:20260117T170000",
            "SUMMARY:primary: dana\nDTSTART:20250117T090000\nDTEND:20250117T170000",
            "SUMMARY:primary: dana\nDTSTART:20260118T090000Z\nDTEND:20260118T170000Z\nSTATUS:CANCELLED",
            "SUMMARY:primary: omar\nDTSTART:20260105T120000Z\nDTEND:20260105T200000Z",
        ),
        manifest=bank,
        at=monday,
    )
    assert [(w.rotation, w.person, f"{w.starts:%d %H:%M}", f"{w.ends:%d %H:%M}", w.reason) for w in found] == [
        ("primary", "omar", "05 15:00", "05 20:00", "from a calendar"),
        ("primary", "omar", "10 12:00", "11 12:00", "a wedding"),
        ("primary", "lee", "15 05:00", "16 05:00", "from a calendar"),
        ("primary", "dana", "17 14:00", "17 22:00", "from a calendar"),
        ("secondary", "lee", "12 08:00", "12 16:00", "from a calendar"),
    ]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "this is no calendar"),
        (b"\xff\xfe not a calendar", "this is no calendar"),
        (file_of("SUMMARY:primary: omar\nDTSTART:2026-01-10\nDTEND:never"), "this is no calendar: .*2026-01-10"),
        (file_of("SUMMARY:primary: omar\nDTSTART:20260110T120000Z"), "says no beginning or no end"),
        (file_of(UTC_EVENT + "\nRRULE:FREQ=DAILY"), "repeats"),
        (file_of(UTC_EVENT.replace("primary: ", "")), "says no rotation"),
        (file_of(UTC_EVENT.replace("omar", "mallory")), "names nobody"),
        (file_of(UTC_EVENT.replace("primary", "third")), "there is no rotation 'third'"),
        (file_of(*[UTC_EVENT] * 501), "501 events"),
        (b" " * ((1 << 20) + 1), "more than 1,048,576"),
    ],
)
def test_a_file_that_is_no_list_of_overrides_is_refused(
    bank: Manifest, monday: dt.datetime, data: bytes, sentence: str
) -> None:
    with pytest.raises((UsageError, NotFoundError), match=sentence):
        ical.overrides_from(data, manifest=bank, at=monday)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=6)), max_size=4))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    bank: Manifest, monday: dt.datetime, noise: list[tuple[int, bytes]]
) -> None:
    data = file_of(UTC_EVENT, "SUMMARY:secondary: lee\nDTSTART;TZID=Europe/Berlin:20260112T090000\nDURATION:PT8H")
    for place, what in noise:
        data = data[:place] + what + data[place + len(what) // 2 :]
    try:
        found = ical.overrides_from(data, manifest=bank, at=monday)
    except NvcopsError:
        return
    assert all(wanted.rotation in ("primary", "secondary") for wanted in found)


def test_a_file_is_taken_in_once_and_wholly_or_not_at_all(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    def take_in(data: bytes, at: dt.datetime) -> list[Override]:
        return ical.take_in(desk, manifest=bank, data=data, author="dana", at=at)

    made = take_in(file_of(UTC_EVENT), monday)
    assert [(one.person, one.author, one.reason) for one in made] == [("omar", "dana", "a wedding")]
    assert take_in(file_of(UTC_EVENT), monday + DAY) == made
    assert take_in(file_of(UTC_EVENT), made[0].starts + DAY / 2) == made
    overlapping = UTC_EVENT.replace("0110T", "0109T").replace("omar", "lee")
    with pytest.raises(UsageError, match="stands in for primary"):
        take_in(file_of(overlapping), monday)
    assert desk.every(Override) == made
