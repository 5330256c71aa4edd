"""The salts behind commitments: beside the log, never in it, so that they can be erased while the log stays whole.

An entry says `salted-sha256:...` where personal data would stand. Whoever has the value and the salt can show that
they belong to it; once the salt is erased nobody can, and the commitment says nothing about anybody any more.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from nvcops.adapters.evidence import files
from nvcops.adapters.evidence.store import READ_DEADLINE_S, sentences
from nvcops.core.errors import NotFoundError
from nvcops.core.evidence.bundle import Disclosure
from nvcops.core.evidence.verify_evidence import commitment

SALT_BYTES = 32
FILE = "salts.sqlite"


class Salts:
    """The file of salts in a folder."""

    def __init__(self, folder: Path) -> None:
        self._path = files.private_folder(folder) / FILE
        files.create_private(self._path)
        with sentences(self._path):
            self._db = sqlite3.connect(
                self._path, timeout=READ_DEADLINE_S, isolation_level=None, check_same_thread=False
            )
            # No write-ahead log, and freed pages are overwritten: an erased value is gone from the file.
            for pragma in ("journal_mode = DELETE", "synchronous = FULL", "secure_delete = ON"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS salt (commitment TEXT PRIMARY KEY, salt BLOB NOT NULL, value TEXT NOT NULL,"
                " subject TEXT NOT NULL) STRICT, WITHOUT ROWID"
            )
            self._db.execute("CREATE INDEX IF NOT EXISTS salt_subject ON salt (subject)")

    def conceal(self, value: str, *, subject: str) -> str:
        """The commitment to put into an entry in place of the value. `subject` is whose data it is, to erase it by."""
        salt = secrets.token_bytes(SALT_BYTES)
        concealed = commitment(value, salt)
        with sentences(self._path):
            self._db.execute("INSERT INTO salt VALUES (?, ?, ?, ?)", (concealed, salt, value, subject))
        return concealed

    def disclose(self, commitments: Iterable[str]) -> list[Disclosure]:
        """The values behind commitments, for a bundle.

        Raises:
            NotFoundError: one was erased, or never was here.
        """
        return [self._disclose(concealed) for concealed in commitments]

    def _disclose(self, concealed: str) -> Disclosure:
        with sentences(self._path):
            row = self._db.execute("SELECT salt, value FROM salt WHERE commitment = ?", (concealed,)).fetchone()
        if row is None:
            raise NotFoundError(f"nothing is kept behind {concealed}", hint="it may have been erased, for good")
        return Disclosure(concealed, row[0], row[1])

    def erase(self, subject: str) -> int:
        """Erase everything about a subject; the number of values."""
        with sentences(self._path):
            return self._db.execute("DELETE FROM salt WHERE subject = ?", (subject,)).rowcount

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
