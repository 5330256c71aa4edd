"""Times as PostgreSQL writes them into its logs, with the abbreviation of log_timezone."""

from __future__ import annotations

import datetime as dt
import re
from zoneinfo import ZoneInfo

from nvcops.core.detections import milliseconds

_WRITTEN = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(\.\d+)? (\S+)")
_OFFSET = re.compile(r"([+-]\d\d)(?::?(\d\d))?")


class PostgresTime:
    """An abbreviation only means something in the platform's own zone, or in UTC."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._known: tuple[tuple[str, str], int] = (("", ""), 0)

    def milliseconds(self, written: str) -> int:
        """A time in milliseconds since 1970.

        >>> PostgresTime(ZoneInfo("UTC")).milliseconds("1970-01-01 00:00:01.25 GMT")
        1250
        """
        found = _WRITTEN.fullmatch(written)
        if found is None:
            raise ValueError(f"{written[:60]!r} is no time")
        second = (found[1], found[3])
        if second != self._known[0]:  # most lines stand beside one of the same second
            self._known = (second, milliseconds(self._read(*second)))
        return self._known[1] + (round(float(found[2]) * 1000) if found[2] else 0)

    def read(self, written: str) -> dt.datetime:
        """A time in UTC.

        >>> PostgresTime(ZoneInfo("America/New_York")).read("2026-07-01 08:00:00.250 EDT").isoformat()
        '2026-07-01T12:00:00.250000+00:00'
        >>> PostgresTime(ZoneInfo("UTC")).read("2026-07-01 08:00:00 +0530").isoformat()
        '2026-07-01T02:30:00+00:00'
        >>> PostgresTime(ZoneInfo("UTC")).read("2026-07-01 08:00:00 EDT")
        Traceback (most recent call last):
        ValueError: 'EDT' is no time zone of UTC
        """
        found = _WRITTEN.fullmatch(written)
        if found is None:
            raise ValueError(f"{written!r} is no time")
        fraction = dt.timedelta(seconds=float(found[2])) if found[2] else dt.timedelta()
        return self._read(found[1], found[3]) + fraction

    def _read(self, clock: str, zone: str) -> dt.datetime:
        naive = dt.datetime.fromisoformat(clock)
        if zone in ("UTC", "GMT", "Z"):
            return naive.replace(tzinfo=dt.UTC)
        if offset := _OFFSET.fullmatch(zone):
            minutes = int(offset[2] or 0) * (-1 if offset[1][0] == "-" else 1)
            at = dt.timezone(dt.timedelta(hours=int(offset[1]), minutes=minutes))
            return naive.replace(tzinfo=at).astimezone(dt.UTC)
        for fold in (0, 1):  # the hour that exists twice tells itself apart by the abbreviation
            local = naive.replace(tzinfo=self._zone, fold=fold)
            if local.tzname() == zone:
                return local.astimezone(dt.UTC)
        raise ValueError(f"{zone!r} is no time zone of {self._zone.key}")
