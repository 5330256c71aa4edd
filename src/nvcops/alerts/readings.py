"""What is counted in the windows of one moment, read once for all rules; and how the objectives stand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from nvcops.alerts.indicators import Count, Rises, Share, share_of
from nvcops.core.alerts import Matcher
from nvcops.core.errors import DeadlineExceeded, StateError, TargetError, Unreachable
from nvcops.core.manifest import Manifest, ObjectiveEntry
from nvcops.core.slo import NOTHING, Budget, Events, Exclusion, left_out
from nvcops.core.target import Increase, Metrics, Sample, ScrapeSummary
from nvcops.core.units import Seconds
from nvcops.core.watch import WATCHED

T = TypeVar("T")

# --- Facts ---

_TICK = dt.timedelta(milliseconds=1)  # windows are (start, end]: what was seen at the moment itself counts
_GRID_S = 300
_LONG = dt.timedelta(hours=6)
_Key = tuple[str, str, dt.datetime, dt.datetime]


class Whole:
    """What rose in the whole 5 minutes of long windows, kept from one moment to the next.

    Three days are not added up again each 15 seconds. What is booked late into the past is seen 5 minutes later.
    """

    def __init__(self) -> None:
        self._until = dt.datetime.min.replace(tzinfo=dt.UTC)
        self._increases: dict[_Key, list[Increase]] = {}

    def increases(self, metrics: Metrics, key: _Key, until: dt.datetime) -> list[Increase]:
        """Those of a window whose bounds are whole; `until` is the last whole 5 minutes of the moment."""
        if until != self._until:
            self._until, self._increases = until, {}
        if key not in self._increases:
            self._increases[key] = _between(metrics, key)
        return self._increases[key]


class Readings:
    """The series as they stand at a moment. Every method raises TargetError or StateError where nothing is known."""

    def __init__(
        self, metrics: Metrics, at: dt.datetime, exclusions: Iterable[Exclusion] = (), whole: Whole | None = None
    ) -> None:
        self.at = at
        self._metrics, self._exclusions = metrics, tuple(exclusions)
        self._whole = whole or Whole()
        self._increases: dict[_Key, list[Increase]] = {}
        self._scrapes: dict[tuple[str, dt.datetime, dt.datetime], ScrapeSummary] = {}
        self._silent: dict[str, TargetError | StateError] = {}

    def ago(self, seconds: float) -> dt.datetime:
        """The moment so long before this one."""
        return self.at - dt.timedelta(seconds=seconds)

    def counted(self, count: Count, start: dt.datetime, end: dt.datetime) -> float | None:
        """How much was counted; None where there is no such series at all."""
        if isinstance(count, Rises):
            meant = [rise for rise in self._rises(count, start, end) if _matches(rise.labels, count.matchers)]
            return sum(rise.value for rise in meant) if meant else None
        scrapes = self._scraped(count.service, start, end)
        return scrapes.ready if count.ready else scrapes.asked

    def events(self, share: Share, start: dt.datetime, end: dt.datetime) -> Events | None:
        """What was counted of a share, as it was; None where a series that it needs is not there."""
        total, part = self.counted(share.total, start, end), self.counted(share.part, start, end)
        if total is None or (part is None and share.needed):
            return None
        part = part or 0.0
        return Events(total, part if share.kind == "bad" else max(total - part, 0.0))

    def corrected(self, share: Share, start: dt.datetime, end: dt.datetime) -> Events | None:
        """The same without what approved changes took of it."""
        events = self.events(share, start, end)
        for low, high in self.spans(share, start, end) if events else ():
            events = events - (self.events(share, low, high) or NOTHING) if events else None
        return events

    def spans(self, share: Share, start: dt.datetime, end: dt.datetime) -> list[tuple[dt.datetime, dt.datetime]]:
        """What of a window approved changes took."""
        return left_out(self._exclusions, share.total.service, start, end)

    def changes(self, service: str, start: dt.datetime, end: dt.datetime) -> tuple[str, ...]:
        """Which approved changes took it."""
        took = [change for change in self._exclusions if left_out([change], service, start, end)]
        return tuple(sorted({change.change for change in took}))

    def page_read(self, service: str) -> dt.datetime | None:
        """When a page of a service's metrics was last read."""
        pages = self._metrics.scrapes(service, self.at, self.at + _TICK).pages
        return max(pages.values(), default=None)

    def samples(self, service: str, series: str, matchers: Sequence[Matcher], within_s: float) -> list[Sample]:
        """The newest readings of gauges within a time."""
        found = self._asked(
            service, lambda: self._metrics.samples(service, series, self.ago(within_s), self.at + _TICK)
        )
        return [sample for sample in found if _matches(sample.labels, matchers)]

    def _rises(self, count: Rises, start: dt.datetime, end: dt.datetime) -> list[Increase]:
        key = (count.service, count.series, start, end)
        if key not in self._increases:
            read = self._long if end - start > _LONG else lambda key: _between(self._metrics, key)
            self._increases[key] = self._asked(count.service, lambda: read(key))
        return self._increases[key]

    def _asked(self, service: str, read: Callable[[], T]) -> T:
        """What is read; a server that did not answer is not waited for again by every other rule of this moment."""
        place = service if service == WATCHED else ""  # our own figures are kept elsewhere
        if place in self._silent:
            raise self._silent[place]
        try:
            return read()
        except (DeadlineExceeded, Unreachable, StateError) as error:
            self._silent[place] = error
            raise

    def _long(self, key: _Key) -> list[Increase]:
        """The whole 5 minutes of a long window, and its two edges."""
        service, series, start, end = key
        low, high = _grid(start + dt.timedelta(seconds=_GRID_S) - _TICK), _grid(end)
        rises = self._whole.increases(self._metrics, (service, series, low, high), _grid(self.at))
        for first, last in ((start, low), (high, end)):
            rises = [*rises, *_between(self._metrics, (service, series, first, last))] if first < last else rises
        return rises

    def _scraped(self, service: str, start: dt.datetime, end: dt.datetime) -> ScrapeSummary:
        key = (service, start, end)
        if key not in self._scrapes:
            self._scrapes[key] = self._metrics.scrapes(service, start + _TICK, end + _TICK)
        return self._scrapes[key]


def _between(metrics: Metrics, key: _Key) -> list[Increase]:
    service, series, start, end = key
    return metrics.increases(service, series, start + _TICK, end + _TICK)


def _grid(moment: dt.datetime) -> dt.datetime:
    """The last whole 5 minutes.

    >>> _grid(dt.datetime(2026, 1, 1, 12, 34, 56, tzinfo=dt.UTC)).isoformat()
    '2026-01-01T12:30:00+00:00'
    """
    return dt.datetime.fromtimestamp(moment.timestamp() // _GRID_S * _GRID_S, dt.UTC)


def _matches(labels: dict[str, str], matchers: Sequence[Matcher]) -> bool:
    return all(matcher.matches(labels) for matcher in matchers)


def budgets(
    manifest: Manifest, metrics: Metrics, at: dt.datetime, exclusions: Iterable[Exclusion] = ()
) -> list[Budget]:
    """How each objective stands over its window, as it was and corrected.

    Raises:
        TargetError, StateError: nothing is known.
    """
    readings = Readings(metrics, at, exclusions)
    return [_budget(objective, manifest, readings) for objective in manifest.slos]


def _budget(objective: ObjectiveEntry, manifest: Manifest, readings: Readings) -> Budget:
    service = next(service for service in manifest.services if service.name == objective.service)
    share, start, end = share_of(objective, service), readings.ago(objective.window), readings.at
    spans = readings.spans(share, start, end)
    return Budget(
        objective=objective.name,
        service=objective.service,
        target=objective.target,
        window=objective.window,
        raw=readings.events(share, start, end) or NOTHING,
        corrected=readings.corrected(share, start, end) or NOTHING,
        left_out_s=Seconds(sum((high - low).total_seconds() for low, high in spans)),
        changes=readings.changes(objective.service, start, end),
    )
