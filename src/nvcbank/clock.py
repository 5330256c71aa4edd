"""The bank's readings of time. The wall clock is read here and nowhere else."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """Wall-clock time in UTC, shifted by `offset_s` seconds: clock drills shift one instance."""

    def __init__(self, offset_s: float = 0.0) -> None:
        self.offset_s = offset_s
        self._second = -1
        self._prefix = ""

    def now(self) -> datetime:
        """The time of day as this instance reads it."""
        return datetime.now(UTC) + timedelta(seconds=self.offset_s)

    def stamp(self) -> str:
        """RFC 3339 in UTC with microseconds. The second's text is kept: log lines ask often."""
        reading = time.time() + self.offset_s
        second = int(reading)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((reading - second) * 1_000_000):06d}Z"


def rfc3339(moment: datetime) -> str:
    """Write a moment in UTC as RFC 3339.

    >>> rfc3339(datetime(2026, 3, 1, 8, 0, 0, 250, tzinfo=UTC))
    '2026-03-01T08:00:00.000250Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
