"""A backed up database with ten useless, ten duplicate and ten missing indexes, and a statement that will change."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).parents[1] / "restore"))

from restore_world import FULL, RestoreWorld, restore_world

PLANTED = 10
_SHOP = "shop"  # what nvcops asks itself is no workload
ROWS = 40_000
SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "autovacuum": "off",  # that a statistic stays wrong is planted here
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
_MORE = """
[database.limits]
unused_index_after = "0 s"
[database.upkeep]
user = "postgres"
password_file = "{folder}/super"
watch_after = "{watch}"
"""
# Each table: looked up by `known` (indexed twice) and by `wanted` (not indexed), never by `idle` (indexed).
_TABLE = """
CREATE TABLE t{n} (
    id bigint PRIMARY KEY, known int NOT NULL, wanted int NOT NULL, idle int NOT NULL, filler text NOT NULL);
INSERT INTO t{n} SELECT i, i * 7919 % {rows}, i * 10007 % {rows}, i % 100, repeat('x', 60)
    FROM generate_series(1, {rows}) i;
CREATE INDEX t{n}_known ON t{n} (known);
CREATE INDEX t{n}_known_again ON t{n} (known);
CREATE INDEX t{n}_idle ON t{n} (idle);
"""
# When the backup is taken, few rows are of one kind; afterwards all are, and the statistics do not know.
_SKEWED = """
CREATE TABLE skewed (id bigint PRIMARY KEY, kind int NOT NULL, partner int NOT NULL);
INSERT INTO skewed SELECT i, i % 1000, i * 7919 % 30000 FROM generate_series(1, 30000) i;
CREATE TABLE partner (number int NOT NULL, filler text NOT NULL);
CREATE TABLE calm AS SELECT i AS id, i % 100 AS kind FROM generate_series(1, 5000) i;
INSERT INTO partner SELECT i * 10007 % 30000, repeat('y', 60) FROM generate_series(1, 30000) i;
"""


@dataclass
class IndexWorld:
    """The database, and what it is asked."""

    of: RestoreWorld

    def ask(self, rounds: int = 1, *, skewed: bool = True) -> None:
        """Look rows up as the service does."""
        conninfo = self.of.world.server.conninfo(user=_SHOP, password=_SHOP)
        with psycopg.connect(conninfo, autocommit=True) as session:
            for turn in range(rounds):
                for n in range(PLANTED):
                    session.execute(f"SELECT id FROM t{n} WHERE known = {turn * 37 % ROWS}".encode())  # noqa: S608 - ours
                    session.execute(f"SELECT id FROM t{n} WHERE wanted = {turn * 41 % ROWS}".encode())  # noqa: S608 - ours
                for what in ("min(id)", "max(id)", "count(*)"):  # what no index would help
                    session.execute(f"SELECT {what}, avg(kind) FROM calm".encode())  # noqa: S608 - ours
                if skewed:
                    query = (
                        "SELECT count(p.filler) FROM skewed s JOIN partner p ON p.number = s.partner WHERE s.kind = 7"
                    )
                    session.execute(query.encode())

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Somebody asks as long as the block lasts."""
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                self.ask()

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def skew(self) -> None:
        """From now on every row is of the kind that is asked for."""
        self.of.world.execute("UPDATE skewed SET kind = 7")

    def indexes(self) -> dict[str, bool]:
        """All indexes of the tables by name, and whether queries may use them."""
        rows = self.of.world.execute(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid >= 16384"
            " AND indrelid::regclass::text ~ '^(t[0-9]|skewed|partner)'"
        )
        return {str(name): bool(valid) for name, valid in rows}


@contextmanager
def index_world(folder: Path, watch: str) -> Iterator[IndexWorld]:
    """It is backed up, and has been asked."""
    with restore_world(folder, settings=SETTINGS, more=_MORE.format(folder=folder, watch=watch)) as world:
        world.world.execute("CREATE EXTENSION pg_stat_statements")
        for script in (*(_TABLE.format(n=n, rows=ROWS) for n in range(PLANTED)), _SKEWED):
            for statement in script.strip().split(";\n"):
                world.world.execute(statement)
        world.world.execute("VACUUM (ANALYZE)")
        world.world.execute(f"CREATE ROLE {_SHOP} LOGIN PASSWORD '{_SHOP}'")
        world.world.execute(f"GRANT pg_read_all_data TO {_SHOP}")
        with world.world.receiving():
            world.world.backups.back_up(FULL, full=True)
            world.received()
        world.world.execute("SELECT pg_stat_statements_reset(), pg_stat_reset()")
        yield IndexWorld(world)
