"""What a change touches, and what is measured of its risk: read from the platform before anybody decides.

What cannot be read is said, and counts as not known: nothing is made up for it.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import msgspec

from nvcops.alerts.readings import budgets
from nvcops.changes import lifecycle, risk
from nvcops.core import schedule
from nvcops.core.changes import Change, ChangeKind, ChangeState
from nvcops.core.commits import Brought
from nvcops.core.errors import NvcopsError
from nvcops.core.manifest import Manifest
from nvcops.core.records import Reading
from nvcops.core.target import Target
from nvcops.core.units import Count, Ratio

_HOUR = dt.timedelta(hours=1)
_LINES_MAX, _COMMITS_MAX = 10_000, 100
_WHOLE = (ChangeKind.RESTORE, ChangeKind.INDEX, ChangeKind.SETTING, ChangeKind.MAINTENANCE)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a change is to do, as far as its measures need it; `author` is a name of the roster.

    `at` is now, `when` it is planned for (None: now).
    """

    kind: ChangeKind
    author: str
    at: dt.datetime
    when: dt.datetime | None = None
    services: tuple[str, ...] = ()
    digest: str = ""
    schema: bool | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured: see core.changes.Change for the fields of that name."""

    services: tuple[str, ...]
    dependants: tuple[str, ...]
    budgets: dict[str, float]
    impact: str
    features: dict[str, float]
    risk: float | None
    risk_why: str
    committed: tuple[dt.datetime, ...] = ()


# --- Rules ---


def touched(manifest: Manifest, asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The services that a change touches and those that depend on them.

    All services stand on the database and the cache; of a deployment without a service's name [delivery] says which.
    """
    every = tuple(service.name for service in manifest.services)
    if asked.services:
        named = asked.services
    elif asked.kind is ChangeKind.DEPLOYMENT and manifest.delivery:
        named = (manifest.delivery.service,)
    else:
        named = every
    below = asked.kind in _WHOLE
    return named, tuple(name for name in every if name not in named and below)


def inconvenience(manifest: Manifest, at: dt.datetime) -> float:
    """How bad a time it is: who could help is not there, or soon goes home for the weekend."""
    local = at.astimezone(ZoneInfo(manifest.platform.time_zone))
    hours, calendar = manifest.calendar.business_hours, manifest.calendar
    if not schedule.is_open(calendar, local.date()) or local.time() not in hours:
        return 1.0
    last = not schedule.is_open(calendar, local.date() + dt.timedelta(days=1))
    return 0.5 if last and (local + 4 * _HOUR).time() >= hours.end else 0.0


def of_files(brought: Brought) -> dict[str, float]:
    """What the files that a change brings say: how much, how restless, how well known to the author, how tested."""
    if not brought.files:
        return {}
    lines = sum(one.lines for one in brought.files)
    commits = sum(one.commits for one in brought.files)
    known = sum(one.by_author for one in brought.files)
    features = {
        "size": min(1.0, math.log10(1 + lines) / math.log10(1 + _LINES_MAX)),
        "history": min(1.0, math.log10(1 + commits) / math.log10(1 + _COMMITS_MAX)),
        "inexperience": 1 - known / len(brought.files),
    }
    counted = [one for one in brought.files if one.statements]
    if counted:
        features["uncovered"] = 1 - sum(one.covered for one in counted) / sum(one.statements for one in counted)
    return features


def history_of(changes: Sequence[Change]) -> list[risk.Outcome]:
    """What the closed changes teach, in the order in which they were requested."""
    return [
        risk.Outcome(risk.points_of(change.features), change.state is not ChangeState.SUCCESSFUL)
        for change in sorted(changes, key=lambda change: change.requested)
        if change.features
    ]


def entered(change: Change, measured: Measured) -> Change:
    """A change with what was measured of it."""
    return msgspec.structs.replace(change, **{name: getattr(measured, name) for name in Measured.__struct_fields__})


# --- Facts ---


def closed(reading: Reading) -> list[Change]:
    """The newest changes that were carried out and came to an end."""
    ended = list(lifecycle.ENDED)
    return reading.find(Change, state__in=ended, order="-ended", limit=risk.HISTORY_MAX)


def measure(target: Target, asked: Asked, before: Sequence[Change]) -> Measured:
    """Impact and risk of a change, from the manifest, the budgets, the checkout and the changes before it."""
    manifest = target.manifest
    services, dependants = touched(manifest, asked)
    left, unread = _left(target, asked.at, {*services, *dependants})
    brought, why = _brought(target, asked, before)
    features = {"time": inconvenience(manifest, asked.when or asked.at)} | of_files(brought)
    if manifest.services:
        features["blast"] = len({*services, *dependants}) / max(len(manifest.services), len({*services, *dependants}))
    if asked.schema is not None:
        features["schema"] = float(asked.schema)
    assessed = risk.assess(features, history_of(before))
    said = [f"services: {', '.join(services) or 'none'}"]
    said += [f"dependants: {', '.join(dependants)}"] if dependants else []
    said += [f"error budget of {name}: {Ratio(share)} left" for name, share in sorted(left.items())]
    said += unread + [_customers(target, services, asked.at)] + ([why] if why else [])
    return Measured(
        services=services,
        dependants=dependants,
        budgets=left,
        impact="; ".join(said)[: lifecycle.TEXT_MAX],
        features={name: round(value, 6) for name, value in features.items()},
        risk=assessed.probability,
        risk_why=assessed.why,
        committed=tuple(commit.time for commit in brought.commits),
    )


def _left(target: Target, at: dt.datetime, services: set[str]) -> tuple[dict[str, float], list[str]]:
    """How much of each error budget is left, and what is not known."""
    try:
        found = budgets(target.manifest, target.metrics, at)
    except NvcopsError as error:
        return {}, [f"the error budgets are not known: {error.sentence}"]
    mine = [budget for budget in found if budget.service in services]
    young = [
        f"error budget of {budget.objective}: {Count(budget.raw.total)} counted, too few to say"
        for budget in mine
        if budget.is_young
    ]
    left = [(budget.objective, budget.raw_left) for budget in mine if not budget.is_young]
    return {name: float(share) for name, share in left if share is not None}, young


def _customers(target: Target, services: Sequence[str], at: dt.datetime) -> str:
    """How much customers ask of the services: what a change can hurt within an hour."""
    said = []
    for service in target.manifest.services:
        if service.name not in services or service.series is None:
            continue
        try:
            rises = target.metrics.increases(service.name, service.series.requests, at - _HOUR, at)
        except NvcopsError as error:
            said.append(f"requests to {service.name}: not known, {error.sentence}")
            continue
        count = Count(sum(rise.value for rise in rises))
        said.append(f"requests to {service.name} in the last hour: {count}" if rises else "no request was counted")
    return "; ".join(said) or "customers: not known"


def _brought(target: Target, asked: Asked, before: Sequence[Change]) -> tuple[Brought, str]:
    """The commits and files between the release that was deployed last and this one; why not, where it is not known."""
    if not asked.digest:
        return Brought(), ""
    if target.releases is None or target.commits is None:
        return Brought(), "what it brings is not known: no releases, or no repository in [incidents]"
    deployed = [one for one in before if one.digest and one.state is ChangeState.SUCCESSFUL]
    person = target.manifest.person(asked.author)
    names = (asked.author, person.full_name) if person else (asked.author,)
    try:
        new = target.releases.find(asked.digest).revision
        old = target.releases.find(deployed[0].digest).revision if deployed else ""
        if not new:
            return Brought(), "what it brings is not known: the release says no revision"
        return target.commits.brought(old, new, names, asked.at), ""
    except NvcopsError as error:
        return Brought(), f"what it brings is not known: {error.sentence}"
