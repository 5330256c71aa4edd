"""What earlier audits read back: so that the next one reads what is new, and notices what is gone.

It is a file of ours and no proof: nothing whose size or time of writing changed is taken from it, and a deep audit
takes nothing from it but what must still be there.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from nvcops.adapters.backup.examine_catalogue import Remembered
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.evidence.files import private_folder
from nvcops.core.errors import StateError

_BUSY_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS looked (key TEXT PRIMARY KEY, stamp TEXT NOT NULL, walked INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS entry (number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL, id TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


class Memory:
    """The memory of one repository's audits; a file in the state folder, of its own for each repository.

    Raises:
        StateError: from every method: the file cannot be used.
    """

    def __init__(self, state: Path, repository: str) -> None:
        name = hashlib.sha256(repository.encode()).hexdigest()[:12]
        self.path = private_folder(state) / f"examined-{name}.sqlite"
        with self._sentence():
            self._db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            self.path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def looked(self) -> dict[str, tuple[str, bool]]:
        """What was read back and found good, by key: its stamp then, and whether its records were walked through."""
        with self._sentence():
            rows = self._db.execute("SELECT key, stamp, walked FROM looked").fetchall()
        return {key: (stamp, bool(walked)) for key, stamp, walked in rows}

    def note(self, seen: Mapping[str, tuple[str, bool]]) -> None:
        """Remember what was read back and found good, as `looked` answers it."""
        rows = [(key, stamp, int(walked)) for key, (stamp, walked) in seen.items()]
        with self._changing() as db:
            db.executemany("INSERT OR REPLACE INTO looked VALUES (?, ?, ?)", rows)

    def forget(self, keys: Iterable[str]) -> None:
        """Forget what is no longer there, or no longer good."""
        with self._changing() as db:
            db.executemany("DELETE FROM looked WHERE key = ?", [(key,) for key in keys])

    def entries(self) -> dict[int, Remembered]:
        """The catalogue as it was."""
        with self._sentence():
            rows = self._db.execute("SELECT number, sha256, id FROM entry").fetchall()
        return {number: Remembered(sha256, name) for number, sha256, name in rows}

    def note_entries(self, entries: Mapping[int, Remembered]) -> None:
        """Remember entries. One that is remembered already stays what it was."""
        rows = [(number, entry.sha256, entry.id) for number, entry in entries.items()]
        with self._changing() as db:
            db.executemany("INSERT OR IGNORE INTO entry VALUES (?, ?, ?)", rows)

    def forget_all(self) -> None:
        """Forget everything: the repository is another one, at the same place."""
        with self._changing() as db:
            for table in ("looked", "entry", "fact"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours

    def fact(self, name: str) -> str:
        """A single thing that was remembered; empty: nothing was."""
        with self._sentence():
            row = self._db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def note_fact(self, name: str, value: str) -> None:
        """Remember a single thing."""
        with self._changing() as db:
            db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it, or nothing."""
        with self._sentence():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _sentence(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StateError(
                f"the memory of audits in {self.path} cannot be used: {error}",
                hint="look at the disk's space and rights; a file that is no longer readable may be moved away",
            ) from error


def ids_seen(repository: Repository) -> set[str]:
    """The ids of all entries that audits of a repository ever saw in its catalogue.

    Raises:
        StateError: the memory cannot be used: nobody knows.
    """
    with Memory(repository.state, repository.store.name) as memory:
        return {entry.id for entry in memory.entries().values()}


def forget_former(repository: Repository, *names: str) -> str:
    """Forget all that audits of a repository saw, by the names of its memories; its catalogue's head now, if any."""
    number, digest = repository.catalogue.head()
    for name in names:
        with Memory(repository.state, name) as memory:
            memory.forget_all()
    return f"{number} {digest}" if number else ""
