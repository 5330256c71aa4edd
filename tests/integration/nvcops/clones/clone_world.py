"""A server with a shop's and a bank's tables, backed up, and a copy of it, for tests; nothing remains of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "restore"))

from restore_world import FULL, RestoreWorld, restore_world

from nvcops.adapters.clones.clones import RestoredClones, open_clones

RUN = "update-db-stats@2026-11-22T13:00:00Z-abc"
_SETTINGS = {"work_mem": "8MB", "random_page_cost": "1.3", "effective_cache_size": "512MB", "jit": "off"}
# A dropped column, nulls, correlated dates, an odd name, partitions.
_TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (gone int, id bigint PRIMARY KEY, customer int NOT NULL, day date NOT NULL,
    state text NOT NULL, note text);
INSERT INTO shop.orders SELECT 0, n, n * 7919 % 5000, date '2020-01-01' + n / 60,
    (ARRAY['open','paid','sent'])[n % 3 + 1], CASE WHEN n % 10 = 0 THEN md5(n::text) END
    FROM generate_series(1, 60000) n;
ALTER TABLE shop.orders DROP COLUMN gone;
CREATE TABLE shop.line (order_id bigint NOT NULL REFERENCES shop.orders, part int NOT NULL, quantity int NOT NULL,
    price numeric(12, 2) NOT NULL, shipped date NOT NULL, PRIMARY KEY (order_id, part));
INSERT INTO shop.line SELECT o.id, p * 1000 + o.id % 997, 1 + (o.id * p) % 50, ((o.id * p) % 100000) / 100.0,
    o.day + p * 3 FROM shop.orders o, generate_series(1, 3) p;
CREATE TABLE shop."Odd ""table" ("Key x" uuid PRIMARY KEY, at timestamptz NOT NULL, who text COLLATE "C");
INSERT INTO shop."Odd ""table" SELECT md5(n::text)::uuid, timestamptz '2026-01-01 00:00Z' + n * interval '1 minute',
    'customer ' || n % 700 FROM generate_series(1, 20000) n;
CREATE TABLE shop.event (id int, at date NOT NULL, kind int) PARTITION BY RANGE (at);
CREATE TABLE shop.event_1 PARTITION OF shop.event FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE shop.event_2 PARTITION OF shop.event FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO shop.event SELECT n, date '2026-01-01' + n % 59, n * 31 % 3000 FROM generate_series(1, 40000) n;
VACUUM ANALYZE
"""


@dataclass
class CloneWorld:
    """What is backed up, and its copies."""

    world: RestoreWorld
    clones: RestoredClones


@contextmanager
def clone_world(folder: Path) -> Iterator[CloneWorld]:
    """A backed up server without a copy yet."""
    with restore_world(folder, settings=_SETTINGS) as world, world.world.receiving():
        for statement in _TABLES.strip().split(";\n"):
            world.world.execute(statement)
        world.world.backups.back_up(FULL, full=True)
        world.received()
        clones = open_clones(world.manifest)
        assert isinstance(clones, RestoredClones)
        yield CloneWorld(world, clones)
