"""The transaction log, received from a real server."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import backup_world
from backup_world import FULL, INCREMENTAL, World

from nvcops.adapters.backup import spool, wal
from nvcops.adapters.backup.receiver import Receiver
from nvcops.core.errors import LockHeld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with backup_world.world(tmp_path, encrypted=True) as started:
        yield started


def switch(world: World, times: int = 1) -> list[str]:
    """Finish segments; their names."""
    names = []
    for _ in range(times):
        world.execute("SELECT pg_logical_emit_message(true, 'test', repeat('x', 100000))")
        names += [name for (name,) in world.execute("SELECT pg_walfile_name(pg_switch_wal())")]
    return names


def stored(world: World) -> set[str]:
    return {segment.name for segment in wal.stored_segments(world.repository)}


def test_every_segment_arrives_and_reads_back_as_the_server_wrote_it(world: World) -> None:
    with world.receiving():
        names = switch(world, 3)
        world.wait(lambda: stored(world) >= set(names))
        segments = {each.name: each for each in world.backups.segments() if each.key.startswith("wal/")}
        for name in names:
            into = world.folder / name
            wal.fetch(world.repository, segments[name], into)
            original = (world.server.data / "pg_wal" / name).read_bytes()
            assert into.read_bytes() == original
            assert segments[name].sha256 == hashlib.sha256(original).hexdigest()[:32]
        state = world.backups.receiver()
    assert (state.running, state.slot_active, state.trouble, state.timeline) == (True, True, "", 1)
    assert state.spooled <= 1
    assert world.backups.receiver().trouble == "the receiver does not run"


def test_a_second_receiver_is_refused(world: World) -> None:
    with world.receiving(), pytest.raises(LockHeld, match="receiver"):
        Receiver(world.repository).run(threading.Event())


def test_commits_wait_for_it_and_it_follows_a_restart(world: World) -> None:
    with world.receiving():
        world.server.reload(synchronous_standby_names=spool.STANDBY_NAME)
        world.wait(lambda: world.backups.receiver().synchronous)
        world.execute("CREATE TABLE t (a int)")
        world.server.stop()
        world.wait(lambda: world.backups.receiver().trouble)
        world.server.start()
        world.server.reload(synchronous_standby_names=spool.STANDBY_NAME)
        world.wait(lambda: world.backups.receiver().synchronous)
        world.execute("INSERT INTO t VALUES (1)")
        world.wait(lambda: not world.backups.receiver().trouble)
        state = world.backups.receiver()
        assert state.lag_s is not None


def test_without_a_receiver_the_lag_and_the_retained_log_grow(world: World) -> None:
    with world.receiving():
        switch(world)
        world.wait(lambda: world.backups.receiver().lag_bytes == 0)
    switch(world, 2)
    state = world.backups.receiver()
    assert not state.running
    assert not state.slot_active
    assert state.lag_bytes > 16 << 20
    assert state.retained_bytes >= state.lag_bytes
    assert state.lag_s is not None
    with world.receiving():
        world.wait(lambda: world.backups.receiver().lag_bytes == 0)


def test_one_name_with_two_contents_is_kept_and_named(world: World) -> None:
    with world.receiving():
        name = switch(world, 2)[0]
        world.wait(lambda: name in stored(world))
        world.wait(lambda: not (world.repository.spool / name).exists())
    (world.repository.spool / name).write_bytes(b"something else")
    receiver = Receiver(world.repository)
    receiver.archive()
    twice = [segment for segment in wal.stored_segments(world.repository) if segment.name == name]
    assert len({segment.sha256 for segment in twice}) == 2
    assert f"{name} came twice with different contents" in world.backups.receiver().trouble


def test_the_same_contents_again_are_fine(world: World) -> None:
    with world.receiving():
        name = switch(world, 2)[0]
        world.wait(lambda: not (world.repository.spool / name).exists() and name in stored(world))
    original = (world.server.data / "pg_wal" / name).read_bytes()
    (world.repository.spool / name).write_bytes(original)
    assert Receiver(world.repository).archive() in (0, 1)  # 1: the newest one, had it not been archived yet
    assert len([segment for segment in wal.stored_segments(world.repository) if segment.name == name]) == 1
    assert "twice" not in world.backups.receiver().trouble


def test_another_servers_log_is_not_mixed_in(world: World) -> None:
    world.repository.spool.mkdir(parents=True)
    spool.claim(world.repository.spool, "7")
    stop = threading.Event()
    thread = threading.Thread(target=Receiver(world.repository).run, args=(stop,))
    thread.start()
    try:
        world.wait(lambda: "is of the server 7" in world.backups.receiver().trouble)
    finally:
        stop.set()
        thread.join(30)
    assert spool.look(world.repository.spool).logs == ()


def test_a_gap_is_gone_on_after_and_not_forgotten_before_the_next_backup(world: World) -> None:
    with world.receiving():
        name = switch(world)[0]
        world.wait(lambda: name in stored(world))
    world.execute("SELECT pg_drop_replication_slot('nvcops')")
    for _ in range(3):
        switch(world, 2)
        world.execute("CHECKPOINT")
    with world.receiving():
        world.wait(lambda: "has a gap after" in world.backups.receiver().trouble)
        newest = switch(world)[0]
        world.wait(lambda: newest in stored(world))
        assert "take a full backup" in world.backups.receiver().trouble
        world.backups.back_up(FULL, full=True)
        assert not world.backups.receiver().trouble


def test_restored_from_the_repository_alone(world: World) -> None:
    world.execute("CREATE TABLE t (a int)")
    with world.receiving():
        world.backups.back_up(FULL, full=True)
        world.execute("INSERT INTO t SELECT generate_series(1, 1000)")
        world.backups.back_up(INCREMENTAL, full=False)
        world.server.reload(synchronous_standby_names=spool.STANDBY_NAME)
        world.wait(lambda: world.backups.receiver().synchronous)
        world.execute("INSERT INTO t SELECT generate_series(1001, 2000)")
    world.server.process.kill()
    with world.restored() as copy, copy.connect() as connection:
        assert connection.execute("SELECT count(*), sum(a) FROM t").fetchone() == (2000, 2001000)
