"""Entries in the same transaction as the record that they are about: a table beside that record.

`enqueue` writes through the caller's own open transaction, so record and entry are kept together or not at all.
`drain` moves what was committed to the log. A crash in between moves it once more; the entry's id makes that harmless.
Works on any DB-API connection to SQLite or PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from nvcops.core.errors import EvidenceError, UsageError
from nvcops.core.evidence.entry import Entry, Log, decode, encode

BATCH = 1_000
_IDENTITY = {
    "sqlite3": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "psycopg": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
}
_MARK = {"sqlite3": "?", "psycopg": "%s"}


def create_outbox(connection: Any) -> None:
    """Make the table; the caller commits."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS evidence_outbox (seq {_IDENTITY[_driver(connection)]}, entry TEXT NOT NULL)"
    )


def enqueue(connection: Any, entry: Entry) -> None:
    """Put an entry down in the caller's transaction; it counts when the caller commits.

    Raises:
        UsageError: the entry is malformed.
    """
    statement = f"INSERT INTO evidence_outbox (entry) VALUES ({_MARK[_driver(connection)]})"  # noqa: S608 - a constant
    connection.execute(statement, (encode(entry).decode(),))


def waiting(connection: Any) -> dict[int, Entry]:
    """The oldest entries that were committed, at most `BATCH`, by their number."""
    rows = connection.execute(
        f"SELECT seq, entry FROM evidence_outbox ORDER BY seq LIMIT {BATCH}"  # noqa: S608 - a constant
    ).fetchall()
    return {seq: decode(entry.encode()) for seq, entry in rows}


def forget(connection: Any, numbers: Sequence[int]) -> None:
    """Take out entries that the log has; the caller commits."""
    marks = ", ".join([_MARK[_driver(connection)]] * len(numbers))
    connection.execute(f"DELETE FROM evidence_outbox WHERE seq IN ({marks})", numbers)  # noqa: S608 - question marks


def append(log: Log, entries: Sequence[Entry]) -> None:
    """Append entries; one that the log refuses, as one that holds a secret, is withheld, and the log says so.

    Raises:
        StateError: they could be kept nowhere.
    """
    try:
        log.append(entries)
    except EvidenceError:
        for entry in entries:
            _append_one(log, entry)


def _append_one(log: Log, entry: Entry) -> None:
    try:
        log.append([entry])
    except EvidenceError as error:
        withheld = {"kind": entry.kind, "reason": error.sentence}
        said = {"id": f"{entry.id}/withheld", "kind": "entry.withheld", "body": withheld, "subject": ""}
        log.append([msgspec.structs.replace(entry, **said)])


def drain(connection: Any, log: Log) -> int:
    """Move what was committed into the log, in order; the number of entries. Commits its own deletions.

    Raises:
        UsageError: the connection is inside a transaction: its entries are not committed yet.
        StateError: what was not appended stays.
    """
    driver, moved = _driver(connection), 0
    if _in_transaction(connection, driver):
        raise UsageError("the outbox is drained outside of a transaction", hint="commit first")
    while entries := waiting(connection):
        append(log, list(entries.values()))
        forget(connection, list(entries))
        connection.commit()
        moved += len(entries)
    connection.commit()
    return moved


def _driver(connection: Any) -> str:
    """The DB-API module of a connection, or of the class that it was made from."""
    for base in type(connection).__mro__:
        name = base.__module__.partition(".")[0]
        if name in _MARK:
            return name
    raise UsageError(
        f"an outbox needs a connection of sqlite3 or psycopg, not a {type(connection).__name__}",
        hint="give the driver's own connection",
    )


def _in_transaction(connection: Any, driver: str) -> bool:
    if driver == "sqlite3":
        return bool(connection.in_transaction)
    return bool(connection.info.transaction_status.value)  # 0 is IDLE
