"""The roster as a calendar that people subscribe to, and overrides out of a calendar file (RFC 5545)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

import icalendar
import msgspec

from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Override
from nvcops.core.records import Desk
from nvcops.core.schedule import moment_of
from nvcops.oncall.overrides import override
from nvcops.oncall.rotation import Shift, rotation_of, shifts, standing_overrides
from nvcops.oncall.texts import stamp

# --- Facts ---

FILE_BYTES_MAX = 1 << 20
EVENTS_MAX = 500
_DAY, _HOUR, _SECOND = dt.timedelta(days=1), dt.timedelta(hours=1), dt.timedelta(seconds=1)
_BROKEN = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError)
_SINGLE = ("RRULE", "RDATE", "EXDATE", "RECURRENCE-ID")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An override as a calendar's event says it, in UTC."""

    rotation: str
    person: str
    starts: dt.datetime
    ends: dt.datetime
    reason: str


def overrides_from(data: bytes, *, manifest: Manifest, at: dt.datetime, rotation: str = "") -> list[Wanted]:
    """The overrides that a calendar file asks for; what ended before `at` is passed over, what began begins at `at`.

    An event's summary is `omar`, or `primary: omar` where no `rotation` is given; a person by name or full name. A time
    without a zone is the platform's, a whole day goes from midnight to midnight there. Cancelled ones are passed over.

    Raises:
        UsageError: it is no calendar, an event repeats or says no end, or there is too much of it.
        NotFoundError: a rotation or a person that is not there.
    """
    found = []
    for event in _events(data):
        try:
            starts, ends = _times(event, ZoneInfo(manifest.platform.time_zone))
        except _BROKEN as error:
            raise _no_calendar(error) from error
        if str(event.get("STATUS", "")).upper() == "CANCELLED" or ends <= at:
            continue
        named, person = _who(manifest, str(event.get("SUMMARY", "")), rotation)
        said = str(event.get("DESCRIPTION", "")).strip().splitlines()
        reason = said[0][:200] if said and said[0].strip() else "from a calendar"
        found.append(Wanted(rotation=named, person=person, starts=max(starts, at), ends=ends, reason=reason))
    return sorted(found, key=lambda wanted: (wanted.rotation, wanted.starts))


def _events(data: bytes) -> list[icalendar.Event]:
    if len(data) > FILE_BYTES_MAX:
        hint = "export fewer events"
        raise UsageError(f"the calendar has {len(data):,} bytes, more than {FILE_BYTES_MAX:,}", hint=hint)
    try:
        calendar = icalendar.Calendar.from_ical(data)
        events = [part for part in calendar.walk("VEVENT") if isinstance(part, icalendar.Event)]
    except _BROKEN as error:
        raise _no_calendar(error) from error
    if len(events) > EVENTS_MAX:
        raise UsageError(f"the calendar has {len(events):,} events, more than {EVENTS_MAX}", hint="export fewer")
    return events


def _no_calendar(error: Exception) -> UsageError:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return UsageError(f"this is no calendar: {reason}", hint="an .ics file, as calendars export it")


def _times(event: icalendar.Event, zone: ZoneInfo) -> tuple[dt.datetime, dt.datetime]:
    name = f"the event {str(event.get('SUMMARY', ''))[:60]!r}"
    if any(part in event for part in _SINGLE):
        raise UsageError(f"{name} repeats", hint="an override is once: write each out as an event of its own")
    starts = _moment(event, "DTSTART", zone)
    length = getattr(event.get("DURATION"), "dt", None)
    ends = _moment(event, "DTEND", zone) or (starts + length if starts and isinstance(length, dt.timedelta) else None)
    if starts is None or ends is None:
        raise UsageError(f"{name} says no beginning or no end", hint="give DTSTART, and DTEND or DURATION")
    return starts, ends


def _moment(event: icalendar.Event, part: str, zone: ZoneInfo) -> dt.datetime | None:
    said = getattr(event.get(part), "dt", None)
    if isinstance(said, dt.datetime):
        if said.tzinfo is None:
            return moment_of(said.date(), said.time(), zone)
        return said.astimezone(dt.UTC)
    return moment_of(said, dt.time.min, zone) if isinstance(said, dt.date) else None


def _who(manifest: Manifest, summary: str, rotation: str) -> tuple[str, str]:
    before, colon, after = summary.partition(":")
    named, said = (before.strip(), after.strip()) if colon else (rotation, summary.strip())
    if not named:
        raise UsageError(f"the event {summary[:60]!r} says no rotation", hint='write "primary: omar", or name it')
    if rotation and named != rotation:
        raise UsageError(f"the event {summary[:60]!r} is of another rotation than {rotation!r}", hint="leave it out")
    known = [one.name for one in manifest.people if said.casefold() in (one.name, one.full_name.casefold())]
    if len(known) != 1:
        hint = f"there: {', '.join(person.name for person in manifest.people)}"
        raise NotFoundError(f"the event {summary[:60]!r} names nobody of [[people]]", hint=hint)
    return rotation_of(manifest, named).name, known[0]


# --- Rules ---

_BEHIND, _AHEAD = dt.timedelta(days=31), dt.timedelta(days=184)
OVERRIDES_SINCE = dt.timedelta(days=40)  # those that ended earlier touch no shift of the feed


def feed(
    manifest: Manifest,
    overrides: Sequence[Override],
    *,
    at: dt.datetime,
    rotation: str = "",
    person: str = "",
) -> bytes:
    """A calendar of the shifts around a moment, a month back and half a year ahead: of a rotation, a person, or all.

    `overrides` are those that ended after `at - OVERRIDES_SINCE`, so that an event keeps its bounds and its uid.

    Raises:
        NotFoundError: there is no such rotation or person.
    """
    if person and manifest.person(person) is None:
        raise NotFoundError(f"{person!r} is nobody in [[people]]", hint="names are those of platform.toml")
    names = [rotation_of(manifest, rotation).name] if rotation else [one.name for one in manifest.oncall.rotations]
    start, end = at - _BEHIND, at + _AHEAD
    found = [shift for name in names for shift in shifts(manifest, overrides, name, start, end)]
    if person:
        found = [shift for shift in found if shift.person == person]
    zone = ZoneInfo(manifest.platform.time_zone)
    calendar = icalendar.Calendar()
    calendar.add("prodid", "-//nvcops//on call//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add("x-wr-calname", f"On call: {person or rotation or manifest.platform.title}")
    calendar.add("x-published-ttl", "PT1H")
    if found and zone.key != "UTC":
        first, last = min(shift.starts for shift in found), max(shift.ends for shift in found)
        calendar.add_component(_time_zone(zone, first, last))
    for shift in sorted(found, key=lambda shift: (shift.starts, shift.rotation)):
        calendar.add_component(_event(manifest, shift, zone, at))
    written: bytes = calendar.to_ical()
    return written


def _event(manifest: Manifest, shift: Shift, zone: ZoneInfo, at: dt.datetime) -> icalendar.Event:
    full_names = {person.name: person.full_name for person in manifest.people}
    event = icalendar.Event()
    event.add("uid", f"{shift.rotation}-{stamp(shift.starts)}@{manifest.platform.name}")
    event.add("dtstamp", at.astimezone(dt.UTC))
    event.add("dtstart", _written(shift.starts, zone))
    event.add("dtend", _written(shift.ends, zone))
    event.add("summary", f"On call ({shift.rotation}): {full_names.get(shift.person, shift.person)}")
    if shift.instead_of:
        event.add("description", f"instead of {full_names.get(shift.instead_of, shift.instead_of)}")
    event.add("transp", "TRANSPARENT")
    return event


def _written(moment: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """A moment as it is written: in the zone, but in UTC where the zone's clock shows that time twice."""
    local = moment.astimezone(zone)
    twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return moment.astimezone(dt.UTC) if twice or zone.key == "UTC" else local


def _time_zone(zone: ZoneInfo, first: dt.datetime, last: dt.datetime) -> icalendar.Timezone:
    """A VTIMEZONE that holds for the moments between: each change of the clock begins at the time that it showed."""
    component = icalendar.Timezone()
    component.add("tzid", zone.key)
    begins = dt.datetime(first.year, 1, 1, tzinfo=dt.UTC) - _DAY
    for change in (begins, *_changes(zone, begins, last + _DAY)):
        before, after = (change - _SECOND).astimezone(zone), change.astimezone(zone)
        part = icalendar.TimezoneDaylight() if after.dst() else icalendar.TimezoneStandard()
        offset = before.utcoffset() or dt.timedelta()
        part.add("dtstart", change.replace(tzinfo=None) + offset)
        part.add("tzoffsetfrom", offset)
        part.add("tzoffsetto", after.utcoffset() or dt.timedelta())
        part.add("tzname", after.tzname() or zone.key)
        component.add_component(part)
    return component


def _changes(zone: ZoneInfo, start: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
    """When a zone's clock is changed, to the second, in UTC."""
    day = start
    while day < end:
        if day.astimezone(zone).utcoffset() != (day + _DAY).astimezone(zone).utcoffset():
            low, high = day, day + _DAY
            while high - low > _SECOND:
                middle = low + ((high - low) // 2 // _SECOND or 1) * _SECOND
                same = middle.astimezone(zone).utcoffset() == day.astimezone(zone).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            yield high
        day += _DAY


# --- Procedures ---


def take_in(
    desk: Desk, *, manifest: Manifest, data: bytes, author: str, at: dt.datetime, rotation: str = ""
) -> list[Override]:
    """Enter the overrides of a calendar file, all of them or none; those that are there already stay as they are.

    What is missing in the file cancels nothing.

    Raises:
        UsageError, NotFoundError: see `overrides_from` and `overrides.check`.
    """
    standing = standing_overrides(desk, at)
    made = []
    for wanted in overrides_from(data, manifest=manifest, at=at, rotation=rotation):
        there = [one for one in standing if _is_there(one, wanted)]
        made += there or [
            override(
                desk,
                manifest=manifest,
                rotation=wanted.rotation,
                person=wanted.person,
                starts=wanted.starts,
                ends=wanted.ends,
                author=author,
                reason=wanted.reason,
                at=at,
            )
        ]
    return made


def _is_there(one: Override, wanted: Wanted) -> bool:
    """Whether an override is what an event asks for, which may have begun meanwhile."""
    same = (one.rotation, one.person, one.ends) == (wanted.rotation, wanted.person, wanted.ends)
    return same and one.starts <= wanted.starts
