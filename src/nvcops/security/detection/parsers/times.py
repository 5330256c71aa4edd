"""Times as logs write them, to milliseconds since 1970: without a year or a zone, in the hour that exists twice."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from nvcops.core.detections import milliseconds
from nvcops.security.detection.parsers.lines import Malformed

_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # in every locale
_MONTHS = {name: at for at, name in enumerate(_NAMES, 1)}
_AHEAD = dt.timedelta(days=1)  # a clock may be ahead, a zone may be wrong; a year is not
_YEARS_BACK = 9  # the 29th of February comes back after 8 years at the latest
_LATE_MS = 5 * 60_000  # several writers do not write in order
_HOUR_MS = 3_600_000


def iso(written: str) -> int:
    """RFC 3339; without a zone it is UTC.

    >>> iso("1970-01-01T01:00:00.250+01:00"), iso("1970-01-01 00:00:01")
    (250, 1000)
    """
    time = dt.datetime.fromisoformat(written)
    if time.tzinfo is None:
        time = time.replace(tzinfo=dt.UTC)
    return round(time.timestamp() * 1000)


def month(name: str) -> int:
    """A month by its English name.

    >>> month("Jul")
    7
    """
    try:
        return _MONTHS[name]
    except KeyError:
        raise Malformed(f"{name!r} is no month") from None


class LocalTime:
    """Times of a zone, some without a year: they are the newest that is not after `near`, the moment of reading.

    >>> from nvcops.core.detections import instant
    >>> clock = LocalTime(ZoneInfo("Europe/Berlin"), dt.datetime(2027, 1, 1, 8, tzinfo=dt.UTC))
    >>> [instant(clock.syslog(text)).isoformat()[:16] for text in ("Dec 31 23:59:59", "Jan  1 00:30:00")]
    ['2026-12-31T22:59', '2026-12-31T23:30']
    """

    def __init__(self, zone: ZoneInfo, near: dt.datetime) -> None:
        self._zone = zone
        self._near = near
        self._written = ""
        self._known = 0
        self._newest = 0

    def syslog(self, written: str) -> int:
        """`Jul  1 12:00:00`, the second without a fraction that syslog has always had."""
        if written == self._written:
            return self._known
        name, day, clock = written.split()
        hour, minute, second = clock.split(":")
        parts = (month(name), int(day), int(hour), int(minute), min(int(second), 59))  # a leap second is the one before
        for back in range(-1, _YEARS_BACK):
            try:
                local = dt.datetime(self._near.year - back, *parts, tzinfo=self._zone)
            except ValueError:
                if back == _YEARS_BACK - 1:
                    raise
                continue
            if local <= self._near + _AHEAD:
                self._written, self._known = written, self.local(local)
                return self._known
        raise Malformed(f"{written!r} is no time")

    def local(self, time: dt.datetime) -> int:
        """A wall clock's time. In the hour that exists twice it is the second one once the first one is over."""
        time = time.replace(tzinfo=self._zone, fold=0)
        found = milliseconds(time)
        if found < self._newest - _LATE_MS:
            again = milliseconds(time.replace(fold=1))
            found = again if again - self._newest < _HOUR_MS else found
        self._newest = max(self._newest, found)
        return found
