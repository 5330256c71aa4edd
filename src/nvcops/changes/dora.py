"""DORA's four figures, from the records of changes: how often, how fast, how many failed, how soon it was mended. Pure.

Deployment frequency: deployments that were carried out (whatever became of them), a week. Lead time for changes: from
each commit to the end of the deployment that brought it, the median. Change failure rate: of the deployments that came
to an end, the share that failed, was rolled back, or has an incident. Failed deployment recovery time: from the moment
at which a failed deployment was out to its rollback, else to the end of its incident, else to the next deployment that
succeeded on the same service; the median of those that were recovered from.
"""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Mapping, Sequence

import msgspec

from nvcops.changes.risk import wilson
from nvcops.core.changes import Change, ChangeKind, ChangeState
from nvcops.core.incidents import Incident
from nvcops.core.units import Ratio, Seconds

_WEEK_S = 7 * 86400.0


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One of the four; `value` None: no data, and `said` says of what. `unit`: per week, seconds, or share."""

    name: str
    value: float | None
    unit: str
    said: str
    of: int


class Dora(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of the deployments that were out between two moments."""

    start: dt.datetime
    end: dt.datetime
    deployments: int
    figures: tuple[Figure, ...]


def dora(changes: Sequence[Change], incidents: Mapping[int, Incident], start: dt.datetime, end: dt.datetime) -> Dora:
    """The four figures; `incidents` are those that the changes name."""
    every = sorted(
        (one for one in changes if one.kind is ChangeKind.DEPLOYMENT and one.done is not None),
        key=lambda one: (one.done or end, one.number),
    )
    meant = [one for one in every if one.done and start <= one.done < end]
    return Dora(
        start=start,
        end=end,
        deployments=len(meant),
        figures=(
            _frequency(meant, start, end),
            _lead_time(meant),
            _failure_rate(meant),
            _recovery(meant, every, incidents),
        ),
    )


def failed(change: Change) -> bool:
    """Whether a deployment counts as failed: it ended so, or an incident followed from it."""
    return change.state in (ChangeState.FAILED, ChangeState.ROLLED_BACK) or change.incident is not None


def recovered(change: Change, later: Sequence[Change], incidents: Mapping[int, Incident]) -> dt.datetime | None:
    """When a failed deployment was recovered from; None: not yet. `later` are the deployments after it, in order."""
    if change.state is ChangeState.ROLLED_BACK:
        return change.ended
    incident = incidents.get(change.incident) if change.incident is not None else None
    if incident is not None and (over := incident.mitigated or incident.resolved):
        return over
    services = set(change.services)
    return next(
        (
            one.done
            for one in later
            if one.state is ChangeState.SUCCESSFUL
            and (not services or not one.services or services & set(one.services))
        ),
        None,
    )


def _frequency(meant: Sequence[Change], start: dt.datetime, end: dt.datetime) -> Figure:
    weeks = max((end - start).total_seconds() / _WEEK_S, 1e-9)
    value = len(meant) / weeks if meant else None
    said = f"{len(meant)} in {weeks:.1f} weeks: {value:.2g} a week" if value is not None else "no deployment: no data"
    return Figure(name="deployment frequency", value=value, unit="per week", said=said, of=len(meant))


def _lead_time(meant: Sequence[Change]) -> Figure:
    times = [
        (one.done - commit).total_seconds()
        for one in meant
        if one.done
        for commit in one.committed
        if commit <= one.done
    ]
    value = statistics.median(times) if times else None
    said = f"median of {len(times)} commits: {Seconds(value)}" if value is not None else "no commit is known: no data"
    return Figure(name="lead time for changes", value=value, unit="seconds", said=said, of=len(times))


def _failure_rate(meant: Sequence[Change]) -> Figure:
    ended = [one for one in meant if one.state.ended]
    bad = sum(failed(one) for one in ended)
    value = bad / len(ended) if ended else None
    low, high = wilson(bad, len(ended))
    told = f"{bad} of {len(ended)}: {Ratio(value)} (95 %: {Ratio(low)} to {Ratio(high)})" if value is not None else ""
    return Figure(
        name="change failure rate",
        value=value,
        unit="share",
        said=told or "no deployment came to an end: no data",
        of=len(ended),
    )


def _recovery(meant: Sequence[Change], every: Sequence[Change], incidents: Mapping[int, Incident]) -> Figure:
    bad = [one for one in meant if one.state.ended and failed(one)]
    times = []
    for one in bad:
        over = recovered(one, every[every.index(one) + 1 :], incidents)
        out = one.began or one.done
        if over is not None and out is not None:
            times.append(max((over - out).total_seconds(), 0.0))
    value = statistics.median(times) if times else None
    open_ = len(bad) - len(times)
    waits = f"; {open_} not recovered from yet" if open_ else ""
    said = f"median of {len(times)}: {Seconds(value)}{waits}" if value is not None else f"none failed: no data{waits}"
    if bad and value is None:
        said = f"no data{waits}"
    return Figure(name="failed deployment recovery time", value=value, unit="seconds", said=said, of=len(times))
