"""What the primary does with its time: sessions, locks, statements, tables, indexes, replication."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import TargetError
from nvcops.core.manifest import Limits
from nvcops.core.procedures import procedure
from nvcops.core.queries import Rows
from nvcops.core.runs import Run
from nvcops.core.target import Target
from nvcops.core.units import Bytes, Count, Ratio, Seconds
from nvcops.database.servers import replication_findings, server_findings, servers

T = TypeVar("T")
_SQL = queries.load("nvcops.database")
_ASKED = ("sessions", "transactions", "lock_waits", "waits", "cache_hit", "tables", "indexes", "statements_home")

# --- Facts ---


class Counted(msgspec.Struct, frozen=True):
    """How many sessions are in a state, or wait for something."""

    what: str
    count: int


class Transaction(msgspec.Struct, frozen=True):
    """An open transaction of a client. Its statement's text stays in the database: it may hold personal data."""

    pid: int
    user: str
    application: str
    state: str
    transaction_s: float
    query_s: float
    state_s: float
    query_id: int

    @property
    def who(self) -> str:
        """Whose it is."""
        application = f", {self.application}" if self.application else ""
        return f"pid {self.pid} ({self.user}{application})"


class LockWait(msgspec.Struct, frozen=True):
    """A session that waits for a lock, and who holds it."""

    pid: int
    user: str
    application: str
    waited_s: float
    blocked_by: tuple[int, ...]
    blockers: str


class Table(msgspec.Struct, frozen=True):
    """A table: rows alive and dead, how often it was scanned and looked up, its size."""

    name: str
    live: float
    dead: float
    scans: float
    scanned: float
    lookups: float
    bytes: float


class Index(msgspec.Struct, frozen=True):
    """An index, and whether queries may use it."""

    name: str
    valid: bool


class Statement(msgspec.Struct, frozen=True):
    """A statement of pg_stat_statements, without its constants."""

    id: int
    text: str
    calls: float
    mean_s: float
    total_s: float


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `trouble` says why nothing was, `unread` which parts were refused, and why.

    `statements` is None where pg_stat_statements is not there.
    """

    trouble: str = ""
    unread: dict[str, str] = {}
    sessions: tuple[Counted, ...] = ()
    waits: tuple[Counted, ...] = ()
    transactions: tuple[Transaction, ...] = ()
    lock_waits: tuple[LockWait, ...] = ()
    hit: float = 0.0
    read: float = 0.0
    tables: tuple[Table, ...] = ()
    indexes: tuple[Index, ...] = ()
    statements: tuple[Statement, ...] | None = None


def performance(target: Target) -> Performance | None:
    """Read sessions, locks, statements, tables and indexes of the primary."""
    if target.database is None:
        return None
    try:
        answers = target.database.read({name: _SQL[name] for name in _ASKED})
        home = answers["statements_home"]
        if isinstance(home, list) and home and home[0]["loaded"]:
            schema = '"' + str(home[0]["schema"]).replace('"', '""') + '"'
            answers |= target.database.read({"statements": _SQL["statements"].replace("{schema}", schema)})
    except TargetError as error:
        return Performance(trouble=error.sentence)
    return parsed(answers)


def parsed(answers: dict[str, Rows | TargetError]) -> Performance:
    """The rows as types."""

    def many(name: str, kind: type[T]) -> tuple[T, ...]:
        rows = answers.get(name, [])
        return () if isinstance(rows, TargetError) else msgspec.convert(rows, tuple[kind, ...])  # type: ignore[valid-type]

    def counted(name: str, key: str) -> tuple[Counted, ...]:
        rows = answers.get(name, [])
        return () if isinstance(rows, TargetError) else tuple(Counted(row[key], row["count"]) for row in rows)

    blocks = answers.get("cache_hit", [])
    first = blocks[0] if isinstance(blocks, list) and blocks else {"hit": 0.0, "read": 0.0}
    return Performance(
        unread={name: answer.sentence for name, answer in answers.items() if isinstance(answer, TargetError)},
        sessions=counted("sessions", "state"),
        waits=counted("waits", "wait"),
        transactions=many("transactions", Transaction),
        lock_waits=many("lock_waits", LockWait),
        hit=first["hit"],
        read=first["read"],
        tables=many("tables", Table),
        indexes=many("indexes", Index),
        statements=many("statements", Statement) if "statements" in answers else None,
    )


# --- Rules ---

SESSIONS = Check("performance.sessions", "Sessions", "SELECT pid, usename, state, xact_start FROM pg_stat_activity")
IDLE = Check(
    "performance.idle_in_transaction", "Idle in transaction", "SELECT pg_terminate_backend({pid}) frees what it holds"
)
QUERY = Check(
    "performance.longest_query",
    "Longest query",
    "SELECT pg_cancel_backend({pid}) ends it; EXPLAIN says why it takes long",
)
LONGEST = Check(
    "performance.longest_transaction", "Longest transaction", "SELECT pg_terminate_backend({pid}); vacuum waits for it"
)
LOCKS = Check("performance.lock_waits", "Lock waits", "SELECT pg_terminate_backend({pid}) ends who holds it")
WAITS = Check("performance.waits", "Waits", "SELECT * FROM pg_stat_activity WHERE state = 'active'")
CACHE_HIT = Check(
    "performance.cache_hit", "Cache hits", "raise shared_buffers, or find the statement that reads so much"
)
DEAD = Check("performance.dead_rows", "Dead rows", "VACUUM (ANALYZE) {name}; does an old transaction hold it up?")
REQUIRED = Check("performance.required_indexes", "Required indexes", "build it again: CREATE INDEX CONCURRENTLY")
INVALID = Check("performance.invalid_indexes", "Invalid indexes", "REINDEX INDEX CONCURRENTLY {name}")
SCANS = Check("performance.scans", "Scans of large tables", "EXPLAIN the statements on {name}: is an index missing?")
SLOW = Check(
    "performance.statements", "Slow statements", "EXPLAIN it; after the repair: SELECT pg_stat_statements_reset()"
)
_BLOCKS_MIN = 1_000
_DEAD_MIN = 50_000  # fewer are vacuumed in a blink
_CALLS_MIN = 3
_LARGE_BYTES = 64 * 2**20
_SCANS_MIN = 100
_SCANS_SHARE = 0.1
_SILENT = "the server's own line says what is wrong"
_GRANT = "GRANT pg_monitor TO the user of nvcops"
_INSTALL = "CREATE EXTENSION pg_stat_statements, with it in shared_preload_libraries"


def performance_findings(seen: Performance, required: Sequence[str], limits: Limits, name: str) -> list[Finding]:
    """All lines about one primary."""
    checks = (SESSIONS, IDLE, QUERY, LONGEST, LOCKS, WAITS, CACHE_HIT, DEAD, SCANS, REQUIRED, INVALID, SLOW)
    if seen.trouble:
        return [msgspec.structs.replace(_unread(check, seen.trouble, _SILENT), subject=name) for check in checks]
    lines = {
        "sessions": [sessions_finding(seen.sessions)],
        "transactions": transaction_findings(seen.transactions, limits),
        "lock_waits": [lock_finding(seen.lock_waits, limits)],
        "waits": [waits_finding(seen.waits)],
        "cache_hit": [cache_hit_finding(seen.hit, seen.read, limits)],
        "tables": [dead_rows_finding(seen.tables, limits), scans_finding(seen.tables)],
        "indexes": [required_finding(seen.indexes, required), invalid_finding(seen.indexes)],
        "statements": [statements_finding(seen.statements, limits)],
    }
    findings = []
    for query, made in lines.items():
        why = seen.unread.get(query, "")
        findings += [_unread(Check(f.check, f.title, ""), why, _GRANT) if why else f for f in made]
    return [msgspec.structs.replace(finding, subject=finding.subject or name) for finding in findings]


def _unread(check: Check, why: str, next_step: str) -> Finding:
    return msgspec.structs.replace(check, next_step=next_step).unknown(why)


def _then(finding: Finding, **facts: object) -> Finding:
    """Fill the next step with what was found."""
    return msgspec.structs.replace(finding, next_step=finding.next_step.format(**facts))


def sessions_finding(sessions: Sequence[Counted]) -> Finding:
    """Sessions by state; their number against the limit is the connections' line."""
    total = sum(session.count for session in sessions)
    parts = ", ".join(f"{session.count} {session.what}" for session in sessions)
    return SESSIONS.finding(Verdict.OK, f"{total}: {parts}" if parts else "none but ours")


def transaction_findings(transactions: Sequence[Transaction], limits: Limits) -> list[Finding]:
    """The longest idle one, the longest running statement, the oldest transaction."""
    idle = [t for t in transactions if t.state.startswith("idle in transaction")]
    active = [t for t in transactions if t.state == "active"]
    return [
        _longest(IDLE, idle, "state_s", limits.idle_in_transaction),
        _longest(QUERY, active, "query_s", limits.longest_query),
        _longest(LONGEST, transactions, "transaction_s", limits.longest_query),
    ]


def _longest(check: Check, transactions: Sequence[Transaction], measure: str, limit: object) -> Finding:
    worst = max(transactions, key=lambda t: getattr(t, measure), default=None)
    if worst is None:
        return _then(check.at_most(Seconds(0), limit, observed="none"), pid="")  # type: ignore[arg-type]
    took = Seconds(max(getattr(worst, measure), 0.0))
    observed = f"{took} by {worst.who}" + (f", {len(transactions)} in all" if len(transactions) > 1 else "")
    return _then(check.at_most(took, limit, observed=observed), pid=worst.pid)  # type: ignore[arg-type]


def lock_finding(waits: Sequence[LockWait], limits: Limits) -> Finding:
    """Who waits longest, and for whom.

    >>> lock_finding([LockWait(7, "bank", "", 12.0, (5,), "5 (bank, idle in transaction)")], Limits()).observed
    '12 s: pid 7 (bank) waits for 5 (bank, idle in transaction)'
    >>> lock_finding([], Limits()).verdict.name
    'OK'
    """
    if not waits:
        return LOCKS.at_most(Seconds(0), limits.lock_wait, observed="none")
    worst = max(waits, key=lambda wait: wait.waited_s)
    more = f", {len(waits)} wait in all" if len(waits) > 1 else ""
    observed = (
        f"{Seconds(worst.waited_s)}: pid {worst.pid} ({worst.user}) waits for {worst.blockers or 'nobody any more'}"
    )
    holder = worst.blocked_by[0] if worst.blocked_by else worst.pid
    return _then(LOCKS.at_most(Seconds(worst.waited_s), limits.lock_wait, observed=observed + more), pid=holder)


def waits_finding(waits: Sequence[Counted]) -> Finding:
    """What active sessions do at this moment: a picture, without a limit."""
    return WAITS.finding(Verdict.OK, ", ".join(f"{wait.count} {wait.what}" for wait in waits) or "nobody is active")


def cache_hit_finding(hit: float, read: float, limits: Limits) -> Finding:
    """The share of blocks that were in memory.

    >>> [cache_hit_finding(hit, 5_000 - hit, Limits()).verdict.name for hit in (4_750, 4_749, 4_000, 3_999)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    >>> cache_hit_finding(10, 0, Limits()).verdict.name
    'UNKNOWN'
    """
    if hit + read < _BLOCKS_MIN:
        return CACHE_HIT.unknown(f"{Count(hit + read)} blocks prove nothing")
    return CACHE_HIT.at_least(Ratio(round(hit / (hit + read), 6)), limits.cache_hit)


def dead_rows_finding(tables: Sequence[Table], limits: Limits) -> Finding:
    """The table with the largest share of dead rows, among those with many."""
    many = [table for table in tables if table.dead >= _DEAD_MIN]
    worst = max(many, key=lambda table: table.dead / (table.dead + table.live), default=None)
    if worst is None:
        observed = f"no table has {_DEAD_MIN:,} of them"
        return DEAD.at_most(Ratio(0), limits.dead_rows, observed=observed)
    ratio = Ratio(worst.dead / (worst.dead + worst.live))
    finding = DEAD.at_most(ratio, limits.dead_rows, subject=worst.name, observed=f"{ratio}, {Count(worst.dead)} rows")
    return _then(finding, name=worst.name)


def scans_finding(tables: Sequence[Table]) -> Finding:
    """Large tables that are read from end to end again and again.

    >>> def verdict(scans, size): return scans_finding([Table("a", 1, 0, scans, 9, 900, size)]).verdict.name
    >>> verdict(99, 2**30), verdict(100, 2**30), verdict(100, 2**20)
    ('OK', 'WARNING', 'OK')
    """
    scanned = [
        table
        for table in tables
        if table.bytes >= _LARGE_BYTES
        and table.scans >= _SCANS_MIN
        and table.scans >= _SCANS_SHARE * (table.scans + table.lookups)
    ]
    worst = max(scanned, key=lambda table: table.scanned, default=None)
    if worst is None:
        return SCANS.finding(Verdict.OK, "none")
    observed = f"{Count(worst.scans)} of {Bytes(worst.bytes)} each"
    return _then(SCANS.finding(Verdict.WARNING, observed, subject=worst.name), name=worst.name)


def required_finding(indexes: Sequence[Index], required: Sequence[str]) -> Finding:
    """Each required index is there and valid; it may be named with or without its schema.

    >>> there = [Index("bank.entry_account", True)]
    >>> required_finding(there, ["entry_account"]).verdict.name, required_finding(there, ["bank.other"]).observed
    ('OK', 'missing: bank.other')
    """
    valid = {index.name for index in indexes if index.valid}
    known = valid | {name.rpartition(".")[2] for name in valid}
    missing = [name for name in required if name not in known]
    if missing:
        return REQUIRED.finding(Verdict.CRITICAL, f"missing: {', '.join(missing)}", limit=f"all {len(required)}")
    return REQUIRED.finding(Verdict.OK, f"all {len(required)} are there" if required else "none are named")


def invalid_finding(indexes: Sequence[Index]) -> Finding:
    """An index that was not built to its end costs every write and serves no read."""
    invalid = [index.name for index in indexes if not index.valid]
    if not invalid:
        return INVALID.finding(Verdict.OK, "none")
    return _then(INVALID.finding(Verdict.WARNING, ", ".join(invalid)), name=invalid[0])


def statements_finding(statements: Sequence[Statement] | None, limits: Limits) -> Finding:
    """The slowest statement on average, among those that were called more than once or twice."""
    if statements is None:
        return Check(SLOW.name, SLOW.title, _INSTALL).unknown("pg_stat_statements is not installed")
    often = [statement for statement in statements if statement.calls >= _CALLS_MIN]
    worst = max(often, key=lambda statement: statement.mean_s, default=None)
    if worst is None:
        return SLOW.at_most(Seconds(0), limits.slow_query_mean, observed="none was called often")
    share = worst.total_s / max(sum(statement.total_s for statement in statements), 1e-9)
    took = Seconds(worst.mean_s)
    observed = f"{took} on average in {Count(worst.calls)} calls, {Ratio(share)} of all time: {worst.text[:60]}"
    return SLOW.at_most(took, limits.slow_query_mean, observed=observed)


# --- Procedures ---


@procedure("db-performance-check", script="db_performance_check.py")
def db_performance_check(run: Run, target: Target) -> None:
    """Check what the database does with its time: connections, locks, slow statements, indexes, replication.

    Works on PostgreSQL 15 to 18 with the role pg_monitor alone.
    """
    manifest = target.manifest
    seen = run.read(performance, target)
    if seen is None or manifest.database is None:
        run.conclude(
            [SESSIONS.unknown("no [database] stands in platform.toml")], summary="There is no database to check."
        )
        return
    readings = run.read(servers, target)
    lines = server_findings(readings[:1], manifest.limits) + replication_findings(readings, manifest.limits)
    wanted = ("database.server", "database.connections", "database.replication_lag")
    findings = [finding for finding in lines if finding.check in wanted]
    required, primary = manifest.database.required_indexes, manifest.database.primary.name
    findings += performance_findings(seen, required, manifest.limits, primary)
    run.conclude(findings)
