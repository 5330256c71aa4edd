"""What is alerted of series, as data: the rules that follow from the manifest (docs/decisions/alerts.md).

Each rule is about one thing and makes one alert, so that its labels are its identity. Evaluation and export read the
same conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from nvcops.alerts.indicators import Count, Rises, Share, counted_outcomes, share_of
from nvcops.core.alerts import LIMIT_EXCEEDED, Category, Matcher
from nvcops.core.manifest import Manifest, ObjectiveEntry, ServiceEntry
from nvcops.core.slo import BURN, BURN_WINDOWS, BurnWindow
from nvcops.core.units import Ratio, Seconds
from nvcops.core.watch import PART, PROBE_VALUE, ROLE, WATCHED, Probe

Family = Literal["burn", "high", "drop", "missing", "limit"]

BAD_MIN = 2  # one failed event pages nobody, whatever share of the window it is
HIGH_WINDOW = Seconds(300)
DROP_WINDOW, DROP_BEFORE, DROP_TO = Seconds(300), Seconds(86400), Ratio(0.8)
_DROP_BEFORE_TIMES = 5  # what it is compared with has this many times the events that prove something
_QUIET = Seconds(6 * 3600)  # nothing counted for so long: the objective measures nothing
_AGED = 0.25  # of the long window: a cold start is behind the short one by then, which is a twelfth of it
_BLIND_HOLD, _QUIET_HOLD = Seconds(60), Seconds(1800)
_LIMIT_HOLD = Seconds(300)

# --- Conditions ---


class Exceeds(msgspec.Struct, frozen=True, kw_only=True, tag="exceeds"):
    """More than `threshold` is bad in each of the windows, the longest first.

    Unknown with fewer than `events_min` events in the longest, none in another, or none longer ago than `aged`: what
    has just begun says nothing of hours. `corrected`: without what approved changes took.
    """

    share: Share
    threshold: Ratio
    windows: tuple[Seconds, ...]
    events_min: float
    aged: Seconds = Seconds(0)
    corrected: bool = False


class Falls(msgspec.Struct, frozen=True, kw_only=True, tag="falls"):
    """The good share of the last `window` is below `to` times that of `before` before it. Unknown of too few events."""

    share: Share
    window: Seconds
    before: Seconds
    to: Ratio
    events_min: float
    before_min: float


class Unread(msgspec.Struct, frozen=True, kw_only=True, tag="unread"):
    """No metrics page of a service was read within a time."""

    service: str
    within: Seconds


class Uncounted(msgspec.Struct, frozen=True, kw_only=True, tag="uncounted"):
    """Nothing was counted within a time, or a series that is needed is not there."""

    total: Count
    needed: Rises | None
    within: Seconds


class Gauge(msgspec.Struct, frozen=True):
    """The gauges of a name whose labels all matchers match."""

    service: str
    series: str
    matchers: tuple[Matcher, ...] = ()


class Beyond(msgspec.Struct, frozen=True, kw_only=True, tag="beyond"):
    """The worst reading is above (or below) a bound. Unknown without a reading within a time."""

    gauge: Gauge
    bound: float
    above: bool
    within: Seconds


Condition = Exceeds | Falls | Unread | Uncounted | Beyond


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """When `condition` has held for `hold`, the alert `alert` with these labels and annotations fires.

    `name` is unique among a platform's rules. `labels` have the category; `alertname` is not among them.
    """

    name: str
    family: Family
    alert: str
    category: Category
    labels: dict[str, str]
    annotations: dict[str, str]
    condition: Condition
    hold: Seconds = Seconds(0)


# --- Rules ---


def rules_of(manifest: Manifest, probes: Sequence[Probe] = ()) -> list[Rule]:
    """The rules of a platform: of its objectives, of its services' metrics, and of the figures that probes read."""
    services = {service.name: service for service in manifest.services}
    rules = [rule for service in manifest.services for rule in _of_service(service, manifest)]
    for objective in manifest.slos:
        rules += _of_objective(objective, services[objective.service], manifest)
    for probe in probes:
        rules += _of_probe(probe, manifest)
    platform = {"platform": manifest.platform.name}
    return [msgspec.structs.replace(rule, labels={**rule.labels, **platform}) for rule in rules]


def stepped(category: Category, steps: int) -> Category:
    """A category that many below another, Low at the least.

    >>> str(stepped(Category.CRITICAL, 1)), str(stepped(Category.MEDIUM, 2))
    ('high', 'low')
    """
    order = list(Category)
    return order[min(order.index(category) + steps, len(order) - 1)]


def _of_service(service: ServiceEntry, manifest: Manifest) -> Iterator[Rule]:
    if service.metrics is None:
        return
    within = manifest.limits.metrics_age.critical
    yield Rule(
        name=f"{service.name}/metrics-missing",
        family="missing",
        alert="MetricsMissing",
        category=Category.HIGH,
        labels={"category": Category.HIGH.value, "service": service.name},
        annotations={
            "summary": f"The metrics of {service.name} are not read any more",
            "description": f"No instance gave a page for {within}. What depends on it keeps its last verdict.",
        },
        condition=Unread(service=service.name, within=within),
        hold=_BLIND_HOLD,
    )


def _of_objective(objective: ObjectiveEntry, service: ServiceEntry, manifest: Manifest) -> Iterator[Rule]:
    share = share_of(objective, service)
    for window in BURN_WINDOWS:
        if window.factor * (1 - objective.target) < 1:  # else even all of it bad would not be so fast
            yield _burn(objective, share, window, manifest)
    if objective.category is Category.CRITICAL and objective.indicator != "latency":
        yield _high(objective, share, manifest)
    if objective.indicator == "outcomes":
        yield _drop(objective, service)
    yield _uncounted(objective, share, manifest)


def _burn(objective: ObjectiveEntry, share: Share, window: BurnWindow, manifest: Manifest) -> Rule:
    category = stepped(objective.category, window.step)
    threshold = Ratio(round(window.factor * (1 - objective.target), 12))
    return Rule(
        name=f"{objective.service}/{objective.name}/burn-{window.factor:g}",
        family="burn",
        alert="ErrorBudgetBurn",
        category=category,
        labels={**_labels(objective, category), BURN: f"{window.factor:g}"},
        annotations={
            "summary": f"{objective.service}: {objective.name} uses up its error budget {_pace(window.factor)}",
            "description": f"More than {threshold} is bad over {window.long} and over {window.short}; "
            f"the objective is {objective.target} over {objective.window}.",
        },
        condition=Exceeds(
            share=share,
            threshold=threshold,
            windows=(window.long, window.short),
            events_min=_events_min(objective, window.long, manifest),
            aged=Seconds(window.long * _AGED),
            corrected=True,
        ),
    )


def _pace(factor: float) -> str:
    """How a pace reads.

    >>> _pace(14.4), _pace(1)
    ('14.4 times as fast as it may', 'faster than it lasts')
    """
    return "faster than it lasts" if factor == 1 else f"{factor:g} times as fast as it may"


def _high(objective: ObjectiveEntry, share: Share, manifest: Manifest) -> Rule:
    threshold = manifest.alerts.high_error_ratio
    return Rule(
        name=f"{objective.service}/{objective.name}/high",
        family="high",
        alert="HighErrorRatio",
        category=objective.category,
        labels=_labels(objective, objective.category),
        annotations={
            "summary": f"{objective.service}: more than {threshold} of {objective.name} is bad",
            "description": f"Over {HIGH_WINDOW}. It pages at once, before the error budget's pace can tell.",
        },
        condition=Exceeds(
            share=share,
            threshold=threshold,
            windows=(HIGH_WINDOW,),
            events_min=_events_min(objective, HIGH_WINDOW, manifest),
        ),
    )


def _drop(objective: ObjectiveEntry, service: ServiceEntry) -> Rule:
    """All outcomes count: a fault that declines every customer "for their own reasons" is seen by nothing else."""
    title = service.series.outcome_title if service.series else "outcomes"
    share = share_of(objective, service)
    if service.series:
        share = msgspec.structs.replace(share, total=counted_outcomes(service.name, service.series))
    return Rule(
        name=f"{objective.service}/{objective.name}/drop",
        family="drop",
        alert="OutcomesDropped",
        category=objective.category,
        labels=_labels(objective, objective.category),
        annotations={
            "summary": f"{objective.service}: far fewer of the {title} succeed than before",
            "description": f"The share that ends as {' or '.join(objective.good)} is below {DROP_TO} of what it was "
            f"over the {DROP_BEFORE} before, whatever the reasons that are given.",
        },
        condition=Falls(
            share=share,
            window=DROP_WINDOW,
            before=DROP_BEFORE,
            to=DROP_TO,
            events_min=objective.events_min,
            before_min=objective.events_min * _DROP_BEFORE_TIMES,
        ),
    )


def _uncounted(objective: ObjectiveEntry, share: Share, manifest: Manifest) -> Rule:
    """Nobody asked is our own fault, and soon told; no customers may be a quiet night."""
    ours = objective.indicator == "availability"
    within = manifest.limits.metrics_age.critical if ours else _QUIET
    category = stepped(objective.category, 1) if ours else Category.LOW
    needed = share.part if share.needed and isinstance(share.part, Rises) else None
    return Rule(
        name=f"{objective.service}/{objective.name}/uncounted",
        family="missing",
        alert="ObjectiveUnmeasured",
        category=category,
        labels={"category": category.value, "service": objective.service, "slo": objective.name},
        annotations={
            "summary": f"{objective.service}: nothing is counted for the objective {objective.name}",
            "description": f"Nothing for {within}, or the series that it names is not there. "
            "Its alerts keep their last verdict.",
        },
        condition=Uncounted(total=share.total, needed=needed, within=within),
        hold=_BLIND_HOLD if ours else _QUIET_HOLD,
    )


def _labels(objective: ObjectiveEntry, category: Category) -> dict[str, str]:
    return {
        "category": category.value,
        "service": objective.service,
        "slo": objective.name,
        "indicator": objective.indicator,
    }


def _events_min(objective: ObjectiveEntry, window: Seconds, manifest: Manifest) -> float:
    """Of our own asking, half of what a window should hold is enough where that is less."""
    if objective.indicator != "availability":
        return objective.events_min
    return min(objective.events_min, max(window / manifest.metrics.interval / 2, 1))


# --- Rules of figures that probes read ---


class Limit(NamedTuple):
    """Which of the manifest's limits a probe's figure has, on which side it is bad, and how that reads.

    `steps` are how many categories below the probe's own its bounds are. Where a bound is not among them, passing it is
    what the probe itself says.
    """

    name: str
    above: bool
    sentence: str
    steps: Mapping[str, int] = MappingProxyType({"warning": 1})


_LIMITS = {
    "disk": Limit("disk_used", True, "more than {} of it is used"),
    "certificate": Limit("certificate_days", False, "it ends in less than {} days", {"warning": 2, "critical": 1}),
    "replication": Limit("replication_lag", True, "it is more than {} behind"),
    "slot": Limit("slot_retained", True, "it keeps more than {} of log on the server"),
    "connections": Limit("connections", True, "more than {} of the connections are in use"),
    "lock-wait": Limit("lock_wait", True, "somebody waits for a lock for more than {}"),
    "idle-in-transaction": Limit("idle_in_transaction", True, "a transaction is open and idle for more than {}"),
    "longest-query": Limit("longest_query", True, "a query runs for more than {}"),
}


def _of_probe(probe: Probe, manifest: Manifest) -> Iterator[Rule]:
    """Without the probe's `kind` and signal: those are of an alert that the probe itself failed."""
    limit = _LIMITS.get(probe.labels.get(ROLE, ""))
    if limit is None:
        return
    part = probe.labels.get(PART, probe.name)
    service = {"service": probe.service} if probe.service else {}
    for said, steps in limit.steps.items():
        bound = getattr(getattr(manifest.limits, limit.name), said)
        category = stepped(probe.category, steps)
        own = {"probe": probe.name, PART: part, "limit": limit.name, "bound": said}
        yield Rule(
            name=f"{probe.name}/{limit.name}/{said}",
            family="limit",
            alert=LIMIT_EXCEEDED,
            category=category,
            labels={"category": category.value, **service, **own},
            annotations={
                "summary": f"{part}: {limit.sentence.format(bound)}",
                "description": f"The limit `{limit.name}`, {said}, for {_LIMIT_HOLD}.",
            },
            condition=Beyond(
                gauge=Gauge(WATCHED, PROBE_VALUE, (Matcher("probe", "=", probe.name),)),
                bound=float(bound),
                above=limit.above,
                within=manifest.limits.metrics_age.critical,
            ),
            hold=_LIMIT_HOLD,
        )
