"""Alertmanager's time intervals: when a route is muted, or only then active. Pure."""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Callable, Iterable, Sequence
from zoneinfo import ZoneInfo

import msgspec

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = tuple(
    name.lower()
    for name in (
        [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ]
    )
)
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_MINUTES_A_DAY = 24 * 60

Span = tuple[int, int]  # both ends belong to it


class TimeInterval(msgspec.Struct, frozen=True, kw_only=True):
    """A part of time: what is empty is every one of its kind. Minutes of the day are from (included) to (not)."""

    minutes: tuple[Span, ...] = ()
    weekdays: tuple[Span, ...] = ()  # Monday is 0
    days: tuple[Span, ...] = ()  # of the month; negative from its end, -1 is the last
    months: tuple[Span, ...] = ()
    years: tuple[Span, ...] = ()
    zone: str = "UTC"

    def holds(self, at: dt.datetime) -> bool:
        """Whether a moment belongs to it.

        >>> nights = TimeInterval(minutes=((0, 360),), zone="Europe/Berlin")
        >>> [nights.holds(dt.datetime(2026, 7, 1, hour, 30, tzinfo=dt.UTC)) for hour in (21, 22, 3, 4)]
        [False, True, True, False]
        """
        local = at.astimezone(ZoneInfo(self.zone))
        minute = local.hour * 60 + local.minute
        return (
            (not self.minutes or any(start <= minute < end for start, end in self.minutes))
            and _among(self.weekdays, local.weekday())
            and (not self.days or any(_on(span, local) for span in self.days))
            and _among(self.months, local.month)
            and _among(self.years, local.year)
        )


def _among(spans: Sequence[Span], value: int) -> bool:
    return not spans or any(start <= value <= end for start, end in spans)


def _on(span: Span, local: dt.datetime) -> bool:
    """Whether a day of the month is in a span; what lies beyond the month is cut to it."""
    last = calendar.monthrange(local.year, local.month)[1]
    first, end = (last + day + 1 if day < 0 else day for day in span)
    return first <= last and end >= 1 and max(1, first) <= local.day <= min(last, end)


def within(intervals: Iterable[TimeInterval], at: dt.datetime) -> bool:
    """Whether a moment belongs to any of them."""
    return any(interval.holds(at) for interval in intervals)


def read_duration(written: str) -> dt.timedelta:
    """A duration as Prometheus writes it.

    >>> str(read_duration("1h30m")), str(read_duration("0")), str(read_duration("250ms"))
    ('1:30:00', '0:00:00', '0:00:00.250000')
    >>> read_duration("5 min")
    Traceback (most recent call last):
    ValueError: '5 min' is no duration: write it like 30s, 5m, 1h30m, 7d

    Raises:
        ValueError: it is none.
    """
    match = _DURATION.fullmatch(written)
    if written == "0" or (match and any(match.groups())):
        factors = (_UNITS[unit] for unit in ("y", "w", "d", "h", "m", "s", "ms"))
        counts = match.groups() if match and written != "0" else ()
        seconds = sum(int(count or 0) * factor for count, factor in zip(counts, factors, strict=False))
        if seconds <= 10 * _UNITS["y"]:
            return dt.timedelta(seconds=seconds)
    raise ValueError(f"{written[:40]!r} is no duration: write it like 30s, 5m, 1h30m, 7d")


def read_minutes(start: str, end: str) -> Span:
    """Hours of the day.

    >>> read_minutes("09:00", "24:00")
    (540, 1440)
    >>> read_minutes("17:00", "09:00")
    Traceback (most recent call last):
    ValueError: 17:00 to 09:00 ends before it begins: over midnight, write two: 17:00 to 24:00 and 00:00 to 09:00
    """
    span = (_minute(start), _minute(end))
    if span[0] >= span[1]:
        raise ValueError(
            f"{start} to {end} ends before it begins: over midnight, write two: {start} to 24:00 and 00:00 to {end}"
        )
    return span


def _minute(written: str) -> int:
    match = re.fullmatch(r"(\d\d):(\d\d)", written)
    minute = int(match[1]) * 60 + int(match[2]) if match and int(match[2]) < 60 else -1
    if not 0 <= minute <= _MINUTES_A_DAY:
        raise ValueError(f"{written[:20]!r} is no time of day: 00:00 to 24:00")
    return minute


def read_weekdays(written: str) -> Span:
    """One day of the week, or from one to another.

    >>> read_weekdays("monday:friday"), read_weekdays("Saturday")
    ((0, 4), (5, 5))
    """
    start, end = _span(written, lambda day: _named(day, _DAYS, 0))
    return _ordered(written, start, end)


def read_months(written: str) -> Span:
    """One month, or from one to another, by name or number.

    >>> read_months("january:3"), read_months("december")
    ((1, 3), (12, 12))
    """
    start, end = _span(written, lambda month: int(month) if month.isdecimal() else _named(month, _MONTHS, 1))
    if not (1 <= start <= 12 and 1 <= end <= 12):
        raise ValueError(f"{written[:40]!r} is no month: 1 to 12, or by name")
    return _ordered(written, start, end)


def read_years(written: str) -> Span:
    """One year, or from one to another.

    >>> read_years("2026:2027")
    (2026, 2027)
    """
    return _ordered(written, *_span(written, _whole))


def read_days(written: str) -> Span:
    """Days of the month; negative ones count from its end.

    >>> read_days("1:5"), read_days("-3:-1")
    ((1, 5), (-3, -1))
    >>> read_days("-1:1")
    Traceback (most recent call last):
    ValueError: '-1:1' ends before it begins
    """
    start, end = _span(written, _whole)
    for day in (start, end):
        if not 1 <= abs(day) <= 31:
            raise ValueError(f"{written[:40]!r} is no day of the month: 1 to 31, or -31 to -1 from its end")
    if start < 0 < end:
        raise ValueError(f"{written[:40]!r} ends before it begins")
    return (start, end) if start > 0 > end else _ordered(written, start, end)


def _span(written: str, read: Callable[[str], int]) -> Span:
    start, colon, end = written.strip().lower().partition(":")
    return read(start.strip()), read((end if colon else start).strip())


def _named(written: str, names: Sequence[str], first: int) -> int:
    if written not in names:
        raise ValueError(f"{written[:40]!r} is none of {', '.join(names)}")
    return names.index(written) + first


def _whole(written: str) -> int:
    if not re.fullmatch(r"-?\d{1,4}", written):
        raise ValueError(f"{written[:40]!r} is no whole number")
    return int(written)


def _ordered(written: str, start: int, end: int) -> Span:
    if start > end:
        raise ValueError(f"{written[:40]!r} ends before it begins")
    return (start, end)
