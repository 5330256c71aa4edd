"""Which rules fire at a moment: three-valued verdicts, `hold`, and what keeps firing while nothing is known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec

from nvcops.alerts.readings import Readings, Whole
from nvcops.alerts.rules import BAD_MIN, Beyond, Condition, Exceeds, Falls, Rule, Uncounted, Unread
from nvcops.alerts.said import RULES, Said
from nvcops.core.alerts import ALERTNAME, Alert, fingerprint
from nvcops.core.errors import StateError, TargetError
from nvcops.core.slo import Events, Exclusion
from nvcops.core.target import Metrics
from nvcops.core.units import Count, Seconds

SOURCE = RULES
RESOLVED_FOR = dt.timedelta(minutes=5)  # an end is said for so long, lest one that was not written down is lost
_HALF = 0.5  # counts are whole; a Prometheus extrapolates them, so that bounds lie between two

# --- Rules ---


class Judged(msgspec.Struct, frozen=True):
    """What a condition makes of the readings: it holds, it does not, or (None) nothing is known.

    `value` is the figure that it is about, `seen` a sentence part for people.
    """

    holds: bool | None
    value: float | None = None
    seen: str = ""


def judge(condition: Condition, readings: Readings) -> Judged:
    """Whether a condition holds; what cannot be read is unknown, and is itself what `missing` rules look for."""
    try:
        match condition:
            case Exceeds():
                return _exceeds(condition, readings)
            case Falls():
                return _falls(condition, readings)
            case Beyond():
                return _beyond(condition, readings)
            case Unread() | Uncounted():
                return _missing(condition, readings)
    except (TargetError, StateError) as error:
        blind = isinstance(condition, Unread | Uncounted)
        return Judged(True if blind else None, seen=error.sentence)


def _exceeds(condition: Exceeds, readings: Readings) -> Judged:
    share, end = condition.share, readings.at
    read = readings.corrected if condition.corrected else readings.events
    windows = [(seconds, read(share, readings.ago(seconds), end)) for seconds in condition.windows]
    if condition.aged and not _aged(condition, readings):
        return Judged(None)
    parts, holds = [], True
    for number, (seconds, events) in enumerate(windows):
        bad = events.bad_share if events else None
        if events is None or bad is None or (number == 0 and events.total <= condition.events_min - _HALF):
            return Judged(None)
        holds &= bad > condition.threshold and (number > 0 or events.bad > BAD_MIN - _HALF)
        parts.append(_seen(events, seconds))
    long_s, last = condition.windows[0], windows[-1][1]
    changes = readings.changes(share.total.service, readings.ago(long_s), end) if condition.corrected else ()
    if changes and (raw := readings.events(share, readings.ago(long_s), end)):
        parts.append(f"with what {', '.join(changes)} took {_seen(raw, long_s)}")
    return Judged(holds, last.bad_share if last else None, "; ".join(parts))


def _aged(condition: Exceeds, readings: Readings) -> bool:
    """Whether something was counted long ago: else the longest window would be judged by its last minutes."""
    start, end = readings.ago(condition.windows[0]), readings.ago(condition.aged)
    return (readings.counted(condition.share.total, start, end) or 0.0) > _HALF


def _seen(events: Events, seconds: Seconds) -> str:
    return f"{events.bad_share} of {Count(events.total)} over {Seconds(seconds)}"


def _falls(condition: Falls, readings: Readings) -> Judged:
    then = readings.ago(condition.window)
    now = readings.events(condition.share, then, readings.at)
    before = readings.events(condition.share, readings.ago(condition.window + condition.before), then)
    if now is None or before is None or now.bad_share is None or before.bad_share is None:
        return Judged(None)
    if now.total <= condition.events_min - _HALF or before.total <= condition.before_min - _HALF:
        return Judged(None)
    seen = f"bad {_seen(now, condition.window)}; {_seen(before, condition.before)} before"
    return Judged(1 - now.bad_share < condition.to * (1 - before.bad_share), now.bad_share, seen)


def _beyond(condition: Beyond, readings: Readings) -> Judged:
    gauge = condition.gauge
    values = [s.value for s in readings.samples(gauge.service, gauge.series, gauge.matchers, condition.within)]
    if not values:
        return Judged(None)
    worst = max(values) if condition.above else min(values)
    holds = worst > condition.bound if condition.above else worst < condition.bound
    return Judged(holds, worst, f"{Count(worst)}, the limit is {Count(condition.bound)}")


def _missing(condition: Unread | Uncounted, readings: Readings) -> Judged:
    match condition:
        case Unread():
            read = readings.page_read(condition.service)
            holds = read is None or read < readings.ago(condition.within)
            return Judged(holds, seen=f"last read {read.isoformat(timespec='seconds')}" if read else "never read")
        case Uncounted():
            start = readings.ago(condition.within)
            total = readings.counted(condition.total, start, readings.at) or 0.0
            if condition.needed and readings.counted(condition.needed, start, readings.at) is None:
                return Judged(True, seen=f"no such series of {condition.needed.series}")
            return Judged(total < _HALF, seen="nothing")


# --- The evaluator: what held, since when ---

_FIGURES = ("value", "seen")


class _Active(msgspec.Struct, kw_only=True):
    """A rule whose condition held, since when; `firing` after its hold, until `ended`. `said` is its last figure."""

    since: dt.datetime
    firing: bool = False
    ended: dt.datetime | None = None
    said: dict[str, str] = {}


class Evaluator:
    """Evaluates the same rules again and again; what fires keeps firing while nothing is known.

    `firing` are the alerts of SOURCE that still fire in the records: an engine that begins anew goes on with them, says
    again those that hold or of which nothing is known, and ends those that do not hold, or whose rule is gone.
    """

    def __init__(self, rules: Sequence[Rule], firing: Iterable[Alert]) -> None:
        self._rules = tuple(rules)
        self._active: dict[str, _Active] = {}
        self._whole = Whole()
        known = {fingerprint(labels_of(rule)): rule.name for rule in rules}
        self._gone = [alert for alert in firing if alert.source == SOURCE and alert.fingerprint not in known]
        for alert in firing:
            if alert.source == SOURCE and alert.fingerprint in known:
                said = {name: text for name, text in alert.annotations.items() if name in _FIGURES}
                self._active[known[alert.fingerprint]] = _Active(since=alert.starts, firing=True, said=said)

    def evaluate(self, metrics: Metrics, at: dt.datetime, exclusions: Iterable[Exclusion] = ()) -> list[Said]:
        """What fires at a moment, and what has just ended. `at` does not go back."""
        readings = Readings(metrics, at, exclusions, self._whole)
        said = [_ended(alert, at) for alert in self._gone]
        self._gone = []
        for rule in self._rules:
            active = self._moved(rule, judge(rule.condition, readings), at)
            if active is not None and active.firing:
                said.append(_say(rule, active))
        return said

    def _moved(self, rule: Rule, judged: Judged, at: dt.datetime) -> _Active | None:
        """Where a rule stands after a verdict; one that only waits for its hold begins anew when nothing is known."""
        active = self._active.get(rule.name)
        over = active is None or active.ended is not None
        if judged.holds:
            active = self._active[rule.name] = _Active(since=at) if active is None or over else active
            active.firing = active.firing or (at - active.since).total_seconds() >= rule.hold
            active.said = _figures(judged)
        elif active is not None and not over and active.firing:
            active.ended = at if judged.holds is False else None
        elif active is not None and (active.ended is None or at - active.ended >= RESOLVED_FOR):
            del self._active[rule.name]
        return self._active.get(rule.name)


def labels_of(rule: Rule) -> dict[str, str]:
    """All labels of a rule's alert."""
    return {ALERTNAME: rule.alert, **rule.labels}


def _figures(judged: Judged) -> dict[str, str]:
    value = {} if judged.value is None else {"value": f"{judged.value:.6g}"}
    return {**value, **({"seen": judged.seen} if judged.seen else {})}


def _say(rule: Rule, active: _Active) -> Said:
    return Said(
        labels=labels_of(rule),
        annotations={**rule.annotations, **active.said},
        starts=active.since,
        ends=active.ended,
        url="",
        source=SOURCE,
    )


def _ended(alert: Alert, at: dt.datetime) -> Said:
    """The end of what no rule says any more."""
    return Said(
        labels=alert.labels, annotations=alert.annotations, starts=alert.starts, ends=at, url=alert.url, source=SOURCE
    )
