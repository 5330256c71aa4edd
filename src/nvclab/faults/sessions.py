"""Faults made of database sessions: a held lock, an idle transaction, too many connections, a slow query."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import psycopg

from nvclab.data_centre import DataCentre
from nvclab.database_roles import DATABASE
from nvclab.errors import LabError
from nvclab.faults.kind import Kind, Options

_JOIN_S = 10.0


def open_session(centre: DataCentre, purpose: str, *, autocommit: bool = False) -> psycopg.Connection:
    """A session of the administrator that says what it is for; never kept from its deed by a time limit."""
    info = centre.primary.conninfo(dbname=DATABASE, application_name=f"nvclab {purpose}", connect_timeout="5")
    connection = psycopg.connect(info, autocommit=True)
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(f"SET {limit} = 0")
    connection.autocommit = autocommit
    return connection


class Repeated:
    """A statement on a thread of its own, over and over until `end`, which cancels it."""

    def __init__(self, connection: psycopg.Connection, statement: str, parameters: list[object]) -> None:
        self._connection = connection
        self._statement, self._parameters = statement, parameters
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="statement", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Cancel the statement and close the session."""
        self._over.set()
        if not self._connection.closed:
            self._connection.cancel_safe(timeout=_JOIN_S)
        self._thread.join(_JOIN_S)
        self._connection.close()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._connection.execute(self._statement, self._parameters)
        except psycopg.Error:
            return  # cancelled by `end`, or the server went away: the session is over either way


@dataclass
class HeldLock:
    """One transaction keeps a customer's account locked, another one waits for it."""

    centre: DataCentre
    _sessions: list[psycopg.Connection] = field(default_factory=list)
    _waiter: Repeated | None = None

    def inject(self) -> str:
        holder = open_session(self.centre, "lock holder")
        self._sessions.append(holder)
        found = holder.execute(
            "SELECT id FROM bank.account WHERE kind = 'current' ORDER BY id LIMIT 1 FOR UPDATE"
        ).fetchone()
        if found is None:
            raise LabError("There is no account to lock.", hint="the bank has no customers")
        waiter = open_session(self.centre, "lock waiter", autocommit=True)
        self._waiter = Repeated(waiter, "SELECT id FROM bank.account WHERE id = %s FOR UPDATE", [found[0]])
        return f"account {found[0]} is locked, and a session waits for it"

    def heal(self) -> str:
        for session in self._sessions:
            session.close()
        if self._waiter is not None:
            self._waiter.end()
        return "the lock is released"


@dataclass
class IdleTransaction:
    """A transaction that was begun, has read something, and does nothing."""

    centre: DataCentre
    _session: psycopg.Connection | None = None

    def inject(self) -> str:
        self._session = open_session(self.centre, "forgotten transaction")
        self._session.execute("SELECT pg_current_xact_id()")
        return "a transaction is open and idle"

    def heal(self) -> str:
        if self._session is not None:
            self._session.close()
        return "the idle transaction is gone"


@dataclass
class Exhausted:
    """All connections that the bank's roles may use are taken, but for `leave`."""

    centre: DataCentre
    leave: int
    _sessions: list[psycopg.Connection] = field(default_factory=list)

    def inject(self) -> str:
        taken = open_session(self.centre, "greedy client", autocommit=True)
        self._sessions.append(taken)
        row = taken.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
            " - current_setting('reserved_connections')::int"
            " - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
        ).fetchone()
        free = int(row[0]) if row else 0
        for _ in range(max(0, free - self.leave)):
            self._sessions.append(open_session(self.centre, "greedy client", autocommit=True))
        return f"{len(self._sessions)} connections are taken, {self.leave} are left to others"

    def heal(self) -> str:
        for session in self._sessions:
            session.close()
        return "the connections are given back"


@dataclass
class SlowQuery:
    """A report that takes `seconds`, over and over."""

    centre: DataCentre
    seconds: float
    _report: Repeated | None = None
    _STATEMENT = (
        "SELECT count(*) AS slow_report FROM (SELECT pg_sleep(0.01) FROM generate_series(1, %s) OFFSET 0) AS rows"
    )

    def inject(self) -> str:
        session = open_session(self.centre, "slow report", autocommit=True)
        # pg_sleep oversleeps a little at each of its calls: the report takes at least `seconds`.
        self._report = Repeated(session, self._STATEMENT, [round(self.seconds * 100)])
        return f"a report of {self.seconds:g} s runs over and over"

    def heal(self) -> str:
        if self._report is not None:
            self._report.end()
        with self.centre.primary.connect(DATABASE) as connection:
            connection.execute(
                "SELECT pg_stat_statements_reset(s.userid, s.dbid, s.queryid) FROM pg_stat_statements s"
                " WHERE s.query LIKE '%slow_report%'"
            )
        return "the slow report is gone, from the statistics too"


def _exhausted(centre: DataCentre, options: Options) -> Exhausted:
    return Exhausted(centre, int(options["leave"]))


KINDS = [
    Kind(
        "hold-lock",
        "Locks a customer's account in a transaction that does not end; another session waits for it.",
        "database: a session waits for a lock",
        lambda centre, _: HeldLock(centre),
    ),
    Kind(
        "idle-in-transaction",
        "Leaves a transaction open that does nothing.",
        "database: idle in transaction",
        lambda centre, _: IdleTransaction(centre),
    ),
    Kind(
        "exhaust-connections",
        "Takes all connections that ordinary roles may use, but for `leave`.",
        "database: connections",
        _exhausted,
        {"leave": 0},
    ),
    Kind(
        "slow-query",
        "Runs a report of `seconds` over and over.",
        "database: slow queries, longest query",
        lambda centre, options: SlowQuery(centre, float(options["seconds"])),
        {"seconds": 5.0},
    ),
]
