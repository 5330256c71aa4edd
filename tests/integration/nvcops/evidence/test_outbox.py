"""An entry in the same transaction as its record: both or none, and in the log exactly once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from nvcops.adapters.evidence.log import EvidenceLog
from nvcops.adapters.evidence.outbox import create_outbox, drain, enqueue
from nvcops.core.errors import StateError, UsageError
from nvcops.core.evidence import Entry

MakeEntry = Callable[..., Entry]


@pytest.fixture
def records(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "records.sqlite")
    connection.execute("CREATE TABLE record (n INTEGER)")
    create_outbox(connection)
    create_outbox(connection)
    connection.commit()
    yield connection
    connection.close()


def record(connection: sqlite3.Connection, entry: Entry) -> None:
    connection.execute("INSERT INTO record VALUES (?)", (entry.body["n"],))
    enqueue(connection, entry)


def test_what_is_committed_is_moved_in_order(records: sqlite3.Connection, log: EvidenceLog, entry: MakeEntry) -> None:
    for number in range(3):
        record(records, entry(number))
    records.commit()
    record(records, entry(3))
    records.rollback()
    assert drain(records, log) == 3
    assert drain(records, log) == 0
    assert [found.id for _, found in log.entries()] == ["e0", "e1", "e2"]
    assert records.execute("SELECT count(*) FROM record").fetchone() == (3,)


def test_more_than_a_batch(records: sqlite3.Connection, log: EvidenceLog, entry: MakeEntry) -> None:
    for number in range(2_500):
        enqueue(records, entry(number))
    records.commit()
    assert drain(records, log) == 2_500
    assert log.size() == 2_500


def test_a_crash_after_the_append_moves_nothing_twice(
    records: sqlite3.Connection, log: EvidenceLog, entry: MakeEntry
) -> None:
    class Crash(Exception):
        """The process ends here."""

    class Crashing:
        def append(self, entries: Sequence[Entry]) -> list[int]:
            log.append(entries)
            raise Crash

    for number in range(3):
        record(records, entry(number))
    records.commit()
    with pytest.raises(Crash):
        drain(records, Crashing())
    assert log.size() == 3
    assert drain(records, log) == 3
    assert log.size() == 3
    assert drain(records, log) == 0


def test_what_could_not_be_appended_stays(records: sqlite3.Connection, log: EvidenceLog, entry: MakeEntry) -> None:
    class Unavailable:
        def append(self, entries: Sequence[Entry]) -> list[int]:
            raise StateError(f"no room for {len(entries)}")

    record(records, entry(0))
    records.commit()
    with pytest.raises(StateError):
        drain(records, Unavailable())
    assert drain(records, log) == 1


def test_an_open_transaction_is_not_drained(records: sqlite3.Connection, log: EvidenceLog, entry: MakeEntry) -> None:
    record(records, entry(0))
    with pytest.raises(UsageError, match="outside of a transaction"):
        drain(records, log)
    with pytest.raises(UsageError, match=r"of the kind '[?]'"):
        enqueue(records, Entry(id="x", time="2026-01-05T13:00:00Z", kind="?"))
    with pytest.raises(UsageError, match="connection of sqlite3 or psycopg"):
        enqueue(object(), entry(0))
