"""A host of the cluster: Patroni and the PostgreSQL that it starts, in a machine that can be put off.

Its figures are the shortest that Patroni allows: no lease below 20 s, for one. A primary whose PostgreSQL died hands
over instead of starting it again (PRIMARY_START_S 0).
"""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nvclab import leftovers
from nvclab.errors import LabError
from nvclab.parts.account import dying_with_parent, give
from nvclab.parts.postgres import ADMINISTRATOR, COMMON, HBA, Postgres, replace_file
from nvclab.parts.process import Process

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LEASE_S, LOOP_S, RETRY_S = 20, 1, 3
PRIMARY_START_S = 0
_SHUT_DOWN_S = 30.0


@dataclass(frozen=True)
class Ports:
    """A host's loopback ports: on which its servers listen, and the cables that lead to them and to etcd.

    `sql` and `rest` are for customers and operations, the peers' are for the other hosts.
    """

    server: int
    patroni: int
    sql: int
    rest: int
    peers_sql: int
    peers_rest: int
    etcd: int


@dataclass(frozen=True)
class Scope:
    """What all hosts of a cluster have in common. `settings` are lines of postgresql.conf."""

    name: str
    administrator: str
    replication_user: str
    replication: str
    slot: str
    settings: Mapping[str, str]


class Member(Postgres):
    """The PostgreSQL of a host: asked like any other, and configured by Patroni alone."""

    def configure(self, **changes: str) -> None:
        """Refuse: LabError."""
        raise LabError(f"Patroni configures {self.name}, not we: {', '.join(changes)}.", hint="use a lab without --ha")


@dataclass
class Host:
    """One host in `folder`, which everything that runs on it works in or below."""

    name: str
    folder: Path
    logs: Path
    sockets: Path
    ports: Ports
    scope: Scope
    server: Member = field(init=False)
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        data, password = self.folder / "data", self.scope.administrator
        self.server = Member(self.name, data, self.logs, self.sockets, self.ports.sql, password)
        patroni = [*dying_with_parent(), sys.executable, "-m", "patroni", str(self._configuration)]
        self.process = Process(
            self.name,
            [sys.executable, "-m", "nvclab.parts.machine", str(self.folder), *patroni],
            self.logs / "patroni.log",
            self.server.binaries.environment(),
            as_database_owner=True,
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGTERM,
        )

    @property
    def _configuration(self) -> Path:
        return self.folder / "patroni.yml"

    def launch(self) -> None:
        """Write the configuration and put the host on, without waiting."""
        for folder in (self.folder, self.logs, self.sockets):
            folder.mkdir(parents=True, exist_ok=True)
            give(folder)
        self.folder.chmod(0o700)
        if not list(leftovers.working_in(self.folder)):
            leftovers.forget_server(self.server.data / "postmaster.pid")
        replace_file(self._configuration, json.dumps(self._configured(), indent=1))  # JSON is YAML
        self.process.start()

    def ready(self) -> bool:
        """Say whether it does what its role asks: writes, or streams."""
        found = self.patroni()
        if found.get("state") != "running":
            return False
        return found.get("role") == "primary" or found.get("replication_state") == "streaming"

    def patroni(self) -> dict[str, Any]:
        """What its Patroni says of itself; empty when it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.patroni, timeout=2)
        try:
            connection.request("GET", "/patroni")
            found: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        else:
            return found
        finally:
            connection.close()

    def stop(self) -> None:
        """Shut it down in order: Patroni ends, and PostgreSQL with it."""
        self.signal_all(signal.SIGCONT)
        self.process.send(signal.SIGINT)
        if not self.process.ends_within(_SHUT_DOWN_S):
            self.power_off()

    def power_off(self) -> None:
        """Kill -9 everything on it; when it returns nothing of it runs, for certain."""
        self.process.send(signal.SIGTERM)
        self.process.ends_within(_SHUT_DOWN_S)
        leftovers.end_all(lambda: leftovers.working_in(self.folder))
        leftovers.forget_server(self.server.data / "postmaster.pid")

    def forget(self) -> None:
        """Remove the data of a host that is off: it is made anew when it is put on."""
        if self.server.data.exists():
            shutil.rmtree(self.server.data)

    def signal_all(self, number: signal.Signals) -> None:
        """Signal everybody on it but the machine itself: PostgreSQL with all its sessions, and Patroni."""
        leftovers.signal_all(self.folder, number, but=self.process.pid)

    def _configured(self) -> dict[str, Any]:
        ports, scope = self.ports, self.scope
        return {
            "scope": scope.name,
            "name": self.name,
            "restapi": {
                "listen": f"127.0.0.1:{ports.patroni}",
                "connect_address": f"127.0.0.1:{ports.peers_rest}",
            },
            # A proxy: or Patroni would find out where etcd really listens, and pass by the cable.
            "etcd3": {"host": f"127.0.0.1:{ports.etcd}", "use_proxies": True},
            "bootstrap": {"dcs": self._of_the_cluster(), "initdb": _INITDB},
            "postgresql": {
                "listen": f"127.0.0.1:{ports.server}",
                "connect_address": f"127.0.0.1:{ports.peers_sql}",
                "data_dir": str(self.server.data),
                "bin_dir": str(self.server.binaries.folder),
                "pgpass": str(self.folder / "pgpass"),
                "use_unix_socket": True,
                "basebackup": [{"checkpoint": "fast"}, "no-sync"],
                "authentication": {
                    "superuser": {"username": ADMINISTRATOR, "password": scope.administrator},
                    "replication": {"username": scope.replication_user, "password": scope.replication},
                },
                "parameters": {**COMMON, "log_directory": str(self.logs), "unix_socket_directories": str(self.sockets)},
                "pg_hba": [line for line in HBA.splitlines() if not line.startswith("#")],
            },
        }

    def _of_the_cluster(self) -> dict[str, Any]:
        """What Patroni keeps in etcd, the same for all."""
        return {
            "ttl": LEASE_S,
            "loop_wait": LOOP_S,
            "retry_timeout": RETRY_S,
            "primary_start_timeout": PRIMARY_START_S,
            "synchronous_mode": True,
            "synchronous_node_count": 1,
            "slots": {self.scope.slot: {"type": "physical"}},
            "postgresql": {
                "use_pg_rewind": True,
                "use_slots": True,
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
                "parameters": dict(self.scope.settings),
            },
        }


_INITDB = [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "scram-sha-256"}, "data-checksums", "no-sync"]
