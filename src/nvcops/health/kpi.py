"""Key performance indicators: availability, response, errors, outcomes, from stored metrics beside their objectives."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from nvcops.core import slo
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import Bound, Manifest, Objectives, ServiceEntry
from nvcops.core.target import Answers, ScrapeSummary, Target
from nvcops.core.units import Count, Ratio, Seconds

Q = TypeVar("Q", Seconds, Ratio)

# --- Facts ---


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one service did in a window. `requests` is None where its counter was never seen.

    `buckets` are (finite upper edge in seconds, how many were not above it), by edge.
    """

    service: str
    window_s: float
    scrapes: ScrapeSummary
    requests: float | None
    errors: float
    slow_count: float
    slow_sum_s: float
    buckets: tuple[tuple[float, float], ...]
    outcomes: dict[str, float]


class Answering(msgspec.Struct, frozen=True):
    """How quickly a service's front door and its instances answered when they were asked whether they are ready."""

    service: str
    answers: tuple[Answers, ...]


def answering(target: Target, start: dt.datetime, end: dt.datetime) -> list[Answering]:
    """Look up how quickly front doors and instances answered lately."""
    names = [entry.name for entry in target.manifest.services]
    return [Answering(name, tuple(target.metrics.answers(name, start, end))) for name in names]


def figures(target: Target, start: dt.datetime, end: dt.datetime) -> list[Figures]:
    """Add up what each service did, from the metrics that were kept."""
    return [_figures(target, entry, start, end) for entry in target.manifest.services]


def _figures(target: Target, entry: ServiceEntry, start: dt.datetime, end: dt.datetime) -> Figures:
    series = entry.series

    def by(name: str, label: str) -> dict[str, float]:
        sums: dict[str, float] = {}
        for increase in target.metrics.increases(entry.name, name, start, end):
            if series and increase.labels.get(series.route_label) in series.probe_routes:
                continue  # a probe is no customer: its speed and its 503s are not theirs
            key = increase.labels.get(label, "")
            sums[key] = sums.get(key, 0.0) + increase.value
        return sums

    statuses = by(series.requests, series.status_label) if series else {}
    edges = by(f"{series.latency}_bucket", "le") if series else {}
    return Figures(
        service=entry.name,
        window_s=(end - start).total_seconds(),
        scrapes=target.metrics.scrapes(entry.name, start, end),
        requests=sum(statuses.values()) if statuses else None,
        errors=sum(count for status, count in statuses.items() if status.startswith("5")),
        slow_count=sum(by(f"{series.latency}_count", "").values()) if series else 0.0,
        slow_sum_s=sum(by(f"{series.latency}_sum", "").values()) if series else 0.0,
        buckets=tuple(sorted((float(edge), count) for edge, count in edges.items() if edge not in ("", "+Inf"))),
        outcomes=by(series.outcomes, series.outcome_label) if series and series.outcomes else {},
    )


# --- Rules ---

AVAILABILITY = Check("kpi.availability", "Availability", "scripts/system_status.sh says when and why it was not ready")
RESPONSE = Check(
    "kpi.response", "Average response", "scripts/db_performance_check.py; which route is slow in /metrics?"
)
ERRORS = Check("kpi.errors", "Errors", "the service's log at level error; /metrics says which route")
RESPONSE_NOW = Check("kpi.response_now", "Response now", RESPONSE.next_step)
ERRORS_NOW = Check("kpi.errors_now", "Errors now", ERRORS.next_step)
OUTCOMES = Check("kpi.outcomes", "Outcomes", "are customers there? the front door's line; the service's log")
ANSWERS = Check("kpi.answers_now", "Answers now", "what holds it up? its log, its CPU, the database's lock waits")
AGE = Check("kpi.metrics_age", "Metrics age", "is `nvcops serve` running? can it reach the service's metrics?")
_ERRORS_NOW_CRITICAL = 10  # times the objective: at this rate a month's error budget is gone in three days
_RESPONSE_NOW_CRITICAL = 2
_ANSWERS_MIN = 3


def kpi_findings(
    day: Sequence[Figures], now: Sequence[Figures], manifest: Manifest, moment: dt.datetime
) -> list[Finding]:
    """The figures of the objectives' window, and the same for now."""
    entries = {entry.name: entry for entry in manifest.services}
    findings: list[Finding] = []
    for whole, recent in zip(day, now, strict=True):
        entry = entries[whole.service]
        findings += age_findings(whole, entry, manifest, moment)
        findings += _of_the_day(whole, entry, manifest)
        if entry.series:
            findings += _of_now(recent, manifest)
    return findings


def age_findings(figures: Figures, entry: ServiceEntry, manifest: Manifest, moment: dt.datetime) -> list[Finding]:
    """How old the newest figures are; old ones prove nothing about now."""
    if not entry.metrics:
        return []
    findings = []
    for subject in [instance.name for instance in entry.instances] or [""]:
        read = figures.scrapes.pages.get(subject)
        name = subject or entry.name
        if read is None:
            findings.append(AGE.unknown("never read: `nvcops serve` reads them", subject=name))
        else:
            age = Seconds(max((moment - read).total_seconds(), 0.0))
            findings.append(AGE.at_most(age, manifest.limits.metrics_age, subject=name))
    return findings


def _of_the_day(figures: Figures, entry: ServiceEntry, manifest: Manifest) -> list[Finding]:
    objectives, least = manifest.objectives, manifest.limits.recent_requests_min
    findings = [availability_finding(figures, objectives)]
    if entry.series is None:
        return findings
    findings += [response_finding(figures, objectives, least), errors_finding(figures, objectives, least)]
    if entry.series.outcomes:
        findings.append(outcomes_finding(figures, entry.series.outcome_title))
    return findings


def availability_finding(figures: Figures, objectives: Objectives) -> Finding:
    """The share of the times that the front door was asked in which it was ready."""
    good = slo.share(figures.scrapes.ready, figures.scrapes.asked)
    if good is None:
        return AVAILABILITY.unknown("nobody asked: `nvcops serve` does", subject=figures.service)
    observed = f"{good}, {_coverage(figures)}, {_budget(slo.budget_left(objectives.availability, good))}"
    return AVAILABILITY.at_least(good, _exactly(objectives.availability), subject=figures.service, observed=observed)


def response_finding(figures: Figures, objectives: Objectives, least: int) -> Finding:
    """The average response, and what 99 of 100 stayed below."""
    average = slo.mean(figures.slow_sum_s, figures.slow_count)
    if average is None or figures.slow_count < least:
        return RESPONSE.unknown(_too_few(figures.slow_count, least, figures), subject=figures.service)
    observed = f"{average}, p99 {_p99(figures)}, {Count(figures.slow_count)} requests"
    return RESPONSE.at_most(average, _exactly(objectives.response_mean), subject=figures.service, observed=observed)


def errors_finding(figures: Figures, objectives: Objectives, least: int) -> Finding:
    """The share of requests that the service failed (status 5xx)."""
    bad = slo.share(figures.errors, figures.requests or 0)
    if bad is None or (figures.requests or 0) < least:
        return ERRORS.unknown(_too_few(figures.requests, least, figures), subject=figures.service)
    budget = _budget(slo.budget_left(1 - objectives.error_ratio, 1 - bad))
    observed = f"{bad} ({Count(figures.errors)} of {Count(figures.requests or 0)}), {budget}"
    return ERRORS.at_most(bad, _exactly(objectives.error_ratio), subject=figures.service, observed=observed)


def outcomes_finding(figures: Figures, title: str) -> Finding:
    """The business figure by outcome, the largest first. It has no objective: it is there to be read.

    >>> empty = ScrapeSummary(0, 0, 0.0, None, None)
    >>> seen = Figures(service="bank", window_s=60, scrapes=empty, requests=None, errors=0, slow_count=0, slow_sum_s=0,
    ...     buckets=(), outcomes={"settled": 90.0, "limit": 10.0})
    >>> outcomes_finding(seen, "payments").observed
    '100 payments: 90 settled (90 %), 10 limit (10 %)'
    """
    total = sum(figures.outcomes.values())
    check = msgspec.structs.replace(OUTCOMES, title=title[:1].upper() + title[1:])
    if total <= 0:
        return check.unknown(f"no {title} were seen", subject=figures.service)
    ranked = sorted(figures.outcomes.items(), key=lambda item: (-item[1], item[0]))
    parts = ", ".join(f"{Count(count)} {name} ({Ratio(count / total)})" for name, count in ranked if count > 0)
    return check.finding(Verdict.OK, f"{Count(total)} {title}: {parts}", subject=figures.service)


def _of_now(figures: Figures, manifest: Manifest) -> list[Finding]:
    """A missed objective now is a warning: the day decides; far beyond it is CRITICAL at once."""
    objectives, least, subject = manifest.objectives, manifest.limits.recent_requests_min, figures.service
    average, bad = slo.mean(figures.slow_sum_s, figures.slow_count), slo.share(figures.errors, figures.requests or 0)
    if average is None or bad is None or min(figures.slow_count, figures.requests or 0) < least:
        why = _too_few(figures.requests, least, figures)
        return [RESPONSE_NOW.unknown(why, subject=subject), ERRORS_NOW.unknown(why, subject=subject)]
    over = f"over {Seconds(figures.window_s)}"
    slow = Bound(warning=objectives.response_mean, critical=Seconds(objectives.response_mean * _RESPONSE_NOW_CRITICAL))
    failing = Bound(warning=objectives.error_ratio, critical=Ratio(objectives.error_ratio * _ERRORS_NOW_CRITICAL))
    written = f"{average}, p99 {_p99(figures)}, {over}"
    return [
        RESPONSE_NOW.at_most(average, slow, subject=subject, observed=written),
        ERRORS_NOW.at_most(bad, failing, subject=subject, observed=f"{bad} of {Count(figures.requests or 0)}, {over}"),
    ]


def answering_findings(seen: Sequence[Answering], objectives: Objectives) -> list[Finding]:
    """How quickly each answered lately: an instance that hangs now and then is not seen by one look at it.

    >>> seen = Answering("bank", (Answers("bank-1", 10, 0.32), Answers("bank-2", 2, 0.1)))
    >>> [(line.subject, line.verdict.name) for line in answering_findings([seen], Objectives())]
    [('bank-1', 'WARNING'), ('bank-2', 'UNKNOWN')]
    """
    findings = []
    for service in seen:
        for answers in service.answers:
            subject = answers.instance or service.service
            if answers.count < _ANSWERS_MIN:
                findings.append(ANSWERS.unknown(f"{answers.count} answers prove nothing", subject=subject))
            else:
                written = f"{Seconds(answers.mean_s)} on average, {answers.count} times"
                limit = _slow(objectives)
                findings.append(ANSWERS.at_most(Seconds(answers.mean_s), limit, subject=subject, observed=written))
    return findings


def _slow(objectives: Objectives) -> Bound[Seconds]:
    mean = objectives.response_mean
    return Bound(warning=mean, critical=Seconds(mean * _RESPONSE_NOW_CRITICAL))


def _exactly(objective: Q) -> Bound[Q]:
    """An objective has no warning: it is met or missed."""
    return Bound(warning=objective, critical=objective)


def _budget(left: Ratio) -> str:
    """What is left of the error budget, in words.

    >>> _budget(Ratio(0.8)), _budget(Ratio(-1.5))
    ('80 % of the error budget left', 'the error budget is used up 2.5 times')
    """
    return f"{left} of the error budget left" if left >= 0 else f"the error budget is used up {Count(1 - left)} times"


def _p99(figures: Figures) -> str:
    answer = slo.percentile(figures.buckets, figures.slow_count, 0.99)
    if answer is not None:
        return str(answer)
    return f"above {Seconds(figures.buckets[-1][0])}" if figures.buckets else "unknown"


def _coverage(figures: Figures) -> str:
    """How much of the window was watched.

    >>> seen = ScrapeSummary(12, 12, 180.0, None, None)
    >>> _coverage(Figures(service="bank", window_s=86400, scrapes=seen, requests=None, errors=0, slow_count=0,
    ...     slow_sum_s=0, buckets=(), outcomes={}))
    '3 min of 24 h observed'
    """
    return f"{_hours(min(figures.scrapes.observed_s, figures.window_s))} of {_hours(figures.window_s)} observed"


def _hours(seconds: float) -> str:
    """A window as people say it: a day is 24 h."""
    return f"{Count(seconds / 3600)} h" if seconds >= 3600 else str(Seconds(seconds))


def _too_few(requests: float | None, least: int, figures: Figures) -> str:
    if requests is None or figures.scrapes.asked == 0:
        return "no metrics were read: `nvcops serve` reads them"
    return f"{Count(requests)} requests in {_hours(figures.window_s)} prove nothing (at least {least})"
