"""The transaction log and who depends on it, and what one database writes and reads beside its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import Limits, Manifest
from nvcops.core.manifest.database import DatabaseLimits
from nvcops.core.units import Bytes, Count, Ratio, Seconds
from nvcops.database.checks.synchronous import SYNCHRONOUS, Synchronous, synchronous_finding
from nvcops.database.topics import Answers, listed, many, then, unknown, unread

T = TypeVar("T")
_SQL = queries.load("nvcops.database.checks", "wal.sql")
ASKED = {name: sql for name, sql in _SQL.items() if name != "conflicts"}
OF_STANDBYS = {"conflicts": _SQL["conflicts"]}
SINCE = {"cache_hit": 16, "checkpoints": 17}
UNTIL = {"cache_hit_older": 15, "checkpoints_older": 16}

# --- Facts ---


class Blocks(msgspec.Struct, frozen=True):
    """Blocks that were in memory, and that were read from outside."""

    hit: float
    read: float


class Checkpoints(msgspec.Struct, frozen=True):
    """How many came in time and how many were requested, in how many seconds; one is due each `timeout_s`.

    One is requested when a third to a half of `wal_max` was written since the last; besides, people ask for one, and
    backups, and CREATE and DROP DATABASE.
    """

    timed: float
    requested: float
    seconds: float
    timeout_s: float
    wal_bytes: float
    wal_max: float

    @property
    def for_wal(self) -> float:
        """As many of the requested ones as the WAL explains that was written."""
        return min(self.requested, 3 * self.wal_bytes / max(self.wal_max, 1.0))


class WalSize(msgspec.Struct, frozen=True):
    """Bytes of WAL on the disk, max_wal_size, and what is kept for standbys in any case."""

    bytes: float
    bytes_max: float
    kept: float


class Archiver(msgspec.Struct, frozen=True):
    """How the WAL is archived; `failing`: the last attempt failed."""

    mode: str
    failed: str
    failures: float
    failing: bool
    archived_s: float | None
    waiting: float


class SlotLeft(msgspec.Struct, frozen=True):
    """A slot, and how much may be written until it is lost, of how much at most."""

    name: str
    active: bool
    left_bytes: float
    kept_max: float


class Traffic(msgspec.Struct, frozen=True):
    """What a database did in so many seconds."""

    committed: float
    rolled_back: float
    files: float
    temp_bytes: float
    temp_now: float
    seconds: float


class Conflicts(msgspec.Struct, frozen=True):
    """Queries that replay cancelled on a standby in so many seconds, by what they stood in the way of."""

    tablespace: float
    lock: float
    snapshot: float
    buffer_pin: float
    deadlock: float
    seconds: float

    @property
    def by_kind(self) -> dict[str, float]:
        """Those that happened."""
        kinds = {name: getattr(self, name) for name in self.__struct_fields__ if name != "seconds"}
        return {name.replace("_", " "): count for name, count in kinds.items() if count}


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why. `conflicts` are by standby."""

    unread: dict[str, str] = {}
    blocks: Blocks | None = None
    checkpoints: Checkpoints | None = None
    wal_size: WalSize | None = None
    archiver: Archiver | None = None
    slots: tuple[SlotLeft, ...] = ()
    synchronous: Synchronous | None = None
    traffic: Traffic | None = None
    conflicts: dict[str, Conflicts | str] = {}


def parsed(answers: Answers, standbys: Mapping[str, Answers] | None = None) -> Seen:
    """The rows as types; an older server's answers take the place of those that it cannot give."""
    current = {name.partition("_older")[0]: answer for name, answer in answers.items()}
    conflicts: dict[str, Conflicts | str] = {}
    for name, said in (standbys or {}).items():
        rows = many(said, "conflicts", Conflicts)
        conflicts[name] = rows[0] if rows else unread(said).get("conflicts", "it did not say")
    return Seen(
        unread=unread(current),
        blocks=_one(many(current, "cache_hit", Blocks)),
        checkpoints=_one(many(current, "checkpoints", Checkpoints)),
        wal_size=_one(many(current, "wal_size", WalSize)),
        archiver=_one(many(current, "archiver", Archiver)),
        slots=many(current, "slots_left", SlotLeft),
        synchronous=_one(many(current, "synchronous", Synchronous)),
        traffic=_one(many(current, "traffic", Traffic)),
        conflicts=conflicts,
    )


def _one(rows: tuple[T, ...]) -> T | None:
    return rows[0] if rows else None


# --- Rules ---

CACHE_HIT = Check(
    "performance.cache_hit", "Cache hits", "raise shared_buffers, or find the statement that reads so much"
)
CHECKPOINTS = Check(
    "database.checkpoints", "Requested checkpoints", "raise max_wal_size: scripts/db_optimization.py measures the gain"
)
WAL_SIZE = Check(
    "database.wal_size", "Size of the WAL", "SELECT * FROM pg_replication_slots; and pg_stat_archiver: who keeps it?"
)
ARCHIVER = Check("database.archiver", "Archiver", "the server's log says why archive_command fails")
SLOT_LEFT = Check(
    "database.slot_left", "WAL left for slots", "start what reads {name}; else it is lost, and must be made anew"
)
CONFLICTS = Check(
    "database.standby_conflicts", "Conflicts with replay", "hot_standby_feedback, or max_standby_streaming_delay"
)
TEMPORARY = Check(
    "database.temporary_files",
    "Temporary files",
    "log_temp_files = 10MB names the statements; raise work_mem for those",
)
ROLLBACKS = Check("database.rollbacks", "Transactions rolled back", "the server's log and the service's say what fails")
CHECKS = (CACHE_HIT, CHECKPOINTS, WAL_SIZE, ARCHIVER, SLOT_LEFT, SYNCHRONOUS, CONFLICTS, TEMPORARY, ROLLBACKS)
_BLOCKS_MIN = 1_000
_REQUESTED_MIN = 20
_TRANSACTIONS_MIN = 1_000
_HOUR_S = 3600.0


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about the WAL, replication and traffic of one primary, and the conflicts on its standbys."""
    entry = manifest.database
    if entry is None:
        return []
    limits = entry.limits
    lines = [
        _line(seen, "cache_hit", CACHE_HIT) or cache_hit_finding(seen.blocks, manifest.limits),
        _line(seen, "checkpoints", CHECKPOINTS) or checkpoints_finding(seen.checkpoints, limits),
        _line(seen, "wal_size", WAL_SIZE) or wal_size_finding(seen.wal_size, limits),
        _line(seen, "archiver", ARCHIVER) or archiver_finding(seen.archiver, limits),
        _line(seen, "slots_left", SLOT_LEFT) or slots_left_finding(seen.slots, limits),
        _line(seen, "synchronous", SYNCHRONOUS) or synchronous_finding(seen.synchronous, entry.synchronous_standbys),
        _line(seen, "traffic", TEMPORARY) or temporary_finding(seen.traffic, limits),
        _line(seen, "traffic", ROLLBACKS) or rollbacks_finding(seen.traffic, limits),
    ]
    conflicts = [conflicts_finding(standby, said, limits) for standby, said in seen.conflicts.items()]
    return [msgspec.structs.replace(line, subject=line.subject or name) for line in lines] + conflicts


def _line(seen: Seen, query: str, check: Check) -> Finding | None:
    return unknown(check, seen.unread[query]) if query in seen.unread else None


def cache_hit_finding(blocks: Blocks | None, limits: Limits) -> Finding:
    """The share of blocks that were in memory.

    >>> [cache_hit_finding(Blocks(hit, 5_000 - hit), Limits()).verdict.name for hit in (4_750, 4_749, 4_000, 3_999)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    >>> cache_hit_finding(Blocks(10, 0), Limits()).verdict.name
    'UNKNOWN'
    """
    total = blocks.hit + blocks.read if blocks else 0.0
    if blocks is None or total < _BLOCKS_MIN:
        return CACHE_HIT.unknown(f"{Count(total)} blocks prove nothing")
    return CACHE_HIT.at_least(Ratio(round(blocks.hit / total, 6)), limits.cache_hit)


def checkpoints_finding(seen: Checkpoints | None, limits: DatabaseLimits) -> Finding:
    """Checkpoints that came before their time: each has whole pages written into the WAL again, and the disk is busy.

    Only where they come more often than one each checkpoint_timeout, and for the WAL: a backup's is not meant.

    >>> def verdict(timed, requested, hours, wal=1e9):
    ...     seen = Checkpoints(timed, requested, hours * 3600, 300, wal_bytes=wal, wal_max=1e6)
    ...     return checkpoints_finding(seen, DatabaseLimits()).verdict.name
    >>> verdict(20, 20, 1), verdict(21, 20, 1), verdict(0, 20, 1), verdict(0, 19, 1), verdict(0, 20, 2)
    ('WARNING', 'OK', 'CRITICAL', 'OK', 'OK')
    >>> verdict(0, 20, 1, wal=6e6)
    'OK'
    """
    if seen is None:
        return CHECKPOINTS.unknown("the server did not say")
    requested = seen.for_wal
    rare = requested < _REQUESTED_MIN or requested * seen.timeout_s < seen.seconds
    share = Ratio(0 if rare else requested / (requested + seen.timed))
    observed = f"{Count(seen.requested)} requested, {Count(seen.timed)} in time, in {Seconds(seen.seconds)}"
    return CHECKPOINTS.at_most(share, limits.checkpoints_requested, observed=observed)


def wal_size_finding(seen: WalSize | None, limits: DatabaseLimits) -> Finding:
    """The WAL on the disk against what it should be: something holds it, and the disk fills.

    >>> def verdict(size, kept=0): return wal_size_finding(WalSize(size, 100, kept), DatabaseLimits()).verdict.name
    >>> verdict(199), verdict(200), verdict(400), verdict(400, kept=300)
    ('OK', 'WARNING', 'CRITICAL', 'OK')
    """
    if seen is None:
        return WAL_SIZE.unknown("the server did not say")
    wanted = max(seen.bytes_max, seen.kept)
    observed = f"{Bytes(seen.bytes)} of {Bytes(wanted)}"
    return WAL_SIZE.at_most(Ratio(seen.bytes / max(wanted, 1.0)), limits.wal_size, observed=observed)


def archiver_finding(seen: Archiver | None, limits: DatabaseLimits) -> Finding:
    """The archive: an attempt that failed is a WARNING, for what comes after it waits; many that wait are CRITICAL.

    >>> def line(**more): return archiver_finding(msgspec.structs.replace(
    ...     Archiver("on", "", 0, False, 1.0, 0), **more), DatabaseLimits())
    >>> line().verdict.name, line(waiting=10).verdict.name, line(waiting=100).verdict.name, line(mode="off").observed
    ('OK', 'WARNING', 'CRITICAL', 'archive_mode is off')
    >>> line(failing=True, failed="0001", failures=3.0).observed
    '0001 cannot be archived: 3 attempts failed, 0 segments wait'
    """
    if seen is None:
        return ARCHIVER.unknown("the server did not say")
    if seen.mode == "off":
        return ARCHIVER.finding(Verdict.OK, "archive_mode is off")
    waiting = f"{Count(seen.waiting)} segments wait"
    line = ARCHIVER.at_most(Count(seen.waiting), limits.archive_backlog, observed=waiting)
    if not seen.failing:
        return line
    observed = f"{seen.failed} cannot be archived: {Count(seen.failures)} attempts failed, {waiting}"
    verdict = Verdict.CRITICAL if line.verdict is Verdict.CRITICAL else Verdict.WARNING
    return msgspec.structs.replace(line, verdict=verdict, observed=observed, next_step=ARCHIVER.next_step)


def slots_left_finding(slots: tuple[SlotLeft, ...], limits: DatabaseLimits) -> Finding:
    """The slot that is nearest to being lost: whoever reads it must then be made anew.

    >>> def line(left): return slots_left_finding((SlotLeft("db_2", False, left, 100),), DatabaseLimits())
    >>> [line(left).verdict.name for left in (25, 24, 9)]
    ['OK', 'WARNING', 'CRITICAL']
    >>> slots_left_finding((), DatabaseLimits()).verdict.name
    'OK'
    """
    worst = min(slots, key=lambda slot: slot.left_bytes / slot.kept_max, default=None)
    if worst is None:
        return SLOT_LEFT.finding(Verdict.OK, "no slot has a limit")
    share = Ratio(max(worst.left_bytes, 0.0) / worst.kept_max)
    idle = "" if worst.active else ", nobody reads it"
    observed = f"{Bytes(max(worst.left_bytes, 0.0))} until it is lost{idle}"
    return then(SLOT_LEFT.at_least(share, limits.slot_left, subject=worst.name, observed=observed), name=worst.name)


def conflicts_finding(standby: str, seen: Conflicts | str, limits: DatabaseLimits) -> Finding:
    """Queries on a standby that were cancelled for replay, an hour; less than an hour counts as one.

    >>> conflicts_finding("db-2", Conflicts(0, 0, 30, 0, 0, 7200), DatabaseLimits()).observed
    '15 an hour: snapshot'
    >>> conflicts_finding("db-2", "it does not answer", DatabaseLimits()).verdict.name
    'UNKNOWN'
    """
    if isinstance(seen, str):
        return CONFLICTS.unknown(seen, subject=standby)
    kinds = seen.by_kind
    rate = Count(sum(kinds.values()) / max(seen.seconds / _HOUR_S, 1.0))
    observed = f"{rate} an hour: {listed(sorted(kinds))}" if kinds else "none"
    return CONFLICTS.at_most(rate, limits.standby_conflicts, subject=standby, observed=observed)


def temporary_finding(seen: Traffic | None, limits: DatabaseLimits) -> Finding:
    """Bytes an hour that sorts and hashes wrote to the disk for lack of memory; less than an hour counts as one.

    >>> temporary_finding(Traffic(1, 0, 4, 2**31, 0, 3600), DatabaseLimits()).observed
    '2 GiB an hour in 4 files'
    """
    if seen is None:
        return TEMPORARY.unknown("the server did not say")
    rate = Bytes(seen.temp_bytes / max(seen.seconds / _HOUR_S, 1.0))
    observed = f"{rate} an hour in {Count(seen.files)} files" if seen.files else "none"
    observed += f"; {Bytes(seen.temp_now)} now" if seen.temp_now else ""
    return TEMPORARY.at_most(rate, limits.temporary_files, observed=observed)


def rollbacks_finding(seen: Traffic | None, limits: DatabaseLimits) -> Finding:
    """The share of transactions that came to nothing.

    >>> def line(gone): return rollbacks_finding(Traffic(1000 - gone, gone, 0, 0, 0, 9), DatabaseLimits())
    >>> [line(gone).verdict.name for gone in (49, 50, 200)]
    ['OK', 'WARNING', 'CRITICAL']
    >>> rollbacks_finding(Traffic(9, 990, 0, 0, 0, 9), DatabaseLimits()).verdict.name
    'OK'
    """
    if seen is None:
        return ROLLBACKS.unknown("the server did not say")
    total = seen.committed + seen.rolled_back
    if total < _TRANSACTIONS_MIN:
        return ROLLBACKS.finding(Verdict.OK, f"{Count(total)} transactions prove nothing")
    share = Ratio(seen.rolled_back / total)
    observed = f"{share} of {Count(total)} transactions"
    return ROLLBACKS.at_most(share, limits.rollbacks, observed=observed)
