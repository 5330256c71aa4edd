"""The guard of a cluster: when its primary certainly does not live, it is fenced, and then its lease is freed.

Without it a cluster waits until the lease of a lost primary has run out, 20 seconds and more. With it nobody waits: the
host is put off first, and only when its provider has confirmed that, the others are told to choose. The rule is
core.cluster.decide; docs/decisions/failover.md says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic, sleep

import msgspec

from nvcops.adapters.patroni import Lease, Patroni
from nvcops.adapters.postgres import KeptSession, PostgresServer
from nvcops.core.cluster import ClusterState, Control, Failover, Look, Manager, decide, fallen, silence
from nvcops.core.errors import DeadlineExceeded, Refused, TargetError
from nvcops.core.manifest import ClusterEntry
from nvcops.core.schedule import now

_LOOKS_KEPT = 200
_BEAT = """
SELECT pg_is_in_recovery() AS in_recovery,
       (SELECT extract(epoch FROM clock_timestamp() - last_msg_receipt_time)::float8 FROM pg_stat_wal_receiver)
           AS heard_s
"""
_SUCCESSOR_S = 20.0
_SUCCESSOR_EVERY_S = 0.1
_LOOK_EVERY_S_MAX = 0.25
Told = Callable[[Failover], object]


def nobody(_failover: Failover) -> None:
    """Nobody is told."""


class Pulse:
    """A kept session to one server: whether it answers, and whether it replays."""

    def __init__(self, server: PostgresServer, deadline_s: float) -> None:
        self._session = KeptSession(replace(server, deadline_s=deadline_s))

    async def beat(self) -> str:
        """'primary', 'standby', 'refuses' (it answered no), or '' when nothing came back within the deadline."""
        try:
            rows = await self._session.rows(_BEAT)
        except TargetError as error:
            return "refuses" if isinstance(error, Refused) else ""
        self.heard_s = rows[0]["heard_s"]
        return "standby" if rows[0]["in_recovery"] else "primary"

    def close(self) -> None:
        """Let go of the session, without waiting."""
        self._session.close()


class Guard:
    """One look at a time, called again and again from one thread; it acts when the rule says so, and tells afterwards.

    `told` is called when a successor is there, or not within a while. A fence that fails raises what it said: nothing
    is revoked then, and the next look counts anew.
    """

    def __init__(
        self, patroni: Patroni, servers: Mapping[str, PostgresServer], control: Control, told: Told = nobody
    ) -> None:
        entry = patroni.entry
        self.name = f"guard of {entry.scope}"
        self.interval_s = float(entry.guard_interval)
        self._after_s = float(entry.guard_after)
        self._deadline_s = min(float(entry.deadline), self._after_s / 2)
        self._patroni, self._control, self._told = patroni, control, told
        self._pulses = {name: Pulse(server, self._deadline_s) for name, server in servers.items()}
        self._runner = asyncio.Runner()
        self._looks: list[Look] = []
        self._fenced = ""

    def __call__(self) -> None:
        """Look once, and act on it.

        Raises:
            TargetError: the fence was not confirmed, or the lease could not be freed after it.
        """
        look = self._runner.run(self._look())
        self._looks = [*self._looks[1 - _LOOKS_KEPT :], look]
        if self._fenced and look.leader not in ("", self._fenced):
            self._fenced = ""
        against = silence(self._looks, self._after_s)
        if victim := decide(self._looks, self._after_s, fenced=self._fenced):
            self._looks = []
            self._told(self._fail_over(victim, against[-1].ended - against[0].began, len(against)))

    @property
    def leader(self) -> str:
        """Who had the lease in the last look; empty: nobody, or it is not known."""
        return self._looks[-1].leader if self._looks else ""

    def close(self) -> None:
        """Let go of all sessions."""
        for pulse in self._pulses.values():
            pulse.close()
        self._runner.close()

    def successor(self, old: str) -> str:
        """Who is primary now, and says so itself, if that is not `old`."""
        try:
            state = self._runner.run(self._patroni.state_now())
        except TargetError:
            return ""
        return "" if state.leader == old else _running(state)

    def _fail_over(self, victim: str, silent_s: float, looks: int) -> Failover:
        """Put off, free the lease, see who takes over."""
        began = now()
        self._control.fence(victim)
        self._fenced, fenced = victim, now()
        revoked = now() if self._runner.run(self._patroni.revoke_now(victim)) else None
        end, successor = monotonic() + _SUCCESSOR_S, ""
        while not successor and monotonic() < end:
            sleep(_SUCCESSOR_EVERY_S)
            successor = self.successor(victim)
        return Failover(
            old=victim,
            began=began,
            silent_s=silent_s,
            looks=looks,
            fenced=fenced,
            revoked=revoked,
            successor=successor,
        )

    async def _look(self) -> Look:
        """Ask everybody side by side; only a fallen primary is worth a second question."""
        began, names = monotonic(), list(self._pulses)
        lease, beats, managers = await asyncio.gather(
            self._lease(),
            asyncio.gather(*(self._pulses[name].beat() for name in names)),
            asyncio.gather(*(self._patroni.says(name, self._deadline_s) for name in names)),
        )
        if lease is None:
            return Look(began=began, ended=monotonic())
        roles, said = dict(zip(names, beats, strict=True)), dict(zip(names, managers, strict=True))
        standby = healthy_standby(lease, roles, said)
        look = Look(
            began=began,
            ended=monotonic(),
            known=lease.leader in roles,
            leader=lease.leader,
            paused=lease.paused,
            handing_over=lease.handing_over,
            answers=bool(roles.get(lease.leader)),
            manager=said.get(lease.leader, Manager.SILENT),
            standby=standby,
            heard_s=self._pulses[standby].heard_s if standby else None,
        )
        return await self._with_lease(look, lease) if fallen(look) else look

    async def _lease(self) -> Lease | None:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._patroni.lease()
        except (TimeoutError, TargetError):
            return None

    async def _with_lease(self, look: Look, lease: Lease) -> Look:
        """How much is left of the lease: while it is renewed, the host lives and it is us who are cut off."""
        try:
            async with asyncio.timeout(self._deadline_s):
                left = await self._patroni.etcd.lease_left(lease.lease)
        except (TimeoutError, TargetError):
            return msgspec.structs.replace(look, known=False)
        return msgspec.structs.replace(look, lease_left=left)


class GuardedPatroni(Patroni):
    """A cluster that can be guarded for as long as somebody waits. See core.cluster.Cluster."""

    def __init__(self, entry: ClusterEntry, servers: Mapping[str, PostgresServer], control: Control) -> None:
        super().__init__(entry)
        self._servers, self._control = servers, control

    def guard(self, told: Told = nobody) -> Guard:
        """A guard of this cluster; `told` afterwards of what it did."""
        return Guard(self, self._servers, self._control, told)

    def see_through(self, old: str, deadline_s: float) -> Failover:
        """Guard here and now until another than `old` is primary.

        Raises:
            DeadlineExceeded: nobody became so.
        """
        done: list[Failover] = []
        guard, began, end = self.guard(done.append), now(), monotonic() + deadline_s
        try:
            while monotonic() < end:
                guard()
                # Patroni is asked only when the lease is another's: a frozen member costs its deadline, and a pause in
                # our looking begins the count anew.
                if guard.leader not in ("", old) and (successor := guard.successor(old)):
                    return done[-1] if done else Failover(old=old, began=began, successor=successor)
                sleep(min(guard.interval_s, _LOOK_EVERY_S_MAX))
        finally:
            guard.close()
        raise DeadlineExceeded(f"nobody but {old} became primary within {deadline_s:g} s")


def healthy_standby(lease: Lease, roles: Mapping[str, str], said: Mapping[str, Manager]) -> str:
    """A synchronous standby of this very primary that replays, and whose manager says so; empty: there is none."""
    if lease.primary != lease.leader:
        return ""
    for name in lease.synchronous:
        if name != lease.leader and roles.get(name) == "standby" and said.get(name) is Manager.RUNNING:
            return name
    return ""


def _running(state: ClusterState) -> str:
    leads = (member.name for member in state.members if member.role == "primary" and member.state == "running")
    return next(leads, "")
