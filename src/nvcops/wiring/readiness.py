"""Whether pages can be recorded: said loudly while they cannot, for as long as that is so."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from nvcops.core import schedule
from nvcops.core.errors import NvcopsError
from nvcops.core.oncall import Page
from nvcops.core.records import Records
from nvcops.core.units import Seconds

LOOK_EVERY_S = 2.0
_SAY_AGAIN = dt.timedelta(minutes=1)


class Readiness:
    """Looks now and then whether the engine decides; a fault is said at once, each minute, and when it is over.

    `alive` says whether the engine did what was due within the last seconds.
    """

    name = "readiness"

    def __init__(self, records: Records, alive: Callable[[dt.datetime], bool], notify: Callable[[str], None]) -> None:
        self._records = records
        self._alive = alive
        self._notify = notify
        self._begun = schedule.now()
        self._since: dt.datetime | None = None
        self._said: dt.datetime | None = None

    def trouble(self) -> str:
        """Why no page can be recorded now; empty: they can."""
        at = schedule.now()
        if self._alive(at):
            return ""
        try:
            with self._records.reading() as reading:
                reading.count(Page)
        except NvcopsError as error:
            return f"pages cannot be recorded: {error.sentence}"
        return "pages cannot be recorded: nothing was decided for some seconds"

    def __call__(self) -> None:
        """Look, and say what must be known."""
        at, why = schedule.now(), self.trouble()
        if not why:
            if self._said is not None and self._since is not None:
                self._notify(f"pages can be recorded again, after {Seconds((at - self._since).total_seconds())}")
            self._since = self._said = None
            return
        self._since = self._since or at
        if self._since is at and at - self._begun < dt.timedelta(seconds=LOOK_EVERY_S):
            return  # it has only just begun
        if self._said is None or at - self._said >= _SAY_AGAIN:
            self._said = at
            self._notify(f"CRITICAL: {why}; nobody is paged until they can, the watch and the runbook go on")
