"""The sockets by which a platform's parts are stopped and started, and by which a cluster changes its primary.

And the rule by which a primary is given up: `decide`, from what was looked at since it last answered.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from enum import StrEnum
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
        """Do to a host what a drill is about: "crash", "freeze", "partition", or "postmaster": kill that alone."""
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


class Failover(msgspec.Struct, frozen=True, kw_only=True):
    """A primary that was given up. `fenced` and `revoked`: when that was confirmed; None: not by us.

    `silent_s` is how long it had not answered, `looks` in how many looks. `successor` is empty while there is none.
    """

    old: str
    began: dt.datetime
    silent_s: float = 0.0
    looks: int = 0
    fenced: dt.datetime | None = None
    revoked: dt.datetime | None = None
    successor: str = ""

    @property
    def sentence(self) -> str:
        """What was seen and done, for a person and for the evidence.

        >>> at = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
        >>> Failover(old="db-1", began=at, silent_s=2.04, looks=5, fenced=at, successor="db-2").sentence
        'db-1 was silent for 2.0 s in 5 looks; fenced at 03:04:05.000; the lease was free already; db-2 is primary'
        """
        parts = [f"{self.old} was silent for {self.silent_s:.1f} s in {self.looks} looks"]
        parts += [f"fenced at {_clock(self.fenced)}" if self.fenced else "not fenced by us"]
        parts += [f"its lease freed at {_clock(self.revoked)}" if self.revoked else "the lease was free already"]
        return "; ".join([*parts, f"{self.successor} is primary" if self.successor else "nobody took over yet"])


def _clock(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="milliseconds")[11:23]


class Cluster(Protocol):
    """A cluster whose primary is chosen by a manager: Patroni."""

    def state(self) -> ClusterState:
        """Who is primary, who follows."""
        ...

    def switch_over(self, candidate: str) -> None:
        """Hand over in an orderly way; returns when the candidate is primary, at once when it is that already."""
        ...

    def revoke(self, leader: str) -> bool:
        """Take the lease from a leader that is certainly gone, so that the others choose at once; whether it had it."""
        ...

    def see_through(self, old: str, deadline_s: float) -> Failover:
        """Guard the cluster here and now until another than `old` is primary: fence and revoke by the guard's rule.

        Raises:
            DeadlineExceeded: `old` is primary still, or nobody is.
        """
        ...


# --- when a primary is given up ---

LOOKS_MIN = 2
_PAUSE = 2  # so many times guard_after: looks further apart than that say nothing about the time between them


class Manager(StrEnum):
    """What the manager on a server's host says about the server. BUSY: it is starting, stopping or restarting it."""

    SILENT = "silent"
    STOPPED = "stopped"
    BUSY = "busy"
    RUNNING = "running"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the cluster; `began` and `ended` in seconds of a clock that only goes forward.

    `leader` has the lease, `known` says that the lease could be read at all. `answers`: its PostgreSQL answered a query
    in this look, if only with a refusal. `standby` is a synchronous standby that answers and replays, empty when there
    is none, and `heard_s` how long ago it heard of its primary; None: it does not say. `lease_left` in seconds; it
    rises when the leader's host renews the lease.
    """

    began: float
    ended: float
    known: bool = False
    leader: str = ""
    paused: bool = False
    handing_over: bool = False
    answers: bool = False
    manager: Manager = Manager.SILENT
    standby: str = ""
    heard_s: float | None = None
    lease_left: int | None = None


def fallen(look: Look) -> bool:
    """Whether this look alone speaks against the primary: it is known who it is, and nothing of it answers.

    What a living manager is busy with, or was told by people, is left to it. Unknown is not fallen.
    """
    if not look.known or not look.leader or look.paused or look.answers:
        return False
    return look.manager is Manager.SILENT or (look.manager is Manager.STOPPED and not look.handing_over)


def decide(looks: Sequence[Look], after_s: float, *, fenced: str = "") -> str:
    """The primary that is to be fenced now, from looks in order; empty: none.

    It must have been fallen in every look for `after_s`; its lease must not have been renewed meanwhile, nor may its
    standby have heard of it, by a host that only we cannot see; and a healthy synchronous standby must be there to take
    over. A pause in our own looking begins the count anew. `fenced` was fenced before and has no successor yet: nobody
    else is fenced as long.
    """
    against = silence(looks, after_s)
    if len(against) < LOOKS_MIN or against[-1].ended - against[0].began < after_s:
        return ""
    last = against[-1]
    if not last.standby or last.standby == last.leader or (fenced and fenced != last.leader):
        return ""
    # A standby was asked when the look began: since then it may have heard nothing more.
    if last.heard_s is not None and last.heard_s + last.ended - last.began < after_s:
        return ""
    return last.leader


def silence(looks: Sequence[Look], after_s: float) -> Sequence[Look]:
    """The newest looks that all speak against the same primary, without a gap, in order."""
    first = len(looks)
    while first > 0 and fallen(looks[first - 1]):
        if first < len(looks) and not _goes_on(looks[first - 1], looks[first], after_s):
            break
        first -= 1
    return looks[first:]


def _goes_on(older: Look, newer: Look, after_s: float) -> bool:
    same = older.leader == newer.leader and newer.began - older.ended <= _PAUSE * after_s
    if newer.manager is not Manager.SILENT or older.lease_left is None or newer.lease_left is None:
        return same
    return same and newer.lease_left <= older.lease_left
