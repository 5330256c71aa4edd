"""The database as the service sees it: two pools, a deadline on everything, and one kind of bad news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from nvcbank.errors import PartDown

CONNECT_S = 1.0
STATEMENT_S = 1.5
# SQLSTATE classes and codes that speak of the server's state and not of the statement.
_SERVER_TROUBLE = ("08", "53", "57", "58", "25006", "55P03", "40", "F0", "XX", "28")


class Pool:
    """Connections that are made when needed and thrown away when they misbehave."""

    def __init__(self, url: str, name: str, size: int) -> None:
        self._url = url
        self._name = name
        self.size = size
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Get ready; connects to nothing yet, so it works while the database is down."""
        self._pool = asyncpg.create_pool(
            self._url,
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
            PartDown: when the database is not there, not ready or not in time; whether the statement took effect is
                then unknown.
            asyncpg.PostgresError: when the statement itself was refused.
        """
        async with self._connection(within_s) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *arguments, timeout=within_s)
            return rows

    async def fetchrow(self, query: str, *arguments: Any, within_s: float = STATEMENT_S) -> asyncpg.Record | None:
        """The first row of `fetch`, or None."""
        rows: Sequence[asyncpg.Record] = await self.fetch(query, *arguments, within_s=within_s)
        return rows[0] if rows else None

    @asynccontextmanager
    async def _connection(self, within_s: float) -> AsyncIterator[Any]:
        assert self._pool is not None  # noqa: S101 - opened before anything is served
        try:
            connection = await self._pool.acquire(timeout=within_s)
        except (*_LOST, asyncpg.PostgresError) as error:
            raise PartDown("database", _why(error)) from error
        try:
            yield connection
        except ValueError:  # an argument that does not fit its type: nothing was sent
            raise
        except asyncpg.PostgresError as error:
            if not speaks_of_server(error):
                raise
            _discard(connection)
            raise PartDown("database", _why(error)) from error
        except _LOST as error:
            _discard(connection)
            raise PartDown("database", _why(error)) from error
        except asyncio.CancelledError:
            _discard(connection)
            raise
        finally:
            await self._pool.release(connection)


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
