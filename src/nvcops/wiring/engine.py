"""From a look to a message: what is said becomes alert, incident, page and message in one transaction, then is sent."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Sequence

from nvcops.alerts import desk as alerts
from nvcops.alerts.intake import Said
from nvcops.alerts.routing import Routing
from nvcops.core import schedule
from nvcops.core.errors import NvcopsError, StateError
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk, Records
from nvcops.incidents import deadlines
from nvcops.oncall import paging

_TICK_S_MAX = 1.0
_PAUSE_S_MIN = 0.01
_ALIVE_WITHIN = dt.timedelta(seconds=15)
_RETRY_S = 1.0
_OFFERED_MAX = 50_000


class Engine:
    """The one place where alerts change while `nvcops serve` runs; others only decide about what is there."""

    def __init__(
        self,
        manifest: Manifest,
        records: Records,
        routing: Routing,
        *,
        notify: Callable[[str], None],
    ) -> None:
        self._manifest = manifest
        self._records = records
        self._routing = routing
        self._notify = notify
        self._offered: list[Said] = []
        self._turn = threading.Condition()
        self._told = ""
        self._last: dt.datetime | None = None

    def take(self, said: Sequence[Said]) -> int:
        """Take alerts in; they are durable, and what follows at once is decided, when it returns.

        Returns:
            How many were refused, because too many fire already.

        Raises:
            StateError: the records cannot be written: nothing was taken.
            UsageError: one of the alerts is none: nothing was taken.
        """
        with self._records.changing() as desk:
            at = schedule.now()
            refused = self._take(desk, said, at)
            self._tick(desk, at)
        self.wake()
        return refused

    def offer(self, said: Sequence[Said]) -> None:
        """Take alerts in soon: what the records cannot take now is kept, and tried again. The oldest go first."""
        with self._turn:
            self._offered += said
            if len(self._offered) > _OFFERED_MAX:
                self._say(f"{len(self._offered) - _OFFERED_MAX} alerts are dropped: the records cannot be written")
                del self._offered[:-_OFFERED_MAX]
            self._turn.notify()

    def change(self, decide: Callable[[Desk], object]) -> None:
        """Decide something in a transaction of its own, and look at what is due by it."""
        with self._records.changing() as desk:
            decide(desk)
        self.wake()

    def run(self, stop: threading.Event) -> None:
        """Take what is offered and do what is due, until `stop` is set."""
        due_s, resumed = 0.0, False
        while not stop.is_set():
            with self._turn:
                if not self._offered:
                    self._turn.wait(due_s)
                offered, self._offered = self._offered, []
            try:
                if not resumed:
                    self.change(self._resume)
                    resumed = True
                due_s = self._round(offered)
                self._told = ""
            except StateError as error:
                self._put_back(offered)
                self._say(f"{error.sentence}; trying again")
                stop.wait(_RETRY_S)
            except NvcopsError as error:
                self._say(error.sentence)
                self._one_by_one(offered)

    def wake(self) -> None:
        """Look at once at what is due."""
        with self._turn:
            self._turn.notify()

    def alive(self, at: dt.datetime) -> bool:
        """Whether it did what was due within the last seconds."""
        return self._last is not None and at - self._last < _ALIVE_WITHIN

    def _round(self, offered: Sequence[Said]) -> float:
        with self._records.changing() as desk:
            at = schedule.now()
            if offered:
                self._take(desk, offered, at)
            due = self._tick(desk, at)
        self._last = at
        return min(max((due - schedule.now()).total_seconds(), _PAUSE_S_MIN), _TICK_S_MAX) if due else _TICK_S_MAX

    def _resume(self, desk: Desk) -> None:
        alerts.resume(desk, schedule.now(), manifest=self._manifest, routing=self._routing)

    def _take(self, desk: Desk, said: Sequence[Said], at: dt.datetime) -> int:
        return alerts.take(desk, said, at, manifest=self._manifest, routing=self._routing).refused

    def _tick(self, desk: Desk, at: dt.datetime) -> dt.datetime | None:
        """Groups that are due speak, people that are due are asked, deadlines of incidents pass; when the next is."""
        due = (
            alerts.tick(desk, at, manifest=self._manifest, routing=self._routing),
            paging.advance(desk, manifest=self._manifest, at=at),
            deadlines.advance(desk, manifest=self._manifest, at=at),
        )
        return min((moment for moment in due if moment), default=None)

    def _one_by_one(self, offered: Sequence[Said]) -> None:
        """One of them is refused: the others are not lost with it, nor when the records break down in between."""
        for number, said in enumerate(offered if len(offered) > 1 else ()):
            try:
                self.take([said])
            except StateError as error:
                self._put_back(offered[number:])
                self._say(f"{error.sentence}; trying again")
                return
            except NvcopsError as error:
                self._say(error.sentence)

    def _put_back(self, offered: Sequence[Said]) -> None:
        with self._turn:
            self._offered[:0] = offered

    def _say(self, sentence: str) -> None:
        if sentence != self._told:
            self._told = sentence
            self._notify(sentence)
