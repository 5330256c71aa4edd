"""The database as the service sees it: two pools, a deadline on everything, and one kind of bad news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from nvcbank.errors import OutcomeUnknown, PartDown
from nvcbank.servers import Servers

CONNECT_S = 1.0
FORGET_PAUSE_S = 1.0  # connections are suspected together, at most so often
STATEMENT_S = 1.5
# SQLSTATE classes and codes that speak of the server's state and not of the statement.
_SERVER_TROUBLE = ("08", "53", "57", "58", "25006", "55P03", "40", "F0", "XX", "28")


class Pool:
    """Connections that are made when needed and thrown away when they misbehave."""

    def __init__(self, servers: Servers, name: str, size: int) -> None:
        self._servers = servers
        self._suspected = 0.0
        self._name = name
        self.size = size
        self.waiting = 0  # who has no connection yet
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Get ready; connects to nothing yet, so it works while the database is down."""
        self._pool = asyncpg.create_pool(
            connect=self._servers.connect,
            min_size=0,
            max_size=self.size,
            timeout=CONNECT_S,
            max_inactive_connection_lifetime=0,
            reset=_keep_as_it_is,
            server_settings={"application_name": self._name},
        )
        await self._pool

    async def close(self) -> None:
        """Close all connections, those in use after a second."""
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), 1.0)
        except TimeoutError:
            self._pool.terminate()

    @property
    def in_use(self) -> int:
        """How many connections are busy now."""
        return 0 if self._pool is None else self._pool.get_size() - self._pool.get_idle_size()

    @property
    def open_connections(self) -> int:
        """How many connections exist now."""
        return 0 if self._pool is None else self._pool.get_size()

    async def fetch(self, query: str, *arguments: Any, within_s: float = STATEMENT_S) -> list[asyncpg.Record]:
        """Run one statement.

        Raises:
            PartDown: when the database is not there or not ready, and the statement certainly took no effect.
            OutcomeUnknown: when it was sent, and the connection was lost, or its end was not certain, or not in time.
            asyncpg.PostgresError: when the statement itself was refused.
        """
        async with self._connection(within_s) as connection, _heard(connection) as warnings:
            rows = await _within(within_s, connection, query, arguments)
            if warnings:  # "canceling the wait for synchronous replication": here it is done, and nowhere else yet
                raise OutcomeUnknown("database", f"it warned ({warnings[0]})")
            return rows

    async def fetchrow(self, query: str, *arguments: Any, within_s: float = STATEMENT_S) -> asyncpg.Record | None:
        """The first row of `fetch`, or None."""
        rows: Sequence[asyncpg.Record] = await self.fetch(query, *arguments, within_s=within_s)
        return rows[0] if rows else None

    @asynccontextmanager
    async def _connection(self, within_s: float) -> AsyncIterator[Any]:
        assert self._pool is not None  # noqa: S101 - opened before anything is served
        self.waiting += 1
        try:
            connection = await self._pool.acquire(timeout=within_s)
        except (*_LOST, asyncpg.PostgresError) as error:
            await self._suspect_all()
            raise PartDown("database", _why(error)) from error
        finally:
            self.waiting -= 1
        try:
            yield connection
        except ValueError:  # an argument that does not fit its type: nothing was sent
            raise
        except asyncpg.PostgresError as error:
            if not speaks_of_server(error):
                raise
            _discard(connection)
            raise (PartDown if _rolled_back(error) else OutcomeUnknown)("database", _why(error)) from error
        except _LOST as error:
            _discard(connection)
            await self._suspect_all()
            raise OutcomeUnknown("database", _why(error)) from error
        except asyncio.CancelledError:
            _discard(connection)
            raise
        finally:
            await self._pool.release(connection)

    async def _suspect_all(self) -> None:
        """One connection was lost: the others lead to the same server, and are made anew before they are used again."""
        now = asyncio.get_running_loop().time()
        if self._pool is not None and now - self._suspected > FORGET_PAUSE_S:
            self._suspected = now
            await self._pool.expire_connections()


async def _within(within_s: float, connection: Any, query: str, arguments: Sequence[object]) -> list[asyncpg.Record]:
    """The rows of a statement; after the deadline the connection is cut, and TimeoutError raised.

    The driver's own deadline would ask the server to cancel, and a commit that waits for its synchronous standby would
    then be done without it: visible to all, and lost with this server.
    """
    late = False

    def cut() -> None:
        nonlocal late
        late = True
        _discard(connection)

    timer = asyncio.get_running_loop().call_later(within_s, cut)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
    except _LOST as error:
        if late:
            raise TimeoutError from error
        raise
    else:
        return rows
    finally:
        timer.cancel()


@asynccontextmanager
async def _heard(connection: Any) -> AsyncIterator[list[str]]:
    """What the server warns of meanwhile: SQLSTATEs. The driver tells it before the statement's end."""
    warnings: list[str] = []

    def hear(_: object, message: Any) -> None:
        if message.severity_en == "WARNING":
            warnings.append(str(message.sqlstate))

    connection.add_log_listener(hear)
    try:
        yield warnings
    finally:
        with suppress(asyncpg.InterfaceError):  # it was cut, and the pool took it back
            connection.remove_log_listener(hear)


# How a server's death shows in the driver, depending on where in the protocol it happens.
_LOST = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def _discard(connection: Any) -> None:
    """Close a connection at once: asking it to cancel could hang as long as the statement."""
    with suppress(asyncpg.InterfaceError):  # the pool noticed first, and took it back
        connection.terminate()


def speaks_of_server(error: asyncpg.PostgresError) -> bool:
    """Whether an error is about the server (down, starting, read-only, overloaded) rather than the statement."""
    if isinstance(error, asyncpg.PostgresConnectionError):
        return True
    return str(error.sqlstate or "XX").startswith(_SERVER_TROUBLE)


def _rolled_back(error: asyncpg.PostgresError) -> bool:
    """Whether the server said that the statement failed, and lives on; its last word before it dies proves nothing."""
    return getattr(error, "severity_en", None) == "ERROR"


def _why(error: Exception) -> str:
    """A reason without addresses or user names: it is shown to clients of /readyz.

    >>> _why(TimeoutError()), _why(ConnectionRefusedError(111, "Connect call failed ('10.0.0.7', 5432)"))
    ('it did not answer in time', 'the connection was refused')
    """
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate:
        return f"it answered {type(error).__name__} ({error.sqlstate})"
    return f"the connection was lost ({type(error).__name__})"


async def _keep_as_it_is(_connection: object) -> None:
    """Sessions change no settings, so there is nothing to reset between two uses."""
