"""The file with our records of runs: SQLite, so that a lone command line needs no server."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nvcops.adapters.evidence.outbox import create_outbox, drain
from nvcops.core.errors import StateError
from nvcops.core.evidence import Log

_SCHEMA = Path(__file__).with_name("ops_schema.sql")
_VERSION = 2
_BUSY_S_MAX = 5.0
_ROWS_MAX = 10_000


class OpsStore:
    """One connection, used by the threads of a process in turn; every change is on disk when it returns.

    Raises:
        StateError: from every method: the file cannot be opened, read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.RLock()
        with self._sentence("opened"):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, timeout=_BUSY_S_MAX, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except StateError:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        self._connection.row_factory = sqlite3.Row
        with self._sentence("opened"):
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
        with self.changing() as change:
            (version,) = change.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.read_text(encoding="utf-8").split(";"):
                    change.execute(statement)
                create_outbox(change)
            elif version == 1:
                change.execute("ALTER TABLE decisions ADD COLUMN signed_json TEXT NOT NULL DEFAULT ''")
            elif version != _VERSION:
                raise StateError(f"{self.path} was written by another release (format {version}, ours is {_VERSION})")
            change.execute(f"PRAGMA user_version = {_VERSION}")

    def close(self) -> None:
        """Let go of the file."""
        with self._turn:
            self._connection.close()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that may write: all of it, or nothing."""
        with self._turn, self._sentence("written"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def drain(self, log: Log) -> int:
        """Move the evidence of committed changes into the log; the number of entries."""
        with self._turn, self._sentence("written"):
            return drain(self._connection, log)

    def rows(self, sql: str, *parameters: Any) -> list[sqlite3.Row]:
        """The rows of a query, at most 10,000."""
        with self._turn, self._sentence("read"):
            return self._connection.execute(sql, parameters).fetchmany(_ROWS_MAX)

    @contextmanager
    def _sentence(self, done: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise
            raise StateError(
                f"the records of runs in {self.path} cannot be {done}: {_why(error)}",
                hint="look at the disk's space and rights, and at what else holds the file",
            ) from error


def _why(error: Exception) -> str:
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
