"""The tables of `platform.toml` about PostgreSQL: its servers, its limits, and how it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from nvcops.core.manifest.base import Bound, Name, Port, Table
from nvcops.core.schedule import When
from nvcops.core.units import Bytes, Count, Ratio, Seconds


class Server(Table, frozen=True, kw_only=True):
    """A PostgreSQL server; without a port it listens where the primary does."""

    name: Name
    host: str
    port: Port | None = None


class DatabaseLimits(Table, frozen=True, kw_only=True):
    """Thresholds of the database's own checks; those of its sessions and its lag stand in [limits].

    An index is called bloated that wastes `index_bloat_min` at least, and unused when all servers have counted for
    `unused_index_after`. Conflicts and temporary files are per hour, growth is per week.
    """

    lock_queue: Bound[Count] = Bound(warning=Count(5), critical=Count(20))
    deadlocks_per_day: Bound[Count] = Bound(warning=Count(5), critical=Count(100))
    prepared_transaction: Bound[Seconds] = Bound(warning=Seconds(300), critical=Seconds(3600))
    pool_waiting: Bound[Count] = Bound(warning=Count(5), critical=Count(50))
    freeze: Bound[Ratio] = Bound(warning=Ratio(1.2), critical=Ratio(2))
    wraparound: Bound[Ratio] = Bound(warning=Ratio(0.4), critical=Ratio(0.7))
    xmin_age: Bound[Count] = Bound(warning=Count(5_000_000), critical=Count(50_000_000))
    vacuum_overdue: Bound[Ratio] = Bound(warning=Ratio(2), critical=Ratio(10))
    insert_vacuum_overdue: Bound[Ratio] = Bound(warning=Ratio(5), critical=Ratio(50))
    analyze_overdue: Bound[Ratio] = Bound(warning=Ratio(5), critical=Ratio(50))
    overdue_rows_min: Count = Count(50_000)
    vacuum_runtime: Bound[Seconds] = Bound(warning=Seconds(6 * 3600), critical=Seconds(24 * 3600))
    table_bloat: Bound[Ratio] = Bound(warning=Ratio(0.5), critical=Ratio(0.8))
    table_bloat_min: Bytes = Bytes(32 << 20)
    sequence_used: Bound[Ratio] = Bound(warning=Ratio(0.75), critical=Ratio(0.9))
    foreign_key_min: Bytes = Bytes(64 << 20)
    index_bloat: Bound[Ratio] = Bound(warning=Ratio(0.5), critical=Ratio(0.9))
    index_bloat_min: Bytes = Bytes(64 << 20)
    unused_index_after: Seconds = Seconds(30 * 86400)
    unused_index_min: Bytes = Bytes(1 << 20)
    scanned_table_min: Bytes = Bytes(64 << 20)
    checkpoints_requested: Bound[Ratio] = Bound(warning=Ratio(0.5), critical=Ratio(0.9))
    wal_size: Bound[Ratio] = Bound(warning=Ratio(2), critical=Ratio(4))
    archive_backlog: Bound[Count] = Bound(warning=Count(10), critical=Count(100))
    slot_left: Bound[Ratio] = Bound(warning=Ratio(0.25), critical=Ratio(0.1))
    standby_conflicts: Bound[Count] = Bound(warning=Count(10), critical=Count(100))
    temporary_files: Bound[Bytes] = Bound(warning=Bytes(1 << 30), critical=Bytes(20 << 30))
    rollbacks: Bound[Ratio] = Bound(warning=Ratio(0.05), critical=Ratio(0.2))
    disk_left: Bound[Seconds] = Bound(warning=Seconds(30 * 86400), critical=Seconds(7 * 86400))
    database_growth: Bound[Ratio] = Bound(warning=Ratio(0.25), critical=Ratio(1))
    database_growth_min: Bytes = Bytes(1 << 30)


class UpkeepEntry(Table, frozen=True, kw_only=True):
    """The role that keeps the database, and how far it may disturb: see core.upkeep.Guard.

    `window` is when maintenance may begin and `window_length` how long it may go on; None: at any time.
    """

    user: str = "nvcops_upkeep"
    password_file: Path | None = None
    password_env: str | None = None
    window: When | None = None
    window_length: Seconds = Seconds(3 * 3600)
    lock: Seconds = Seconds(0.5)
    queue: Seconds = Seconds(1)
    slowdown: Annotated[float, msgspec.Meta(ge=1.1, le=100)] = 2.0
    index_budget: Bytes = Bytes(1 << 30)
    watch_after: Seconds = Seconds(600)


class DatabaseEntry(Table, frozen=True, kw_only=True):
    """The primary and its standbys, and the database that is looked after.

    `books` are the tables (patterns as of LIKE, with their schema) whose rows are money: what weakens them is CRITICAL.
    `settings` are those of postgresql.conf that must be as written here.
    """

    port: Port = 5432
    name: str
    user: str
    password_file: Path | None = None
    password_env: str | None = None
    ca_file: Path | None = None
    deadline: Seconds = Seconds(2)
    log: Path | None = None
    primary: Server
    standbys: tuple[Server, ...] = ()
    required_indexes: tuple[str, ...] = ()
    books: tuple[str, ...] = ()
    synchronous_standbys: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    limits: DatabaseLimits = DatabaseLimits()
    upkeep: UpkeepEntry | None = None
