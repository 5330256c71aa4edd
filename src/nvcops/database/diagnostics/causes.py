"""The causes of the moment: what was seen of a database, as sentences, the most harmful first.

Pure: an incident's cause hints and a person's look come to the same words. A cause weighs as many sessions as it holds
up, so that 41 sessions behind a lock stand above one long report. Nothing is said without what it was seen in.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nvcops.core.manifest import Limits
from nvcops.core.units import Ratio, Seconds
from nvcops.core.workload import Statement, Workload
from nvcops.database.diagnostics.blocking import FELT_S, commit_causes, lock_causes, since, who
from nvcops.database.diagnostics.chains import chains, lasting
from nvcops.database.diagnostics.moment import Cause, Seen
from nvcops.database.texts import plain, shown

__all__ = ["Cause", "Seen", "causes", "slow_services"]

# --- Rules ---

_FULL = ("too many clients", "connection slots are reserved", "too many connections")
_OBSERVED_S_MIN = 30.0
_WAITING_MIN = 2.0  # sessions at a time
_SLOWER = 3.0
_NOTICED = 0.05  # sessions that a statement keeps busy more than it used to
_CALLS_MIN = (5, 20)
_SLOWER_MAX = 10
_SERVED_SLOWER = 2.0
_SERVED_S_MIN = 0.05
_MEANT = {
    "IO": "the disk: is the cache too small, or does one statement read everything?",
    "LWLock": "each other inside the server: are there too many sessions for its processors?",
    "BufferPin": "a page that another session holds: a cursor that stands open?",
    "IPC": "other processes of the server",
}


def causes(seen: Seen, limits: Limits, slow_s: float) -> list[Cause]:
    """The causes of the moment, the most harmful first. `slow_s` is from when on a service's answers are slow."""
    if seen.trouble:
        return [_unreachable(seen)]
    found = [
        *lock_causes(seen, limits),
        *commit_causes(seen),
        *_connections(seen, limits),
        *_sessions(seen, limits),
        *_waits(seen),
        *_statements(seen),
        *_standbys(seen),
        *_disks(seen, limits),
    ]
    slow = slow_services(seen, limits, slow_s)
    told = [msgspec.structs.replace(one, sentence=_because(one, slow)) for one in found]
    return sorted(told, key=lambda one: -one.weight)


def slow_services(seen: Seen, limits: Limits, slow_s: float) -> list[str]:
    """Which services answer slowly now: beyond the objective, or twice as slowly as before."""
    found = []
    for one in seen.services:
        enough = one.now >= limits.recent_requests_min
        slower = one.before >= limits.recent_requests_min and one.now_s >= _SERVED_SLOWER * one.before_s
        if enough and (one.now_s > slow_s or (slower and one.now_s > _SERVED_S_MIN)):
            before = f", {Seconds(one.before_s)} before" if one.before else ""
            found.append(f"{one.what} are slow ({Seconds(one.now_s)} on average{before})")
    return found


def _because(cause: Cause, slow: list[str]) -> str:
    return f"{' and '.join(slow)} because {cause.sentence}" if slow and cause.weight >= 1 else cause.sentence


def _unreachable(seen: Seen) -> Cause:
    if any(words in seen.trouble for words in _FULL):
        sentence = f"{seen.name} has no connection free, not even one of those that are reserved for us"
        step = "free one on its host: psql as superuser, then SELECT pg_terminate_backend(pid) of who has most of them"
    else:
        sentence = f"{seen.name} cannot be asked: {seen.trouble}"
        step = "scripts/system_status.sh; its log; is the process there?"
    evidence = (f"our own session: {seen.trouble}",)
    return Cause(kind="unreachable", sentence=sentence, evidence=evidence, next_step=step, weight=1e6, critical=True)


# Connections and single sessions.


def _connections(seen: Seen, limits: Limits) -> Iterator[Cause]:
    used = seen.connections / max(seen.connections_max, 1)
    if used < limits.connections.critical:
        return
    sums: dict[tuple[str, str], int] = {}
    for one in seen.holders:
        key = (one.application or one.user, one.state or "unknown")
        sums[key] = sums.get(key, 0) + one.count
    most = sorted(sums.items(), key=lambda item: -item[1])[:3]
    by = ", ".join(f"{count} by {plain(name)} ({state})" for (name, state), count in most)
    full = seen.connections >= seen.connections_max
    yield Cause(
        kind="connections",
        sentence=f"{seen.connections} of {seen.connections_max} connections are taken: {by}",
        evidence=("pg_stat_activity by application and state",),
        next_step="stop who has most of them, or make its pool smaller; more than these would only queue elsewhere",
        weight=float(seen.connections if full else 1),
        critical=full,
    )


def _sessions(seen: Seen, limits: Limits) -> Iterator[Cause]:
    """Transactions that stand idle and statements that go on, for too long, though nobody waits for them."""
    roots = {chain.root for chain in chains(seen.sessions) if chain.longest_s >= FELT_S}
    for one in seen.sessions:
        if one.pid in roots or one.blocked_by or one.kind != "client backend":
            continue
        if one.idle and one.state_s >= limits.idle_in_transaction.warning:
            kind, weight = "idle", 0.3
            end = f"SELECT pg_terminate_backend({one.pid}) frees what it holds"
            says = "vacuum cannot remove what it might still see"
        elif one.state == "active" and one.query_s >= limits.longest_query.warning and one.wait != "SyncRep":
            kind, weight = "statement", 0.5
            end = f"SELECT pg_cancel_backend({one.pid}) ends it; scripts/db_performance_check.py says why it takes long"
            says = f"statement {one.query}" if one.query else "its id is not known"
        else:
            continue
        yield Cause(
            kind=kind,
            sentence=f"{who(one, seen.versions)} is {one.does}{since(one, seen)}: {says}",
            evidence=(f"pg_stat_activity: pid {one.pid}, its transaction is {lasting(one.transaction_s)} old",),
            next_step=end,
            weight=weight,
            pid=one.pid,
        )


# What the history says.


def _waits(seen: Seen) -> Iterator[Cause]:
    """What sessions wait for inside the server, when it is more than two at a time."""
    if seen.waits.observed_s < _OBSERVED_S_MIN:
        return
    for kind, meant in _MEANT.items():
        waited = [one for one in seen.waits.waited if one.kind == kind and one.event != "SyncRep"]
        at_a_time = sum(one.seconds for one in waited) / seen.waits.observed_s
        if at_a_time < _WAITING_MIN:
            continue
        worst = max(waited, key=lambda one: one.seconds)
        share = Ratio(sum(one.seconds for one in waited) / sum(one.seconds for one in seen.waits.waited))
        yield Cause(
            kind="wait",
            sentence=f"{at_a_time:.1f} sessions at a time wait for {meant.partition(':')[0]} ({worst.title})",
            evidence=(f"sampled each second for {lasting(seen.waits.observed_s)}: {share} of what sessions do",),
            next_step=meant.partition(": ")[2] or "scripts/db_performance_check.py",
            weight=at_a_time,
        )


def _statements(seen: Seen) -> Iterator[Cause]:
    """Statements that take three times as long as in the week before, and keep sessions busy by that."""
    if seen.lately is not None and seen.usually is not None:
        for one, usual, more in slower(seen.lately, seen.usually):
            yield _slower(one, usual, more)


def slower(lately: Workload, usually: Workload) -> list[tuple[Statement, Statement, float]]:
    """Statements that got slower: as they are, as they were, and how many sessions that keeps busy; the worst first."""
    if lately.since is None:
        return []
    spans_s = max((lately.until - lately.since).total_seconds(), 1.0)
    before = {one.id: one for one in usually.statements}
    found = []
    for one in lately.statements:
        usual = before.get(one.id)
        if usual is None or one.calls < _CALLS_MIN[0] or usual.calls < _CALLS_MIN[1]:
            continue
        more = (one.total_s - one.calls * usual.mean_s) / spans_s
        if one.mean_s >= _SLOWER * usual.mean_s and more >= _NOTICED:
            found.append((one, usual, more))
    return sorted(found, key=lambda each: -each[2])[:_SLOWER_MAX]


def _slower(one: Statement, usual: Statement, more: float) -> Cause:
    sentence = f"a statement takes {Seconds(one.mean_s)} on average and took {Seconds(usual.mean_s)} in the week before"
    return Cause(
        kind="regression",
        sentence=f"{sentence}: {shown(one.text)}",
        evidence=(f"pg_stat_statements: statement {one.id}, {one.calls:,.0f} calls lately",),
        next_step="scripts/db_performance_check.py shows its plan; scripts/update_db_stats.py repairs estimates",
        weight=more,
    )


# What is beside it.


def _standbys(seen: Seen) -> Iterator[Cause]:
    for one in seen.standbys:
        if one.trouble:
            said, step = f"does not answer: {one.trouble}", "start it; scripts/system_status.sh"
        elif one.paused:
            said, step = (
                "does not replay: it is paused",
                "SELECT pg_wal_replay_resume() there, when nobody needs the pause",
            )
        elif one.receiver != "streaming":
            said, step = f"receives nothing ({one.receiver or 'its receiver does not run'})", "its log says why"
        else:
            continue
        yield Cause(
            kind="standby",
            sentence=f"the standby {one.name} {said}; what is read there is old",
            evidence=(f"asked {one.name} itself",),
            next_step=step,
            weight=0.2,
        )


def _disks(seen: Seen, limits: Limits) -> Iterator[Cause]:
    for name, used in seen.disks.items():
        if used >= limits.disk_used.critical:
            yield Cause(
                kind="disk",
                sentence=f"the disk {name} is {Ratio(used)} full: a full one stops every write",
                evidence=("the file system's own figures",),
                next_step="scripts/cleanup_temp_files.sh; scripts/rotate_logs.sh; which slot keeps WAL?",
                weight=500.0 if used >= 0.99 else 5.0,
                critical=True,
            )
