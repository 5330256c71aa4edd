"""A backed up server whose planner is wrong in three ways, each with its own cause; nothing remains of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from restore_world import FULL, RestoreWorld, restore_world

_UPKEEP = """
[database.upkeep]
user = "postgres"
password_file = "{folder}/super"
"""
# parcel: each zip code and area is of one city; box: a few hundred large ones, all of a size, and thirty giants; inbox:
# changed since it was analysed; scan: as it should be.
_TABLES = """
CREATE SCHEMA post;
CREATE TABLE post.parcel (id int PRIMARY KEY, city int NOT NULL, zip int NOT NULL, area int NOT NULL,
    label int NOT NULL);
INSERT INTO post.parcel SELECT n, n % 40, n % 40 + 1000, n % 40 + 2000, n % 500 FROM generate_series(1, 40000) n;
CREATE TABLE post.label (id int NOT NULL, word text NOT NULL);
INSERT INTO post.label SELECT n, repeat('l', 20) FROM generate_series(0, 499) n;
CREATE TABLE post.scan (id int PRIMARY KEY, parcel int NOT NULL, at int NOT NULL);
INSERT INTO post.scan SELECT n, n % 40000, n FROM generate_series(1, 80000) n;
CREATE INDEX ON post.scan (parcel);
CREATE TABLE post.box (id int PRIMARY KEY, label int NOT NULL, size int NOT NULL);
INSERT INTO post.box SELECT n, n % 500, CASE WHEN n <= 99700 THEN n % 50000 WHEN n <= 99970 THEN 5000000 + n
    ELSE 2000000000 + n END FROM generate_series(1, 100000) n;
CREATE INDEX ON post.box (size);
CREATE TABLE post.inbox (id int PRIMARY KEY, state text NOT NULL, note text NOT NULL) WITH (autovacuum_enabled = off);
INSERT INTO post.inbox SELECT n, 'done', 'z' FROM generate_series(1, 20000) n;
CREATE INDEX ON post.inbox (state);
VACUUM ANALYZE;
UPDATE post.inbox SET state = 'new' WHERE id > 2000
"""


@contextmanager
def statistics_world(folder: Path) -> Iterator[RestoreWorld]:
    """The server, backed up, with its log received."""
    settings = {"shared_preload_libraries": "pg_stat_statements", "autovacuum": "off", "jit": "off"}
    with restore_world(folder, settings=settings, more=_UPKEEP.format(folder=folder)) as world, world.world.receiving():
        world.world.execute("CREATE EXTENSION pg_stat_statements")
        for statement in _TABLES.strip().split(";\n"):
            world.world.execute(statement)
        world.world.backups.back_up(FULL, full=True)
        world.received()
        yield world
