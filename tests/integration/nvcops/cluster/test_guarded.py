"""A real pair under Patroni: who is what now, handing over, and a guard that fences what is certainly gone only."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from cluster_world import World, not_ok, wait_for, world

from nvclab.parts.process import run_tool
from nvcops import wiring
from nvcops.adapters.guard import Guard, GuardedPatroni
from nvcops.adapters.programs import Programs
from nvcops.adapters.target import guarded_cluster
from nvcops.core.cluster import Failover
from nvcops.core.errors import Refused
from nvcops.database.servers import server_findings, servers


@pytest.fixture(scope="module")
def pair() -> Iterator[World]:
    with world(guard=False, users=0) as made:
        wait_for(lambda: synchronous(made), "a synchronous standby")
        yield made


@pytest.fixture(autouse=True)
def whole(pair: World) -> None:
    """What the test before did to the pair is over."""
    wait_for(lambda: all(synchronous(pair) or time.sleep(0.2) for _ in range(5)), "a whole pair")


def synchronous(pair: World) -> bool:
    assert pair.target.cluster
    state = pair.target.cluster.state()
    leads = [member for member in state.members if member.name == state.leader and member.state == "running"]
    return bool(leads) and any(member.synchronous for member in state.members)


def cluster_of(pair: World) -> GuardedPatroni:
    manifest = wiring.load(pair.platform)
    cluster = guarded_cluster(manifest, Programs(manifest.control))
    assert cluster
    return cluster


def host(pair: World, verb: str, name: str) -> None:
    pair.lab.run("host", verb, name)


def look_until(guard: Guard, done: Callable[[], bool], seconds: float) -> bool:
    """Let the guard look until it is done, or for so long; whether it is."""
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        guard()
        time.sleep(0.2)
    return done()


def test_the_roles_are_what_they_are_now(pair: World) -> None:
    target = pair.target
    assert target.cluster
    assert target.database
    before = target.cluster.state()
    standby = next(member.name for member in before.members if member.synchronous)
    assert (target.database.name, [database.name for database in target.standbys]) == (before.leader, [standby])
    assert (before.synchronous_mode, before.paused, before.lease_s) == (True, False, 20.0)

    target.cluster.switch_over(standby)
    target.cluster.switch_over(standby)  # it is primary already
    wait_for(lambda: target.database and target.database.name == standby, "the role that it has now")
    assert target.database.rows("SELECT pg_is_in_recovery() AS standby") == [{"standby": False}]
    assert [database.name for database in target.standbys] == [before.leader]
    wait_for(lambda: synchronous(pair), "a synchronous standby")
    slots = "database.slots"  # the backup's receiver does not run here
    lines = [line for line in server_findings(servers(target), target.manifest.limits) if line.check != slots]
    assert not not_ok(lines), "a pair that has changed roles is as good as before"


def test_nobody_hands_over_to_a_stranger(pair: World) -> None:
    assert pair.target.cluster
    with pytest.raises(Refused, match="db-9"):
        pair.target.cluster.switch_over("db-9")


def test_only_who_has_the_lease_loses_it(pair: World) -> None:
    assert pair.target.cluster
    state = pair.target.cluster.state()
    standby = next(member.name for member in state.members if member.name != state.leader)
    assert not pair.target.cluster.revoke(standby)
    assert pair.target.cluster.state().leader == state.leader


def test_a_guard_that_is_cut_off_fences_nobody(pair: World) -> None:
    """Neither the primary, nor its Patroni, nor etcd answers: it is us."""
    cluster, told = cluster_of(pair), list[Failover]()
    leader = cluster.state().leader
    guard = cluster.guard(told.append)
    guard()
    etcd = int(run_tool(["pgrep", "-f", "--", f"--data-dir={pair.lab.folder}/"]).split()[0])
    try:
        os.kill(etcd, signal.SIGSTOP)
        assert not look_until(guard, lambda: bool(told), 6.0)
    finally:
        os.kill(etcd, signal.SIGCONT)
        guard.close()
    wait_for(lambda: cluster.state().leader == leader, "the same primary")


def test_a_crashed_primary_is_fenced_and_another_takes_over(pair: World) -> None:
    wait_for(lambda: synchronous(pair), "a synchronous standby")
    cluster = cluster_of(pair)
    old = cluster.state().leader
    host(pair, "crash", old)
    done = cluster.see_through(old, 60.0)
    try:
        assert (done.old, done.successor) == (old, cluster.state().leader)
        assert done.successor != old
        assert done.fenced, done.sentence
        assert done.silent_s >= 2.0, done.sentence
    finally:
        host(pair, "mend", old)
    wait_for(lambda: synchronous(pair), "a synchronous standby")
    assert cluster.state().leader == done.successor


def test_a_frozen_primary_that_accepts_connections_is_fenced(pair: World) -> None:
    wait_for(lambda: synchronous(pair), "a synchronous standby")
    cluster, told = cluster_of(pair), list[Failover]()
    old = cluster.state().leader
    guard = cluster.guard(told.append)
    guard()
    host(pair, "freeze", old)
    try:
        assert look_until(guard, lambda: bool(told), 60.0)
        assert told[0].old == old, told[0].sentence
        assert told[0].successor not in ("", old), told[0].sentence
        assert not pair.target.control.running(old)
    finally:
        guard.close()
        host(pair, "mend", old)
