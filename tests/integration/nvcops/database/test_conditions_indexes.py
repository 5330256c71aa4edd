"""Conditions of indexes, planted in a real server: the right verdict, the right object, and nothing beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from checked import STANDBY, caught_up, checked, followed, socket_of, wrong
from database_world import World

from nvclab.parts.postgres import Postgres
from nvcops.core.units import Bytes, Seconds

BOTH = pytest.mark.parametrize("world", [17, 18], indirect=True)
TABLE = "CREATE TABLE entry (id int PRIMARY KEY, account int, day date, memo text)"
ROWS = "INSERT INTO entry SELECT n, n % 100, date '2026-01-01' + n % 300, 'memo ' || n FROM generate_series(1, {}) n"
EAGER: dict[str, Any] = {"unused_index_after": Seconds(0), "unused_index_min": Bytes(0)}


@dataclass(frozen=True)
class Condition:
    """What is planted, and the one line that must not be OK."""

    name: str
    planted: tuple[str, ...]
    check: str
    verdict: str
    subject: str
    observed: str = ""
    next_step: str = ""
    limits: dict[str, Any] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)


CONDITIONS = (
    Condition(
        "a duplicate",
        (TABLE, "CREATE INDEX first ON entry (account)", 'CREATE INDEX "Second" ON entry (account)'),
        "database.duplicate_indexes",
        "WARNING",
        "public.Second",
        "the same as public.first",
        'DROP INDEX CONCURRENTLY public."Second"',
    ),
    Condition(
        "a duplicate of the primary key",
        (TABLE, "CREATE INDEX again ON entry (id)"),
        "database.duplicate_indexes",
        "WARNING",
        "public.again",
        "the same as public.entry_pkey",
    ),
    Condition(
        "a duplicate with the same predicate and expression",
        (
            TABLE,
            "CREATE INDEX a ON entry (lower(memo)) WHERE account > 5",
            "CREATE INDEX b ON entry (lower(memo)) WHERE account > 5",
        ),
        "database.duplicate_indexes",
        "WARNING",
        "public.b",
    ),
    Condition(
        "a prefix",
        (TABLE, "CREATE INDEX long ON entry (account, day)", "CREATE INDEX short ON entry (account)"),
        "database.redundant_indexes",
        "WARNING",
        "public.short",
        "public.long begins with its columns",
    ),
    Condition(
        "a prefix of a partitioned table's index",
        (
            "CREATE TABLE parted (id int, day date) PARTITION BY RANGE (day)",
            "CREATE TABLE p1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
            "CREATE TABLE p2 PARTITION OF parted FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
            "CREATE INDEX longer ON parted (day, id)",
            "CREATE INDEX one ON parted (day)",
        ),
        "database.redundant_indexes",
        "WARNING",
        "public.one",
    ),
    Condition(
        "a required index that is missing",
        (TABLE, "CREATE INDEX there ON entry (day)"),
        "performance.required_indexes",
        "CRITICAL",
        "db-1",
        "missing: public.gone",
        entry={"required_indexes": ("public.there", "public.gone")},
    ),
    Condition(
        "an unused index",
        (TABLE, ROWS.format(1000), "CREATE INDEX idle ON entry (day)", "ANALYZE entry"),
        "database.unused_indexes",
        "WARNING",
        "public.idle",
        "on the only server",
        limits=EAGER,
    ),
    Condition(
        "a large table that is read from end to end",
        (
            "CREATE TABLE scanned (id int, filler text)",
            "INSERT INTO scanned SELECT n, repeat('x', 500) FROM generate_series(1, 4000) n",
            "ANALYZE scanned",
            "DO $$ BEGIN FOR n IN 1..120 LOOP PERFORM count(*) FROM scanned WHERE id = n; END LOOP; END $$",
            "SELECT pg_stat_force_next_flush()",
        ),
        "performance.scans",
        "WARNING",
        "public.scanned",
        limits={"scanned_table_min": Bytes(1 << 20)},
    ),
    Condition(
        "a b-tree that is mostly air",
        (
            "CREATE TABLE wide (id int)",
            "INSERT INTO wide SELECT generate_series(1, 300000)",
            "CREATE INDEX airy ON wide (id)",
            "DELETE FROM wide WHERE id % 20 <> 0",
            "VACUUM wide",
        ),
        "database.index_bloat",
        "CRITICAL",
        "public.airy",
        "is air (",
        "REINDEX INDEX CONCURRENTLY public.airy",
        limits={"index_bloat_min": Bytes(1 << 20)},
    ),
)


@BOTH
@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_a_condition_is_found_and_named(world: World, condition: Condition) -> None:
    world.execute(*condition.planted)
    lines = checked(world, condition.limits, **condition.entry)
    line = lines.of(condition.check)
    assert (line.verdict.name, line.subject) == (condition.verdict, condition.subject)
    assert condition.observed in line.observed
    assert condition.next_step in line.next_step
    assert line.next_step
    assert set(wrong(lines)) == {condition.check}


@BOTH
def test_a_healthy_database_has_no_finding(world: World) -> None:
    world.configure(fsync="on")
    world.execute(TABLE, ROWS.format(5000), "CREATE INDEX by_day ON entry (day)", "VACUUM ANALYZE entry")
    world.execute("SET enable_seqscan = off", "SELECT count(*) FROM entry WHERE day = '2026-01-09'", "RESET ALL")
    world.flushed()
    lines = checked(world, EAGER, required_indexes=("entry_pkey", "public.by_day"), books=("public.%",))
    assert wrong(lines) == {}
    assert lines.of("database.dangerous_settings").verdict.name == "OK"


@BOTH
def test_what_only_looks_redundant_is_left_alone(world: World) -> None:
    """Each stands beside one that begins alike, and is something else."""
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int, c text, EXCLUDE USING btree (b WITH =))",
        "CREATE INDEX base ON t (a, b)",
        "CREATE UNIQUE INDEX is_unique ON t (a)",
        "CREATE INDEX descending ON t (a DESC, b)",
        "CREATE INDEX partial ON t (a) WHERE b > 0",
        "CREATE INDEX covering ON t (a) INCLUDE (c)",
        "CREATE INDEX hashed ON t USING hash (a)",
        "CREATE INDEX words ON t (c, a)",
        "CREATE INDEX patterns ON t (c text_pattern_ops)",
        'CREATE INDEX collated ON t (c COLLATE "C")',
        "CREATE INDEX expressed ON t ((a + 1))",
        "CREATE INDEX expressed_more ON t ((a + 2), b)",
        "CREATE INDEX b_and_more ON t (b, c)",
        "CREATE UNIQUE INDEX identity ON t (a, id)",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX identity",
    )
    lines = checked(world)
    assert wrong(lines) == {}


@BOTH
def test_an_index_that_a_foreign_key_rests_on_is_never_redundant(world: World) -> None:
    world.execute(
        "CREATE TABLE parent (id int, a int)",
        "CREATE UNIQUE INDEX parent_id ON parent (id)",
        "CREATE TABLE child (id int REFERENCES parent (id))",
        "CREATE INDEX longer ON parent (id, a)",
    )
    assert wrong(checked(world, EAGER)) == {"database.unused_indexes": "public.longer"}


@BOTH
@pytest.mark.parametrize(("books", "verdict"), [((), "WARNING"), (("public.ent%",), "CRITICAL")])
def test_an_index_that_was_not_built_to_its_end(world: World, books: tuple[str, ...], verdict: str) -> None:
    world.execute(TABLE, "INSERT INTO entry VALUES (1, 7), (2, 7)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        world.execute("CREATE UNIQUE INDEX CONCURRENTLY half ON entry (account)")
    lines = checked(world, books=books)
    line = lines.of("performance.invalid_indexes")
    assert (line.verdict.name, line.subject) == (verdict, "public.half")
    assert line.next_step == "REINDEX INDEX CONCURRENTLY public.half"
    assert set(wrong(lines)) == {"performance.invalid_indexes"}


@BOTH
def test_bloat_of_what_we_may_not_read_is_measured_where_that_can_be_done(world: World) -> None:
    """Entries of text: how wide they are stands in pg_stats, which hides it from who may not read the table."""
    world.execute(
        "CREATE TABLE secret (name text)",
        "INSERT INTO secret SELECT md5(n::text) FROM generate_series(1, 60000) n",
        "CREATE INDEX secret_name ON secret (name)",
        "DELETE FROM secret WHERE ctid::text NOT LIKE '%0)'",
        "VACUUM ANALYZE secret",
    )
    world.flushed()
    small = {"index_bloat_min": Bytes(1 << 19)}
    world.execute("DROP EXTENSION pgstattuple")
    blind = checked(world, small).of("database.index_bloat")
    assert (blind.verdict.name, blind.subject) == ("OK", "db-1")
    assert blind.observed == "none; not known of 1 that we may not read: public.secret_name"
    world.execute("CREATE SCHEMA measures", "CREATE EXTENSION pgstattuple SCHEMA measures")
    assert checked(world, small).of("database.index_bloat").observed == blind.observed, "the schema is closed to us"
    world.execute("GRANT USAGE ON SCHEMA measures TO nvcops")
    seen = checked(world, small).of("database.index_bloat")
    assert (seen.verdict.name, seen.subject) == ("WARNING", "public.secret_name")
    assert "(measured)" in seen.observed


def test_a_locked_index_does_not_hold_the_check_up(world: World) -> None:
    """Somebody rebuilds a table that has lost most of its rows; who asks for its size would wait until that is done."""
    world.execute(TABLE, ROWS.format(100_000), "DELETE FROM entry WHERE id % 10 > 0", "VACUUM ANALYZE entry")
    world.flushed()
    holder = world.connect(autocommit=False)
    holder.execute("LOCK TABLE entry IN ACCESS EXCLUSIVE MODE")
    lines = checked(world, {"index_bloat_min": Bytes(1 << 19)}, asked=world.socket(deadline_s=5.0))
    assert lines.of("database.index_bloat").subject == "public.entry_pkey"
    assert "(estimated)" in lines.of("database.index_bloat").observed


def test_young_statistics_accuse_no_index(world: World) -> None:
    world.execute(TABLE, ROWS.format(1000), "CREATE INDEX idle ON entry (day)", "ANALYZE entry")
    line = checked(world, {"unused_index_min": Bytes(0)}).of("database.unused_indexes")
    assert line.verdict.name == "OK"
    assert "judged after 30 d" in line.observed


def test_an_index_is_unused_only_when_no_standby_uses_it(world: World, server_17: Postgres) -> None:
    world.execute(TABLE, ROWS.format(5000), "CREATE INDEX by_day ON entry (day)", "CREATE INDEX idle ON entry (memo)")
    world.execute("VACUUM ANALYZE entry")
    with followed(server_17) as standby:
        caught_up(world, standby)
        alone = checked(world, EAGER).of("database.unused_indexes")
        assert alone.verdict.name == "UNKNOWN", "a standby replays that nobody named"
        with standby.connect(world.database) as reader:
            reader.execute("SET enable_seqscan = off")
            reader.execute("SELECT count(*) FROM entry WHERE day = '2026-01-09'")
            reader.execute("SELECT pg_stat_force_next_flush()")
            reader.execute("SELECT 1")
        both = checked(world, EAGER, [socket_of(standby, world.database)]).of("database.unused_indexes")
        assert (both.verdict.name, both.subject) == ("WARNING", "public.idle")
        assert "on all 2 servers" in both.observed
        assert "by_day" not in both.observed
    lines = checked(world, EAGER, [socket_of(standby, world.database)])
    gone = lines.of("database.unused_indexes")
    assert gone.verdict.name == "UNKNOWN"
    assert STANDBY in gone.observed
