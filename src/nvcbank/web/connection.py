"""One client connection: parses with llhttp, answers in order, and does not wait for slow clients for ever."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import httptools

from nvcbank.web.message import Problem, Request, Response

if TYPE_CHECKING:
    from nvcbank.web.listener import Listener

MOST_TARGET_BYTES = 4_096
MOST_HEADER_BYTES = 16_384
MOST_HEADERS = 64
MOST_BODY_BYTES = 65_536
MOST_PIPELINED = 16
REQUEST_READ_S = 10.0
KEEP_ALIVE_S = 75.0
WRITE_S = 10.0


class _Refused(Exception):
    """The request breaks a limit: `Connection.refusal` says which."""


class Connection(asyncio.Protocol):
    """Reads requests, hands them to the listener one at a time, writes the answers in order."""

    __slots__ = (
        "_body",
        "_closing",
        "_header_bytes",
        "_headers",
        "_listener",
        "_loop",
        "_parser",
        "_target",
        "_transport",
        "_waiting",
        "active",
        "idle_since",
        "reading_since",
        "refusal",
        "stuck_since",
    )

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = listener
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._closing = False
        self.active: Request | None = None
        self.refusal: Problem | None = None
        self.idle_since = loop.time()
        self.reading_since = 0.0
        self.stuck_since = 0.0
        self._start_message()

    # What the event loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast("asyncio.Transport", transport)
        if not self._listener.admit(self):
            self._refuse(Problem(503, "too-many-connections", "too many connections", headers=b"Retry-After: 1\r\n"))

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone; an answer that is still being made goes nowhere."""
        self._transport = None
        self._waiting.clear()
        self._listener.forget(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what cannot be parsed is refused and the connection closed."""
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(Problem(400, "bad-request", "this server does not change protocols"))
        except httptools.HttpParserError:
            self._refuse(self.refusal or Problem(400, "bad-request", "this is not HTTP/1.1"))

    def eof_received(self) -> bool:
        """The client sends no more; what it asked for is still answered."""
        self._closing = True
        return self.active is not None

    def pause_writing(self) -> None:
        """The client does not read what it asked for."""
        self.stuck_since = self._loop.time()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.stuck_since = 0.0
        if self._transport is not None:
            self._transport.resume_reading()

    # What the parser says.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.reading_since = self._loop.time()

    def on_url(self, part: bytes) -> None:
        """A part of the request target."""
        self._target += part
        if len(self._target) > MOST_TARGET_BYTES:
            self._limit(Problem(414, "target-too-long", f"the path is longer than {MOST_TARGET_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MOST_HEADER_BYTES or len(self._headers) >= MOST_HEADERS:
            self._limit(Problem(431, "headers-too-large", f"more than {MOST_HEADER_BYTES} bytes of headers"))
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """All headers are there."""
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._body += part
        if len(self._body) > MOST_BODY_BYTES:
            self._limit(Problem(413, "body-too-large", f"the body is longer than {MOST_BODY_BYTES} bytes"))

    def on_message_complete(self) -> None:
        """A whole request: answer it, or keep it until the one before is answered."""
        path, _, query = self._target.partition(b"?")
        text = path.decode("latin-1")
        method = self._parser.get_method().decode("latin-1")
        request = Request(
            method, unquote(text) if "%" in text else text, query.decode("latin-1"), self._headers, self._body
        )
        keep_alive = self._parser.should_keep_alive()
        self._start_message()
        if self.active is None:
            self._begin(request, keep_alive=keep_alive)
            return
        self._waiting.append((request, keep_alive))
        if len(self._waiting) >= MOST_PIPELINED:
            self._limit(Problem(400, "too-many-pipelined", f"more than {MOST_PIPELINED} requests wait for an answer"))

    # Answers.

    def _begin(self, request: Request, *, keep_alive: bool) -> None:
        self.active = request
        if not keep_alive:
            self._closing = True
        self._listener.handle(request, self)

    def answer(self, request: Request, response: Response) -> None:
        """Send the answer to the active request and go on with the next."""
        self.active = None
        if self._transport is None:
            return
        closing = (self._closing and not self._waiting) or self._listener.draining
        self._transport.write(response.wire(request.id, close=closing, with_body=request.method != "HEAD"))
        if closing:
            self._closing = True
            self._transport.close()
        elif self._waiting:
            waiting, keep_alive = self._waiting.popleft()
            self._begin(waiting, keep_alive=keep_alive)
        else:
            self.idle_since = self._loop.time()

    def _refuse(self, problem: Problem) -> None:
        """Say what is wrong with the connection, and end it."""
        self._closing = True
        self._waiting.clear()
        if self._transport is None:
            return
        if self.active is None:
            request_id = self._listener.refused(problem)
            self._transport.write(problem.response(request_id).wire(request_id, close=True))
        self._transport.close()

    def close_if_idle(self) -> None:
        """End a connection on which nothing is being asked or answered."""
        if self.active is None and self._transport is not None:
            self._closing = True
            self._transport.close()

    def sweep(self, now: float) -> None:
        """End what takes too long: a request that trickles in, an answer nobody reads, a connection nobody uses."""
        if self._transport is None:
            return
        if self.stuck_since and now - self.stuck_since > WRITE_S:
            self._transport.abort()
        elif self.reading_since and now - self.reading_since > REQUEST_READ_S:
            self._refuse(Problem(408, "too-slow", f"the request did not arrive within {REQUEST_READ_S:.0f} s"))
        elif self.active is None and now - self.idle_since > KEEP_ALIVE_S:
            self._transport.close()

    def _start_message(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._body = b""
        self.reading_since = 0.0

    def _limit(self, problem: Problem) -> None:
        self.refusal = problem
        raise _Refused
