"""The door's connections: whoever is slow, says too much before a request begins, or does not read, holds nobody up."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S_MAX = 10.0
HEAD_BYTES_MAX = 64 << 10
REQUEST_S_MAX = 30.0
SENDING_S_MAX = 10.0  # beside the request's own time: to whoever does not read the answer
WAITING_MAX = 150  # connections of which more wait than this: the one that waits longest makes room


class Connection(HttpToolsProtocol):
    """One connection, with a deadline for each head of a request, and for each request with its answer.

    Without it a few hundred connections that say nothing keep every alert out, and a head without an end fills memory.
    """

    _deadline: asyncio.TimerHandle | None = None
    waits = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connected."""
        super().connection_made(transport)
        self._within(HEAD_S_MAX)
        waiting = [one for one in self.connections if isinstance(one, Connection) and one.waits]
        if len(waiting) > WAITING_MAX:
            min(waiting, key=lambda one: one.until).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something was said."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if self.waits else 0
        if self._head_bytes > HEAD_BYTES_MAX:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """A request begins."""
        self.waits, self._head_bytes = False, 0
        self._within(REQUEST_S_MAX + SENDING_S_MAX)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """It was answered; there may be another."""
        self.waits = True
        self._within(HEAD_S_MAX)
        super().on_response_complete()

    @property
    def until(self) -> float:
        """When it is left, by the loop's clock."""
        return self._deadline.when() if self._deadline else 0.0

    def _within(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self.transport.abort()
