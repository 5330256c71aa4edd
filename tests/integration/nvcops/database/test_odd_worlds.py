"""The full check where things are not as expected: what can be read is judged, what cannot is said, nothing breaks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import psycopg
import pytest
from checked import FRESH, caught_up, checked, followed, socket_of, wrong
from database_world import PASSWORD, Lines, World
from psycopg import sql

from nvclab.parts.postgres import Postgres
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import Refused, TargetError
from nvcops.core.queries import Rows

BOTH = pytest.mark.parametrize("world", [17, 18], indirect=True)


@BOTH
def test_without_its_extensions_the_rest_is_judged(world: World) -> None:
    world.execute("DROP EXTENSION pg_stat_statements", "DROP EXTENSION pgstattuple")
    lines = checked(world)
    line = lines.of("performance.statements")
    assert line.verdict is Verdict.UNKNOWN
    assert line.next_step == "CREATE EXTENSION pg_stat_statements, with it in shared_preload_libraries"
    assert wrong(lines) == {}
    assert len(lines.findings) > 30


@BOTH
def test_without_privilege_each_line_that_is_missing_says_what_helps(world: World) -> None:
    """The role bank may sign in, and no more: no session, no file, no log of the server is shown to it."""
    world.execute(f"ALTER ROLE bank PASSWORD '{PASSWORD}'")
    asked = socket_of(world.server, world.database)
    lines = checked(world, asked=replace(asked, user="bank"))
    unknown = [line for line in lines.findings if line.verdict is Verdict.UNKNOWN]
    assert {"database.wal_size", "database.temporary_files"} <= {line.check for line in unknown}
    assert all("GRANT pg_monitor" in line.next_step for line in unknown if "permission denied" in line.observed)
    assert lines.of("performance.invalid_indexes").verdict is Verdict.OK
    assert lines.of("database.unvalidated").verdict is Verdict.OK


def test_a_standby_as_target_is_judged_like_a_primary(world: World, server_17: Postgres) -> None:
    world.execute("CREATE TABLE t (id int)", "CREATE INDEX a ON t (id)", "CREATE INDEX b ON t (id)")
    with followed(server_17) as standby:
        caught_up(world, standby)
        lines = checked(world, asked=socket_of(standby, world.database))
    assert [line.observed for line in lines.findings if "recovery is in progress" in line.observed] == []
    assert wrong(lines) == {"database.duplicate_indexes": "public.b"}
    assert lines.of("database.synchronous").observed == "this is a standby"


@dataclass
class Scripted:
    """A server of a release that is not here: it says which it is, and refuses what it cannot have."""

    number: int
    name: str = "db-1"

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        raise AssertionError(f"{sql} {parameters}")

    def read(self, queries: Mapping[str, str]) -> dict[str, Rows | TargetError]:
        if "release" in queries:
            return {"release": [{"number": self.number, "in_recovery": False}], "extensions": []}
        asked = " ".join(queries.values())
        assert "pg_stat_io" not in asked, "what the release cannot have is not asked"
        assert "pg_stat_checkpointer" not in asked
        answers: dict[str, Rows | TargetError] = {name: Refused("db-1 refused: no such column") for name in queries}
        answers["wal.traffic"] = [
            {"committed": 9.0, "rolled_back": 0.0, "files": 0.0, "temp_bytes": 0.0, "temp_now": 0.0, "seconds": 9.0}
        ]
        return answers


def test_an_old_release_is_named_and_what_it_says_is_still_judged(world: World) -> None:
    lines = checked(world, asked=cast("Any", Scripted(140_020)))
    line = lines.of("database.release")
    assert (line.verdict, line.observed, line.limit) == (Verdict.WARNING, "PostgreSQL 14", "15 to 18")
    assert lines.of("database.rollbacks").verdict is Verdict.OK
    assert lines.of("performance.invalid_indexes").verdict is Verdict.UNKNOWN


def parted(world: World, branches: int, leaves: int) -> None:
    """A table in partitions of partitions; in the first branch each has a useless index, from above."""
    world.execute("CREATE TABLE parted (branch int, leaf int) PARTITION BY LIST (branch)")
    for branch in range(branches):
        world.execute(
            f"CREATE TABLE b{branch} PARTITION OF parted FOR VALUES IN ({branch}) PARTITION BY LIST (leaf)",
        )
        if branch == 0:
            world.execute("CREATE INDEX useful ON b0 (branch, leaf)", "CREATE INDEX useless ON b0 (branch)")
        for first in range(0, leaves, 100):
            made = "".join(
                f"CREATE {'UNLOGGED' if branch == leaf == 0 else ''} TABLE b{branch}_{leaf}"
                f" PARTITION OF b{branch} FOR VALUES IN ({leaf});"
                for leaf in range(first, min(first + 100, leaves))
            )
            world.execute(f"BEGIN; {made} COMMIT")


_CATALOGUES_MAX = 12


@pytest.mark.drill
@pytest.mark.parametrize(
    ("branches", "leaves"), [pytest.param(10, 500, marks=pytest.mark.sample), pytest.param(200, 500)]
)
@pytest.mark.timeout(3600)
def test_thousands_of_partitions_are_one_table(world: World, branches: int, leaves: int) -> None:
    """Asked with the deadline of production, and one line for what each of the partitions has."""
    parted(world, branches, leaves)
    began = time.monotonic()
    lines = checked(world, asked=world.socket(deadline_s=2.0))
    print(f"{branches * leaves:,} partitions: {time.monotonic() - began:.1f} s")
    assert [line.observed for line in lines.findings if "did not answer" in line.observed] == []
    redundant = lines.of("database.redundant_indexes")
    assert (redundant.subject, redundant.observed) == ("public.useless", "public.useful begins with its columns, 0 B")
    assert lines.of("database.unlogged").subject == "public.parted"
    assert {"database.redundant_indexes", "database.unlogged"} <= set(wrong(lines))
    for _ in range(_CATALOGUES_MAX):
        grown = unread(lines)  # a catalogue that came within seconds, and that nobody has vacuumed or analysed yet
        if not grown:
            return
        assert all(line.subject.startswith("pg_catalog.") for line in grown), grown
        assert all(f"ANALYZE {line.subject}" in line.next_step for line in grown)
        for line in grown:
            world.execute(f"VACUUM (ANALYZE) {line.subject}")  # as autovacuum does, which is off here
        world.flushed()
        lines = checked(world, asked=world.socket(deadline_s=2.0))
    raise AssertionError(grown)


def unread(lines: Lines) -> list[Finding]:
    return [line for line in lines.wrong() if line.verdict is Verdict.UNKNOWN and line.check not in FRESH]


DATABASE = 'bänk\'s "own" ☂ %s {0}'
SCHEMA = 'Bücher "1"'
TABLE = "tä'ble; DROP"
INDEX = 'ïn"dex ☂'


def test_names_of_any_letters_are_told_and_repaired(server_17: Postgres) -> None:
    """The next step of each line is carried out as it stands, and the line is then OK."""
    table = sql.Identifier(SCHEMA, TABLE)
    plants = (
        sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)),
        sql.SQL("CREATE UNLOGGED TABLE {} (id int PRIMARY KEY, other int)").format(table),
        sql.SQL("CREATE INDEX first ON {} (other)").format(table),
        sql.SQL("CREATE INDEX {} ON {} (other)").format(sql.Identifier(INDEX), table),
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK (other > 0) NOT VALID").format(table, sql.Identifier(INDEX)),
    )
    made = sql.Identifier(DATABASE)
    with server_17.connect() as administrator:
        administrator.execute(sql.SQL("CREATE DATABASE {} TEMPLATE fresh").format(made))
        try:
            with psycopg.connect(server_17.conninfo(dbname=DATABASE), autocommit=True) as superuser:
                world = World(server_17, DATABASE, 17, superuser)
                for plant in plants:
                    superuser.execute(plant)
                lines = checked(world)
                subjects = {line.subject for line in lines.wrong()} - {"db-1"}
                assert subjects == {f"{SCHEMA}.{TABLE}", f"{SCHEMA}.{INDEX}"}
                repaired = {"database.duplicate_indexes", "database.unlogged", "database.unvalidated"}
                assert set(wrong(lines)) == repaired
                for check in repaired:
                    superuser.execute(cast("Any", lines.of(check).next_step.partition(": ")[0].encode()))
                assert wrong(checked(world)) == {}
        finally:
            administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(made))
