"""What an incident cost: payments and requests that failed, customers touched, minutes; and the figures of severity."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import msgspec

from nvcops.core import slo
from nvcops.core.errors import NvcopsError
from nvcops.core.incidents import Incident, Signal
from nvcops.core.manifest import Manifest, ServiceEntry
from nvcops.core.runs import conduct
from nvcops.core.target import Target
from nvcops.core.units import Count, Seconds
from nvcops.incidents.severity import Sign

_LINES_MAX = 200_000
_NAMES_MAX = 100_000

# --- Facts ---


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of an impact, and where it is from; `value` None: not known, and `why` not."""

    title: str
    value: float | None = None
    said: str = ""
    source: str
    why: str = ""

    @property
    def text(self) -> str:
        """The figure as it is read."""
        if self.value is None:
            return f"not known: {self.why}"
        return self.said or str(Count(self.value))


class Impact(msgspec.Struct, frozen=True, kw_only=True):
    """What an incident cost between two moments."""

    start: dt.datetime
    end: dt.datetime
    figures: tuple[Figure, ...]

    @property
    def minutes(self) -> float:
        """How long customers felt it."""
        return (self.end - self.start).total_seconds() / 60


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """How a service does in a window: requests and those that failed, outcomes and those that failed, seconds each.

    `graded`: it is known which outcomes are good; without that none of them is known to have failed.
    """

    service: str
    requests: float = 0.0
    failed: float = 0.0
    outcomes: float = 0.0
    outcomes_failed: float = 0.0
    graded: bool = True
    mean_s: float | None = None
    trouble: str = ""


def services_of(incident: Incident, manifest: Manifest) -> list[ServiceEntry]:
    """The services that an incident is about; all of them where it names none."""
    named = [service for service in manifest.services if service.name in incident.services]
    return named or list(manifest.services)


def rates(target: Target, service: ServiceEntry, start: dt.datetime, end: dt.datetime) -> Rates:
    """Add up what a service did in a window, without what machines asked."""
    series = service.series
    if series is None:
        return Rates(service=service.name, trouble="its series are not named in platform.toml")

    def by(name: str, label: str) -> dict[str, float]:
        sums: dict[str, float] = {}
        for one in target.metrics.increases(service.name, name, start, end):
            if one.labels.get(series.route_label) not in series.probe_routes:
                sums[one.labels.get(label, "")] = sums.get(one.labels.get(label, ""), 0.0) + one.value
        return sums

    try:
        statuses = by(series.requests, series.status_label)
        outcomes = by(series.outcomes, series.outcome_label) if series.outcomes else {}
        spent, count = (sum(by(f"{series.latency}_{part}", "").values()) for part in ("sum", "count"))
    except NvcopsError as error:
        return Rates(service=service.name, trouble=error.sentence)
    good, ignored = graded(target.manifest, service.name)
    return Rates(
        service=service.name,
        requests=sum(statuses.values()),
        failed=sum(value for status, value in statuses.items() if status.startswith("5")),
        outcomes=sum(value for name, value in outcomes.items() if name not in ignored),
        outcomes_failed=sum(value for name, value in outcomes.items() if name not in ignored and name not in good)
        if good
        else 0.0,
        graded=bool(good),
        mean_s=slo.mean(spent, count),
    )


def graded(manifest: Manifest, service: str) -> tuple[set[str], set[str]]:
    """Which outcomes of a service are good, and which count as nothing, by its objectives."""
    mine = [entry for entry in manifest.slos if entry.service == service and entry.indicator == "outcomes"]
    return {name for entry in mine for name in entry.good}, {name for entry in mine for name in entry.ignored}


@conduct(deadline="2 min", idempotent=True)
def impact(target: Target, incident: Incident, now: dt.datetime) -> Impact:
    """Add up what an incident cost: from the services' figures, their logs, and what customers were told."""
    end = incident.mitigated or incident.resolved or now
    figures: list[Figure] = []
    for service in services_of(incident, target.manifest):
        seen = rates(target, service, incident.began, end)
        title = service.series.outcome_title if service.series else "outcomes"
        figures += _counted(seen, title)
        figures.append(_customers(target, service, incident.began, end))
    figures += _told(target, incident.began, end)
    figures += _booked(target, incident.began, end)
    return Impact(start=incident.began, end=end, figures=tuple(figures))


def _counted(seen: Rates, title: str) -> list[Figure]:
    where = f"metrics of {seen.service}"
    titles = (f"{title.capitalize()} failed", "Requests failed")
    if seen.trouble:
        return [Figure(title=name, source=where, why=seen.trouble) for name in titles]
    pairs = ((seen.outcomes_failed, seen.outcomes), (seen.failed, seen.requests))
    figures = [_of_all(name, bad, whole, where) for name, (bad, whole) in zip(titles, pairs, strict=True)]
    if not seen.graded:
        figures[0] = Figure(title=titles[0], source=where, why="no objective says which outcomes are good")
    return figures


def _of_all(title: str, bad: float, whole: float, where: str) -> Figure:
    """So many of all that were counted; where none was, nobody knows how many there would have been."""
    if not whole:
        return Figure(title=title, source=where, why="none was counted in that time")
    return Figure(title=title, value=bad, said=f"{Count(bad)} of {Count(whole)}", source=where)


def _customers(target: Target, service: ServiceEntry, start: dt.datetime, end: dt.datetime) -> Figure:
    """How many different customers the service's log names in warnings and errors: that many at least."""
    title, source = f"Customers of {service.name} touched, at least", f"log of {service.name}"
    if service.log is None or service.events is None:
        return Figure(title=title, source=source, why="platform.toml names no log with its customers' pseudonyms")
    names: set[str] = set()
    try:
        for number, event in enumerate(target.logs.events(service.name, start, end)):
            if number >= _LINES_MAX or len(names) >= _NAMES_MAX:
                break
            if str(event.fields.get("level", "")).lower() not in ("", "debug", "info"):
                names.add(str(event.fields.get(service.events.subject) or ""))
    except NvcopsError as error:
        return Figure(title=title, source=source, why=error.sentence)
    return Figure(title=title, value=len(names - {""}), source=source)


def _told(target: Target, start: dt.datetime, end: dt.datetime) -> list[Figure]:
    """What customers were told, and whether the ledger has all that they were told was done."""
    if target.clients is None:
        return []
    source = "customers' journal"
    titles = ("Answers that told a customer nothing", "Payments whose outcome is unknown still")
    try:
        seen = target.clients.seen(start, end)
    except NvcopsError as error:
        return [Figure(title=title, source=source, why=error.sentence) for title in titles]
    figures = [
        Figure(title=title, value=value, source=source)
        for title, value in zip(titles, (seen.unknown, seen.unresolved_count), strict=True)
    ]
    if seen.gap_s is not None:
        figures.append(
            Figure(
                title="Longest time without a settled payment",
                value=seen.gap_s,
                said=str(Seconds(seen.gap_s)),
                source=source,
            )
        )
    title, ledger = "Settled payments that the ledger does not have", "ledger"
    try:
        kept = target.clients.kept(start, end)
    except NvcopsError as error:
        return [*figures, Figure(title=title, source=ledger, why=error.sentence)]
    said = f"{kept.missing:,} of {kept.acknowledged:,}"
    return [*figures, Figure(title=title, value=kept.missing, said=said, source=ledger)]


def _booked(target: Target, start: dt.datetime, end: dt.datetime) -> list[Figure]:
    """What the service's own books say of the time."""
    if target.ledger is None:
        return []
    try:
        found = target.ledger.booked(start, end)
    except NvcopsError as error:
        return [Figure(title="What the books say", source="ledger", why=error.sentence)]
    return [
        Figure(title=one.title[:1].upper() + one.title[1:], value=one.value, source="ledger", why=one.why)
        for one in found
    ]


# --- Rules ---


def signs_of_rates(seen: Iterable[Rates], manifest: Manifest) -> list[Sign]:
    """What the figures of a window are a sign of; none of what is within its objective, or of too few events.

    >>> from types import SimpleNamespace as Entry
    >>> objectives = Entry(response_mean=Seconds(0.2), error_ratio=0.001)
    >>> manifest = Entry(objectives=objectives, limits=Entry(recent_requests_min=20), slos=())
    >>> fine = Rates(service="bank", requests=100, outcomes=100, mean_s=0.1)
    >>> signs_of_rates([fine], manifest)
    []
    >>> bad = Rates(service="bank", requests=100, failed=60, outcomes=100, outcomes_failed=30, mean_s=0.32)
    >>> [(sign.signal.value, round(sign.share, 2)) for sign in signs_of_rates([bad], manifest)]
    [('payments', 0.3), ('errors', 0.6), ('performance', 0.6)]
    """
    least, objectives, signs = manifest.limits.recent_requests_min, manifest.objectives, []
    for one in seen:
        paid = slo.share(one.outcomes_failed, one.outcomes)
        if paid and one.outcomes >= least and paid > _allowed(manifest, one.service):
            said = f"{Count(one.outcomes_failed)} of {Count(one.outcomes)} payments fail"
            signs.append(Sign(signal=Signal.PAYMENTS, seen=said, source=f"figure:{one.service}/outcomes", share=paid))
        failed = slo.share(one.failed, one.requests)
        if failed and one.requests >= least and failed > objectives.error_ratio:
            said = f"{Count(one.failed)} of {Count(one.requests)} requests fail"
            signs.append(Sign(signal=Signal.ERRORS, seen=said, source=f"figure:{one.service}/errors", share=failed))
        if one.mean_s is not None and one.requests >= least and one.mean_s > objectives.response_mean:
            said = f"{Seconds(one.mean_s)} on average, the objective is {objectives.response_mean}"
            slower = one.mean_s / objectives.response_mean - 1
            source = f"figure:{one.service}/latency"
            signs.append(Sign(signal=Signal.PERFORMANCE, seen=said, source=source, share=slower))
    return signs


def _allowed(manifest: Manifest, service: str) -> float:
    """The share of failed outcomes that the objectives allow."""
    mine = [entry for entry in manifest.slos if entry.service == service and entry.indicator == "outcomes"]
    return max((1 - entry.target for entry in mine), default=0.0)


def figure_sources(seen: Iterable[Rates], least: int) -> set[str]:
    """The sources that a window's figures looked at: of those, an earlier reason may go."""
    sources: set[str] = set()
    for one in seen:
        if not one.trouble and one.requests >= least:
            sources |= {f"figure:{one.service}/errors", f"figure:{one.service}/latency"}
        if not one.trouble and one.outcomes >= least:
            sources.add(f"figure:{one.service}/outcomes")
    return sources
