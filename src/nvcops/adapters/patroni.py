"""Patroni through its REST API, and what it keeps in etcd: who is primary, handing over, taking the lease away."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

import msgspec

from nvcops.adapters.etcd import Etcd, Stored, let_go
from nvcops.adapters.http import Address, exchange
from nvcops.core.cluster import ClusterState, Manager, Member
from nvcops.core.errors import DeadlineExceeded, Refused, TargetError, Unreachable
from nvcops.core.manifest import ClusterEntry
from nvcops.core.probes import object_in

_HAND_OVER_S = 60.0
_LOOK_EVERY_S = 0.2
_UNKNOWN = 503  # "Switchover status unknown", and "Switchover failed"
_LEADERS = ("leader", "standby_leader")
_SYNCHRONOUS = ("sync_standby", "quorum_standby")
_STOPPED = ("stopped", "crashed", "start failed", "restart failed", "stop failed")


class Lease(msgspec.Struct, frozen=True):
    """What stands in etcd: who has the lease, who stands by synchronously for whom, and what people asked for."""

    leader: str = ""
    lease: str = ""
    primary: str = ""
    synchronous: tuple[str, ...] = ()
    paused: bool = False
    handing_over: bool = False


class Patroni:
    """One cluster. All members are asked side by side: a dead one costs a deadline only where the others cannot do."""

    def __init__(self, entry: ClusterEntry) -> None:
        self.entry = entry
        self.etcd = Etcd(entry.etcd, entry.deadline)
        self._prefix = f"{entry.namespace.rstrip('/')}/{entry.scope}/"

    def state(self) -> ClusterState:
        """Who is primary, who follows: by the word of the leader itself, else of whoever has the newest timeline.

        Raises:
            Unreachable: no member answers.
        """
        return asyncio.run(self.state_now())

    def switch_over(self, candidate: str) -> None:
        """Hand over to a candidate.

        Raises:
            Refused: Patroni will not, and says why.
            DeadlineExceeded: it agreed, and the candidate is not primary yet.
        """
        asyncio.run(self._switch_over(candidate))

    def revoke(self, leader: str) -> bool:
        """Delete the leader's key while it is that leader's."""
        return asyncio.run(self.revoke_now(leader))

    async def revoke_now(self, leader: str) -> bool:
        """As `revoke`, for callers that have a loop of their own."""
        return await self.etcd.delete_if(f"{self._prefix}leader", leader)

    async def lease(self) -> Lease:
        """What stands in etcd."""
        return lease_of(await self.etcd.read(self._prefix))

    async def says(self, name: str, deadline_s: float) -> Manager:
        """What the Patroni of a server says about it."""
        try:
            answer = await exchange(self._address(name, deadline_s), "/patroni")
        except TargetError:
            return Manager.SILENT
        return manager_of(object_in(answer.body))

    async def state_now(self) -> ClusterState:
        """As `state`, for callers that have a loop of their own."""
        asked = {asyncio.create_task(self._view(member.name)): member.name for member in self.entry.members}
        views: list[tuple[str, ClusterState]] = []
        trouble: TargetError | None = None
        waiting = set(asked)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        view = await task
                    except TargetError as error:
                        trouble = trouble or error
                        continue
                    if speaks_for_itself(asked[task], view):
                        return await self._configured(asked[task], view)
                    views.append((asked[task], view))
        finally:
            await let_go(asked)
        if not views:
            said = trouble.sentence if trouble else "no member is named"
            raise Unreachable(f"no Patroni of {self.entry.scope} answers: {said}", hint="[cluster] members")
        name, view = max(views, key=lambda pair: pair[1].timeline)
        return await self._configured(name, view)

    async def _view(self, name: str) -> ClusterState:
        answer = await exchange(self._address(name), "/cluster")
        document = object_in(answer.body)
        if answer.status != 200 or "members" not in document:
            raise Refused(f"the Patroni of {name} did not show its cluster: it answers {answer.status}")
        return state_of(document)

    async def _configured(self, name: str, view: ClusterState) -> ClusterState:
        """With what the cluster's configuration says."""
        told = object_in((await exchange(self._address(name), "/config")).body)
        return msgspec.structs.replace(
            view,
            lease_s=float(told.get("ttl") or 0),
            synchronous_mode=bool(told.get("synchronous_mode")),
            paused=view.paused or bool(told.get("pause")),
        )

    async def _switch_over(self, candidate: str) -> None:
        end = monotonic() + _HAND_OVER_S
        state = await self.state_now()
        if state.leader == candidate:
            return
        if not state.leader:
            raise Refused(f"nobody of {self.entry.scope} is primary: there is nothing to hand over")
        said = await self._asked_to_hand_over(state.leader, candidate)
        while not _leads(state, candidate):
            if monotonic() > end:
                raise DeadlineExceeded(f"{candidate} is not primary within {_HAND_OVER_S:g} s of the switchover{said}")
            await asyncio.sleep(_LOOK_EVERY_S)
            with suppress(TargetError):  # while it hands over, nobody may answer for a moment
                state = await self.state_now()

    async def _asked_to_hand_over(self, leader: str, candidate: str) -> str:
        """Ask for it. Whether it was done where the answer is lost, or "unknown", only the state tells: why, for then.

        Raises:
            Refused: it will not be done.
        """
        body = msgspec.json.encode({"leader": leader, "candidate": candidate})
        try:
            answer = await exchange(self._address(leader, _HAND_OVER_S), "/switchover", body)
        except TargetError as error:
            return f": {error.sentence}"
        text = answer.body.decode(errors="replace").strip()[:300]
        if answer.status not in (200, 202, _UNKNOWN):
            raise Refused(f"Patroni does not hand over from {leader} to {candidate}: {text}")
        return "" if answer.status != _UNKNOWN else f": {text}"

    def _address(self, name: str, deadline_s: float | None = None) -> Address:
        for member in self.entry.members:
            if member.name == name:
                return Address.of(member.url, None, deadline_s or self.entry.deadline)
        raise Refused(f"platform.toml does not say where the Patroni of {name} is", hint="[cluster] members")


def speaks_for_itself(name: str, view: ClusterState) -> bool:
    """Whether a member says of itself that it is the running primary: nobody knows better."""
    return view.leader == name and _leads(view, name)


def _leads(state: ClusterState, name: str) -> bool:
    return state.leader == name and any(
        member.name == name and member.state == "running" and member.role == "primary" for member in state.members
    )


def state_of(document: Mapping[str, Any]) -> ClusterState:
    """Read the answer of GET /cluster.

    >>> state_of({"members": [{"name": "a", "role": "leader", "state": "running", "timeline": 2},
    ...                       {"name": "b", "role": "sync_standby", "state": "streaming", "lag": 0}]}).members[1]
    Member(name='b', role='standby', state='streaming', timeline=0, lag_bytes=0, synchronous=True)
    """
    members = tuple(_member(member) for member in document["members"])
    leader = next((member for member in members if member.role == "primary"), None)
    return ClusterState(
        leader=leader.name if leader else "",
        members=members,
        timeline=max((member.timeline for member in members), default=0),
        paused=bool(document.get("pause")),
    )


def _member(said: Mapping[str, Any]) -> Member:
    lag, timeline = said.get("lag"), said.get("timeline")
    return Member(
        name=str(said.get("name", "")),
        role="primary" if said.get("role") in _LEADERS else "standby",
        state=str(said.get("state", "")),
        timeline=timeline if isinstance(timeline, int) else 0,
        lag_bytes=lag if isinstance(lag, int) else None,
        synchronous=said.get("role") in _SYNCHRONOUS,
    )


def manager_of(document: Mapping[str, Any]) -> Manager:
    """Read the answer of GET /patroni, whatever its status.

    >>> [manager_of({"state": state}).value for state in ("running", "stopped", "starting")]
    ['running', 'stopped', 'busy']
    """
    state = document.get("state")
    if state == "running":
        return Manager.RUNNING
    return Manager.STOPPED if state in _STOPPED else Manager.BUSY


def lease_of(keys: Mapping[str, Stored]) -> Lease:
    """Read what Patroni keeps below its prefix.

    >>> lease_of({"leader": Stored("a", "7"), "sync": Stored('{"leader": "a", "sync_standby": "b,c"}')}).synchronous
    ('b', 'c')
    """
    leader = keys.get("leader", Stored(""))
    sync, config = _document(keys, "sync"), _document(keys, "config")
    wish = _document(keys, "failover")
    return Lease(
        leader=leader.value,
        lease=leader.lease,
        primary=str(sync.get("leader") or ""),
        synchronous=names(sync.get("sync_standby")),
        paused=bool(config.get("pause")),
        handing_over=bool(wish.get("leader") or wish.get("member")),
    )


def names(written: object) -> tuple[str, ...]:
    """The members in a list, or in text with commas."""
    parts: Sequence[object] = written.split(",") if isinstance(written, str) else written or ()  # type: ignore[assignment]
    return tuple(str(part).strip() for part in parts if str(part).strip())


def _document(keys: Mapping[str, Stored], name: str) -> dict[str, Any]:
    return object_in(keys[name].value.encode()) if name in keys else {}
