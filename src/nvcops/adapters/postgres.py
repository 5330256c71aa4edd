"""PostgreSQL through psycopg: one short, read-only session per question, with a deadline on both sides."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import DictRow, dict_row

from nvcops.adapters.files import secret
from nvcops.core.errors import DeadlineExceeded, Refused, TargetError, Unreachable
from nvcops.core.manifest import DatabaseEntry, Server
from nvcops.core.queries import Rows

_ROWS_MAX = 10_000
_GRACE_S = 0.25  # the server ends a statement at the deadline and says so; this is for its answer to arrive
# Of several questions one waits for a lock so long that a moment's lock costs no answer. Whoever holds one after that
# holds it still: those that are left wait a blink, so that all of them together do not take many deadlines.
_NO_PATIENCE = "SELECT set_config('lock_timeout', '20ms', false)"
T = TypeVar("T")


class Session(psycopg.AsyncConnection[DictRow]):
    """A connection that waits no longer than its deadline for anything, a frozen server included.

    `locked_out`: its last question did not get its lock.
    """

    deadline_s: float = 2.0
    locked_out: bool = False

    async def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:  # noqa: ASYNC109 - psycopg's
        return await super().wait(gen, interval, timeout or self.deadline_s + _GRACE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """One server. The password is in no repr, and psycopg puts none in its errors.

    With `ca_file` the server must prove its name; without, encryption is as libpq prefers.
    """

    name: str
    host: str
    port: int
    database: str
    user: str
    deadline_s: float
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None

    @classmethod
    def of(cls, entry: DatabaseEntry, server: Server) -> PostgresServer:
        """A server of the manifest, asked by our own role.

        Raises:
            ManifestError: its password cannot be read.
        """
        return cls(
            name=server.name,
            host=server.host,
            port=server.port or entry.port,
            database=entry.name,
            user=entry.user,
            deadline_s=entry.deadline,
            password=secret(entry.password_file, entry.password_env),
            ca_file=entry.ca_file,
        )

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """All rows of a query."""
        answer = asyncio.run(self._read({"": (sql, parameters)}))[""]
        if isinstance(answer, TargetError):
            raise answer
        return answer

    def read(self, queries: Mapping[str, str]) -> dict[str, Rows | TargetError]:
        """Several queries by name in one session."""
        return asyncio.run(self._read({name: (sql, None) for name, sql in queries.items()}))

    async def _read(self, queries: Mapping[str, tuple[str, Mapping[str, Any] | None]]) -> dict[str, Rows | TargetError]:
        session = await self.connected()
        answers: dict[str, Rows | TargetError] = {}
        try:
            for name, query in queries.items():
                answers[name] = await self.asked(session, *query)
                if session.locked_out:
                    session.locked_out = False
                    await self.asked(session, _NO_PATIENCE, None)
            return answers
        finally:
            session.pgconn.finish()  # says good-bye without waiting for an answer

    async def connected(
        self, *, application: str = "nvcops", settings: Mapping[str, str | int] | None = None
    ) -> Session:
        """A session of one's own: `settings` of the server in place of those of a reader; their values hold no space.

        Raises:
            TargetError: there is none within the deadline.
        """
        reading = {
            "statement_timeout": int(self.deadline_s * 1000),
            "lock_timeout": int(self.deadline_s * 250),  # a reader that waits for its lock stands in nobody's way
            "default_transaction_read_only": "on",
            "jit": "off",
        }
        chosen = {"search_path": "pg_catalog,public", **(reading if settings is None else settings)}
        try:
            async with asyncio.timeout(self.deadline_s):
                session = await Session.connect(
                    host=self.host,
                    port=self.port,
                    dbname=self.database,
                    user=self.user,
                    password=self.password,
                    sslmode="verify-full" if self.ca_file else None,
                    sslrootcert=str(self.ca_file) if self.ca_file else None,
                    application_name=application,
                    options=" ".join(f"-c {name}={value}" for name, value in chosen.items()),
                    autocommit=True,
                    row_factory=dict_row,
                )
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self._where} did not let us in within {self.deadline_s:g} s") from error
        except psycopg.OperationalError as error:
            raise self._not_connected(error) from error
        session.deadline_s = self.deadline_s
        return session

    async def asked(self, session: Session, sql: str, parameters: Mapping[str, Any] | None) -> Rows | TargetError:
        try:
            cursor = await session.execute(sql, parameters)
            rows: Rows = await cursor.fetchmany(_ROWS_MAX + 1)
        except psycopg.errors.QueryCanceled as error:
            raise DeadlineExceeded(f"{self._where} did not answer within {self.deadline_s:g} s") from error
        except psycopg.Error as error:
            session.locked_out = isinstance(error, psycopg.errors.LockNotAvailable)
            if error.sqlstate is None:  # not the server's words: it went silent, or away
                raise DeadlineExceeded(f"{self._where} went silent: {first_line(error)}") from error
            return Refused(f"{self._where} refused: {first_line(error)}")
        if len(rows) > _ROWS_MAX:
            return Refused(f"{self._where} has more than {_ROWS_MAX:,} rows to say", hint="ask for fewer")
        return rows

    def _not_connected(self, error: psycopg.OperationalError) -> TargetError:
        """Distinguish a server that says no from one that is not there."""
        message = first_line(error)
        if "FATAL:" in message:
            return Refused(f"{self._where} refused: {message.partition('FATAL:')[2].strip()}")
        return Unreachable(f"{self._where} does not answer: {message.rpartition(' failed: ')[2]}")

    @property
    def _where(self) -> str:
        return f"{self.name} ({self.host}:{self.port})"


class KeptSession:
    """A session to one server that is kept from question to question, and renewed when it was lost."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._session: Session | None = None

    async def rows(self, sql: str) -> Rows:
        """All rows of a query.

        Raises:
            TargetError: as `PostgresServer.rows`; the next question has a new session.
        """
        try:
            return await self._asked(sql)
        except TargetError:
            self.close()
            raise

    async def _asked(self, sql: str) -> Rows:
        began = monotonic()
        if self._session is not None:
            try:
                return await self._of(self._session, sql)
            except TargetError:
                self.close()
                if monotonic() - began > self.server.deadline_s / 2:
                    raise
                # The session is gone, which says nothing about the server: have a new one.
        self._session = await self.server.connected()
        return await self._of(self._session, sql)

    async def _of(self, session: Session, sql: str) -> Rows:
        rows = await self.server.asked(session, sql, None)
        if isinstance(rows, TargetError):
            raise rows
        return rows

    def close(self) -> None:
        """Let go of the session, without waiting."""
        if self._session is not None:
            self._session.pgconn.finish()
            self._session = None


def first_line(error: Exception) -> str:
    """What went wrong, in one line."""
    return printable(str(error).strip().partition("\n")[0].strip())


def printable(line: str) -> str:
    """A line without the bytes by which whatever listens there could steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)
