"""The database with --ha: two hosts whose primary is chosen by Patroni, which keeps the leader's lease in etcd.

Every connection from one place to another goes through a cable of the lab, so that a host can be cut off: from etcd,
from the other host, from customers and operations.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from nvclab import database_roles, pair
from nvclab.database_roles import REPLICATION
from nvclab.errors import LabError, PartFailed
from nvclab.parts.etcd import Etcd
from nvclab.parts.patroni import Host, Member, Ports, Scope
from nvclab.parts.postgres_binaries import find_binaries
from nvclab.parts.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvclab.keeper import Keeper
    from nvclab.layout import Layout, Record

SCOPE = "bank"
HOSTS: Mapping[str, str] = {"db-1": "primary", "db-2": "standby"}  # and the port at which customers find it
RECEIVER_SLOT = "nvcops"
_OF_A_HOST = ("server", "patroni", "rest", "peers_sql", "peers_rest", "etcd")
PORT_NAMES = ("etcd", "etcd_peers", *(f"{host} {name}" for host in HOSTS for name in _OF_A_HOST))
_READY_S = 90.0
_STEP_S = 0.05


@dataclass
class Cluster:
    """Two hosts, etcd, and the cables between them."""

    layout: Layout
    record: Record
    keeper: Keeper
    etcd: Etcd = field(init=False)
    hosts: Mapping[str, Host] = field(init=False)
    cables: Mapping[str, Relay] = field(init=False)
    names: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        ports = self.record.ports
        self.etcd = Etcd(ports["etcd"], ports["etcd_peers"], self.layout.at("data", "etcd"), self.layout.log("etcd"))
        scope = Scope(
            name=SCOPE,
            administrator=self.layout.secret("administrator"),
            replication_user=REPLICATION,
            replication=self.layout.secret("replication"),
            slot=RECEIVER_SLOT,
            settings=pair.settings(find_binaries()),
        )
        self.hosts = {
            name: Host(
                name=name,
                folder=self.layout.at("data", name),
                logs=self.layout.at("logs", name),
                sockets=self.record.database_sockets,
                ports=self._ports(name),
                scope=scope,
            )
            for name in HOSTS
        }
        self.cables = self._cables()

    @property
    def servers(self) -> Mapping[str, Member]:
        """The PostgreSQL of each host."""
        return {name: host.server for name, host in self.hosts.items()}

    @property
    def parts(self) -> Mapping[str, Etcd | Relay | Host]:
        """What the keeper looks after, in the order of the start."""
        return {"etcd": self.etcd, **self.cables, **self.hosts}

    @property
    def primary(self) -> Member:
        """The server that is primary now; PartFailed when none becomes so in time."""
        end = time.monotonic() + _READY_S
        while True:
            for server in self.servers.values():
                if server.accepts_writes():
                    return server
            if time.monotonic() > end:
                tails = "\n".join(host.process.tail() for host in self.hosts.values())
                raise PartFailed(f"No database server is primary after {_READY_S:g} s.", hint=tails)
            time.sleep(_STEP_S)

    @property
    def standby(self) -> Member:
        """The other one."""
        primary = self.primary
        return next(server for server in self.servers.values() if server is not primary)

    def url(self, user: str, password: str) -> str:
        """Where programs find the bank's database: at whichever server is primary."""
        return pair.url(self.servers.values(), user, password)

    def begin(self) -> None:
        """Start etcd, the cables and the hosts that have data, or the first one; give the primary what it lacks."""
        for name in ("etcd", *self.cables):
            self.keeper.start(name)
        for name in [name for name, host in self.hosts.items() if host.server.data.exists()] or [next(iter(HOSTS))]:
            self.hosts[name].launch()
        database_roles.prepare(self.primary, self.layout)

    def complete(self) -> None:
        """Start the hosts that do not run yet, and wait until each has its role."""
        for name in self.hosts:
            self.start(name)

    def start(self, name: str) -> None:
        """Put a host on and wait until it is primary, or streams."""
        self.keeper.start(name, _READY_S)

    def wait_until_joined(self, name: str, deadline_s: float) -> None:
        """Wait until one server is primary, and this one is it or streams from it."""
        self.hosts[name].process.wait_until(lambda: self._joined(name), deadline_s)

    def _joined(self, name: str) -> bool:
        writing = [other for other, server in self.servers.items() if server.accepts_writes()]
        return len(writing) == 1 and self.hosts[name].ready()

    def cables_of(self, name: str) -> list[Relay]:
        """The cables that a host is cut off with: its own, and those between the hosts."""
        return [self.cables[f"{name}-cable"], self.cables["cable"]]

    def rebuild(self, name: str) -> None:
        """Make a standby anew from the primary."""
        if self.primary is self.servers[name]:
            raise LabError(f"{name} is primary, so it is not made anew.", hint="hand over to the other host first")
        self.keeper.stop(name)
        self.hosts[name].forget()
        self.start(name)

    def wait_for_receiver(self) -> None:
        """Refuse: in the cluster a commit waits for the standby, as Patroni says."""
        raise LabError("With --ha a payment waits for the standby.", hint="leave out --synchronous-backup or --ha")

    def _ports(self, host: str) -> Ports:
        ports = self.record.ports
        return Ports(sql=ports[HOSTS[host]], **{name: ports[f"{host} {name}"] for name in _OF_A_HOST})

    def _cables(self) -> dict[str, Relay]:
        """A host's own cables, which lead to everybody but the other host, and those between the two hosts."""
        own: dict[str, Relay] = {}
        between: dict[int, int] = {}
        for name, host in self.hosts.items():
            ports = host.ports
            routes = {ports.sql: ports.server, ports.rest: ports.patroni, ports.etcd: self.etcd.port}
            own[f"{name}-cable"] = Relay(f"{name}-cable", routes, self.layout.log(f"{name}-cable"))
            between |= {ports.peers_sql: ports.server, ports.peers_rest: ports.patroni}
        return {**own, "cable": Relay("cable", between, self.layout.log("cable"))}
