"""The pools of connections: how many requests wait for one. Where many do, the pool or the database is short."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec

from nvcops.core.checks import Check, Finding
from nvcops.core.errors import TargetError
from nvcops.core.manifest import DatabaseLimits
from nvcops.core.target import Target
from nvcops.core.units import Count

# --- Facts ---


class Pool(msgspec.Struct, frozen=True):
    """How many requests waited for a connection when a service's metrics were last read; `of` says which pool."""

    service: str
    of: str
    waiting: float


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """The pools of one service, or the trouble with reading them."""

    service: str
    trouble: str = ""
    pools: tuple[Pool, ...] = ()


def pools(target: Target, start: dt.datetime, end: dt.datetime) -> list[Reading]:
    """Look up the newest readings of the gauges that the manifest names."""
    return [
        _reading(target, service.name, service.series.pool_waiting, start, end)
        for service in target.manifest.services
        if service.series and service.series.pool_waiting
    ]


def _reading(target: Target, service: str, series: str, start: dt.datetime, end: dt.datetime) -> Reading:
    try:
        samples = target.metrics.samples(service, series, start, end)
    except TargetError as error:
        return Reading(service=service, trouble=error.sentence)
    found = (Pool(service, ", ".join(v for _, v in sorted(one.labels.items())), one.value) for one in samples)
    return Reading(service=service, pools=tuple(found))


# --- Rules ---

WAITING = Check(
    "database.pool_waiting",
    "Waiting for a connection",
    "scripts/db_diagnostics.py says what the busy ones wait for; only where they work, raise the pool",
)


def pool_findings(readings: Sequence[Reading], limits: DatabaseLimits) -> list[Finding]:
    """The pool of each service with the most requests that wait; where nobody reads the metrics, nothing is known.

    >>> def line(*waiting): return pool_findings(
    ...     [Reading(service="bank", pools=tuple(Pool("bank", "bank-1", n) for n in waiting))], DatabaseLimits())[0]
    >>> [line(n).verdict.name for n in (4, 5, 49, 50)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    >>> line(0, 7).observed, line().verdict.name
    ('7 in bank-1', 'UNKNOWN')
    """
    return [_pool_finding(reading, limits) for reading in readings]


def _pool_finding(reading: Reading, limits: DatabaseLimits) -> Finding:
    if reading.trouble or not reading.pools:
        why = reading.trouble or "its metrics were not read lately: `nvcops serve` reads them"
        return WAITING.unknown(why, subject=reading.service)
    worst = max(reading.pools, key=lambda pool: pool.waiting)
    waiting = Count(worst.waiting)
    observed = f"{waiting} in {worst.of or 'its pool'}" if worst.waiting else "nobody"
    return WAITING.at_most(waiting, limits.pool_waiting, subject=reading.service, observed=observed)
