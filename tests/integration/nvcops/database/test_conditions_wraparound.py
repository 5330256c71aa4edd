"""Conditions of old transactions, planted: the right verdict, the right holder named; and its healthy counterpart."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from database_world import World, served, world_on

from nvclab.parts.postgres import Postgres
from nvclab.parts.process import free_ports
from nvcops.core.checks import Finding, Verdict
from nvcops.core.manifest import Bound
from nvcops.core.units import Count
from nvcops.database.checks import wraparound

both = pytest.mark.parametrize("world", [17, 18], indirect=True)
OLD: Bound[Count] = Bound(warning=Count(300), critical=Count(10**9))
# The least that PostgreSQL allows, so that a table is old after a moment.
HURRIED = {
    "autovacuum_freeze_max_age": "100000",
    "autovacuum_multixact_freeze_max_age": "10000",
    "autovacuum_naptime": "1s",
}


def held(world: World) -> Finding:
    return world.lines(wraparound, xmin_age=OLD).of("database.oldest_xmin")


def test_nobody_holds_anything_up(world: World) -> None:
    world.begin("SELECT 1").rollback()
    world.burn(500)
    assert held(world).verdict is Verdict.OK


@both
def test_a_session_that_looks_at_how_things_were(world: World) -> None:
    reader = world.begin("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1", application_name="report")
    world.burn(500)
    line = held(world)
    pid = reader.info.backend_pid
    assert line.verdict is Verdict.WARNING
    assert f"held by pid {pid} (postgres, report, idle in transaction) for " in line.observed
    assert line.next_step.startswith(f"SELECT pg_terminate_backend({pid}):")
    reader.rollback()
    assert held(world).verdict is Verdict.OK


def test_a_session_that_wrote_and_went_idle_and_not_those_whose_snapshots_it_makes_old(world: World) -> None:
    writer = world.begin("SELECT pg_current_xact_id()")
    world.burn(500)
    world.begin("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1")
    assert f"held by pid {writer.info.backend_pid} (" in held(world).observed


def test_a_session_that_writes_in_another_database(world: World) -> None:
    writer = world.begin("SELECT pg_current_xact_id()", dbname="postgres")
    world.burn(500)
    line = held(world)
    assert line.verdict is Verdict.WARNING
    assert f"held by pid {writer.info.backend_pid} (" in line.observed
    assert "in postgres" in line.observed


@both
def test_a_prepared_transaction(world: World) -> None:
    forgotten = world.begin("SELECT pg_current_xact_id()", "PREPARE TRANSACTION 'left'")
    forgotten.close()
    world.burn(500)
    line = held(world)
    assert line.verdict is Verdict.WARNING
    assert f"held by the prepared transaction left (postgres in {world.database}) for " in line.observed
    assert line.next_step.startswith("ROLLBACK PREPARED 'left'")


@both
def test_a_slot_that_nobody_uses(world: World) -> None:
    world.execute("SELECT pg_create_logical_replication_slot('warehouse', 'test_decoding')")
    world.at_end(world.execute, "SELECT pg_drop_replication_slot('warehouse')")
    world.burn(500)
    line = held(world)
    assert line.verdict is Verdict.WARNING
    assert line.observed.endswith("held by the replication slot warehouse (used by nobody)")
    assert line.next_step.startswith("SELECT pg_drop_replication_slot('warehouse')")


@contextmanager
def standby_of(world: World) -> Iterator[Postgres]:
    """A standby that tells the primary what its queries look at."""
    primary = world.server
    with tempfile.TemporaryDirectory(prefix="nvcops-standby-") as place:
        folder = Path(place)
        folder.chmod(0o755)
        source = primary.conninfo(application_name="db_2").replace("dbname=postgres ", "")
        settings = {**primary.settings, "hot_standby_feedback": "on", "wal_receiver_status_interval": "1s"}
        standby = Postgres(
            name="standby",
            data=folder / "data",
            logs=folder / "logs",
            sockets=folder / "sockets",
            port=free_ports(1)[0],
            password=primary.password,
            settings={**settings, "primary_conninfo": source, "primary_slot_name": "db_2"},
            binaries=primary.binaries,
        )
        world.execute("SELECT pg_create_physical_replication_slot('db_2', true)")
        standby.clone(primary, "postgres", primary.password, "db_2")
        try:
            standby.start()
            yield standby
        finally:
            standby.stop()


def test_a_query_on_a_standby_by_its_slot_and_without_one(world: World) -> None:
    with standby_of(world) as standby, standby.connect(world.database) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM pg_class")
        world.wait_until(lambda: world.value("SELECT xmin FROM pg_replication_slots") is not None, "feedback came")
        world.burn(500)
        line = held(world)
        assert (line.verdict, line.observed.partition("held by ")[2]) == (
            Verdict.WARNING,
            "the replication slot db_2 (used by db_2)",
        )
        standby.reload(primary_slot_name="")
        world.wait_until(
            lambda: world.value("SELECT count(*) FROM pg_stat_replication WHERE backend_xmin IS NOT NULL") == 1,
            "feedback comes without a slot",
        )
        world.execute("SELECT pg_drop_replication_slot('db_2')")
        world.burn(500)
        world.wait_until(lambda: held(world).verdict is Verdict.WARNING, "it is held up")
        assert "held by the standby db_2's feedback" in held(world).observed


@pytest.fixture(scope="module")
def hurried() -> Iterator[Postgres]:
    """A server that freezes as early as can be."""
    with served(17, HURRIED) as server:
        yield server


@pytest.fixture
def ageing(hurried: Postgres) -> Iterator[World]:
    """A database with a table that cannot be frozen: somebody looks at its page. Everything else is."""
    with world_on(hurried, 17) as world:
        world.execute("CREATE TABLE old AS SELECT n FROM generate_series(1, 100) n")
        world.begin("DECLARE looking CURSOR FOR SELECT FROM old", "FETCH looking")
        yield world


def test_a_table_that_is_long_overdue_for_freezing_and_the_vacuum_that_tries(ageing: World) -> None:
    running = "SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 'old'::regclass"
    assert ageing.lines(wraparound).of("database.xid_age").verdict is Verdict.OK
    ageing.burn(125_000)
    ageing.wait_until(lambda: ageing.value(running) == 1, "autovacuum came for it")
    seen = ageing.lines(wraparound)
    line = seen.of("database.emergency_vacuum")
    assert (line.verdict, line.subject) == (Verdict.WARNING, "public.old")
    ageing.wait_until(
        lambda: ageing.lines(wraparound).of("database.xid_age").observed.endswith("; oldest table public.old"),
        "all other tables are frozen",
    )
    line = ageing.lines(wraparound).of("database.xid_age")
    assert line.verdict is Verdict.WARNING
    assert line.observed.startswith(f"{ageing.database}: 125,")
    assert line.next_step.endswith("VACUUM (FREEZE) public.old")
    ageing.burn(80_000)
    assert ageing.lines(wraparound).of("database.xid_age").verdict is Verdict.CRITICAL
    ageing.configure(vacuum_failsafe_age="0")
    line = ageing.lines(wraparound).of("database.emergency_vacuum")
    assert (line.verdict, "with the failsafe" in line.observed) == (Verdict.CRITICAL, True)


def test_a_table_whose_row_locks_are_long_overdue_for_freezing(ageing: World) -> None:
    ageing.execute("CREATE TABLE account (id int)", "INSERT INTO account VALUES (1)")
    assert ageing.lines(wraparound).of("database.mxid_age").verdict is Verdict.OK
    ageing.begin("SELECT FROM account FOR KEY SHARE")
    loop = "FOR n IN 1..12500 LOOP PERFORM FROM account FOR KEY SHARE; COMMIT; END LOOP"
    ageing.execute("SET synchronous_commit = off", f"DO $$ BEGIN {loop}; END $$")
    line = ageing.lines(wraparound).of("database.mxid_age")
    assert line.verdict is Verdict.WARNING
    assert line.observed.startswith(f"{ageing.database}: 12,5")
