"""What an objective counts: which counters, and which of them are good or bad. Data, for evaluation and export."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from nvcops.core.alerts import Matcher
from nvcops.core.manifest import ObjectiveEntry, Series, ServiceEntry


class Rises(msgspec.Struct, frozen=True, tag="rises"):
    """How much the counters of a name rose, of those whose labels all matchers match, all instances together."""

    service: str
    series: str
    matchers: tuple[Matcher, ...] = ()


class Asked(msgspec.Struct, frozen=True, tag="asked"):
    """How often a service's front door was asked whether it is ready; or, `ready`, how often it was."""

    service: str
    ready: bool = False


Count = Rises | Asked


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a total, and which part it is.

    `needed`: the part's counters must be there. Else their absence means that none was counted: a counter of errors is
    born with the first error, while a histogram without its edge says nothing about what stayed below it.
    """

    total: Count
    part: Count
    kind: Literal["good", "bad"]
    needed: bool = False


def share_of(objective: ObjectiveEntry, service: ServiceEntry) -> Share:
    """What an objective counts of its service.

    Raises:
        ValueError: the service names no series for it (the manifest's own check says so earlier).
    """
    if objective.indicator == "availability":
        return Share(total=Asked(service.name), part=Asked(service.name, ready=True), kind="good")
    series = service.series
    if series is None or (objective.indicator == "outcomes" and series.outcomes is None):
        raise ValueError(f"the service {service.name!r} names no series for the objective {objective.name!r}")
    if objective.indicator == "errors":
        return _errors(service.name, series)
    if objective.indicator == "latency":
        return _latency(service.name, series, objective.threshold or 0.0)
    counted = counted_outcomes(service.name, series, objective.ignored)
    good = (*counted.matchers, Matcher(series.outcome_label, "=~", one_of(objective.good)))
    return Share(total=counted, part=Rises(service.name, counted.series, good), kind="good")


def counted_outcomes(service: str, series: Series, ignored: Iterable[str] = ()) -> Rises:
    """The business figure, without the outcomes that count as nothing."""
    left_out = one_of(ignored)
    matchers = (Matcher(series.outcome_label, "!~", left_out),) if left_out else ()
    return Rises(service, series.outcomes or "", matchers)


def _errors(service: str, series: Series) -> Share:
    customers = _customers(series)
    failed = (*customers, Matcher(series.status_label, "=~", "5.*"))
    total = Rises(service, series.requests, customers)
    return Share(total=total, part=Rises(service, series.requests, failed), kind="bad")


def _latency(service: str, series: Series, threshold_s: float) -> Share:
    customers = _customers(series)
    quick = (*customers, Matcher("le", "=~", one_of(edge_forms(threshold_s))))
    total = Rises(service, f"{series.latency}_count", customers)
    return Share(total=total, part=Rises(service, f"{series.latency}_bucket", quick), kind="good", needed=True)


def _customers(series: Series) -> tuple[Matcher, ...]:
    """A probe is no customer: its speed and its 503s are not theirs."""
    routes = one_of(series.probe_routes)
    return (Matcher(series.route_label, "!~", routes),) if routes else ()


def one_of(values: Iterable[str]) -> str:
    r"""A regular expression, in the syntax that Python and RE2 share, of exactly these values.

    >>> one_of(["/readyz", "a.b"])
    '/readyz|a\\.b'
    """
    return "|".join(re.escape(value) for value in values)


def edge_forms(edge: float) -> list[str]:
    """How libraries write the edge of a bucket.

    >>> edge_forms(0.25), edge_forms(1.0)
    (['0.25'], ['1', '1.0'])
    """
    return sorted({f"{edge:.12g}", repr(float(edge))})
