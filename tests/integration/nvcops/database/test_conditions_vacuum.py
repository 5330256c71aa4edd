"""Conditions of vacuum and statistics, planted: the right verdict, the right table named; its healthy counterpart."""

# ruff: noqa: S608 - the names in these statements are the tests' own

from __future__ import annotations

import time

import pytest
from database_world import Lines, World

from nvcops.core.checks import Finding, Verdict
from nvcops.core.manifest import Bound
from nvcops.core.units import Count, Seconds
from nvcops.database.checks import vacuum

SOON: Bound[Seconds] = Bound(warning=Seconds(0.05), critical=Seconds(3600))
FEW = Count(10_000)
both = pytest.mark.parametrize("world", [17, 18], indirect=True)


def filled(world: World, name: str = "entry", rows: int = 100_000, options: str = "") -> None:
    """A table of so many rows, vacuumed and analysed."""
    world.execute(f"CREATE TABLE {name} (id bigint, note text) {options}")
    world.execute(f"INSERT INTO {name} SELECT n, 'note' FROM generate_series(1, {rows}) n")
    tidied(world, name)


def tidied(world: World, name: str = "entry", how: str = "VACUUM (ANALYZE)") -> None:
    world.flushed()
    world.execute(f"{how} {name}")


def changed(world: World, statement: str) -> None:
    world.execute(statement)
    world.flushed()


def line(world: World, check: str, **limits: object) -> Finding:
    return lines(world, **limits).of(f"database.{check}")


def lines(world: World, **limits: object) -> Lines:
    return world.lines(vacuum, overdue_rows_min=FEW, **limits)


@both
def test_dead_rows_beyond_what_autovacuum_waits_for(world: World) -> None:
    filled(world)
    filled(world, "other")
    changed(world, "DELETE FROM entry WHERE id <= 30000")  # autovacuum comes at 50 + 20,000
    assert lines(world).of("database.vacuum_overdue").verdict is Verdict.OK
    changed(world, "DELETE FROM entry WHERE id <= 50000")
    found = line(world, "vacuum_overdue")
    assert (found.verdict, found.subject) == (Verdict.WARNING, "public.entry")
    assert found.observed.startswith("50,000 dead rows, autovacuum comes at 20,050, last vacuum ")
    assert "VACUUM public.entry" in found.next_step
    tidied(world)
    assert lines(world).wrong() == []


def test_very_many_dead_rows_are_critical(world: World) -> None:
    filled(world, options="WITH (autovacuum_vacuum_scale_factor = 0.01)")  # comes at 50 + 1,000
    changed(world, "UPDATE entry SET note = note || '!' WHERE id <= 20000")
    found = line(world, "vacuum_overdue")
    assert (found.verdict, found.subject) == (Verdict.CRITICAL, "public.entry")


def test_a_tables_own_options_say_when_autovacuum_comes(world: World) -> None:
    filled(world, options="WITH (autovacuum_vacuum_threshold = 1000000)")
    changed(world, "DELETE FROM entry WHERE id <= 90000")
    assert line(world, "vacuum_overdue").verdict is Verdict.OK


@both
def test_from_postgresql_18_on_there_is_a_maximum_of_dead_rows(world: World) -> None:
    filled(world)
    if world.major >= 18:
        world.execute("ALTER TABLE entry SET (autovacuum_vacuum_max_threshold = 10000)")
    changed(world, "DELETE FROM entry WHERE id <= 30000")
    found = line(world, "vacuum_overdue")
    assert found.verdict is (Verdict.WARNING if world.major >= 18 else Verdict.OK)
    if world.major >= 18:
        assert "autovacuum comes at 10,000" in found.observed
        world.execute("ALTER TABLE entry RESET (autovacuum_vacuum_max_threshold)")
        world.configure(autovacuum_vacuum_max_threshold="5000")
        assert "autovacuum comes at 5,000" in line(world, "vacuum_overdue").observed


def test_inserted_rows_that_no_vacuum_has_seen(world: World) -> None:
    filled(world)  # for inserts, autovacuum comes at 1,000 + 20,000
    changed(world, "INSERT INTO entry SELECT n, 'new' FROM generate_series(1, 105001) n")
    found = line(world, "insert_vacuum_overdue")
    assert (found.verdict, found.subject) == (Verdict.WARNING, "public.entry")
    assert found.observed == "105,001 rows, autovacuum comes at 21,000"
    tidied(world)
    assert lines(world).wrong() == []


@both
def test_from_postgresql_18_on_what_is_frozen_does_not_count(world: World) -> None:
    filled(world)
    tidied(world, how="VACUUM (FREEZE, ANALYZE)")
    changed(world, "INSERT INTO entry SELECT n, 'new' FROM generate_series(1, 50000) n")
    found = line(world, "insert_vacuum_overdue")
    assert found.verdict is (Verdict.CRITICAL if world.major >= 18 else Verdict.OK)


def test_a_table_that_autovacuum_never_visits_for_inserts(world: World) -> None:
    filled(world, options="WITH (autovacuum_vacuum_insert_threshold = -1)")
    changed(world, "INSERT INTO entry SELECT n, 'new' FROM generate_series(1, 200000) n")
    assert line(world, "insert_vacuum_overdue").verdict is Verdict.OK


@both
@pytest.mark.parametrize("setting", ["autovacuum", "track_counts"])
def test_autovacuum_that_is_off(world: World, setting: str) -> None:
    world.configure(**{setting: "off"})
    found = line(world, "autovacuum")
    assert (found.verdict, found.next_step.split(";")[0]) == (Verdict.CRITICAL, f"ALTER SYSTEM SET {setting} = on")


def test_autovacuum_that_is_off_for_one_table(world: World) -> None:
    filled(world, '"odd ""name"', rows=1000, options="WITH (autovacuum_enabled = off)")
    filled(world, rows=1000, options="WITH (autovacuum_enabled = on)")
    found = line(world, "autovacuum_tables")
    assert (found.verdict, found.subject) == (Verdict.WARNING, 'public."odd ""name"')
    world.execute(found.next_step)
    assert lines(world).wrong() == []


def test_an_overdue_table_says_that_autovacuum_is_off_for_it(world: World) -> None:
    filled(world, options="WITH (autovacuum_enabled = false)")
    changed(world, "DELETE FROM entry WHERE id <= 60000")
    assert line(world, "vacuum_overdue").next_step.endswith("autovacuum is switched off for it")


def test_statistics_that_are_older_than_what_they_describe(world: World) -> None:
    filled(world)
    filled(world, "other")
    changed(world, "UPDATE entry SET note = note || '!'")  # autovacuum analyses at 50 + 10,000
    found = line(world, "analyze_overdue")
    assert (found.verdict, found.subject) == (Verdict.WARNING, "public.entry")
    assert "100,000 rows changed since, autovacuum comes at 10,050" in found.observed
    tidied(world)
    assert lines(world).wrong() == []


def crawling(world: World, name: str = "entry") -> int:
    """A vacuum of the table that takes its time; its process."""
    session = world.connect()
    session.execute("SET vacuum_cost_delay = 100")
    session.execute("SET vacuum_cost_limit = 1")
    session.pgconn.send_query(f"VACUUM {name}".encode())
    pid = session.info.backend_pid
    world.at_end(world.execute, f"SELECT pg_terminate_backend({pid})")
    running = f"SELECT count(*) FROM pg_stat_progress_vacuum WHERE pid = {pid} AND heap_blks_total > 0"
    world.wait_until(lambda: world.value(running) == 1, "the vacuum runs")
    return pid


def test_a_vacuum_that_takes_too_long_and_a_table_that_it_works_on(world: World) -> None:
    filled(world)
    changed(world, "DELETE FROM entry WHERE id <= 60000")
    assert line(world, "vacuum_runtime", vacuum_runtime=SOON).verdict is Verdict.OK
    pid = crawling(world)
    time.sleep(0.1)
    found = line(world, "vacuum_runtime", vacuum_runtime=SOON)
    assert (found.verdict, found.subject) == (Verdict.WARNING, "public.entry")
    assert f"by pid {pid}, " in found.observed
    assert line(world, "vacuum_overdue").verdict is Verdict.OK, "somebody is at it"


def test_a_vacuum_that_somebody_waits_for(world: World) -> None:
    filled(world)
    changed(world, "DELETE FROM entry WHERE id <= 60000")
    crawling(world)
    assert line(world, "vacuum_runtime").verdict is Verdict.OK
    world.blocked(world.send("ALTER TABLE entry ADD more text"))
    found = line(world, "vacuum_runtime")
    assert (found.verdict, found.subject) == (Verdict.WARNING, "public.entry")
    assert found.observed.endswith("1 wait for the table")


def test_workers_that_are_all_busy_while_tables_wait(world: World) -> None:
    for number in range(4):
        filled(world, f"entry_{number}", rows=50_000)
        changed(world, f"DELETE FROM entry_{number} WHERE id <= 40000")
    assert line(world, "autovacuum_workers").verdict is Verdict.OK
    workers = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
    world.at_end(world.execute, workers)
    world.configure(autovacuum_vacuum_cost_delay="100ms", autovacuum_vacuum_cost_limit="1", autovacuum_naptime="1s")
    world.wait_until(lambda: line(world, "autovacuum_workers").verdict is Verdict.WARNING, "a table waits")
    found = line(world, "autovacuum_workers")
    assert found.observed.startswith("3 of 3 are busy, and public.entry_")
    assert found.subject.startswith("public.entry_")
