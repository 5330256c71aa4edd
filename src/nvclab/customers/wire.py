"""HTTP/1.1 on raw asyncio protocols: a bounded pool of keep-alive connections, one request at a time on each.

Hand-made because ten thousand customers share the machine with the bank that they visit: a general client costs more
than the bank's answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER_BYTES_MAX = 1 << 20
_HEAD_END = b"\r\n\r\n"


@dataclass
class Request:
    """Bytes to send, and whom to tell: `done(status, body)`; status 0 means that no answer came.

    `retry_after_s`: when to come back, where the answer says so.
    """

    data: bytes
    done: Callable[[int, bytes], None]
    sent: float = 0.0
    retry_after_s: int | None = None


class _Connection(asyncio.Protocol):
    """One connection; it belongs to a pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport | None = None
        self.request: Request | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # TCP transports are Transports
        self.pool.opened(self)

    def send(self, request: Request) -> None:
        """Send a request on an idle connection."""
        self.request = request
        request.sent = time.monotonic()
        if self.transport is not None:
            self.transport.write(request.data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(_HEAD_END)
        if head_end < 0:
            if len(self._buffer) > ANSWER_BYTES_MAX:
                self.abort()
            return
        head = bytes(self._buffer[:head_end]).lower()
        end = head_end + len(_HEAD_END) + (number_in(head, b"content-length") or 0)
        if end > ANSWER_BYTES_MAX:
            self.abort()
        elif len(self._buffer) >= end:
            body = bytes(self._buffer[head_end + len(_HEAD_END) : end])
            self._buffer.clear()
            if self.request is not None:
                self.request.retry_after_s = number_in(head, b"retry-after")
            self._answered(int(head[9:12]), body, close=b"connection: close" in head)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it was lost does not matter
        request, self.request = self.request, None
        self.pool.lost(self)
        if request is not None:
            request.done(0, b"")

    def abort(self) -> None:
        """Give up; whoever waits is told by connection_lost."""
        if self.transport is not None:
            self.transport.abort()

    def _answered(self, status: int, body: bytes, *, close: bool) -> None:
        request, self.request = self.request, None
        if close and self.transport is not None:
            self.transport.close()
        elif request is not None:
            self.pool.idle(self)
        if request is not None:
            request.done(status, body)


class Pool:
    """At most `connections_max` connections to one port; requests beyond that wait, at most `waiting_max` of them."""

    def __init__(self, port: int, *, connections_max: int, waiting_max: int, deadline_s: float) -> None:
        self._port = port
        self._connections_max, self._waiting_max, self._deadline_s = connections_max, waiting_max, deadline_s
        self._all: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._waiting: deque[Request] = deque()
        self._opening = 0
        self._closed = False

    def send(self, request: Request) -> None:
        """Send a request now or as soon as a connection is free."""
        while self._idle:
            connection = self._idle.pop()
            if connection in self._all:
                connection.send(request)
                return
        if len(self._waiting) >= self._waiting_max:
            request.done(0, b"")
            return
        request.sent = time.monotonic()
        self._waiting.append(request)
        if len(self._all) + self._opening < self._connections_max:
            self._opening += 1
            asyncio.get_running_loop().create_task(self._open())

    def sweep(self) -> None:
        """Give up requests that were not answered in time; call it a few times a second."""
        limit = time.monotonic() - self._deadline_s
        for connection in [c for c in self._all if c.request is not None and c.request.sent < limit]:
            connection.abort()
        while self._waiting and self._waiting[0].sent < limit:
            self._waiting.popleft().done(0, b"")

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        for connection in list(self._all):
            connection.abort()

    def opened(self, connection: _Connection) -> None:
        """A connection is there."""
        self._all.add(connection)
        self.idle(connection)

    def idle(self, connection: _Connection) -> None:
        """A connection is free: the oldest waiting request gets it."""
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                await asyncio.get_running_loop().create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        except OSError:  # nobody listens: those who wait are told, as a customer's browser would tell them
            if self._waiting:
                self._waiting.popleft().done(0, b"")
        finally:
            self._opening -= 1


def number_in(head: bytes, name: bytes) -> int | None:
    r"""The number that a header of a lower-case head holds; None where there is no such header.

    >>> head = b"http/1.1 200 ok\r\ncontent-length: 12\r\nx: y"
    >>> number_in(head, b"content-length"), number_in(head, b"retry-after")
    (12, None)
    """
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        return None
    end = head.find(b"\r\n", at + 2)
    written = head[at + len(name) + 3 : end if end >= 0 else len(head)].strip()
    return int(written) if written.isdigit() else None


def encode(method: str, path: str, body: bytes = b"", headers: tuple[str, ...] = ()) -> bytes:
    """A request's bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bank", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body
