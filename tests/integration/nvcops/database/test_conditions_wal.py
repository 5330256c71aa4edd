"""Conditions of the WAL, of replication and of traffic, planted in a real server."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from checked import STANDBY, caught_up, checked, followed, socket_of, wrong
from database_world import NAME, PASSWORD, Lines, World

from nvclab.parts import postgres
from nvclab.parts.postgres import Postgres
from nvcops.core.manifest.base import Bound
from nvcops.core.units import Bytes, Count

BOTH = pytest.mark.parametrize("world", [17, 18], indirect=True)
SEGMENT = 16 << 20


def written(world: World, segments: int) -> None:
    """Write so many segments of real WAL."""
    for _ in range(segments * 2):
        world.execute("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 8 * 1024 * 1024 - 8192))")


def named(lines: Lines, check: str) -> tuple[str, str]:
    line = lines.of(check)
    assert bool(line.next_step) is bool(line.verdict)
    return line.verdict.name, line.subject


@BOTH
def test_checkpoints_that_too_much_wal_asks_for(world: World) -> None:
    world.configure(max_wal_size="32MB", min_wal_size="32MB")
    world.execute("SELECT pg_stat_reset_shared('checkpointer')", "SELECT pg_stat_reset_shared('wal')")
    for _ in range(40):
        written(world, 1)
        if world.value("SELECT num_requested FROM pg_stat_checkpointer") >= 21:
            break
        world.execute("SELECT pg_sleep(0.05)")
    world.flushed()
    lines = checked(world, {"wal_size": Bound(warning=99.0, critical=99.0)})
    assert named(lines, "database.checkpoints") == ("CRITICAL", NAME)
    assert "requested, 0 in time" in lines.of("database.checkpoints").observed
    assert set(wrong(lines)) == {"database.checkpoints"}


@BOTH
def test_checkpoints_that_people_ask_for_are_no_finding(world: World) -> None:
    world.execute("SELECT pg_stat_reset_shared('checkpointer')", *["CHECKPOINT"] * 25)
    lines = checked(world)
    assert lines.of("database.checkpoints").verdict.name == "OK"
    assert lines.of("database.checkpoints").observed.startswith("25 requested")


@BOTH
def test_wal_that_somebody_keeps(world: World) -> None:
    world.configure(max_wal_size="32MB", min_wal_size="32MB", max_slot_wal_keep_size="-1")
    world.execute("SELECT pg_stat_reset_shared('checkpointer')", "SELECT pg_stat_reset_shared('wal')")
    world.execute("SELECT pg_create_physical_replication_slot('kept', true)")
    for _ in range(6):
        world.execute("SELECT pg_logical_emit_message(true, 'filler', 'x')", "SELECT pg_switch_wal()")
    lines = checked(world)
    assert named(lines, "database.wal_size")[0] in ("WARNING", "CRITICAL")
    assert lines.of("database.wal_size").observed.endswith("of 32 MiB")
    assert "pg_replication_slots" in lines.of("database.wal_size").next_step
    assert set(wrong(lines)) == {"database.wal_size"}


@BOTH
@pytest.mark.parametrize(("segments", "verdict"), [(0, "OK"), (3, "WARNING"), (4, "CRITICAL")])
def test_a_slot_that_is_nearly_lost(world: World, segments: int, verdict: str) -> None:
    world.configure(max_slot_wal_keep_size="64MB")
    world.execute("SELECT pg_switch_wal()", "CHECKPOINT", "SELECT pg_create_physical_replication_slot('db_2', true)")
    for _ in range(segments):
        world.execute("SELECT pg_logical_emit_message(true, 'filler', 'x')", "SELECT pg_switch_wal()")
    limits = {"slot_left": Bound(warning=0.6, critical=0.3)}
    line = checked(world, limits).of("database.slot_left")
    assert (line.verdict.name, line.subject) == (verdict, "db_2")
    assert "until it is lost, nobody reads it" in line.observed
    assert ("start what reads db_2" in line.next_step) is (verdict != "OK")


def test_an_archive_that_fails_and_one_that_falls_behind() -> None:
    archiving = {"archive_mode": "on", "archive_command": "/bin/false"}
    with postgres.temporary(settings=archiving) as server, server.connect() as superuser:
        superuser.execute(f"CREATE ROLE nvcops LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor".encode())
        world = World(server, "postgres", 17, superuser)
        assert checked(world).of("database.archiver").verdict.name == "OK"
        world.execute("SELECT pg_logical_emit_message(true, 'filler', 'x')", "SELECT pg_switch_wal()")
        world.wait_until(lambda: world.value("SELECT failed_count FROM pg_stat_archiver"), "archiving has failed")
        line = checked(world).of("database.archiver")
        assert (line.verdict.name, line.subject) == ("WARNING", NAME)
        assert "cannot be archived" in line.observed
        for _ in range(2):
            world.execute("SELECT pg_logical_emit_message(true, 'filler', 'x')", "SELECT pg_switch_wal()")
        few = {"archive_backlog": Bound(warning=Count(2), critical=Count(3))}
        assert checked(world, few).of("database.archiver").verdict.name == "CRITICAL"
        server.reload(archive_command="/bin/true")
        world.wait_until(
            lambda: world.value("SELECT count(*) = 0 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"),
            "the archive has caught up",
        )
        assert checked(world, few).of("database.archiver").verdict.name == "OK"


@pytest.mark.parametrize(
    ("settings", "expected", "verdict", "observed"),
    [
        ({}, 0, "OK", "none are asked for"),
        ({"synchronous_standby_names": "ghost"}, 0, "CRITICAL", "each commit waits: 0 of 1 confirm"),
        ({"synchronous_standby_names": "ANY 2 (ghost, spirit)"}, 0, "CRITICAL", "each commit waits: 0 of 2 confirm"),
        ({}, 1, "CRITICAL", "0 of 1 confirm"),
        (
            {"synchronous_commit": "local", "synchronous_standby_names": "ghost"},
            1,
            "CRITICAL",
            "synchronous_commit is local: commits do not wait for ghost",
        ),
    ],
)
def test_standbys_that_should_confirm(
    world: World, settings: dict[str, str], expected: int, verdict: str, observed: str
) -> None:
    world.configure(**settings)
    lines = checked(world, synchronous_standbys=expected)
    assert named(lines, "database.synchronous") == (verdict, NAME)
    assert observed in lines.of("database.synchronous").observed
    assert set(wrong(lines)) == ({"database.synchronous"} if verdict != "OK" else set())


def test_a_standby_that_confirms_and_one_that_stopped(world: World, server_17: Postgres) -> None:
    with followed(server_17) as standby:
        world.configure(synchronous_standby_names="*")
        world.wait_until(
            lambda: world.value("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"), "one confirms"
        )
        line = checked(world, synchronous_standbys=1).of("database.synchronous")
        assert line.verdict.name == "OK"
        assert line.observed.startswith("1 confirm (follower_")
        assert checked(world, synchronous_standbys=2).of("database.synchronous").verdict.name == "CRITICAL"
        standby.stop()
        world.wait_until(lambda: world.value("SELECT count(*) = 0 FROM pg_stat_replication"), "nobody confirms")
        line = checked(world, synchronous_standbys=1).of("database.synchronous")
        assert (line.verdict.name, line.observed) == ("CRITICAL", "each commit waits: 0 of 1 confirm")


def test_queries_that_replay_cancels_on_a_standby(world: World, server_17: Postgres) -> None:
    world.execute("CREATE TABLE busy (id int)", "INSERT INTO busy SELECT generate_series(1, 1000)")
    few = {"standby_conflicts": Bound(warning=Count(1), critical=Count(100))}
    with followed(server_17, max_standby_streaming_delay="0") as standby:
        caught_up(world, standby)
        other = [socket_of(standby, world.database)]
        assert checked(world, few, other).of("database.standby_conflicts", STANDBY).observed == "none"
        with psycopg.connect(standby.conninfo(dbname=world.database)) as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT count(*) FROM busy")
            world.execute("DELETE FROM busy", "VACUUM busy")
            with pytest.raises(psycopg.OperationalError):
                reader.execute("SELECT count(pg_sleep(0.01)) FROM generate_series(1, 1000)")
        lines = checked(world, few, other)
        line = lines.of("database.standby_conflicts")
        assert (line.verdict.name, line.subject) == ("WARNING", STANDBY)
        assert line.observed == "1 an hour: snapshot"
    line = checked(world, few, other).of("database.standby_conflicts")
    assert (line.verdict.name, line.subject) == ("UNKNOWN", STANDBY)


@BOTH
def test_sorts_that_do_not_fit_in_memory(world: World) -> None:
    few: dict[str, Any] = {"temporary_files": Bound(warning=Bytes(1 << 20), critical=Bytes(1 << 30))}
    assert checked(world, few).of("database.temporary_files").observed == "none"
    world.execute(
        "SET work_mem = '64kB'", "SELECT count(*) FROM (SELECT n FROM generate_series(1, 200000) n ORDER BY -n) s"
    )
    world.flushed()
    lines = checked(world, few)
    assert named(lines, "database.temporary_files") == ("WARNING", NAME)
    assert "an hour in" in lines.of("database.temporary_files").observed
    assert set(wrong(lines)) == {"database.temporary_files"}


@BOTH
def test_transactions_that_come_to_nothing(world: World) -> None:
    world.execute("BEGIN; SELECT FROM pg_am; COMMIT;" * 800)
    world.flushed()
    assert checked(world).of("database.rollbacks").verdict.name == "OK"
    world.execute("BEGIN; SELECT FROM pg_am; ROLLBACK;" * 500)
    world.flushed()
    lines = checked(world)
    assert named(lines, "database.rollbacks") == ("CRITICAL", NAME)
    assert "transactions" in lines.of("database.rollbacks").observed
    assert set(wrong(lines)) == {"database.rollbacks"}


@BOTH
def test_clients_that_find_little_in_the_cache(world: World) -> None:
    world.execute(
        "CREATE EXTENSION pg_buffercache",
        "CREATE TABLE large (filler text)",
        "INSERT INTO large SELECT repeat('x', 1000) FROM generate_series(1, 12000)",
        "VACUUM large",
        "CHECKPOINT",
        "SELECT pg_buffercache_evict(bufferid) FROM pg_buffercache WHERE relfilenode = pg_relation_filenode('large')",
        "SELECT pg_stat_force_next_flush()",
        "SELECT pg_stat_reset_shared('io')",
        "SELECT count(*) FROM large",
    )
    world.flushed()
    line = checked(world).of("performance.cache_hit")
    assert (line.verdict.name, line.subject) == ("CRITICAL", NAME)
    for _ in range(80):
        world.execute("SELECT count(*) FROM large")
    world.flushed()
    assert checked(world).of("performance.cache_hit").verdict.name == "OK"
