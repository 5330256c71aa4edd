"""Probes of PostgreSQL: whether a server answers in its role, a figure of it, replication, and what a slot keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nvcops.adapters.postgres import KeptSession, PostgresServer
from nvcops.adapters.probes.asking import Exceeded, NotLooked
from nvcops.core.errors import Refused, TargetError
from nvcops.core.manifest.probe_options import QueueOptions, ReplicationOptions, SqlOptions
from nvcops.core.queries import Rows
from nvcops.core.units import Bytes, Seconds

_ROLE = "SELECT pg_is_in_recovery() AS in_recovery"
# A standby that has replayed all that it received is not behind, however long ago the primary last wrote.
_STANDBY = """
SELECT pg_is_in_recovery() AS in_recovery, pg_is_in_recovery() AND pg_is_wal_replay_paused() AS paused,
    coalesce((SELECT status FROM pg_stat_wal_receiver), '') AS receiver,
    CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        ELSE coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0)
    END::float8 AS lag_s"""
_SLOTS = """
SELECT slot_name AS name, active, coalesce(wal_status, '') AS wal_status,
    coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::float8 AS retained
FROM pg_replication_slots WHERE NOT pg_is_in_recovery()"""
_FULL = ("too many clients", "too many connections", "connection slots are reserved")


class Sessions:
    """Sessions to the servers of a probe, by which the one that has a role now is found; kept, or not."""

    def __init__(self, servers: Sequence[PostgresServer], *, kept: bool) -> None:
        self._kept = kept
        self._sessions = [KeptSession(server) for server in servers]  # the one that answered last is asked first

    @property
    def answered(self) -> str:
        """The name of the server that answered last."""
        return self._sessions[0].server.name

    async def rows(self, sql: str, role: str = "any", *, fresh: bool) -> Rows:
        """The answer of the first server that answers in that role.

        A fresh look begins with the last one, lest it waits for the same silent server as the look beside it.

        Raises:
            TargetError: none does; what the last one said.
        """
        trouble: TargetError = Refused("there is no server to ask")
        for kept in list(reversed(self._sessions) if fresh else self._sessions):
            session = KeptSession(kept.server) if fresh else kept
            try:
                rows = await self._in_role(session, sql, role)
            except TargetError as error:
                trouble = error
            else:
                self._sessions.remove(kept)
                self._sessions.insert(0, kept)
                return rows
            finally:
                if fresh or not self._kept:
                    session.close()
        raise trouble

    async def _in_role(self, session: KeptSession, sql: str, role: str) -> Rows:
        if role != "any":
            (row,) = await session.rows(_ROLE)
            if row["in_recovery"] != (role == "standby"):
                is_now = "a standby" if row["in_recovery"] else "a primary"
                raise Refused(f"{session.server.name} answers, but is {is_now} now")
            if sql == _ROLE:
                return [row]
        return await session.rows(sql)

    def close(self) -> None:
        """Let go of all sessions."""
        for session in self._sessions:
            session.close()


class SqlAsker:
    """A server that answers in its role; with a query, a figure of it within its limits."""

    twice, patient = True, True

    def __init__(self, options: SqlOptions | QueueOptions, sessions: Sessions) -> None:
        self._sessions = sessions
        self._query = options.query
        self._at_most = options.at_most
        self._at_least = options.at_least if isinstance(options, SqlOptions) else None
        self._role = options.role if isinstance(options, SqlOptions) else "any"

    async def ask(self, *, fresh: bool) -> float | None:
        """Ask. Of a figure's server that does not answer, nothing is known: that is what its own probe is about."""
        if not self._query:
            await self._sessions.rows(_ROLE, self._role, fresh=fresh)
            return None
        try:
            rows = await self._sessions.rows(self._query, self._role, fresh=fresh)
        except TargetError as error:
            if any(words in error.sentence for words in _FULL):
                raise
            raise NotLooked(error.sentence) from error
        return self._within(_first(rows))

    def _within(self, figure: float) -> float:
        if self._at_most is not None and figure > self._at_most:
            raise Exceeded(f"{figure:g}, more than {self._at_most:g}", figure)
        if self._at_least is not None and figure < self._at_least:
            raise Exceeded(f"{figure:g}, less than {self._at_least:g}", figure)
        return figure

    async def close(self) -> None:
        """Let go of the sessions."""
        self._sessions.close()


class ReplicationAsker:
    """A standby that receives, and replays what it received. The figure is its lag in seconds."""

    twice, patient = True, True

    def __init__(self, options: ReplicationOptions, sessions: Sessions) -> None:
        self._lag, self._sessions = options.lag, sessions

    async def ask(self, *, fresh: bool) -> float | None:
        """Ask the standby; one that is primary now lags behind nobody."""
        row = (await _known(self._sessions, _STANDBY, "any", fresh=fresh))[0]
        lag = float(row["lag_s"] or 0.0)
        if not row["in_recovery"]:
            return 0.0
        if row["receiver"] != "streaming":
            raise Exceeded(f"receives nothing from its primary: its receiver is {row['receiver'] or 'not there'}", lag)
        if lag >= self._lag:
            paused = ", its replay is paused" if row["paused"] else ""
            raise Exceeded(f"{Seconds(lag)} behind its primary{paused}", lag)
        return lag

    async def close(self) -> None:
        """Let go of the session."""
        self._sessions.close()


class SlotAsker:
    """A slot of the primary from which somebody receives. The figure is the bytes that it keeps on the server."""

    twice, patient = True, True

    def __init__(self, options: ReplicationOptions, sessions: Sessions) -> None:
        self._slot, self._retained, self._sessions = options.slot, options.retained, sessions

    async def ask(self, *, fresh: bool) -> float | None:
        """Ask the primary."""
        rows = await _known(self._sessions, _SLOTS, "primary", fresh=fresh)
        slot: dict[str, Any] | None = next((row for row in rows if row["name"] == self._slot), None)
        if slot is None:
            raise Refused(f"there is no slot {self._slot!r}: nothing is kept for whom it is")
        retained = float(slot["retained"])
        if slot["wal_status"] == "lost":
            raise Refused("the server removed what the slot should have kept")
        if retained >= self._retained:
            raise Exceeded(f"keeps {Bytes(retained)} on the server's disk, the limit is {self._retained}", retained)
        if not slot["active"]:
            raise Exceeded("nobody receives from it", retained)
        return retained

    async def close(self) -> None:
        """Let go of the sessions."""
        self._sessions.close()


async def _known(sessions: Sessions, sql: str, role: str, *, fresh: bool) -> Rows:
    """The rows, or that nothing is known: whether the server answers is what its own probe is about."""
    try:
        return await sessions.rows(sql, role, fresh=fresh)
    except TargetError as error:
        raise NotLooked(error.sentence) from error


def _first(rows: Rows) -> float:
    """The first column of the first row as a number."""
    value = next(iter(rows[0].values()), None) if rows else None
    try:
        return float(value)  # type: ignore[arg-type]  # what is no number raises, and is explained
    except (TypeError, ValueError) as error:
        raise NotLooked(f"the query answers {value!r}, which is no number") from error
