"""Reading and writing records inside of a transaction: structs in, structs out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from nvcops.adapters.evidence.outbox import enqueue
from nvcops.adapters.records import asking
from nvcops.adapters.records.columns import INDEXED_BYTES_MAX
from nvcops.adapters.records.models import KINDS, Kind
from nvcops.core.errors import UsageError
from nvcops.core.evidence import Entry
from nvcops.core.oncall import Message
from nvcops.core.records import FOUND_MAX, R

_AT_ONCE = 500  # rows of one statement


class OpenReading:
    """What core.records.Reading promises, on one connection."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    def get(self, kind: type[R], key: str | int) -> R | None:
        """The record of a kind with a key."""
        of_key: dict[str, Any] = {KINDS[kind].key: key}
        return next(iter(self.find(kind, limit=1, **of_key)), None)

    def find(self, kind: type[R], /, *, order: str = "", limit: int = FOUND_MAX, **where: Any) -> list[R]:
        """Records of a kind, at most `limit`."""
        table = KINDS[kind]
        rows = self._rows(asking.select(table, self._connection, where, order, limit))
        return list(_read(kind, table, rows, asking.readers(table, self._connection)))

    def count(self, kind: type[R], /, **where: Any) -> int:
        """How many there are."""
        ((number,),) = self._rows(asking.count(KINDS[kind], self._connection, where))
        return int(number)

    def _rows(self, statement: tuple[str, list[Any]]) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(*statement)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows


class OpenDesk(OpenReading):
    """What core.records.Desk promises. `wrote_message` says whether the outbox has something new."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        self.wrote_message = False

    def put(self, *records: msgspec.Struct) -> None:
        """Write records, each in place of the one with its key; of several with one key the last."""
        for kind, ours in groupby(sorted(records, key=lambda one: type(one).__name__), key=type):
            table = KINDS[kind]
            latest = {getattr(record, table.key): record for record in ours}
            self._insert(table, latest.values(), _in_place_of(table, self._connection))

    def add(self, record: msgspec.Struct) -> bool:
        """Write a record unless there is one with its key."""
        return self._insert(KINDS[type(record)], [record], "DO NOTHING") == 1

    def remove(self, kind: type[R], keys: Iterable[str | int]) -> int:
        """Remove records; how many there were."""
        rows = rows_of(KINDS[kind], self._connection)
        return sum(rows.filter(pk__in=some).delete()[0] for some in _by(_AT_ONCE, list(keys)))

    def next_number(self, kind: type[R]) -> int:
        """One more than the highest key."""
        highest = rows_of(KINDS[kind], self._connection).aggregate(highest=models.Max("pk"))["highest"]
        return int(highest or 0) + 1

    def note(self, entry: Entry) -> None:
        """Put evidence beside what is changed here."""
        enqueue(self._connection.connection, entry)

    def _insert(self, table: Kind, records: Iterable[msgspec.Struct], otherwise: str) -> int:
        """Insert by statements of our own: Django's bulk_create takes four times as long for the same rows."""
        self.wrote_message |= table.record is Message
        quoted = self._connection.ops.quote_name
        names = ", ".join(quoted(column.name) for column in table.columns)
        row = f"({', '.join(['%s'] * len(table.columns))})"
        head = f"INSERT INTO {quoted(table.table)} ({names}) VALUES "  # noqa: S608 - names of ours
        writers, written = asking.writers(table.columns, self._connection), 0
        with self._connection.cursor() as cursor:
            for some in _by(_AT_ONCE, list(records)):
                values = [value for record in some for value in _written(record, table, writers)]
                cursor.execute(
                    f"{head}{', '.join([row] * len(some))} ON CONFLICT ({quoted(table.key)}) {otherwise}", values
                )
                written += cursor.rowcount
        return written


def rows_of(table: Kind, connection: BaseDatabaseWrapper) -> models.QuerySet[Any]:
    """All rows of a table."""
    return models.QuerySet(table.model, using=connection.alias)


def _in_place_of(table: Kind, connection: BaseDatabaseWrapper) -> str:
    quoted = connection.ops.quote_name
    return "DO UPDATE SET " + ", ".join(f"{quoted(c.name)} = excluded.{quoted(c.name)}" for c in table.columns[1:])


def _written(record: msgspec.Struct, table: Kind, writers: Sequence[asking.Change | None]) -> list[Any]:
    values = [
        value if value is None or write is None else write(value)
        for value, write in zip(msgspec.structs.astuple(record), writers, strict=True)
    ]
    for place in table.indexed:
        if values[place] is not None and len(values[place]) * 4 > INDEXED_BYTES_MAX:
            _check_length(table, place, values[place])
    return values


def _check_length(table: Kind, place: int, text: str) -> None:
    if len(text.encode()) > INDEXED_BYTES_MAX:
        raise UsageError(
            f"a {table.record.__name__}'s {table.columns[place].name} has {len(text.encode()):,} bytes, more than"
            f" {INDEXED_BYTES_MAX:,}: {text[:80]}...",
            hint="shorten it by a digest of its end",
        )


def _read(
    kind: type[R], table: Kind, rows: Iterable[tuple[Any, ...]], reads: Sequence[tuple[int, asking.Change]]
) -> Iterator[R]:
    names = [column.name for column in table.columns]
    for row in rows:
        values = list(row)
        for place, read in reads:
            if values[place] is not None:
                values[place] = read(values[place])
        yield kind(**dict(zip(names, values, strict=True)))


def _by(size: int, items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
