"""The socket behind which the records of alerts, pages, incidents (and what comes later) are kept.

A record is a frozen struct of core; its kind is its type. Everything that a decision reads and writes happens in one
transaction, `Records.changing()`, of which there is one at a time: so an alert, its incident, its page and the message
that is sent are written together or not at all, and no two engines decide the same thing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import msgspec

from nvcops.core.evidence import Entry

R = TypeVar("R", bound=msgspec.Struct)
FOUND_MAX = 10_000


class Reading(Protocol):
    """What can be asked for."""

    def get(self, kind: type[R], key: str | int) -> R | None:
        """The record of that kind with that key (a struct's first field); None where there is none."""

    def find(self, kind: type[R], /, *, order: str = "", limit: int = FOUND_MAX, **where: Any) -> list[R]:
        """Records of a kind, at most `limit`, ordered by a field (`-field`: descending), else by the key.

        `where` are fields, or `field__in`, `field__lt`, `field__lte`, `field__gt`, `field__gte`, `field__isnull`.
        """

    def count(self, kind: type[R], /, **where: Any) -> int:
        """How many there are."""


class Desk(Reading, Protocol):
    """A transaction that decides: nobody else decides meanwhile."""

    def put(self, *records: msgspec.Struct) -> None:
        """Write records, each in place of the one with its key."""

    def add(self, record: msgspec.Struct) -> bool:
        """Write a record unless there is one with its key; whether it was written. By this a cause acts only once."""

    def remove(self, kind: type[R], keys: Iterable[str | int]) -> int:
        """Remove records; how many there were."""

    def next_number(self, kind: type[R]) -> int:
        """One more than the highest key of a kind whose keys are numbers; 1 for the first."""

    def note(self, entry: Entry) -> None:
        """Evidence, kept with what is changed here and moved into the log afterwards.

        Raises:
            UsageError: the entry is malformed.
        """


class Records(Protocol):
    """The store: SQLite, or PostgreSQL where several instances share it.

    Raises:
        StateError: from every method: it cannot be opened, read or written.
    """

    def changing(self) -> AbstractContextManager[Desk]:
        """A transaction that may write: all of it, durably when it ends, or nothing."""

    def reading(self) -> AbstractContextManager[Reading]:
        """What stands there now, of one moment."""

    def claim(
        self,
        worker: str,
        at: dt.datetime,
        lease_until: dt.datetime,
        *,
        limit: int,
        each: int = FOUND_MAX,
        besides: Sequence[str] = (),
    ) -> Sequence[str]:
        """Lease up to `limit` messages that are due (WAITING, or SENDING with a lease that ended), the oldest first.

        Answers their ids; each has one attempt more from now on. Of those to one person or receiver at most `each` are
        leased, and none of those to `besides`: the others are left for later.
        A conditional update says who won: of two workers one gets a message.
        """

    def wait(self, seconds: float) -> bool:
        """Wait until this process has written a message, `seconds` at most; whether it has."""

    def drain(self, log: Any) -> int:
        """Move the evidence of committed changes into the log; the number of entries."""

    def close(self) -> None:
        """Let go of it."""
