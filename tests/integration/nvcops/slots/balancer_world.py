"""The real HAProxy before three servers that say who they are."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from nvclab.parts.haproxy import find_program
from nvclab.parts.process import free_ports
from nvcops.adapters.haproxy import HAProxy
from nvcops.adapters.haproxy_balancer import HAProxyBalancer

SLOTS = ("main-1", "main-2", "spare-1")
_CONFIGURATION = """\
global
    stats socket {socket} mode 660 level admin
    nbthread 1
    server-state-file {state}
defaults
    mode http
    retries {retries}
    option redispatch 1
    timeout connect 1s
    timeout client 10s
    timeout server {patience}
    load-server-state-from-file global
frontend public
    bind 127.0.0.1:{port}
    default_backend shop
backend shop
    balance roundrobin
    option httpchk GET /readyz
    retry-on {retry_on}
    default-server check inter 100ms fall {fall} rise 1
{servers}
backend other
    server main-1 127.0.0.1:1 weight 7
"""


class Shop(BaseHTTPRequestHandler):
    """Answers with its slot's name; /fail with 500, /slow after its server's event, /broken not at all."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        way = self.server.way if self.path == "/" else self.path
        if way == "/slow":
            self.server.over.wait(20)
        if way == "/broken":
            self.close_connection = True
            return
        self.send_response(500 if way == "/fail" else 200)
        self.send_header("Content-Length", str(len(self.server.slot)))
        self.end_headers()
        self.wfile.write(self.server.slot.encode())

    def log_message(self, *arguments: object) -> None:  # type: ignore[override]
        """Nothing."""


class Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, slot: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), Shop)
        self.slot, self.way, self.over = slot, "/", threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """HAProxy cuts connections when it is killed."""

    def stop(self) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


@dataclass
class World:
    folder: Path
    port: int
    servers: dict[str, Server]
    weights: dict[str, int] = field(default_factory=lambda: {"main-1": 100, "main-2": 100, "spare-1": 0})
    child: subprocess.Popen[bytes] | None = None
    retried: bool = False
    patient: bool = False

    @property
    def socket(self) -> Path:
        return self.folder / "haproxy.sock"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def balancer(self, **changes: object) -> HAProxyBalancer:
        known = {
            "proxy": HAProxy(name="proxy", socket=self.socket, deadline_s=5),
            "backend": "shop",
            "slots": SLOTS,
            "state_file": self.state,
        }
        return HAProxyBalancer(**(known | changes))  # type: ignore[arg-type]

    def start(self) -> None:
        lines = [
            f"    server {slot} 127.0.0.1:{self.servers[slot].server_address[1]} weight {weight}"
            for slot, weight in self.weights.items()
        ]
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(
            _CONFIGURATION.format(
                socket=self.socket,
                state=self.state,
                port=self.port,
                servers="\n".join(lines),
                retries=2 if self.retried else 0,
                retry_on="conn-failure empty-response response-timeout" if self.retried else "none",
                patience="500ms" if self.patient else "10s",
                fall=5000 if self.patient else 2,
            )
        )
        program = find_program()
        environment = dict(os.environ)
        if (program.parent / "lib").is_dir():
            environment["LD_LIBRARY_PATH"] = str(program.parent / "lib")
        self.child = subprocess.Popen(
            [str(program), "-db", "-f", str(configuration)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.until(lambda: self.command("show stat").count(",L7OK,") == len(SLOTS))

    def kill(self) -> None:
        if self.child:
            self.child.kill()
            self.child.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def until(self, so: object, within_s: float = 20.0) -> None:
        end = time.monotonic() + within_s
        while True:
            with suppress(Exception):
                if so():  # type: ignore[operator]
                    return
            assert time.monotonic() < end, "it did not come about"
            time.sleep(0.05)

    def ask(self, count: int, path: str = "/") -> Counter[str]:
        """So many requests one after the other, each on a connection of its own; who answered."""
        said: Counter[str] = Counter()
        for _ in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            try:
                connection.request("GET", path)
                said[connection.getresponse().read().decode()] += 1
            finally:
                connection.close()
        return said

    def command(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            connection.sendall(f"{command}\n".encode())
            said = b""
            while piece := connection.recv(1 << 16):
                said += piece
        return said.decode()


@contextmanager
def world(*, retried: bool = False, patient: bool = False) -> Iterator[World]:
    """`retried`: HAProxy asks another server where one failed. `patient`: no check takes a server out of service."""
    with tempfile.TemporaryDirectory(prefix="nvcops-") as name:  # a socket's path is short
        ports = free_ports(len(SLOTS) + 1)
        servers = {slot: Server(slot, port) for slot, port in zip(SLOTS, ports, strict=False)}
        made = World(Path(name), ports[-1], servers, retried=retried, patient=patient)
        try:
            made.start()
            yield made
        finally:
            made.kill()
            for server in servers.values():
                server.stop()
