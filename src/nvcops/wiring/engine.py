"""From a look to a message: what is said becomes alert, incident, page and message in one transaction, then is sent."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Sequence

from nvcops.alerts import desk as alerts
from nvcops.alerts.intake import Said
from nvcops.alerts.own import mistake
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
_PUT_BACK = dt.timedelta(seconds=1)
_RETRY_S = 1.0
_OFFERED_MAX = 50_000
_ASIDE_MAX = 1_000
_ASIDE_FOR = dt.timedelta(minutes=1)


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
        self._last: dt.datetime | None = None  # when all that was due was done
        self._looked: dt.datetime | None = None  # when the records were last looked at
        self._aside: dict[str, Said] = {}
        self._aside_until = dt.datetime.min.replace(tzinfo=dt.UTC)

    def take(self, said: Sequence[Said]) -> int:
        """Take alerts in; they are durable, and what follows at once is decided, when it returns.

        Returns:
            How many were refused, because too many fire already.

        Raises:
            StateError: the records cannot be written: nothing was taken.
            UsageError: one of the alerts is none: nothing was taken.
        """
        try:
            refused = self._taken(said, ticks=True)
        except StateError:
            raise
        except Exception:  # noqa: BLE001 - what is due may be at fault: taken alone, it raises where these are
            refused = self._taken(said, ticks=False)
        self.wake()
        return refused

    def _taken(self, said: Sequence[Said], *, ticks: bool) -> int:
        with self._records.changing() as desk:
            at = schedule.now()
            refused = self._take(desk, said, at)
            if ticks:
                self._tick(desk, at)
        return refused

    def offer(self, said: Sequence[Said]) -> None:
        """Take alerts in soon: what the records cannot take now is kept, and tried again. The oldest go first."""
        with self._turn:
            self._offered += said
            if len(self._offered) > _OFFERED_MAX:
                self._say(f"the records cannot be written, alerts dropped: {len(self._offered) - _OFFERED_MAX:,}")
                del self._offered[:-_OFFERED_MAX]
            self._turn.notify()

    def change(self, decide: Callable[[Desk], object]) -> None:
        """Decide something in a transaction of its own, and look at what is due by it."""
        with self._records.changing() as desk:
            decide(desk)
        self.wake()

    def run(self, stop: threading.Event) -> None:
        """Take what is offered and do what is due, until `stop` is set."""
        due_s = 0.0
        while not stop.is_set():
            with self._turn:
                if not self._offered:
                    self._turn.wait(due_s)
                offered, self._offered = self._offered, []
            try:
                due_s = self._round(offered)
            except StateError as error:
                self._put_back(offered)
                self._say(f"{error.sentence}; trying again")
                stop.wait(_RETRY_S)

    def wake(self) -> None:
        """Look at once at what is due."""
        with self._turn:
            self._turn.notify()

    def alive(self, at: dt.datetime) -> bool:
        """Whether it did what was due within the last seconds."""
        return self._last is not None and at - self._last < _ALIVE_WITHIN

    def _round(self, offered: list[Said]) -> float:
        """Take what is offered, which then is gone from the list, and do what is due; seconds until more is."""
        at = schedule.now()
        stood_still, self._looked = not self._goes_on(at), None
        offered += self._set_aside(at)
        try:
            if stood_still:
                self.change(self._resume)
            with self._records.changing() as desk:
                if offered:
                    self._take(desk, offered, at)
                due = self._tick(desk, at)
            self._last, self._told = schedule.now(), ""
        except StateError:
            raise
        except Exception as error:  # noqa: BLE001 - one mistake shall not keep everything else from people
            self._apart(offered, error, at)
            due = None
        offered.clear()
        self._looked = schedule.now()  # a round that took long did not stand still
        return min(max((due - schedule.now()).total_seconds(), _PAUSE_S_MIN), _TICK_S_MAX) if due else _TICK_S_MAX

    def _goes_on(self, at: dt.datetime) -> bool:
        """Whether the last round was a moment ago: neither did anything stand still, nor was the clock put back."""
        return self._looked is not None and -_PUT_BACK < at - self._looked < _ALIVE_WITHIN

    def _resume(self, desk: Desk) -> None:
        at = schedule.now()
        alerts.resume(desk, at, manifest=self._manifest, routing=self._routing)
        paging.resume(desk, manifest=self._manifest, at=at)

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

    # When something raises that should not.

    def _apart(self, offered: list[Said], error: Exception, at: dt.datetime) -> None:
        """Each thing in a transaction of its own: what is refused is told, what raises is kept and is an alert.

        Raises:
            StateError: the records break down; what is still to be taken is what is left in the list.
        """
        faults = [] if isinstance(error, NvcopsError) else [error]
        while offered:
            fault = self._alone(offered[0], at)
            faults += [fault] if fault else []
            del offered[0]
        faults += [fault for part in self._parts(at) if (fault := self._try(part))]
        faults += self._groups_apart(at)
        if faults:
            self._tell_mistake(faults[-1], at)
        else:
            self._last = at

    def _alone(self, said: Said, at: dt.datetime) -> Exception | None:
        """Take one alert; where it is refused its sender is to be told, where it raises it is kept."""
        fault = self._try(lambda desk: self._take(desk, [said], at))
        if isinstance(fault, NvcopsError):
            self._say(fault.sentence)
            return None
        if fault and len(self._aside) < _ASIDE_MAX:
            self._aside[said.fingerprint], self._aside_until = said, at + _ASIDE_FOR
        return fault

    def _parts(self, at: dt.datetime) -> tuple[Callable[[Desk], object], ...]:
        return (
            lambda desk: paging.advance(desk, manifest=self._manifest, at=at),
            lambda desk: deadlines.advance(desk, manifest=self._manifest, at=at),
        )

    def _groups_apart(self, at: dt.datetime) -> list[Exception]:
        """Let one group speak after the other; one that raises waits a while, so that the others have their turn."""
        faults: list[Exception] = []
        for _ in range(alerts.GROUPS_MAX):
            fault = self._try(lambda desk: self._tick_one(desk, at))
            faults += [fault] if fault else []
            with self._records.changing() as desk:
                first = alerts.first_due(desk, at)
                if first is not None and fault:
                    alerts.put_off(desk, first, at)
            if first is None:
                break
        return faults

    def _tick_one(self, desk: Desk, at: dt.datetime) -> None:
        alerts.tick(desk, at, manifest=self._manifest, routing=self._routing, groups_max=1)

    def _try(self, part: Callable[[Desk], object]) -> Exception | None:
        """What it raised; the records' own trouble is raised."""
        try:
            with self._records.changing() as desk:
                part(desk)
        except StateError:
            raise
        except Exception as error:  # noqa: BLE001 - it is told, and the rest goes on
            return error
        return None

    def _tell_mistake(self, error: Exception, at: dt.datetime) -> None:
        self._say(
            f"a mistake of nvcops: {type(error).__name__}: {error}; what it kept from being decided is tried again"
        )
        said = mistake(error)
        self._try(lambda desk: self._take(desk, [said], at))

    def _set_aside(self, at: dt.datetime) -> list[Said]:
        """What raised, each minute once more."""
        if at < self._aside_until or not self._aside:
            return []
        found, self._aside = list(self._aside.values()), {}
        return found

    def _put_back(self, offered: Sequence[Said]) -> None:
        with self._turn:
            self._offered[:0] = offered

    def _say(self, sentence: str) -> None:
        if sentence != self._told:
            self._told = sentence
            self._notify(sentence)
