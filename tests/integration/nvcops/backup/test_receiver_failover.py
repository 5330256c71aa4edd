"""The receiver follows a failover: the log goes on, on the new timeline, and what was on the old one is kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import backup_world
from backup_world import FULL, World

from nvclab.parts.postgres import Postgres
from nvclab.parts.process import free_ports
from nvcops.adapters.backup import spool


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with backup_world.world(tmp_path, settings={"wal_keep_size": "128MB"}) as started:
        yield started


@contextmanager
def standby_of(world: World, folder: Path) -> Iterator[Postgres]:
    """A streaming standby, caught up."""
    primary = world.server
    world.execute("SELECT pg_create_physical_replication_slot('standby', true)")
    standby = Postgres(
        name="standby",
        data=folder / "standby" / "data",
        logs=folder / "standby" / "logs",
        sockets=folder / "standby" / "sockets",
        port=free_ports(1)[0],
        password=primary.password,
        settings={
            **primary.settings,
            "primary_conninfo": f"{primary.conninfo()} application_name=standby",
            "primary_slot_name": "standby",
        },
        binaries=primary.binaries,
    )
    standby.clone(primary, "postgres", primary.password, "standby")
    try:
        standby.start()
        yield standby
    finally:
        standby.stop()


def caught_up(world: World) -> bool:
    behind = "SELECT pg_current_wal_lsn() - replay_lsn FROM pg_stat_replication WHERE application_name = 'standby'"
    return world.execute(behind) == [(0,)]


def test_it_follows_when_the_old_timeline_ended_with_a_segment(world: World, tmp_path: Path) -> None:
    """What is asked for next does not exist on the old timeline: the server says so instead of streaming."""
    with standby_of(world, tmp_path) as standby:
        world.repository = backup_world.repository_of(world.server, tmp_path, standby=standby)
        with world.receiving():
            world.backups.back_up(FULL, full=True)
            world.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
            last = str(world.execute("SELECT pg_walfile_name(pg_switch_wal())")[0][0])
            world.wait(lambda: spool.look(world.repository.spool).finished[-1:] == (last,))
            world.wait(lambda: caught_up(world))
            world.server.process.kill()
            with standby.connect() as connection:
                connection.execute("SELECT pg_promote()")
            world.wait(lambda: world.backups.receiver().timeline == 2 and world.backups.receiver().slot_active)
            with standby.connect() as connection:
                connection.execute("INSERT INTO t SELECT generate_series(1001, 2000)")
                connection.execute("SELECT pg_switch_wal()")
            world.wait(lambda: not spool.look(world.repository.spool).over)
            world.wait(lambda: not world.backups.receiver().trouble)
        standby.process.kill()
        with world.restored() as copy, copy.connect() as connection:
            assert connection.execute("SELECT count(*), sum(a) FROM t").fetchone() == (2000, 2001000)


def test_it_follows_when_the_old_primary_wrote_more_than_its_successor_got(world: World, tmp_path: Path) -> None:
    """What was received of the abandoned end is whole segments ahead of where the successor's timeline begins."""
    with standby_of(world, tmp_path) as standby:
        world.repository = backup_world.repository_of(world.server, tmp_path, standby=standby)
        folder = world.repository.spool
        with world.receiving():
            world.backups.back_up(FULL, full=True)
            world.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
            world.wait(lambda: caught_up(world))
            standby.stop()
            for _ in range(3):
                world.execute("INSERT INTO t SELECT -1 FROM generate_series(1, 1000)")
                last = str(world.execute("SELECT pg_walfile_name(pg_switch_wal())")[0][0])
            world.wait(lambda: spool.look(folder).finished[-1:] == (last,))
            world.execute("INSERT INTO t VALUES (-1)")
            world.wait(lambda: world.backups.receiver().lag_bytes == 0)
            world.server.process.kill()
            standby.start()
            with standby.connect() as connection:
                connection.execute("SELECT pg_promote()")
                connection.execute("INSERT INTO t SELECT generate_series(1001, 2000)")
                wanted = "SELECT pg_walfile_name(pg_current_wal_lsn())"
                first = str((connection.execute(wanted).fetchone() or ("",))[0])
                connection.execute("SELECT pg_switch_wal()")
                connection.execute("INSERT INTO t SELECT generate_series(2001, 3000)")
            world.wait(lambda: world.backups.receiver().lag_bytes == 0 and not world.backups.receiver().trouble)
            assert first[8:] < last[8:]
            assert first in {segment.name for segment in world.backups.segments()}
            assert {name[:8] for name in spool.look(folder).logs} == {"00000002"}
            assert world.backups.examine(deep=True).faults == ()
        standby.process.kill()
        with world.restored() as copy, copy.connect() as connection:
            assert connection.execute("SELECT count(*), sum(a) FROM t").fetchone() == (3000, 4501500)


def test_it_follows_to_the_new_timeline_and_nothing_is_missing(world: World, tmp_path: Path) -> None:
    with standby_of(world, tmp_path) as standby:
        world.repository = backup_world.repository_of(world.server, tmp_path, standby=standby)
        with world.receiving():
            world.backups.back_up(FULL, full=True)
            world.server.reload(synchronous_standby_names=f"2 ({spool.STANDBY_NAME}, standby)")
            world.wait(lambda: world.backups.receiver().synchronous)
            world.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
            world.wait(lambda: caught_up(world))
            world.server.process.kill()
            with standby.connect() as connection:
                connection.execute("SELECT pg_promote()")
            world.wait(lambda: world.backups.receiver().timeline == 2 and world.backups.receiver().slot_active)
            standby.reload(synchronous_standby_names=spool.STANDBY_NAME)
            world.wait(lambda: world.backups.receiver().synchronous)
            with standby.connect() as connection:
                connection.execute("INSERT INTO t SELECT generate_series(1001, 2000)")
                connection.execute("SELECT pg_switch_wal()")
                connection.execute("INSERT INTO t SELECT generate_series(2001, 3000)")
            world.wait(lambda: not spool.look(world.repository.spool).over)
            assert "gap" not in world.backups.receiver().trouble
        standby.process.kill()
        names = {segment.name for segment in world.backups.segments()}
        assert "00000002.history" in names
        assert {name[:8] for name in names} == {"00000001", "00000002"}
        with world.restored() as copy, copy.connect() as connection:
            assert connection.execute("SELECT count(*), sum(a) FROM t").fetchone() == (3000, 4501500)
