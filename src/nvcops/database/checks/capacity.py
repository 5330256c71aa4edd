"""How long the disk of the data lasts, and how quickly the database grows: by what was seen before, and is seen now.

The disks' past are the series of our own probes; the database's are the findings of earlier runs of this check.
"""

from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NvcopsError, TargetError
from nvcops.core.manifest import Manifest
from nvcops.core.manifest.database import DatabaseLimits
from nvcops.core.target import Target
from nvcops.core.units import Bytes, Ratio, Seconds
from nvcops.core.watch import PROBE_VALUE, WATCHED, part_named

_SQL = queries.load("nvcops.database.checks", "capacity.sql")
_DAY = dt.timedelta(days=1)
_BEFORE = (7 * _DAY, 30 * _DAY, _DAY)  # how far back is looked, the best first
_AROUND = dt.timedelta(hours=12)

# --- Facts ---


class Before(msgspec.Struct, frozen=True):
    """What a size was, and how many seconds ago."""

    bytes: float
    seconds: float


class Grown(msgspec.Struct, frozen=True, kw_only=True):
    """A disk or the database: bytes now, of how many (None: it has no limit), and before; `trouble`: why not known."""

    name: str
    bytes: float = 0.0
    size: float | None = None
    before: Before | None = None
    trouble: str = ""

    @property
    def growth(self) -> float | None:
        """Bytes a second; None while nothing is known of the past."""
        return None if self.before is None else (self.bytes - self.before.bytes) / self.before.seconds


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """The disks that the data may lie on, and the database."""

    disks: tuple[Grown, ...] = ()
    database: Grown | None = None


def capacity(target: Target, now: dt.datetime) -> Capacity:
    """Sizes of the data's disks and of the database, and what they were."""
    if target.database is None:
        return Capacity()
    return Capacity(
        disks=tuple(_disk(target, name, now) for name in data_disks(target.manifest)), database=_size(target, now)
    )


def data_disks(manifest: Manifest) -> list[str]:
    """The disk of [[disks]] on which [recovery] says that the data lies; all of them where it does not say."""
    data = manifest.recovery.data
    holding = [disk for disk in manifest.disks if data is not None and data.is_relative_to(disk.path)]
    if holding:
        return [max(holding, key=lambda disk: len(disk.path.parts)).name]
    return [disk.name for disk in manifest.disks]


def _disk(target: Target, name: str, now: dt.datetime) -> Grown:
    try:
        disk = target.host.disk(name)
    except TargetError as error:
        return Grown(name=name, trouble=error.sentence)
    probe = f"disk.{part_named(name)}"
    for ago in _BEFORE:
        try:
            samples = target.metrics.samples(WATCHED, PROBE_VALUE, now - ago - _AROUND, now - ago + _AROUND)
        except NvcopsError:  # no past is known: the line says so
            break
        for sample in samples:
            if sample.labels.get("probe") == probe and sample.time < now:
                then = Before(sample.value * disk.size, (now - sample.time).total_seconds())
                return Grown(name=name, bytes=disk.used, size=disk.size, before=then)
    return Grown(name=name, bytes=disk.used, size=disk.size)


def _size(target: Target, now: dt.datetime) -> Grown | None:
    database = target.database
    if database is None:
        return None
    try:
        size = float(database.rows(_SQL["size"])[0]["bytes"])
    except TargetError as error:
        return Grown(name=database.name, trouble=error.sentence)
    return Grown(name=database.name, bytes=size, before=_size_before(target, now))


def _size_before(target: Target, now: dt.datetime) -> Before | None:
    """The database's size as an earlier run of this check found it."""
    if target.runs is None:
        return None
    for ago in _BEFORE:
        try:
            runs = target.runs.between(now - ago - _AROUND, now - ago + _AROUND)
        except NvcopsError:  # no past is known: the line says so
            return None
        for run in runs:
            found = [line.value for line in run.findings if line.check == SIZE.name and line.value is not None]
            if found and run.started is not None and run.started < now:
                return Before(found[0], (now - run.started).total_seconds())
    return None


# --- Rules ---

LEFT = Check("database.disk_left", "Time until the disk is full", "du -x -d 2 PATH | sort -n | tail: what grows?")
SIZE = Check(
    "database.size", "Size of the database", "which table grows? \\dt+ in psql; scripts/db_performance_check.py"
)
_WEEK_S = 7 * 86400.0


def capacity_findings(seen: Capacity, manifest: Manifest, name: str) -> list[Finding]:
    """How long each disk lasts, and how the database grows."""
    entry = manifest.database
    if entry is None or seen.database is None:
        return []
    lines = [left_finding(disk, seen.database, entry.limits) for disk in seen.disks]
    return [*lines, msgspec.structs.replace(size_finding(seen.database, entry.limits), subject=name)]


def left_finding(disk: Grown, database: Grown, limits: DatabaseLimits) -> Finding:
    """When a disk is full if it goes on as it does; where its own past is not known, as the database grows.

    >>> day, gib = 86400.0, 2.0**30
    >>> def line(used, was): return left_finding(Grown(name="data", bytes=used * gib, size=100 * gib,
    ...     before=Before(was * gib, 7 * day)), Grown(name="db-1"), DatabaseLimits())
    >>> [line(*used).verdict.name for used in ((50, 43), (80, 73), (94, 87), (50, 60))]
    ['OK', 'WARNING', 'CRITICAL', 'OK']
    >>> line(80, 73).observed
    'full in 20 d: 20 GiB free, 1 GiB more a day'
    >>> left_finding(Grown(name="data", bytes=1, size=2), Grown(name="db-1"), DatabaseLimits()).observed
    '1 B free; its growth is known after a day'
    """
    if disk.trouble or disk.size is None:
        return LEFT.unknown(disk.trouble or "it has no size", subject=disk.name)
    free = max(disk.size - disk.bytes, 0.0)
    growth = disk.growth if disk.growth is not None else database.growth
    if growth is None:
        return LEFT.finding(Verdict.OK, f"{Bytes(free)} free; its growth is known after a day", subject=disk.name)
    if growth <= 0:
        return LEFT.finding(Verdict.OK, f"{Bytes(free)} free; it does not grow", subject=disk.name)
    left = Seconds(free / growth)
    observed = f"full in {left}: {Bytes(free)} free, {Bytes(growth * 86400)} more a day"
    return LEFT.at_least(left, limits.disk_left, subject=disk.name, observed=observed)


def size_finding(database: Grown, limits: DatabaseLimits) -> Finding:
    """The database's size, which later runs compare with, and by how much it grows in a week.

    >>> gib, week = 2.0**30, 7 * 86400.0
    >>> def line(now, was, ago=week): return size_finding(
    ...     Grown(name="db-1", bytes=now * gib, before=Before(was * gib, ago)), DatabaseLimits())
    >>> line(2.4, 2).verdict.name, line(2.5, 2).verdict.name, line(4, 2).verdict.name, line(0.9, 0.1).verdict.name
    ('OK', 'WARNING', 'CRITICAL', 'OK')
    >>> line(2.5, 2).observed, line(2.5, 2).value == 2.5 * gib
    ('2.5 GiB, 25 % more in a week', True)
    """
    if database.trouble:
        return SIZE.unknown(database.trouble)
    size, before = Bytes(database.bytes), database.before
    if before is None or before.bytes <= 0:
        line = SIZE.finding(Verdict.OK, f"{size}; its growth is known after a day")
    else:
        share = Ratio((database.growth or 0.0) * _WEEK_S / before.bytes)
        judged = share if database.bytes >= limits.database_growth_min else Ratio(0)
        how = f"{share} more" if share >= 0 else f"{Ratio(-share)} less"
        line = SIZE.at_most(judged, limits.database_growth, observed=f"{size}, {how} in a week")
    return msgspec.structs.replace(line, value=float(size), unit="bytes")
