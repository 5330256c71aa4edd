"""Who waits for whom: from the edges of the moment to the sessions at which they end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from nvcops.core.units import Seconds

# --- Facts ---

_WHOLE_S = 10.0, 600.0
PREPARED = 0  # the pid by which PostgreSQL tells of a prepared transaction


def lasting(seconds: float) -> str:
    """How long something lasts: up to ten minutes in seconds, by which two of them are easily compared.

    >>> lasting(0.25), lasting(96.4), lasting(7200), lasting(-0.1)
    ('250 ms', '96 s', '2 h', '0 s')
    """
    least, most = _WHOLE_S
    return f"{round(seconds)} s" if least <= seconds < most else str(Seconds(max(seconds, 0.0)))


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session that waits for a lock, is waited for, or has a transaction open; seconds until now.

    `mode`, `object` and `lock_kind` are of the lock that it waits for; its statement is known by its id only.
    """

    pid: int
    kind: str = "client backend"
    user: str = ""
    application: str = ""
    client: str = ""
    state: str = ""
    wait_kind: str = ""
    wait: str = ""
    transaction_s: float = 0.0
    query_s: float = 0.0
    state_s: float = 0.0
    query: int = 0
    blocked_by: tuple[int, ...] = ()
    waited_s: float = 0.0
    mode: str = ""
    object: str = ""
    lock_kind: str = ""
    wraparound: bool = False

    @property
    def idle(self) -> bool:
        """Whether it has a transaction open and does nothing in it."""
        return self.state.startswith("idle in transaction")

    @property
    def does(self) -> str:
        """What it does, and for how long.

        >>> Session(pid=7, state="idle in transaction", state_s=96).does
        'idle in transaction for 96 s'
        >>> Session(pid=7, state="active", query_s=3, wait_kind="IPC", wait="SyncRep").does
        'in a statement for 3 s, waiting for IPC: SyncRep'
        """
        if self.idle:
            return f"{self.state} for {lasting(self.state_s)}"
        if self.kind == "autovacuum worker":
            words = "autovacuum to prevent wraparound" if self.wraparound else "autovacuum"
            return f"{words} for {lasting(self.transaction_s)}"
        waits = f", waiting for {self.wait_kind}: {self.wait}" if self.wait_kind not in ("", "Lock") else ""
        return f"in a statement for {lasting(self.query_s)}{waits}"


class Held(msgspec.Struct, frozen=True):
    """A lock on a table that a session has."""

    pid: int
    mode: str
    object: str


# --- Rules ---


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions that wait, in the end all for one: `root`. `depth` is 1 where all of them wait for it directly.

    `circle`: they wait for one another, and the root is the one that waits longest. `stronger` is the waiter whose lock
    excludes all others, so that those behind it wait although they could go on beside the root.
    """

    root: int
    waiters: tuple[Session, ...]
    depth: int
    circle: bool = False
    stronger: Session | None = None

    @property
    def longest_s(self) -> float:
        """For how long the first of them has waited."""
        return max((waiter.waited_s for waiter in self.waiters), default=0.0)

    @property
    def lost_s(self) -> float:
        """What all of them together have waited: by this chains are ranked."""
        return sum(waiter.waited_s for waiter in self.waiters)


def chains(sessions: Sequence[Session]) -> list[Chain]:
    """The chains of a moment, the costliest first. A session that waits for two others stands in both chains.

    >>> a, b, c = (Session(pid=n, blocked_by=by, waited_s=n) for n, by in ((1, ()), (2, (1,)), (3, (2,))))
    >>> [(chain.root, [one.pid for one in chain.waiters], chain.depth) for chain in chains([c, b, a])]
    [(1, [3, 2], 2)]
    >>> d, e = Session(pid=4, blocked_by=(5,), waited_s=2), Session(pid=5, blocked_by=(4,), waited_s=1)
    >>> [(chain.root, chain.circle) for chain in chains([d, e])]
    [(4, True)]
    """
    waiting = {one.pid: one for one in sessions if one.blocked_by}
    behind: dict[int, list[int]] = {}
    for pid, one in waiting.items():
        for blocker in set(one.blocked_by):
            behind.setdefault(blocker, []).append(pid)
    roots = [pid for pid in behind if pid not in waiting]
    found = [_chain(root, behind, waiting) for root in sorted(roots)]
    reached = {waiter.pid for chain in found for waiter in chain.waiters}
    left = {pid: one for pid, one in waiting.items() if pid not in reached}
    while left:
        root = max(left.values(), key=lambda one: (one.waited_s, -one.pid)).pid
        chain = _chain(root, behind, waiting)
        found.append(msgspec.structs.replace(chain, circle=any(root == one.pid for one in chain.waiters)))
        gone = {root, *(waiter.pid for waiter in chain.waiters)}
        left = {pid: one for pid, one in left.items() if pid not in gone}
    return sorted(found, key=lambda chain: chain.lost_s, reverse=True)


def _chain(root: int, behind: Mapping[int, Sequence[int]], waiting: Mapping[int, Session]) -> Chain:
    """All that wait for a session, directly or for one another, level by level."""
    reached: dict[int, int] = {}
    level, depth = [root], 0
    while level:
        following = [pid for blocker in level for pid in behind.get(blocker, ()) if pid not in reached]
        depth += bool(following)
        reached.update(dict.fromkeys(following, depth))
        level = list(dict.fromkeys(following))
    waiters = sorted((waiting[pid] for pid in reached), key=lambda one: (-one.waited_s, one.pid))
    return Chain(root=root, waiters=tuple(waiters), depth=depth, stronger=_stronger(waiters, behind))


def _stronger(waiters: Iterable[Session], behind: Mapping[int, Sequence[int]]) -> Session | None:
    """The waiter for an exclusive lock on a table that most others queue behind."""
    strong = [one for one in waiters if one.mode == "AccessExclusiveLock" and behind.get(one.pid)]
    return max(strong, key=lambda one: len(behind[one.pid]), default=None)
