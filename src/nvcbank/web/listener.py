"""All connections of one process: hands requests to handlers, counts and logs them, drains on demand."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable
from time import monotonic
from typing import Protocol

from nvcbank.web.connection import Connection
from nvcbank.web.message import Problem, Request, Response, unavailable
from nvcbank.web.router import Router

MOST_CONNECTIONS = 15_000
DEADLINE_S = 2.0
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Observer(Protocol):
    """Is told of every answer, and turns what a handler raised into a problem."""

    def answered(self, request: Request, status: int, seconds: float) -> None:
        """An answer was sent."""

    def problem(self, request: Request, error: Exception) -> Problem:
        """What to tell the client about this error."""


class Listener:
    """Owns the connections. While `draining`, every answer is the last on its connection."""

    def __init__(self, router: Router, observer: Observer) -> None:
        self._router = router
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Future[Response]] = set()
        self._server: asyncio.Server | None = None
        self._id_prefix = os.urandom(4).hex()
        self._ids = 0
        self.in_flight = 0
        self.draining = False

    async def listen(self, host: str, port: int) -> None:
        """Accept connections.

        Raises:
            OSError: when the port is taken or not ours to take.
        """
        self._server = await self._loop.create_server(lambda: Connection(self, self._loop), host, port, backlog=4_096)
        self._sweep()

    async def drain(self, patience_s: float) -> None:
        """Accept nothing new, let what is in flight finish within `patience_s`, close everything."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close_if_idle()
        end = self._loop.time() + patience_s
        while self.in_flight and self._loop.time() < end:  # noqa: ASYNC110 - once in a process's life
            await asyncio.sleep(0.01)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    # What a connection asks for.

    def admit(self, connection: Connection) -> bool:
        """Count a new connection in; False when there are too many."""
        self._connections.add(connection)
        return len(self._connections) <= MOST_CONNECTIONS

    def forget(self, connection: Connection) -> None:
        """The connection is gone."""
        self._connections.discard(connection)

    def refused(self, problem: Problem) -> str:
        """Count and log what never became a request; returns an id for it."""
        request = Request("", "", "", {}, b"")
        request.id = self._next_id()
        request.started = monotonic()
        self._observer.answered(request, problem.status, 0.0)
        return request.id

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer a request: at once, or when its future is done, or when its deadline has passed."""
        self.in_flight += 1
        request.started = monotonic()
        given = request.headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            request.id = given.decode()
        else:
            request.id = self._next_id()
        try:
            answer = self._router.find(request)(request)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the client gets an answer
            self._answer(request, connection, self._observer.problem(request, error).response(request.id))
            return
        if isinstance(answer, Response):
            self._answer(request, connection, answer)
            return
        future: asyncio.Future[Response]
        future = answer if isinstance(answer, asyncio.Future) else self._loop.create_task(_in_time(answer))
        self._tasks.add(future)
        future.add_done_callback(lambda done: self._finish(request, connection, done))

    def _finish(self, request: Request, connection: Connection, done: asyncio.Future[Response]) -> None:
        self._tasks.discard(done)
        try:
            response = done.result()
        except asyncio.CancelledError:
            response = unavailable("the server is stopping").response(request.id)
        except Exception as error:  # noqa: BLE001 - as above
            response = self._observer.problem(request, error).response(request.id)
        self._answer(request, connection, response)

    def _answer(self, request: Request, connection: Connection, response: Response) -> None:
        self.in_flight -= 1
        self._observer.answered(request, response.status, monotonic() - request.started)
        connection.answer(request, response)

    def _next_id(self) -> str:
        self._ids += 1
        return f"{self._id_prefix}-{self._ids:x}"

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in list(self._connections):
            connection.sweep(now)
        self._loop.call_later(1.0, self._sweep)


async def _in_time(answer: Awaitable[Response]) -> Response:
    """The last net under every handler: whatever hangs, the client hears within the deadline."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await answer
    except TimeoutError:
        raise unavailable("the request took too long", kind="deadline") from None
