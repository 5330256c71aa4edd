"""A database that is as it should be: every topic reads all that it asks for, and has nothing to say."""

from __future__ import annotations

from types import ModuleType

import pytest
from database_world import World

from nvcops.database.checks import keys, sessions, tables, vacuum, wraparound

TOPICS = (sessions, wraparound, vacuum, tables, keys)


@pytest.mark.parametrize("world", [17, 18], indirect=True)
@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.__name__.rpartition(".")[2])
def test_an_empty_database_is_read_with_pg_monitor_alone_and_all_is_well(world: World, topic: ModuleType) -> None:
    lines = world.lines(topic)
    assert world.seen(topic).unread == {}
    assert lines.wrong() == []
    assert {line.check for line in lines.findings} == {check.name for check in topic.CHECKS}


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.__name__.rpartition(".")[2])
def test_a_busy_database_that_is_looked_after_is_well(world: World, topic: ModuleType) -> None:
    world.execute(
        "CREATE TABLE account (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text) WITH (fillfactor = 60)",
        "CREATE TABLE entry (id serial PRIMARY KEY, account bigint REFERENCES account, note text)",
        "CREATE INDEX ON entry (account)",
        "INSERT INTO account (owner) SELECT 'owner ' || n FROM generate_series(1, 20000) n",
        "INSERT INTO entry (account, note) SELECT n % 20000 + 1, repeat('x', 100) FROM generate_series(1, 100000) n",
        "UPDATE account SET owner = owner || '!' WHERE id % 3 = 0",
        "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO nvcops",
    )
    world.flushed()
    world.execute("VACUUM (ANALYZE)")
    world.flushed()
    assert world.lines(topic).wrong() == []
