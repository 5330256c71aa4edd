"""Sessions of the primary: what they do, for how long, and for whom they wait."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import Bound, DatabaseLimits, Limits, Manifest
from nvcops.core.units import Count, Ratio, Seconds
from nvcops.core.workload import quoted
from nvcops.database.topics import Answers, judged, many, then, unread

ASKED = queries.load("nvcops.database.checks", "sessions.sql")

# --- Facts ---


class Sessions(msgspec.Struct, frozen=True):
    """How many client sessions are in a state."""

    state: str
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


class LockQueue(msgspec.Struct, frozen=True):
    """A session that waits to have a table for itself, and how many wait behind it: they could go on but for it."""

    pid: int
    user: str
    application: str
    mode: str
    name: str
    waited_s: float
    behind: int
    blocked_by: tuple[int, ...]


class Share(msgspec.Struct, frozen=True):
    """How many sessions a role or a database has; `most` is its own limit, -1 where it has none."""

    kind: str
    name: str
    most: int
    count: int


class Deadlocks(msgspec.Struct, frozen=True):
    """How many there were in the time that was counted."""

    count: float
    counted_s: float


class Prepared(msgspec.Struct, frozen=True):
    """A transaction that was prepared and waits to be committed."""

    gid: str
    user: str
    database: str
    age_s: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why."""

    unread: dict[str, str] = {}
    sessions: tuple[Sessions, ...] = ()
    transactions: tuple[Transaction, ...] = ()
    lock_waits: tuple[LockWait, ...] = ()
    lock_queues: tuple[LockQueue, ...] = ()
    shares: tuple[Share, ...] = ()
    deadlocks: Deadlocks = Deadlocks(0.0, 0.0)
    prepared: tuple[Prepared, ...] = ()


def parsed(answers: Answers) -> Seen:
    """The rows as types."""
    counted = many(answers, "deadlocks", Deadlocks)
    return Seen(
        unread=unread(answers),
        sessions=many(answers, "sessions", Sessions),
        transactions=many(answers, "transactions", Transaction),
        lock_waits=many(answers, "lock_waits", LockWait),
        lock_queues=many(answers, "lock_queues", LockQueue),
        shares=many(answers, "shares", Share),
        deadlocks=counted[0] if counted else Deadlocks(0.0, 0.0),
        prepared=many(answers, "prepared", Prepared),
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
QUEUE = Check(
    "database.lock_queue",
    "Queue behind a lock",
    "SELECT pg_cancel_backend({pid}) lets the others go on; try again with lock_timeout set",
)
SHARES = Check(
    "database.connection_limits",
    "Connections of a role or database",
    "ALTER {kind} {name} CONNECTION LIMIT, or a smaller pool: {verb} refused when it is reached",
)
DEADLOCKS = Check(
    "database.deadlocks",
    "Deadlocks",
    "the log names both statements (deadlock detected): have them lock in the same order",
)
PREPARED = Check(
    "database.prepared_transactions",
    "Prepared transactions",
    "ROLLBACK PREPARED {gid} (or COMMIT PREPARED) in the database {database}, if its coordinator is gone",
)
CHECKS = (SESSIONS, IDLE, QUERY, LONGEST, LOCKS, QUEUE, SHARES, DEADLOCKS, PREPARED)
_DAY_S = 86400.0


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about the sessions of one primary."""
    limits = manifest.limits
    own = manifest.database.limits if manifest.database else DatabaseLimits()
    lines = {
        "sessions": ((SESSIONS,), lambda: [sessions_finding(seen.sessions, seen.shares)]),
        "transactions": ((IDLE, QUERY, LONGEST), lambda: transaction_findings(seen.transactions, limits)),
        "lock_waits": ((LOCKS,), lambda: [lock_finding(seen.lock_waits, limits)]),
        "lock_queues": ((QUEUE,), lambda: [queue_finding(seen.lock_queues, own)]),
        "shares": ((SHARES,), lambda: [shares_finding(seen.shares, limits)]),
        "deadlocks": ((DEADLOCKS,), lambda: [deadlocks_finding(seen.deadlocks, own)]),
        "prepared": ((PREPARED,), lambda: [prepared_finding(seen.prepared, own)]),
    }
    return judged(lines, seen.unread, name)


def sessions_finding(sessions: Sequence[Sessions], shares: Sequence[Share] = ()) -> Finding:
    """Sessions by state, and whose most are; their number against the limit is the connections' line.

    >>> sessions_finding([Sessions("idle", 3), Sessions("active", 1)], [Share("role", "bank", -1, 4)]).observed
    '4: 3 idle, 1 active; 4 of role bank'
    """
    total = sum(session.count for session in sessions)
    parts = ", ".join(f"{session.count} {session.state}" for session in sessions)
    most = next((f"; {share.count} of role {share.name}" for share in shares if share.kind == "role"), "")
    return SESSIONS.finding(Verdict.OK, f"{total}: {parts}{most}" if parts else "none but ours")


def transaction_findings(transactions: Sequence[Transaction], limits: Limits) -> list[Finding]:
    """The longest idle one, the longest running statement, the oldest transaction."""
    idle = [t for t in transactions if t.state.startswith("idle in transaction")]
    active = [t for t in transactions if t.state == "active"]
    return [
        _longest(IDLE, idle, "state_s", limits.idle_in_transaction),
        _longest(QUERY, active, "query_s", limits.longest_query),
        _longest(LONGEST, transactions, "transaction_s", limits.longest_query),
    ]


def _longest(check: Check, transactions: Sequence[Transaction], measure: str, limit: Bound[Seconds]) -> Finding:
    worst = max(transactions, key=lambda t: getattr(t, measure), default=None)
    if worst is None:
        return then(check.at_most(Seconds(0), limit, observed="none"), pid="")
    took = Seconds(max(getattr(worst, measure), 0.0))
    observed = f"{took} by {worst.who}" + (f", {len(transactions)} in all" if len(transactions) > 1 else "")
    return then(check.at_most(took, limit, observed=observed), pid=worst.pid)


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
    return then(LOCKS.at_most(Seconds(worst.waited_s), limits.lock_wait, observed=observed + more), pid=holder)


def queue_finding(queues: Sequence[LockQueue], limits: DatabaseLimits) -> Finding:
    """The longest queue behind a session that itself only waits: all of it would go on if that one gave up.

    >>> def line(behind):
    ...     queue = LockQueue(7, "dana", "psql", "AccessExclusiveLock", "bank.account", 96.0, behind, (5,))
    ...     return queue_finding([queue], DatabaseLimits())
    >>> [line(behind).verdict.name for behind in (4, 5, 19, 20)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    >>> line(5).observed
    '5 wait behind pid 7 (dana, psql), which waits 1.6 min for pid 5 to have all of bank.account (AccessExclusiveLock)'
    """
    worst = max(queues, key=lambda queue: queue.behind, default=None)
    if worst is None or worst.behind < limits.lock_queue.warning:
        behind = worst.behind if worst else 0
        return QUEUE.at_most(Count(behind), limits.lock_queue, observed=f"{behind} wait" if behind else "none")
    who = ", ".join(filter(None, (worst.user, worst.application)))
    blockers = ", ".join(f"pid {pid}" for pid in worst.blocked_by) or "nobody any more"
    observed = (
        f"{worst.behind} wait behind pid {worst.pid} ({who}), which waits {Seconds(worst.waited_s)} for {blockers}"
    )
    observed += f" to have all of {worst.name} ({worst.mode})"
    finding = QUEUE.at_most(Count(worst.behind), limits.lock_queue, subject=worst.name, observed=observed)
    return then(finding, pid=worst.pid)


def shares_finding(shares: Sequence[Share], limits: Limits) -> Finding:
    """The role or database that is nearest to its own limit of connections.

    >>> def line(count): return shares_finding([Share("role", "bank", 100, count)], Limits())
    >>> [line(count).verdict.name for count in (79, 80, 94, 95)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    >>> line(95).subject, line(95).observed, shares_finding([Share("role", "bank", -1, 95)], Limits()).observed
    ('role bank', '95 of 100 (95 %)', 'none has a limit of its own')
    """
    limited = [share for share in shares if share.most >= 0]
    worst = max(limited, key=lambda share: share.count / max(share.most, 1), default=None)
    if worst is None:
        return SHARES.at_most(Ratio(0), limits.connections, observed="none has a limit of its own")
    used = Ratio(worst.count / max(worst.most, 1))
    observed = f"{worst.count} of {worst.most} ({used})"
    finding = SHARES.at_most(used, limits.connections, subject=f"{worst.kind} {worst.name}", observed=observed)
    verb = "its sign-ins are" if worst.kind == "role" else "sign-ins to it are"
    return then(finding, kind=worst.kind.upper(), name=quoted(worst.name), verb=verb)


def deadlocks_finding(deadlocks: Deadlocks, limits: DatabaseLimits) -> Finding:
    """Deadlocks a day, on average since they are counted; the first day counts as a whole one.

    >>> def line(count, days): return deadlocks_finding(Deadlocks(count, days * 86400), DatabaseLimits())
    >>> [line(*case).verdict.name for case in ((4, 0.1), (5, 0.1), (99, 1), (100, 1), (100, 10))]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL', 'WARNING']
    """
    days = max(deadlocks.counted_s / _DAY_S, 1.0)
    rate = Count(deadlocks.count / days)
    counted = f"{Count(deadlocks.count)} in {Seconds(deadlocks.counted_s)}"
    observed = f"{counted}: each undid somebody's transaction" if deadlocks.count else "none"
    return DEADLOCKS.at_most(rate, limits.deadlocks_per_day, observed=observed)


def prepared_finding(prepared: Sequence[Prepared], limits: DatabaseLimits) -> Finding:
    """The oldest prepared transaction.

    >>> line = prepared_finding([Prepared("it's", "bank", "nvc", 300.0)], DatabaseLimits())
    >>> line.verdict.name, line.subject, line.observed, line.next_step[:25]
    ('WARNING', "it's", '5 min by bank in nvc', "ROLLBACK PREPARED 'it''s'")
    >>> prepared_finding([Prepared("a", "bank", "nvc", 299.0)], DatabaseLimits()).verdict.name
    'OK'
    """
    if not prepared:
        return PREPARED.at_most(Seconds(0), limits.prepared_transaction, observed="none")
    worst = max(prepared, key=lambda one: one.age_s)
    age = Seconds(max(worst.age_s, 0.0))
    observed = f"{age} by {worst.user} in {worst.database}" + (f", {len(prepared)} in all" if prepared[1:] else "")
    finding = PREPARED.at_most(age, limits.prepared_transaction, subject=worst.gid, observed=observed)
    return then(finding, gid="'" + worst.gid.replace("'", "''") + "'", database=worst.database)
