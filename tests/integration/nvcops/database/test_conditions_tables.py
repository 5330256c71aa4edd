"""Conditions of tables, planted: the right verdict, the right table named; and its healthy counterpart."""

# ruff: noqa: S608 - the names in these statements are the tests' own

from __future__ import annotations

import time

import pytest
from database_world import World

from nvcops.core.checks import Finding, Verdict
from nvcops.core.units import Bytes
from nvcops.database.checks import tables

both = pytest.mark.parametrize("world", [17, 18], indirect=True)
MIN = Bytes(512 << 10)


def filled(world: World, name: str = "entry", rows: int = 30_000, options: str = "") -> None:
    """A table of so many rows of some 130 bytes, vacuumed and analysed."""
    world.execute(f"CREATE TABLE {name} (id bigint, note text) {options}")
    world.execute(f"INSERT INTO {name} SELECT n, repeat('x', 100) FROM generate_series(1, {rows}) n")
    world.flushed()
    world.execute(f"VACUUM (ANALYZE) {name}")
    world.flushed()


def emptied(world: World, share: int, name: str = "entry", *, vacuum: str = "VACUUM") -> None:
    """So many percent of the rows are deleted, and nothing renews the statistics."""
    world.execute(f"DELETE FROM {name} WHERE id % 100 < {share}")
    world.flushed()
    if vacuum:
        world.execute(f"{vacuum} {name}")


def bloat(world: World) -> Finding:
    return world.lines(tables, table_bloat_min=MIN).of("database.table_bloat")


@both
@pytest.mark.parametrize(("share", "verdict"), [(67, Verdict.WARNING), (90, Verdict.CRITICAL)])
def test_what_was_deleted_and_never_analysed_is_measured(world: World, share: int, verdict: Verdict) -> None:
    filled(world)
    filled(world, "other")
    assert bloat(world).verdict is Verdict.OK
    emptied(world, share)
    line = bloat(world)
    assert (line.verdict, line.subject) == (verdict, "public.entry")
    assert line.observed.endswith(", measured")
    assert line.value == pytest.approx(share / 100, abs=0.03)
    assert line.next_step.startswith("VACUUM public.entry ")


def test_rows_that_are_dead_and_were_never_vacuumed_are_measured_too(world: World) -> None:
    filled(world)
    emptied(world, 90, vacuum="")
    line = bloat(world)
    assert (line.verdict, line.subject, line.observed[-10:]) == (Verdict.CRITICAL, "public.entry", ", measured")


def test_a_table_that_was_rewritten_is_well(world: World) -> None:
    filled(world)
    emptied(world, 90, vacuum="VACUUM (FULL)")
    assert bloat(world).verdict is Verdict.OK


def test_a_table_too_large_to_be_read_is_judged_by_its_dead_rows(world: World) -> None:
    filled(world, rows=300_000)
    emptied(world, 90, vacuum="")
    line = bloat(world)
    assert (line.verdict, line.subject) == (Verdict.CRITICAL, "public.entry")
    assert line.observed.endswith(", by its dead rows")
    world.execute("VACUUM entry")  # its pages need not be read any more
    line = bloat(world)
    assert (line.verdict, line.observed.rpartition(", ")[2]) == (Verdict.CRITICAL, "measured")


def test_fresh_statistics_are_believed(world: World) -> None:
    world.execute("CREATE TABLE entry AS SELECT n AS id, n AS amount, now() AS booked FROM generate_series(1, 60000) n")
    emptied(world, 70, vacuum="VACUUM (ANALYZE)")
    line = bloat(world)
    assert (line.verdict, line.subject) == (Verdict.WARNING, "public.entry")
    assert line.observed.endswith(", by its statistics")
    assert line.value == pytest.approx(0.7, abs=0.05)


def test_room_that_its_fillfactor_asks_for_is_no_bloat(world: World) -> None:
    filled(world, options="WITH (fillfactor = 40)")
    assert bloat(world).verdict is Verdict.OK
    world.execute("DELETE FROM pg_statistic WHERE starelid = 'entry'::regclass", "SELECT pg_stat_reset()")
    world.flushed()
    assert bloat(world).verdict is Verdict.OK, "measured, it is the same"


def test_without_the_extension_old_statistics_are_unknown_not_well(world: World) -> None:
    filled(world)
    emptied(world, 67)
    world.execute("DROP EXTENSION pgstattuple")
    line = bloat(world)
    assert (line.verdict, line.subject) == (Verdict.UNKNOWN, "public.entry")
    assert line.observed == "statistics are old of public.entry: pgstattuple is not installed"
    assert line.next_step == "CREATE EXTENSION pgstattuple"
    world.execute('CREATE SCHEMA "Our Tools"', 'CREATE EXTENSION pgstattuple SCHEMA "Our Tools"')
    line = bloat(world)
    assert (line.verdict, 'GRANT USAGE ON SCHEMA "Our Tools"' in line.next_step) == (Verdict.UNKNOWN, True)
    world.execute('GRANT USAGE ON SCHEMA "Our Tools" TO nvcops')
    assert bloat(world).verdict is Verdict.WARNING


def test_without_the_privilege_old_statistics_are_unknown_not_well(world: World) -> None:
    world.execute(f"CREATE ROLE weak LOGIN PASSWORD '{world.server.password}' IN ROLE pg_read_all_stats")
    world.at_end(world.execute, "DROP ROLE weak")
    filled(world)
    emptied(world, 67)
    seen = world.seen(tables, user="weak")
    assert seen.unread["measured"] == "pgstattuple may not be used by us"
    line = tables.bloat_finding(seen, world.limits(table_bloat_min=MIN))
    assert line.verdict is Verdict.UNKNOWN
    assert "GRANT pg_stat_scan_tables TO the user of nvcops" in line.next_step


def test_a_table_that_somebody_holds_does_not_hold_up_the_check(world: World) -> None:
    filled(world)
    emptied(world, 67)
    world.begin("LOCK TABLE entry IN ACCESS EXCLUSIVE MODE")
    began = time.monotonic()
    line = bloat(world)
    assert time.monotonic() - began < 9, "it would have waited for its own deadline"
    assert (line.verdict, line.subject) == (Verdict.UNKNOWN, "public.entry")
    assert line.observed.endswith("somebody holds all of it")


def test_what_a_table_keeps_elsewhere_swells_too(world: World) -> None:
    world.execute("CREATE TABLE document (id int, scan text)", "ALTER TABLE document ALTER scan SET STORAGE EXTERNAL")
    world.execute("INSERT INTO document SELECT n, repeat('x', 8000) FROM generate_series(1, 500) n")
    world.flushed()
    emptied(world, 95, "document")
    line = bloat(world)
    assert (line.verdict, line.subject) == (Verdict.CRITICAL, "public.document (TOAST)")


def test_a_name_that_needs_quotes(world: World) -> None:
    filled(world, '"the ""entry"')
    emptied(world, 90, '"the ""entry"')
    line = bloat(world)
    assert line.subject == 'public."the ""entry"'
    assert 'VACUUM public."the ""entry" lets' in line.next_step


def test_a_share_of_dead_rows(world: World) -> None:
    filled(world, rows=150_000)
    assert world.lines(tables).of("performance.dead_rows").verdict is Verdict.OK
    emptied(world, 60, vacuum="")
    line = world.lines(tables).of("performance.dead_rows")
    assert (line.verdict, line.subject) == (Verdict.CRITICAL, "public.entry")


@both
def test_a_table_that_nobody_ever_analysed(world: World) -> None:
    world.execute("CREATE TABLE entry AS SELECT n, repeat('x', 100) FROM generate_series(1, 70000) n")
    world.flushed()
    line = world.lines(tables).of("database.never_analyzed")
    assert (line.verdict, line.subject) == (Verdict.WARNING, "public.entry")
    world.execute("VACUUM entry")
    assert world.lines(tables).of("database.never_analyzed").subject == "public.entry"
    world.execute("ANALYZE entry")
    assert world.lines(tables).of("database.never_analyzed").verdict is Verdict.OK
