"""The log's SQLite file: entries by index and by id, tiles, checkpoints. Every transaction is durable when it ends."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from nvcops.adapters.evidence import files
from nvcops.core.errors import StateError

FORMAT_VERSION = 1
APPLICATION_ID = 0x6E766365
POLL_S = 0.001
READ_DEADLINE_S = 5.0
_SCHEMA = """
CREATE TABLE entry (
    idx INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    time_us INTEGER NOT NULL,
    run TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE INDEX entry_time ON entry (time_us);
CREATE INDEX entry_run ON entry (run) WHERE run <> '';
CREATE TABLE tile (
    level INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (level, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoint (
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL,
    witness TEXT NOT NULL
) STRICT;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""


class Row(msgspec.Struct, frozen=True):
    """An entry as it is stored: what is derived from its bytes stands beside them, to be searched."""

    id: str
    time_us: int
    run: str
    data: bytes


class Store:
    """One writer connection and one reader connection to the log's file; use it from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        fresh = files.create_private(path)
        with sentences(path):
            self._writer = self._connect()
            self._reader = self._connect()
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        try:
            self._prepare(may_be_empty=fresh)
            self._writer.execute("PRAGMA busy_timeout = 0")  # from here on `transaction` does the waiting
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=READ_DEADLINE_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _prepare(self, *, may_be_empty: bool) -> None:
        """Make the tables at the first use, and refuse a file that is another's, or a newer program's."""
        with sentences(self.path):
            version = self._read_pragma("user_version")
            if version == 0:
                self._create(may_be_empty=may_be_empty)
            elif self._read_pragma("application_id") != APPLICATION_ID:
                raise StateError(f"{self.path} is another program's file", hint="name another state directory")
            elif version > FORMAT_VERSION:
                raise StateError(
                    f"{self.path} has format {version}; this nvcops knows up to {FORMAT_VERSION}",
                    hint="use the newer nvcops that wrote it",
                )

    def _create(self, *, may_be_empty: bool) -> None:
        self._switch_to_wal()
        with self.transaction(READ_DEADLINE_S) as db:
            if self._read_pragma("user_version") != 0:
                return  # another process was first
            if not may_be_empty and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StateError(f"{self.path} is another program's file", hint="name another state directory")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")

    def _switch_to_wal(self) -> None:
        """Kept in the file once and for all; needs the file for a moment, so it waits for other processes."""
        deadline = time.monotonic() + READ_DEADLINE_S
        while True:
            try:
                self._writer.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
            else:
                return

    def _read_pragma(self, name: str) -> int:
        return int(self._writer.execute(f"PRAGMA {name}").fetchone()[0])

    @contextlib.contextmanager
    def transaction(self, patience_s: float) -> Iterator[sqlite3.Connection]:
        """The only way to write: one transaction at a time over all processes, durable at its end.

        Raises:
            StateError: another process kept the file for longer than `patience_s`, or it cannot be written.
        """
        deadline = time.monotonic() + patience_s
        if not self._write_lock.acquire(timeout=max(patience_s, POLL_S)):
            raise StateError(f"{self.path} is busy for {patience_s:g} s now", hint="look for a process that hangs")
        try:
            with sentences(self.path):
                self._begin(deadline)
                try:
                    yield self._writer
                    self._writer.execute("COMMIT")
                except BaseException:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
                    raise
        finally:
            self._write_lock.release()

    def _begin(self, deadline: float) -> None:
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
            else:
                return

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query, as they were committed last."""
        with self._read_lock, sentences(self.path):
            return self._reader.execute(query, values).fetchall()

    def tile(self, level: int, number: int) -> bytes:
        """The hashes of a tile; none: it is empty."""
        return read_tile(self.rows, level, number)

    def size(self) -> int:
        """The number of entries."""
        return size_of(self.rows)

    def checkpoints(self) -> list[tuple[int, str, str]]:
        """Size, note, and the witness file that it was given to (none yet: empty), by size."""
        return checkpoints_of(self.rows)

    def meta(self, name: str) -> str | None:
        """A fact about the log itself."""
        found = self.rows("SELECT value FROM meta WHERE name = ?", name)
        return str(found[0][0]) if found else None

    def close(self) -> None:
        """Close the connections; what was committed stays."""
        self._reader.close()
        self._writer.close()


def size_of(rows: Any) -> int:
    """The number of entries, as a connection sees it."""
    return int(rows("SELECT coalesce(max(idx) + 1, 0) FROM entry")[0][0])


def checkpoints_of(rows: Any) -> list[tuple[int, str, str]]:
    """Size, note and witness of every checkpoint, as a connection sees them."""
    return [(size, note, witness) for size, note, witness in rows("SELECT * FROM checkpoint ORDER BY size")]


def reader(db: sqlite3.Connection) -> Any:
    """A transaction's own view, in the form of `Store.rows`."""
    return lambda query, *values: db.execute(query, values).fetchall()


def read_tile(rows: Any, level: int, number: int) -> bytes:
    """The hashes of a tile, as a connection sees them."""
    found = rows("SELECT hashes FROM tile WHERE level = ? AND number = ?", level, number)
    return bytes(found[0][0]) if found else b""


@contextlib.contextmanager
def sentences(path: Path) -> Iterator[None]:
    """SQLite's errors as sentences about the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        hints = {
            sqlite3.SQLITE_BUSY: "another process keeps it: look for one that hangs",
            sqlite3.SQLITE_FULL: "free some space",
            sqlite3.SQLITE_READONLY: "make the file and its folder writable",
        }
        hint = hints.get(error.sqlite_errorcode & 0xFF, "look at the disk and at the folder's permissions")
        raise StateError(f"{path} cannot be used: {error}", hint=hint) from error
    except sqlite3.DatabaseError as error:
        raise StateError(
            f"{path} is damaged: {error}",
            hint="keep it, put back the newest copy, and run `nvcops evidence audit` against the witness",
        ) from error
