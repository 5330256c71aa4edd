"""What happens to hosts: they crash, freeze, are cut off; and are put off for certain, or mended.

A host goes by the name of what runs on it: db-1, db-2, bank-1, bank-2, cache, proxy. All but `mend` only signal, so
they may be done on any thread, while the supervisor is busy.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvclab.cluster import Cluster
from nvclab.errors import LabError
from nvclab.part_control import PartControl
from nvclab.parts.patroni import Host
from nvclab.parts.postgres import Postgres

if TYPE_CHECKING:
    from nvclab.data_centre import DataCentre
    from nvclab.keeper import Part

_READY_S = 90.0


@dataclass(frozen=True)
class HostControl:
    """The verbs of `nvclab host`; each may be repeated."""

    centre: DataCentre

    def crash(self, name: str) -> str:
        """Kill -9 everything on a host, and keep it down."""
        self._power_off(name)
        return f"{name} has crashed, and stays down"

    def postmaster(self, name: str) -> str:
        """Kill -9 PostgreSQL's main process alone; whoever looks after it notices."""
        server = self.centre.databases.servers.get(self._name(name))
        if server is None:
            raise LabError(f"{name} is no database server.", hint=", ".join(self.centre.databases.servers))
        os.kill(server.postmaster(), signal.SIGKILL)
        return f"the postmaster of {name} is killed"

    def fence(self, name: str) -> str:
        """Put a host off; when this returns, nothing runs there."""
        self._power_off(name)
        return f"{name} is off: no process of it is left"

    def freeze(self, name: str) -> str:
        """Stop everything on a host from computing; it still holds its ports and connections."""
        _signal(self._part(name), signal.SIGSTOP)
        return f"{name} is frozen"

    def partition(self, name: str) -> str:
        """Cut a host of the cluster off from etcd, the other host, customers and operations; it goes on by itself."""
        cluster = self._cluster_of(name)
        for cable in cluster.cables_of(name):
            cable.pull()
        return f"{name} is cut off from everybody"

    def mend(self, name: str) -> str:
        """Undo all of that: returns when what belongs on the host runs, and has its place in the cluster again."""
        part, databases = self._part(name), self.centre.databases
        if isinstance(databases, Cluster) and isinstance(part, Host):
            for cable in databases.cables_of(name):
                cable.plug()
            part.signal_all(signal.SIGCONT)
            databases.start(name)
            databases.wait_until_joined(name, _READY_S)
        else:
            _signal(part, signal.SIGCONT)
            PartControl(self.centre).start(name)
        return f"{name} is back"

    def _power_off(self, name: str) -> None:
        part = self._part(name)
        self.centre.keeper.let_go(self._name(name))
        if isinstance(part, Host | Postgres):
            part.power_off()
        else:
            part.process.kill()

    def _cluster_of(self, name: str) -> Cluster:
        databases = self.centre.databases
        if not isinstance(databases, Cluster) or name not in databases.hosts:
            raise LabError(
                f"{name} has no network of its own that could be cut.", hint="nvclab up --ha has: db-1, db-2"
            )
        return databases

    def _part(self, name: str) -> Part:
        return self.centre.keeper[self._name(name)].part

    def _name(self, name: str) -> str:
        return self.centre.databases.names.get(name, name)


def _signal(part: Part, number: signal.Signals) -> None:
    if isinstance(part, Host | Postgres):
        part.signal_all(number)
    else:
        part.process.send(number)
