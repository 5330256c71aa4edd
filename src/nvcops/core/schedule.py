"""When procedures are due: the bank's calendar, time zones, and due / late / missed. The only module with a clock.

Times of day are wall times of the platform's zone. A time that a clock change skips is due at the first moment after
the gap; a time that exists twice is due once, the first time. What a closed day does to a due, and why, stands in
docs/decisions/schedule.md:

    every 6 h            elapsed time, counted from 1970-01-01 00:00 UTC: no clock change, no holiday touches it
    daily 08:00          every day, holidays too: health is looked at when nobody is in
    weekdays 08:00       days on which the bank is open: a closed day is skipped
    Mon,Wed 09:00        a Monday to Friday that is closed moves to the next open day; Sat and Sun are kept as written
    first Mon 09:00      the same: Labor Day's compliance review is on the Tuesday
    quarterly 09:00      the first open day of January, April, July, October
    yearly 03-15 09:00   that day, or the next open one; without a date the first open day of the year
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol, Self
from zoneinfo import ZoneInfo

from nvcops.core.units import Seconds

if TYPE_CHECKING:
    import holidays

DAY, SECOND = dt.timedelta(days=1), dt.timedelta(seconds=1)
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_ORDINALS = ("first", "second", "third", "fourth")
_TIME = r"(?P<time>\d\d:\d\d)"
_FORMS = {
    "never": re.compile("never"),
    "continuous": re.compile("continuous"),
    "every": re.compile(r"every (?P<interval>\d+ (?:min|h|d))"),
    "daily": re.compile(f"daily {_TIME}"),
    "weekdays": re.compile(f"weekdays {_TIME}"),
    "weekly": re.compile(rf"(?P<days>[A-Z][a-z]{{2}}(?:,[A-Z][a-z]{{2}})*) {_TIME}"),
    "monthly": re.compile(rf"(?P<ordinal>\w+) (?P<days>[A-Z][a-z]{{2}}) {_TIME}"),
    "quarterly": re.compile(f"quarterly {_TIME}"),
    "yearly": re.compile(rf"yearly (?:(?P<date>\d\d-\d\d) )?{_TIME}"),
}
_CLOSED_DAYS_MAX = 31  # a bank that is closed for longer is due on the day itself
_MOVED = (_CLOSED_DAYS_MAX + 2) * DAY
_HORIZONS = tuple(days * DAY for days in (2, 9, 45, 140, 800))


def now() -> dt.datetime:
    """The moment, in UTC."""
    return dt.datetime.now(dt.UTC)


class Written(str):
    """Text that was checked when it was read, and prints as it was written."""

    __slots__ = ()
    example: ClassVar[str] = ""

    @classmethod
    def read(cls, written: object) -> Self:
        """Check what a person wrote.

        Raises:
            ValueError: a sentence that says what is expected.
        """
        if not isinstance(written, str):
            raise ValueError(f'{written!r} is not text: it is written like "{cls.example}"')  # noqa: TRY004 - one error for the manifest
        checked = cls(written)
        checked.check()
        return checked

    def check(self) -> None:
        """Raise ValueError with a sentence when the text says nothing."""


class When(Written):
    """A cadence as the manifest writes it; the forms stand at the top of this module.

    >>> When.read("first Mon 09:00").form
    'monthly'
    >>> When.read("daily 8:00")
    Traceback (most recent call last):
    ValueError: 'daily 8:00' is no cadence: write "never", "continuous", "every 6 h", "daily 08:00", "weekdays 08:00", \
"Mon,Thu 09:00", "first Mon 09:00", "quarterly 09:00" or "yearly 03-15 09:00"
    """

    __slots__ = ()
    example: ClassVar[str] = "daily 08:00"

    def check(self) -> None:
        """Read it once."""
        _cadence(self)

    @property
    def form(self) -> str:
        """Which of the forms it is."""
        return _cadence(self).form


class TimeRange(Written):
    """Hours of the day, `"09:00-18:00"`: the first moment belongs to it, the last does not.

    >>> hours = TimeRange.read("09:00-18:00")
    >>> dt.time(9) in hours, dt.time(17, 59) in hours, dt.time(18) in hours
    (True, True, False)
    >>> TimeRange.read("18:00-09:00")
    Traceback (most recent call last):
    ValueError: '18:00-09:00' ends before it begins: write it like "09:00-18:00"
    """

    __slots__ = ()
    example: ClassVar[str] = "09:00-18:00"

    def check(self) -> None:
        """Two times, in order."""
        if not re.fullmatch(r"\d\d:\d\d-\d\d:\d\d", self):
            raise ValueError(f'{str(self)!r} is no range of hours: write it like "{self.example}"')
        if self.start >= self.end:
            raise ValueError(f'{str(self)!r} ends before it begins: write it like "{self.example}"')

    @property
    def start(self) -> dt.time:
        """The first moment."""
        return _time(self[:5])

    @property
    def end(self) -> dt.time:
        """The first moment after it."""
        return _time(self[6:])

    def __contains__(self, moment: object) -> bool:
        return isinstance(moment, dt.time) and self.start <= moment < self.end


class HolidayCountry(Written):
    """Whose public holidays close the bank: a country `"US"`, or a part of it `"US-NY"`.

    >>> dt.date(2026, 11, 26) in HolidayCountry.read("US")
    True
    >>> HolidayCountry.read("XX")
    Traceback (most recent call last):
    ValueError: no holidays are known for 'XX': write a country's code like "US", or with a part of it "US-NY"
    """

    __slots__ = ()
    example: ClassVar[str] = "US-NY"

    def check(self) -> None:
        """Ask for the table of one year."""
        try:
            _holidays(self)
        except (NotImplementedError, ValueError, KeyError) as error:
            raise ValueError(
                f"no holidays are known for {str(self)!r}: "
                'write a country\'s code like "US", or with a part of it "US-NY"'
            ) from error

    def __contains__(self, day: object) -> bool:
        return isinstance(day, dt.date) and day in _holidays(self)


class BankCalendar(Protocol):
    """The manifest's [calendar]."""

    @property
    def holidays(self) -> HolidayCountry | None: ...
    @property
    def closed(self) -> Sequence[dt.date]: ...
    @property
    def missed_after(self) -> Seconds: ...


def is_open(calendar: BankCalendar, day: dt.date) -> bool:
    """Whether the bank is open on a day: Monday to Friday, no holiday, not closed."""
    return day.weekday() < 5 and not is_holiday(calendar, day)


def is_holiday(calendar: BankCalendar, day: dt.date) -> bool:
    """Whether a day is a public holiday or one of the bank's own closed days."""
    return day in calendar.closed or (calendar.holidays is not None and day in calendar.holidays)


def due_times(
    when: When, calendar: BankCalendar, zone: ZoneInfo, start: dt.datetime, end: dt.datetime
) -> list[dt.datetime]:
    """Every moment at which a cadence is due, in UTC, from `start` (included) to `end` (not included), in order.

    >>> from types import SimpleNamespace
    >>> us = SimpleNamespace(holidays=HolidayCountry.read("US"), closed=(), missed_after=Seconds(1800))
    >>> start = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
    >>> labor_day = When.read("first Mon 09:00")
    >>> [str(due) for due in due_times(labor_day, us, ZoneInfo("America/New_York"), start, start + 30 * DAY)]
    ['2026-09-08 13:00:00+00:00']
    """
    cadence = _cadence(when)
    if cadence.interval:
        return list(_multiples(cadence.interval, start, end))
    if cadence.time is None:
        return []
    first, last = (start.astimezone(zone) - _MOVED).date(), (end.astimezone(zone) + DAY).date()
    days = {
        _held(cadence, calendar, first + n * DAY)
        for n in range((last - first).days + 1)
        if cadence.falls_on(calendar, first + n * DAY)
    }
    moments = {moment_of(day, cadence.time, zone) for day in days}
    return sorted(moment for moment in moments if start <= moment < end)


def next_due(when: When, calendar: BankCalendar, zone: ZoneInfo, after: dt.datetime) -> dt.datetime | None:
    """The first moment after `after` at which a cadence is due, in UTC; None for "never" and "continuous"."""
    start = after + dt.timedelta(microseconds=1)
    for horizon in _HORIZONS:
        found = due_times(when, calendar, zone, start, start + horizon)
        if found:
            return found[0]
    return None


class Standing(StrEnum):
    """How a due moment stands."""

    DUE = "due"
    BEGUN = "begun"
    LATE = "late"
    MISSED = "missed"


def standing(due: dt.datetime, begun: dt.datetime | None, moment: dt.datetime, missed_after: Seconds) -> Standing:
    """How a due moment stands: not begun within `missed_after` is missed, made up for after that is late.

    >>> eight = dt.datetime(2026, 11, 23, 13, tzinfo=dt.UTC)
    >>> minutes = lambda n: eight + dt.timedelta(minutes=n)
    >>> half_an_hour = Seconds(1800)
    >>> [standing(eight, None, minutes(n), half_an_hour).value for n in (0, 30, 31)]
    ['due', 'due', 'missed']
    >>> [standing(eight, minutes(n), minutes(90), half_an_hour).value for n in (0, 30, 31)]
    ['begun', 'begun', 'late']
    """
    deadline = due + dt.timedelta(seconds=missed_after)
    if begun is None:
        return Standing.DUE if moment <= deadline else Standing.MISSED
    return Standing.BEGUN if begun <= deadline else Standing.LATE


@dataclass(frozen=True, slots=True)
class Due:
    """A procedure's due moment, and how it stands."""

    procedure: str
    due: dt.datetime
    standing: Standing


def outstanding(
    procedure: str,
    times: Sequence[dt.datetime],
    begun: Mapping[dt.datetime, dt.datetime],
    moment: dt.datetime,
    missed_after: Seconds,
) -> Iterator[Due]:
    """The due moments up to `moment` and how each stands; `begun` says when the run of a due moment began."""
    for due in times:
        if due <= moment:
            yield Due(procedure, due, standing(due, begun.get(due), moment, missed_after))


def moment_of(day: dt.date, time: dt.time, zone: ZoneInfo) -> dt.datetime:
    """A wall time as a moment in UTC: the first where it exists twice, right after the gap where it does not exist.

    >>> new_york = ZoneInfo("America/New_York")
    >>> moment_of(dt.date(2026, 3, 8), dt.time(2, 30), new_york).isoformat()  # 02:00 to 03:00 was skipped
    '2026-03-08T07:00:00+00:00'
    >>> moment_of(dt.date(2026, 11, 1), dt.time(1, 30), new_york).isoformat()  # 01:00 to 02:00 came twice
    '2026-11-01T05:30:00+00:00'
    """
    wall = dt.datetime.combine(day, time, zone)
    moment = wall.astimezone(dt.UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return moment
    # In a gap the two readings of the wall time lie on both sides of the change: halve the distance down to a second.
    before, after = wall.replace(fold=1).astimezone(dt.UTC), moment
    offset = before.astimezone(zone).utcoffset()
    while after - before > SECOND:
        middle = max(before + SECOND, (before + (after - before) // 2).replace(microsecond=0))
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


@dataclass(frozen=True, slots=True)
class _Cadence:
    """A When, read."""

    form: str
    time: dt.time | None = None
    interval: dt.timedelta | None = None
    weekdays: frozenset[int] = frozenset()
    week: int = 0
    date: tuple[int, int] = (1, 1)

    def falls_on(self, calendar: BankCalendar, day: dt.date) -> bool:
        """Whether it stands on this day, before closed days move it."""
        return _FALLS_ON[self.form](self, calendar, day)


_FALLS_ON: Mapping[str, Callable[[_Cadence, BankCalendar, dt.date], bool]] = {
    "daily": lambda _cadence, _calendar, _day: True,
    "weekdays": lambda _cadence, calendar, day: is_open(calendar, day),
    "weekly": lambda cadence, _calendar, day: day.weekday() in cadence.weekdays,
    "monthly": lambda cadence, _calendar, day: day.weekday() in cadence.weekdays and (day.day - 1) // 7 == cadence.week,
    "quarterly": lambda _cadence, _calendar, day: day.day == 1 and day.month in (1, 4, 7, 10),
    "yearly": lambda cadence, _calendar, day: (day.month, day.day) == cadence.date,
}


def _held(cadence: _Cadence, calendar: BankCalendar, day: dt.date) -> dt.date:
    """The day on which it is held: closed days move it, except where the module's table says otherwise."""
    chosen_weekend = cadence.form in ("weekly", "monthly") and day.weekday() >= 5
    if cadence.form in ("daily", "weekdays") or chosen_weekend:
        return day
    later = (day + n * DAY for n in range(_CLOSED_DAYS_MAX + 1))
    return next((candidate for candidate in later if is_open(calendar, candidate)), day)


def _multiples(interval: dt.timedelta, start: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    moment = epoch - ((epoch - start) // interval) * interval
    while moment < end:
        yield moment
        moment += interval


def _time(written: str) -> dt.time:
    try:
        return dt.time.fromisoformat(written)
    except ValueError as error:
        raise ValueError(f"{written!r} is no time of day: write it like 08:00, up to 23:59") from error


@functools.lru_cache(maxsize=1000)
def _cadence(written: str) -> _Cadence:
    for form, pattern in _FORMS.items():
        if match := pattern.fullmatch(written):
            parts = match.groupdict()
            if form == "monthly" and parts["ordinal"] not in _ORDINALS:
                break
            return _Cadence(
                form,
                time=_time(parts["time"]) if "time" in parts else None,
                interval=_interval(parts["interval"]) if "interval" in parts else None,
                weekdays=frozenset(_weekday(day) for day in parts["days"].split(","))
                if "days" in parts
                else frozenset(),
                week=_ORDINALS.index(parts["ordinal"]) if "ordinal" in parts else 0,
                date=_date(parts.get("date") or "01-01"),
            )
    raise ValueError(
        f'{str(written)!r} is no cadence: write "never", "continuous", "every 6 h", "daily 08:00", "weekdays 08:00", '
        '"Mon,Thu 09:00", "first Mon 09:00", "quarterly 09:00" or "yearly 03-15 09:00"'
    )


def _interval(written: str) -> dt.timedelta:
    interval = dt.timedelta(seconds=Seconds.read(written))
    if not dt.timedelta(minutes=1) <= interval <= 7 * DAY:
        raise ValueError(f"{written!r} is no interval for a schedule: from 1 min to 7 d")
    return interval


def _weekday(written: str) -> int:
    if written not in _WEEKDAYS:
        raise ValueError(f"{written!r} is no day of the week: {', '.join(_WEEKDAYS)}")
    return _WEEKDAYS.index(written)


def _date(written: str) -> tuple[int, int]:
    try:
        day = dt.date.fromisoformat(
            f"2023-{written}"
        )  # a year without a 29th of February: a yearly date is in every year
    except ValueError as error:
        raise ValueError(f"{written!r} is no day of every year: write month and day like 03-15") from error
    return day.month, day.day


@functools.lru_cache(maxsize=100)
def _holidays(country: str) -> holidays.HolidayBase:
    import holidays

    code, _, part = country.partition("-")
    return holidays.country_holidays(code, subdiv=part or None)
