"""Causes that are locks, and commits that wait for a standby: who holds them up, since when, and after what change."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from nvcops.core.manifest import Limits
from nvcops.core.target import Change
from nvcops.database.diagnostics.chains import PREPARED, Chain, Session, chains, lasting
from nvcops.database.diagnostics.moment import Cause, Seen
from nvcops.database.texts import plain

# --- Rules ---

FELT_S = 1.0  # a lock that is waited for less long is how locks work
_NEAR = dt.timedelta(minutes=10)
_MANY = 10


def lock_causes(seen: Seen, limits: Limits) -> Iterator[Cause]:
    """A cause for each chain of sessions in which somebody has waited so long that it is felt."""
    known = {one.pid: one for one in seen.sessions}
    for chain in chains(seen.sessions):
        root = known.get(chain.root)
        if chain.longest_s < FELT_S or (root is not None and root.wait == "SyncRep"):
            continue  # who waits for a standby is told of with the standby
        count = len(chain.waiters)
        wait = "1 session waits" if count == 1 else f"{count} sessions wait"
        target = "one another, in a circle, with" if chain.circle else "for"
        sentence = f"{wait} {target} {_root(chain, root, seen)}{_holds(chain, seen)}{_queue(chain)}{since(root, seen)}"
        yield Cause(
            kind="lock",
            sentence=sentence,
            evidence=_lock_evidence(chain, root, seen),
            next_step=_lock_step(chain, root, seen),
            weight=count + min(chain.lost_s, 1e5) / 1e6,
            pid=chain.root,
            critical=chain.longest_s >= limits.lock_wait.critical or count >= _MANY,
        )


def who(session: Session, versions: dict[str, str]) -> str:
    """Whose a session is; its application is the instance's name, and then its release is known.

    >>> who(Session(pid=812, user="nvcbank", application="bank-2"), {"bank-2": "1.4.2"})
    'pid 812 (nvcbank, bank-2, release 1.4.2)'
    """
    version = versions.get(session.application, "")
    parts = [session.user, session.application, f"release {version}" if version else "", session.client]
    inside = ", ".join(part for part in parts if part) or session.kind
    return f"pid {session.pid} ({inside})"


def _root(chain: Chain, root: Session | None, seen: Seen) -> str:
    if chain.root == PREPARED:
        oldest = seen.prepared[0] if seen.prepared else None
        named = f" '{plain(oldest.gid)}' of {oldest.owner}, {lasting(oldest.age_s)} old" if oldest else ""
        return f"the prepared transaction{named}"
    return f"{who(root, seen.versions)}, {root.does}" if root else f"pid {chain.root}"


def _holds(chain: Chain, seen: Seen) -> str:
    """The lock of the root that is waited for: on a table that the waiters want, else its strongest."""
    wanted = {waiter.object for waiter in chain.waiters if waiter.object}
    held = [one for one in seen.held if one.pid == chain.root]
    fits = [one for one in held if one.object in wanted] or [one for one in held if one.mode != "AccessShareLock"]
    if chain.circle or not fits:
        return ""
    return f"; it holds {fits[0].mode} on {fits[0].object}"


def _queue(chain: Chain) -> str:
    if chain.stronger is None:
        return f", {chain.depth} deep" if chain.depth > 1 else ""
    one = chain.stronger
    on = f" on {one.object}" if one.object else ""
    return f"; pid {one.pid} waits for {one.mode}{on}, and all who come after it queue behind it"


def since(root: Session | None, seen: Seen) -> str:
    """What changed shortly before the root's transaction began."""
    if root is None or root.transaction_s <= 0:
        return ""
    began = seen.at - dt.timedelta(seconds=root.transaction_s)
    event = nearest(seen, began, root.application)
    return f"; it began {lasting((began - event[0]).total_seconds())} after {event[1]}" if event else ""


def nearest(seen: Seen, began: dt.datetime, instance: str = "") -> tuple[dt.datetime, str] | None:
    """What changed last in the ten minutes before a moment: at the instance itself, else anywhere."""
    changes = [
        (one.time, told(one), one.instance == instance)
        for one in seen.changes
        if one.before and began - _NEAR <= one.time <= began
    ]
    changes += [
        (run.started, f"our run {run.id} began", False) for run in seen.runs if began - _NEAR <= run.started <= began
    ]
    found = max(changes, key=lambda one: (one[2] and bool(instance), one[0]), default=None)
    return (found[0], found[1]) if found else None


def told(change: Change) -> str:
    """A change in words.

    >>> told(Change(dt.datetime(2027, 1, 1), "bank", "bank-2", "version", "1.4.1", "1.4.2"))
    'bank-2 went from release 1.4.1 to 1.4.2'
    """
    subject = change.instance or change.service
    if change.what == "version":
        return f"{subject} went from release {change.before} to {change.after}"
    if change.what == "start":
        return f"{subject} was restarted"
    return f"{subject} was {'ready again' if change.after == 'ready' else 'not ready any more'}"


def _lock_evidence(chain: Chain, root: Session | None, seen: Seen) -> tuple[str, ...]:
    first = chain.waiters[0]
    wanted = f" for {first.mode}" + (f" on {first.object}" if first.object else "") if first.mode else ""
    lines = [f"pg_blocking_pids: pid {first.pid} has waited {lasting(first.waited_s)}{wanted}"]
    if root is not None:
        lines.append(f"pg_stat_activity: pid {root.pid} has a transaction open for {lasting(root.transaction_s)}")
        if (event := since(root, seen)) and event:
            lines.append("`nvcops serve` saw the change")
    return tuple(lines)


def _lock_step(chain: Chain, root: Session | None, seen: Seen) -> str:
    if chain.circle:
        return "the server itself ends one of them after deadlock_timeout; its log then has both statements"
    if chain.stronger is not None:
        behind = len(chain.waiters) - 1
        return (
            f"SELECT pg_cancel_backend({chain.stronger.pid}) lets the {behind} behind it go on; again with lock_timeout"
        )
    if chain.root == PREPARED:
        gid = seen.prepared[0].gid.replace("'", "''") if seen.prepared else "its gid"
        return f"COMMIT PREPARED '{plain(gid)}', or ROLLBACK PREPARED: as its coordinator decided"
    if root is not None and root.kind == "autovacuum worker":
        return (
            "let it go on: without it the server stops accepting writes" if root.wraparound else "it gives way itself"
        )
    if root is not None and root.idle:
        return f"SELECT pg_terminate_backend({root.pid}) ends it and undoes its transaction; then ask why it stood idle"
    return f"SELECT pg_cancel_backend({chain.root}) ends its statement"


# Commits that wait for a standby.


def commit_causes(seen: Seen) -> Iterator[Cause]:
    """Commits that wait for a standby, and whoever waits for the locks that they hold meanwhile."""
    waiting = [one for one in seen.sessions if one.wait == "SyncRep" and one.query_s >= FELT_S]
    if not waiting:
        return
    behind = {
        waiter.pid
        for chain in chains(seen.sessions)
        if chain.root in {one.pid for one in waiting}
        for waiter in chain.waiters
    }
    count = len(waiting) + len(behind)
    longest = max(one.query_s for one in waiting)
    names = [one for one in seen.senders if one.sync_state in ("sync", "quorum")]
    if names:
        following = ", ".join(f"{one.name} ({one.state}, {lasting(one.flush_s)} behind)" for one in names)
    else:
        following = f"none is connected (synchronous_standby_names = {plain(seen.synchronous)!r})"
    session = "1 session waits" if count == 1 else f"{count} sessions wait"
    yield Cause(
        kind="commit",
        sentence=f"{session}, up to {lasting(longest)}, for a synchronous standby to confirm a commit: {following}",
        evidence=(f"pg_stat_activity: {len(waiting)} wait for IPC: SyncRep", "pg_stat_replication: its sync_state"),
        next_step="start the standby, or ask for an approved change of synchronous_standby_names",
        weight=float(count),
        pid=waiting[0].pid,
        critical=True,
    )
