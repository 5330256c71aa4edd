"""A SQLite file of ours: opened so that a commit survives our death, and with the number of its format checked."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from nvcops.core.errors import StateError

_BUSY_S = 5.0


def opened(path: Path) -> sqlite3.Connection:
    """A connection without implicit transactions; the caller closes it.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def version(connection: sqlite3.Connection, path: Path, ours: int) -> int:
    """The number of its format, 0 of a new file.

    Raises:
        StateError: another release wrote it.
    """
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if not 0 <= found <= ours:
        raise StateError(f"{path} was written by another release (format {found}, ours is {ours})")
    return found
