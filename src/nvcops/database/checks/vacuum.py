"""Whether vacuum and analyze keep up with what is changed in the primary's tables, by autovacuum's own formula."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import Bound, DatabaseLimits, Manifest
from nvcops.core.units import Count, Ratio, Seconds
from nvcops.database.topics import Answers, judged, listed, many, then, unread

ASKED = queries.load("nvcops.database.checks", "vacuum.sql")

# --- Facts ---


class Autovacuum(msgspec.Struct, frozen=True):
    """Whether it is on, whether changes are counted for it, and how many of its workers are busy."""

    enabled: bool
    counting: bool
    workers_max: int
    workers: int


class Named(msgspec.Struct, frozen=True):
    """A table."""

    name: str


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table (or its TOAST), rows that changed since it was vacuumed or analysed, and at how many autovacuum comes.

    `insert_at` and `analyze_at` are None where it never comes for that. `enabled` is its own option; `vacuumed_s` and
    `analyzed_s` say how long ago it was done, None: not since the counters began.
    """

    name: str
    toast: bool = False
    rows: float = 0.0
    dead: float = 0.0
    inserted: float = 0.0
    modified: float = 0.0
    vacuum_at: float = 50.0
    insert_at: float | None = 1000.0
    analyze_at: float | None = 50.0
    enabled: bool = True
    vacuumed_s: float | None = None
    analyzed_s: float | None = None
    running: bool = False

    @property
    def title(self) -> str:
        """Its name, and whether it is only the table's TOAST."""
        return f"{self.name} (TOAST)" if self.toast else self.name


class Running(msgspec.Struct, frozen=True):
    """A vacuum that runs, and how many sessions wait for its table."""

    pid: int
    automatic: bool
    name: str
    phase: str
    percent: float
    took_s: float
    waiting: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why."""

    unread: dict[str, str] = {}
    autovacuum: Autovacuum = Autovacuum(enabled=True, counting=True, workers_max=3, workers=0)
    switched_off: tuple[Named, ...] = ()
    tables: tuple[Table, ...] = ()
    running: tuple[Running, ...] = ()


def parsed(answers: Answers) -> Seen:
    """The rows as types."""
    said = many(answers, "autovacuum", Autovacuum)
    return Seen(
        unread=unread(answers),
        autovacuum=said[0] if said else Seen().autovacuum,
        switched_off=many(answers, "switched_off", Named),
        tables=many(answers, "overdue", Table),
        running=many(answers, "running", Running),
    )


# --- Rules ---

OFF = Check("database.autovacuum", "Autovacuum", "ALTER SYSTEM SET {setting} = on; SELECT pg_reload_conf()")
OFF_TABLES = Check(
    "database.autovacuum_tables", "Tables without autovacuum", "ALTER TABLE {name} RESET (autovacuum_enabled)"
)
DEAD = Check("database.vacuum_overdue", "Overdue vacuum", "scripts/db_maintenance.py --vacuum, or VACUUM {name}; {why}")
INSERTED = Check(
    "database.insert_vacuum_overdue",
    "Overdue vacuum of inserts",
    "VACUUM {name}: until then its index scans read it too",
)
ANALYZED = Check(
    "database.analyze_overdue", "Age of statistics", "scripts/db_maintenance.py --analyze, or ANALYZE {name}"
)
WORKERS = Check(
    "database.autovacuum_workers",
    "Autovacuum workers",
    "raise autovacuum_vacuum_cost_limit, then autovacuum_max_workers; scripts/db_maintenance.py --vacuum meanwhile",
)
RUNTIME = Check(
    "database.vacuum_runtime",
    "Longest vacuum",
    "SELECT * FROM pg_stat_progress_vacuum WHERE pid = {pid}; is it slowed by vacuum_cost_delay?",
)
CHECKS = (OFF, OFF_TABLES, DEAD, INSERTED, ANALYZED, WORKERS, RUNTIME)


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about vacuum on one primary."""
    limits = manifest.database.limits if manifest.database else DatabaseLimits()
    lines = {
        "autovacuum": ((OFF,), lambda: [off_finding(seen.autovacuum)]),
        "switched_off": ((OFF_TABLES,), lambda: [off_tables_finding(seen.switched_off)]),
        "overdue": (
            (DEAD, INSERTED, ANALYZED, WORKERS),
            lambda: [
                dead_finding(seen.tables, seen.autovacuum, limits),
                inserted_finding(seen.tables, limits),
                analyzed_finding(seen.tables, limits),
                workers_finding(seen.tables, seen.autovacuum, limits),
            ],
        ),
        "running": ((RUNTIME,), lambda: [runtime_finding(seen.running, limits)]),
    }
    return judged(lines, seen.unread, name)


def off_finding(autovacuum: Autovacuum) -> Finding:
    """Without autovacuum tables and indexes swell, plans go astray, and in the end nothing is written any more.

    >>> off_finding(Autovacuum(False, True, 3, 0)).next_step
    'ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()'
    >>> [off_finding(Autovacuum(True, on, 3, 0)).verdict.name for on in (True, False)]
    ['OK', 'CRITICAL']
    """
    off = [] if autovacuum.enabled else ["autovacuum"]
    off += [] if autovacuum.counting else ["track_counts"]
    if not off:
        return OFF.finding(Verdict.OK, "on", limit="on")
    observed = f"{' and '.join(off)} = off: no dead row is removed, no statistics are renewed"
    return then(OFF.finding(Verdict.CRITICAL, observed, limit="on"), setting=off[0])


def off_tables_finding(tables: Sequence[Named]) -> Finding:
    """Tables that autovacuum leaves alone until they threaten the whole server."""
    if not tables:
        return OFF_TABLES.finding(Verdict.OK, "none")
    names = [table.name for table in tables]
    return then(OFF_TABLES.finding(Verdict.WARNING, listed(names), subject=names[0]), name=names[0])


def _overdue(share: float, rows: float, limits: DatabaseLimits, limit: Bound[Ratio]) -> bool:
    return rows >= limits.overdue_rows_min and share >= limit.warning


def dead_finding(tables: Sequence[Table], autovacuum: Autovacuum, limits: DatabaseLimits) -> Finding:
    """The table whose dead rows are furthest beyond the number at which autovacuum should have come.

    >>> def line(dead, **more):
    ...     table = Table(name="bank.entry", dead=dead, vacuum_at=100_000, **more)
    ...     return dead_finding([table], Seen().autovacuum, DatabaseLimits())
    >>> [line(dead).verdict.name for dead in (199_999, 200_000, 999_999, 1_000_000)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    >>> line(300_000, running=True).verdict.name, line(2_000_000, running=True).verdict.name
    ('OK', 'CRITICAL')
    >>> line(300_000, enabled=False).next_step.rpartition("; ")[2]
    'autovacuum is switched off for it'
    """
    waiting = [
        table
        for table in tables
        if _overdue(table.dead / max(table.vacuum_at, 1), table.dead, limits, limits.vacuum_overdue)
        and not (table.running and table.dead < limits.vacuum_overdue.critical * table.vacuum_at)
    ]
    worst = max(waiting, key=lambda table: table.dead / max(table.vacuum_at, 1), default=None)
    if worst is None:
        return DEAD.at_most(Ratio(0), limits.vacuum_overdue, observed="none")
    since = f"last vacuum {Seconds(worst.vacuumed_s)} ago" if worst.vacuumed_s is not None else "never vacuumed"
    observed = f"{Count(worst.dead)} dead rows, autovacuum comes at {Count(worst.vacuum_at)}, {since}"
    observed += f"; also {listed([table.title for table in waiting if table is not worst])}" if waiting[1:] else ""
    share = Ratio(worst.dead / max(worst.vacuum_at, 1))
    finding = DEAD.at_most(share, limits.vacuum_overdue, subject=worst.title, observed=observed)
    return then(finding, name=worst.name, why=_why(worst, autovacuum))


def _why(table: Table, autovacuum: Autovacuum) -> str:
    """What keeps autovacuum away, as far as it can be seen."""
    if not (autovacuum.enabled and autovacuum.counting):
        return "autovacuum is off"
    if not table.enabled:
        return "autovacuum is switched off for it"
    if table.running:
        return "a vacuum is at it"
    if autovacuum.workers >= autovacuum.workers_max:
        return "all of autovacuum's workers are busy"
    return "is an old snapshot in its way, or does the log say: canceling autovacuum task?"


def inserted_finding(tables: Sequence[Table], limits: DatabaseLimits) -> Finding:
    """The table whose inserts are furthest beyond the number at which autovacuum should have come for them.

    >>> def line(rows): return inserted_finding([Table(name="a", inserted=rows, insert_at=10_000.0)], DatabaseLimits())
    >>> [line(rows).verdict.name for rows in (49_999, 50_000, 499_999, 500_000)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    """
    limit = limits.insert_vacuum_overdue
    shares = {
        table: table.inserted / max(table.insert_at, 1)
        for table in tables
        if table.insert_at is not None and not table.running and table.inserted >= limits.overdue_rows_min
    }
    worst = max(shares, key=lambda table: shares[table], default=None)
    if worst is None or shares[worst] < limit.warning:
        return INSERTED.at_most(Ratio(0), limit, observed="none")
    observed = f"{Count(worst.inserted)} rows, autovacuum comes at {Count(worst.insert_at or 0)}"
    finding = INSERTED.at_most(Ratio(shares[worst]), limit, subject=worst.title, observed=observed)
    return then(finding, name=worst.name)


def analyzed_finding(tables: Sequence[Table], limits: DatabaseLimits) -> Finding:
    """The table that changed most since its statistics were made: the planner takes it for what it was.

    >>> def line(rows): return analyzed_finding([Table(name="a", modified=rows, analyze_at=10_000)], DatabaseLimits())
    >>> [line(rows).verdict.name for rows in (49_999, 50_000, 499_999, 500_000)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    """
    limit = limits.analyze_overdue
    shares = {
        table: table.modified / max(table.analyze_at, 1)
        for table in tables
        if table.analyze_at is not None and table.modified >= limits.overdue_rows_min
    }
    worst = max(shares, key=lambda table: shares[table], default=None)
    if worst is None or shares[worst] < limit.warning:
        return ANALYZED.at_most(Ratio(0), limit, observed="fresh")
    since = f"{Seconds(worst.analyzed_s)} old" if worst.analyzed_s is not None else "there are none"
    observed = (
        f"{since}, {Count(worst.modified)} rows changed since, autovacuum comes at {Count(worst.analyze_at or 0)}"
    )
    finding = ANALYZED.at_most(Ratio(shares[worst]), limit, subject=worst.name, observed=observed)
    return then(finding, name=worst.name)


def workers_finding(tables: Sequence[Table], autovacuum: Autovacuum, limits: DatabaseLimits) -> Finding:
    """All workers are busy while tables wait for one.

    >>> late = Table(name="a", dead=200_000, vacuum_at=100_000)
    >>> [workers_finding([late], Autovacuum(True, True, 3, busy), DatabaseLimits()).verdict.name for busy in (2, 3)]
    ['OK', 'WARNING']
    >>> workers_finding([], Autovacuum(True, True, 3, 3), DatabaseLimits()).verdict.name
    'OK'
    """
    written = f"{autovacuum.workers} of {autovacuum.workers_max} are busy"
    waiting = [
        table.title
        for table in tables
        if table.enabled
        and not table.running
        and _overdue(table.dead / max(table.vacuum_at, 1), table.dead, limits, limits.vacuum_overdue)
    ]
    if autovacuum.workers < autovacuum.workers_max or not waiting:
        return WORKERS.finding(Verdict.OK, written)
    return WORKERS.finding(Verdict.WARNING, f"{written}, and {listed(waiting)} waits", subject=waiting[0])


def runtime_finding(running: Sequence[Running], limits: DatabaseLimits) -> Finding:
    """The vacuum that takes longest; and one that others wait for: autovacuum then gives up, and begins again later.

    >>> line = runtime_finding([Running(7, True, "bank.entry", "scanning heap", 12.0, 6 * 3600, 0)], DatabaseLimits())
    >>> line.verdict.name, line.subject, line.observed
    ('WARNING', 'bank.entry', '6 h by pid 7, scanning heap, 12 %')
    >>> [runtime_finding([Running(7, True, "a", "", 0, 9, n)], DatabaseLimits()).verdict.name for n in (0, 1)]
    ['OK', 'WARNING']
    """
    if not running:
        return RUNTIME.at_most(Seconds(0), limits.vacuum_runtime, observed="none runs")
    worst = max(running, key=lambda one: (one.took_s >= limits.vacuum_runtime.warning, one.waiting > 0, one.took_s))
    took = Seconds(max(worst.took_s, 0))
    observed = f"{took} by pid {worst.pid}, {worst.phase}, {worst.percent:.0f} %"
    finding = RUNTIME.at_most(took, limits.vacuum_runtime, subject=worst.name, observed=observed)
    if worst.waiting and finding.verdict is Verdict.OK:
        gives_up = ": autovacuum will give up" if worst.automatic else ""
        finding = RUNTIME.finding(
            Verdict.WARNING, f"{observed}; {worst.waiting} wait for the table{gives_up}", subject=worst.name
        )
    return then(finding, pid=worst.pid)
