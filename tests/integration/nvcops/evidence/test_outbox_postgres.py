"""The outbox beside records in PostgreSQL: the same promises, through psycopg."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from nvclab.parts import postgres
from nvcops.adapters.evidence.log import EvidenceLog
from nvcops.adapters.evidence.outbox import create_outbox, drain, enqueue
from nvcops.core.errors import UsageError
from nvcops.core.evidence import Entry

MakeEntry = Callable[..., Entry]


@pytest.fixture
def server() -> Iterator[postgres.Postgres]:
    with postgres.temporary() as started:
        yield started


def test_record_and_entry_are_kept_together_or_not_at_all(
    server: postgres.Postgres, log: EvidenceLog, entry: MakeEntry
) -> None:
    connection: psycopg.Connection[Any]
    with psycopg.connect(server.url(), connect_timeout=10) as connection, psycopg.connect(server.url()) as mover:
        connection.execute("CREATE TABLE record (n INTEGER)")
        create_outbox(connection)
        create_outbox(connection)
        connection.commit()
        for number in range(3):
            connection.execute("INSERT INTO record VALUES (%s)", (number,))
            enqueue(connection, entry(number))
            connection.commit()
        connection.execute("INSERT INTO record VALUES (3)")
        enqueue(connection, entry(3))
        assert drain(mover, log) == 3  # not the one that is not committed
        with pytest.raises(UsageError, match="outside of a transaction"):
            drain(connection, log)
        connection.rollback()
        assert drain(connection, log) == 0
        assert [found.id for _, found in log.entries()] == ["e0", "e1", "e2"]
        assert connection.execute("SELECT count(*) FROM record").fetchone() == (3,)
