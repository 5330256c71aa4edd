"""The sockets by which a platform's parts are stopped and started, and by which a cluster changes its primary."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Control(Protocol):
    """Programs that the manifest names: how a part is stopped and started, and how a host is put off for certain.

    A part goes by its name in the manifest: a database server, a cache, an instance. Every call waits until its
    program has ended, and raises Refused with what it said when that is not 0.
    """

    def start(self, name: str) -> None:
        """Start a part; fine when it runs."""
        ...

    def stop(self, name: str) -> None:
        """Stop a part so that it stays stopped; fine when it does."""
        ...

    def running(self, name: str) -> bool:
        """Whether it runs."""
        ...

    def rebuild(self, name: str) -> None:
        """Make a standby anew from the primary, and start it."""
        ...

    def fence(self, name: str) -> None:
        """Put off the host of a part: when this returns, the host's provider has confirmed that nothing runs there."""
        ...

    def break_host(self, kind: str, name: str) -> None:
        """Do to a host what a drill is about: "crash", "freeze" or "partition"."""
        ...

    def mend_host(self, name: str) -> None:
        """Undo that, and have everything run there again that belongs there."""
        ...


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A PostgreSQL server of a cluster. `lag_bytes` behind the primary; None: not known."""

    name: str
    role: str
    state: str
    timeline: int = 0
    lag_bytes: int | None = None
    synchronous: bool = False


class ClusterState(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster as its manager sees it. `leader` is empty while nobody has the lease.

    `lease_s` is how long a lease lasts, `synchronous_mode` whether only a synchronous standby may become primary.
    """

    leader: str
    members: tuple[Member, ...]
    timeline: int = 0
    lease_s: float = 0.0
    synchronous_mode: bool = False
    paused: bool = False


class Cluster(Protocol):
    """A cluster whose primary is chosen by a manager: Patroni."""

    def state(self) -> ClusterState:
        """Who is primary, who follows."""
        ...

    def switch_over(self, candidate: str) -> None:
        """Hand over in an orderly way; returns when the candidate is primary."""
        ...

    def revoke(self, leader: str) -> bool:
        """Take the lease from a leader that is certainly gone, so that the others choose at once; whether it had it."""
        ...
