"""A network cable: connections to one port are passed on to another, until somebody pulls it.

    python -m nvclab.parts.relay LISTEN:TARGET ...

Frozen (SIGSTOP) it is what a partition looks like from both ends: nothing arrives, and nobody is told.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

import uvloop

from nvclab.parts.process import Process, port_answers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HOST = "127.0.0.1"


class _End(asyncio.Protocol):
    """One end of a connection; what arrives here leaves at the other."""

    def __init__(self, other: _End | None = None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        other, self.other = self.other, None
        if other is not None and other.transport is not None:
            if exc is None:
                other.transport.close()
            else:
                other.transport.abort()


class _Near(_End):
    """The end of whoever connects; what arrives before the far end is there waits."""

    def __init__(self, target: int) -> None:
        super().__init__()
        self._target = target
        self._waiting = bytearray()
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening = asyncio.get_running_loop().create_task(self._open())

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._waiting += data
        else:
            super().data_received(data)

    async def _open(self) -> None:
        assert self.transport is not None  # noqa: S101 - it was made before this began
        try:
            to_far, far = await asyncio.get_running_loop().create_connection(lambda: _End(self), HOST, self._target)
        except OSError:
            self.transport.abort()
            return
        if self.transport.is_closing():
            to_far.abort()
            return
        self.other = far
        to_far.write(bytes(self._waiting))
        self._waiting.clear()


async def _carry(routes: Mapping[int, int]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    servers = [await loop.create_server(partial(_Near, target), HOST, port) for port, target in routes.items()]
    await ended.wait()
    for server in servers:
        server.close()


@dataclass
class Relay:
    """Cables of the lab that are pulled together. `routes`: port to listen on -> port to pass on to."""

    name: str
    routes: Mapping[int, int]
    log: Path
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        words = [f"{port}:{target}" for port, target in self.routes.items()]
        self.process = Process(self.name, [sys.executable, "-m", "nvclab.parts.relay", *words], self.log)

    def launch(self) -> None:
        """Start it without waiting."""
        self.process.start()

    def ready(self) -> bool:
        """Say whether it listens everywhere."""
        return all(port_answers(port) for port in self.routes)

    def pull(self) -> None:
        """Let nothing through; connections stay as they are, and hear nothing."""
        self.process.send(signal.SIGSTOP)

    def plug(self) -> None:
        """Let everything through again, what waited included."""
        self.process.send(signal.SIGCONT)

    def stop(self) -> None:
        """End it, and every connection."""
        self.process.stop()


if __name__ == "__main__":
    _ROUTES = {int(port): int(target) for port, target in (word.split(":") for word in sys.argv[1:])}
    uvloop.run(_carry(_ROUTES))
