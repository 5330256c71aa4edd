"""A rule's condition as a Prometheus expression. Pure.

A service is the `job` of that name; its front door is asked by a blackbox exporter in the job NAME-ready; what our own
probes read is in the job `nvcops`. Where a condition is unknown its alert keeps firing, by asking for itself in ALERTS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nvcops.alerts.indicators import Count, Rises, Share
from nvcops.alerts.rules import BAD_MIN, Beyond, Condition, Exceeds, Falls, Gauge, Rule, Uncounted, Unread
from nvcops.core.alerts import Matcher

READY_JOB = "{service}-ready"
READY_SERIES = "probe_success"


def expression(rule: Rule) -> str:
    """The expression: one sample without labels while the alert fires, nothing else."""
    text, known = _condition(rule.condition)
    if not known:
        return text
    firing = selector("ALERTS", {"alertname": rule.alert, "alertstate": "firing", **rule.labels})
    return f"({text})\nor\n(max({firing}) unless ({known}))"


def duration(seconds: float) -> str:
    """A duration as Prometheus writes it.

    >>> duration(300), duration(3 * 86400), duration(90), duration(5400)
    ('5m', '3d', '90s', '90m')
    """
    size, unit = next(
        (size, unit) for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")) if fits(seconds, size)
    )
    return f"{max(round(seconds / size), 1)}{unit}"


def fits(seconds: float, size: int) -> bool:
    """Whether it is a whole number of a unit; a second is the smallest."""
    return size == 1 or (seconds >= size and seconds % size == 0)


def selector(series: str, labels: Mapping[str, str], matchers: Sequence[Matcher] = ()) -> str:
    r"""A selector.

    >>> selector("a_total", {"job": "bank"}, [Matcher("route", "!~", "/a\\.b")])
    'a_total{job="bank",route!~"/a\\\\.b"}'
    """
    parts = [str(Matcher(name, "=", value)) for name, value in labels.items()]
    return f"{series}{{{','.join([*parts, *map(str, matchers)])}}}"


def counted(count: Count, seconds: float, offset_s: float = 0) -> str:
    """How much was counted in a window."""
    window = f"[{duration(seconds)}]{f' offset {duration(offset_s)}' if offset_s else ''}"
    if isinstance(count, Rises):
        return f"sum(increase({selector(count.series, {'job': count.service}, count.matchers)}{window}))"
    function = "sum_over_time" if count.ready else "count_over_time"
    job = READY_JOB.format(service=count.service)
    return f"sum({function}({selector(READY_SERIES, {'job': job})}{window}))"


def _part(share: Share, seconds: float, offset_s: float = 0) -> str:
    part = counted(share.part, seconds, offset_s)
    return part if share.needed else f"({part} or vector(0))"


def bad_share(share: Share, seconds: float, offset_s: float = 0) -> str:
    """The share that was bad in a window."""
    ratio = f"{_part(share, seconds, offset_s)} / {counted(share.total, seconds, offset_s)}"
    return ratio if share.kind == "bad" else f"1 - {ratio}"


def _condition(condition: Condition) -> tuple[str, str]:
    """When it holds, and when something is known about it (empty: always)."""
    match condition:
        case Exceeds():
            return _exceeds(condition)
        case Falls():
            return _falls(condition)
        case Beyond():
            return _beyond(condition)
        case Unread():
            up = selector("up", {"job": condition.service})
            return f"(max(max_over_time({up}[{duration(condition.within)}])) or vector(0)) < 1", ""
        case Uncounted():
            return _uncounted(condition), ""


def _exceeds(condition: Exceeds) -> tuple[str, str]:
    share, longest = condition.share, condition.windows[0]
    total, part = counted(share.total, longest), _part(share, longest)
    bad = part if share.kind == "bad" else f"{total} - {part}"
    enough = f"{total} > {_below(condition.events_min)}"
    old = f"{counted(share.total, longest - condition.aged, condition.aged)} > 0.5"
    aged = [old] if condition.aged else []
    holds = [f"({bad_share(share, seconds)}) > {condition.threshold:.12g}" for seconds in condition.windows]
    holds += [enough, *aged, f"({bad}) > {_below(BAD_MIN)}"]
    known = [enough, *aged, *(f"{counted(share.total, seconds)} > 0" for seconds in condition.windows[1:])]
    return "\nand ".join(holds), "\nand ".join(known)


def _falls(condition: Falls) -> tuple[str, str]:
    share, window, before = condition.share, condition.window, condition.before
    enough = (
        f"{counted(share.total, window)} > {_below(condition.events_min)}\n"
        f"and {counted(share.total, before, window)} > {_below(condition.before_min)}"
    )
    good, was = f"1 - ({bad_share(share, window)})", f"1 - ({bad_share(share, before, window)})"
    return f"({good}) < {condition.to:.12g} * ({was})\nand {enough}", enough


def _beyond(condition: Beyond) -> tuple[str, str]:
    newest = _newest(condition.gauge, condition.within)
    worst = f"max({newest}) >" if condition.above else f"min({newest}) <"
    return f"{worst} {condition.bound:.12g}", f"count({newest})"


def _uncounted(condition: Uncounted) -> str:
    nothing = f"({counted(condition.total, condition.within)} or vector(0)) < 0.5"
    if condition.needed is None:
        return nothing
    needed = selector(condition.needed.series, {"job": condition.needed.service}, condition.needed.matchers)
    return f"{nothing}\nor\n(vector(1) unless count(last_over_time({needed}[{duration(condition.within)}])))"


def _newest(gauge: Gauge, within_s: float) -> str:
    labelled = selector(gauge.series, {"job": gauge.service}, gauge.matchers)
    return f"last_over_time({labelled}[{duration(within_s)}])"


def _below(count: float) -> str:
    """Counts are whole, and are extrapolated there: the bound lies half below."""
    return f"{count - 0.5:.12g}"
