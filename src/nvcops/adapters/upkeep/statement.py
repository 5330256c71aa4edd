"""One statement in a session of its own, with a second session that watches it and may cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic

import msgspec
import psycopg

from nvcops.adapters.postgres import KeptSession, PostgresServer, Session, first_line, printable
from nvcops.core import queries
from nvcops.core.errors import Refused, TargetError, Unreachable
from nvcops.core.progress import tell

APPLICATION = "nvcops-upkeep"
SQL = queries.load("nvcops.adapters.upkeep", "watch.sql")
_LOCK = 0x6E76636F7073  # "nvcops" as a number: who holds it changes the database for us, and nobody else does
_LOCK_S = 5.0
_LOOK_S = 0.2
_PAGE_BYTES = 8192
_BLIND_S = 3.0
_CANCEL_S = 30.0


class End(StrEnum):
    """How a statement ended: DONE, NOT_NOW (its lock is another's), STOPPED by the watch, REFUSED by the server."""

    DONE = "done"
    NOT_NOW = "not now"
    STOPPED = "stopped"
    REFUSED = "refused"


class Ended(msgspec.Struct, frozen=True):
    """How it ended and why, and the longest that anybody was seen waiting behind it."""

    end: End
    why: str = ""
    queued_s: float = 0.0


class Seen(msgspec.Struct, frozen=True):
    """A look at a statement under way: for what and whom it waits, who waits behind it (pid, 0: nobody), its blocks."""

    waits_for: str
    waits_s: float
    blockers: str
    behind: int
    behind_s: float
    phase: str
    done: int
    of: int


Judge = Callable[[Seen], Ended | None]


@dataclass(slots=True, kw_only=True)
class Statement:
    """A statement on its way. The server lets it wait for a lock for `lock_s`, and last for `deadline_s`.

    `judge` says after each look whether it must end.
    """

    server: PostgresServer
    sql: str
    title: str
    settings: Mapping[str, str]
    lock_s: float
    deadline_s: float
    judge: Judge
    _queued_s: float = field(default=0.0, init=False)
    _blockers: str = field(default="", init=False)
    _verdict: Ended | None = field(default=None, init=False)
    _skipped: str = field(default="", init=False)

    async def carried_out(self) -> Ended:
        """Carry it out.

        Raises:
            Unreachable: a session was lost, so that nobody knows; the server cancels it within a second or two.
        """
        session = await self.server.connected(application=APPLICATION, settings=self._limits())
        eyes = KeptSession(self.server)
        try:
            if not await self._alone(session):
                return Ended(End.NOT_NOW, "another order is being carried out")
            return await self._watched(session, eyes)
        finally:
            session.pgconn.finish()
            eyes.close()

    def _limits(self) -> dict[str, str | int]:
        """The server ends by itself what nobody waits for any more, however we went away."""
        return {
            "lock_timeout": int(self.lock_s * 1000),
            "statement_timeout": max(1, int(self.deadline_s * 1000)),
            "idle_session_timeout": 60_000,
            "idle_in_transaction_session_timeout": 10_000,
            "client_connection_check_interval": 1_000,
            "tcp_keepalives_idle": 5,
            "tcp_keepalives_interval": 2,
            "tcp_keepalives_count": 3,
            "default_transaction_read_only": "off",
        }

    async def _alone(self, session: Session) -> bool:
        """Take the lock that one order at a time has; a killed one of ours holds it until the server has noticed."""
        end = monotonic() + _LOCK_S
        while True:
            cursor = await session.execute("SELECT pg_try_advisory_lock(%s) AS held", [_LOCK])
            row = await cursor.fetchone()
            if row and row["held"]:
                return True
            if monotonic() > end:
                return False
            await asyncio.sleep(_LOOK_S)

    async def _watched(self, session: Session, eyes: KeptSession) -> Ended:
        try:
            for name, value in self.settings.items():
                await session.execute("SELECT set_config(%s, %s, false)", [name, value])
            session.deadline_s = self.deadline_s + _CANCEL_S
            await eyes.rows("SELECT 1")  # nothing begins unwatched
            working = asyncio.create_task(self._executed(session))
            try:
                await self._watch(working, session.info.backend_pid, eyes)
            except (TargetError, asyncio.CancelledError):
                session.pgconn.finish()
                working.cancel()
                raise
            finally:
                await asyncio.wait({working})
            return self._ended(working)
        except psycopg.Error as error:
            return self._refused(error)

    async def _executed(self, session: Session) -> None:
        session.add_notice_handler(self._hear)
        await session.execute(self.sql.encode())  # as it stands: a % in it is no placeholder

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        """VACUUM and ANALYZE only warn of a table that they may not touch, in the server's language."""
        if (notice.source_function or "").startswith("vacuum_is_"):
            self._skipped = printable(notice.message_primary or "not permitted")

    def _ended(self, working: asyncio.Task[None]) -> Ended:
        error = working.exception()
        if error is None:
            end = End.REFUSED if self._skipped else End.DONE
            return Ended(end, self._skipped, self._queued_s)
        if isinstance(error, psycopg.Error):
            return self._refused(error)
        raise error

    async def _watch(self, working: asyncio.Task[None], pid: int, eyes: KeptSession) -> None:
        """Look, judge, cancel; until it ends."""
        seen_at, cancelled_at = monotonic(), 0.0
        while not (await asyncio.wait({working}, timeout=_LOOK_S))[0]:
            try:
                self._look((await eyes.rows(_of(pid, "watched")))[0])
                if self._verdict:
                    await eyes.rows(_of(pid, "cancel"))
                seen_at = monotonic()
            except TargetError:
                if monotonic() - seen_at > _BLIND_S:
                    raise
            cancelled_at = cancelled_at or (monotonic() if self._verdict else 0.0)
            if cancelled_at and monotonic() - cancelled_at > _CANCEL_S:
                raise Unreachable(
                    f"{self.server.name} did not end {self.title} within {_CANCEL_S:g} s of being told to"
                )

    def _look(self, row: dict[str, object]) -> None:
        seen = msgspec.convert(row, Seen)
        self._queued_s = max(self._queued_s, seen.behind_s)
        self._blockers = seen.blockers or self._blockers
        if seen.phase:
            tell(seen.done * _PAGE_BYTES, seen.of * _PAGE_BYTES, f"{self.title}: {seen.phase}")
        self._verdict = self._verdict or self.judge(seen)

    def _refused(self, error: psycopg.Error) -> Ended:
        """What the server's words mean."""
        said = first_line(error)
        if isinstance(error, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
            holder = f": {self._blockers} has it" if self._blockers else ""
            return Ended(End.NOT_NOW, f"it did not get its lock{holder}", self._queued_s)
        if isinstance(error, psycopg.errors.QueryCanceled):
            verdict = self._verdict or Ended(End.STOPPED, f"the server ended it: {said}")
            return msgspec.structs.replace(verdict, queued_s=self._queued_s)
        if error.sqlstate is None or error.sqlstate[:2] in ("08", "57"):
            raise Unreachable(f"{self.server.name} was lost in the middle of {self.title}: {said}") from error
        return Ended(End.REFUSED, said, self._queued_s)


async def asked(server: PostgresServer, name: str, **values: object) -> list[dict[str, object]]:
    """The rows of one of our queries, in a session that only reads.

    Raises:
        TargetError: as `PostgresServer.rows`.
    """
    sql = SQL[name]
    for key, value in values.items():
        sql = sql.replace(f"{{{key}}}", str(value))
    session = await server.connected()
    try:
        rows = await server.asked(session, sql, None)
    finally:
        session.pgconn.finish()
    if isinstance(rows, TargetError):
        raise Refused(rows.sentence, hint=rows.hint)
    return rows


def _of(pid: int, name: str) -> str:
    return SQL[name].replace("{pid}", str(pid))
