"""Sessions of the primary: what they do, for how long, and for whom they wait."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import Bound, Limits, Manifest
from nvcops.core.units import Seconds
from nvcops.database.topics import Answers, many, then, unknown, unread

ASKED = queries.load("nvcops.database", "sessions.sql")

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


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why."""

    unread: dict[str, str] = {}
    sessions: tuple[Sessions, ...] = ()
    transactions: tuple[Transaction, ...] = ()
    lock_waits: tuple[LockWait, ...] = ()


def parsed(answers: Answers) -> Seen:
    """The rows as types."""
    return Seen(
        unread=unread(answers),
        sessions=many(answers, "sessions", Sessions),
        transactions=many(answers, "transactions", Transaction),
        lock_waits=many(answers, "lock_waits", LockWait),
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
CHECKS = (SESSIONS, IDLE, QUERY, LONGEST, LOCKS)


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about the sessions of one primary."""
    limits = manifest.limits
    lines = {
        "sessions": [sessions_finding(seen.sessions)],
        "transactions": transaction_findings(seen.transactions, limits),
        "lock_waits": [lock_finding(seen.lock_waits, limits)],
    }
    of_query = {"sessions": [SESSIONS], "transactions": [IDLE, QUERY, LONGEST], "lock_waits": [LOCKS]}
    return [
        line
        for query, made in lines.items()
        for line in (
            [unknown(check, seen.unread[query], subject=name) for check in of_query[query]]
            if query in seen.unread
            else made
        )
    ]


def sessions_finding(sessions: Sequence[Sessions]) -> Finding:
    """Sessions by state; their number against the limit is the connections' line."""
    total = sum(session.count for session in sessions)
    parts = ", ".join(f"{session.count} {session.state}" for session in sessions)
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
