"""The catalogue: numbered entries, each with the SHA-256 of the one before, so that none can be changed unnoticed.

The newest entry's own hash (`head`) is what a run's evidence holds: then the newest cannot be changed either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from nvcops.adapters.backup.store import Store
from nvcops.core.backups import Entry
from nvcops.core.errors import EvidenceError, LockHeld, NotFoundError

_PREFIX = "catalogue/"
_ENTRIES_MAX = 1_000_000
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The catalogue of the repository that a store holds."""

    store: Store

    def entries(self) -> list[Entry]:
        """All entries, oldest first, the chain verified.

        Raises:
            EvidenceError: an entry was edited, is missing, or is no entry: it names the first.
        """
        return [entry for entry, _ in self._verified()]

    def head(self) -> tuple[int, str]:
        """Number and SHA-256 of the newest entry; (0, "") of an empty catalogue. Raises as `entries` does."""
        number, digest = 0, ""
        for entry, stored in self._verified():
            number, digest = entry.number, stored
        return number, digest

    def find(self, id: str) -> Entry:  # noqa: A002 - the catalogue's own word
        """The newest entry by that id.

        Raises:
            NotFoundError: with the ids that there are.
        """
        entries = self.entries()
        for entry in reversed(entries):
            if entry.id == id:
                return entry
        known = ", ".join(entry.id for entry in entries[-5:]) or "the catalogue is empty"
        raise NotFoundError(f"there is no {id!r} in {self.store.name}", hint=f"the newest: {known}")

    def append(self, draft: Entry) -> Entry:
        """Enter a draft as the next one; its `number` and `previous` are set here.

        Raises:
            LockHeld: others kept being quicker.
        """
        for _ in range(_ATTEMPTS):
            number, digest = self.head()
            entry = msgspec.structs.replace(draft, number=number + 1, previous=digest)
            try:
                self.store.put(key_of(entry.number), [encoded(entry)], exclusive=True)
            except LockHeld:
                continue
            return entry
        raise LockHeld(f"others keep writing into the catalogue of {self.store.name}", hint="try again")

    def _verified(self) -> Iterator[tuple[Entry, str]]:
        digest = ""
        for number, listed in enumerate(self.store.list(_PREFIX), 1):
            if listed.key != key_of(number) or number > _ENTRIES_MAX:
                raise _broken(number, "is missing")
            stored = self.store.read(listed.key)
            entry = _decoded(stored, number)
            if entry.number != number:
                raise _broken(number, f"says that it is number {entry.number}")
            if entry.previous != digest:
                # What does not fit is the entry before: this one's hash of it was right when it was written.
                raise _broken(max(1, number - 1), "is not what the entry after it was chained to: one was edited")
            digest = hashlib.sha256(stored).hexdigest()
            yield entry, digest


def key_of(number: int) -> str:
    """The key of an entry.

    >>> key_of(7)
    'catalogue/00000007.json'
    """
    return f"{_PREFIX}{number:08d}.json"


def encoded(entry: Entry) -> bytes:
    """An entry as it is stored: JSON, for people too."""
    return msgspec.json.format(msgspec.json.encode(entry), indent=1) + b"\n"


def _decoded(stored: bytes, number: int) -> Entry:
    try:
        return msgspec.json.decode(stored, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _broken(number, f"is no entry: {error}") from None


def _broken(number: int, what: str) -> EvidenceError:
    return EvidenceError(
        f"entry {number} of the catalogue ({key_of(number)}) {what}",
        hint="`nvcops run backup-audit` says what it costs; put the entry back from a copy",
    )
