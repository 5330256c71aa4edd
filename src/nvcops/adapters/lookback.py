"""Events in a SQLite file, to look back over with a rule that did not exist when they happened."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from nvcops.core.detections import FIELDS, UNMAPPED, Event
from nvcops.core.errors import StateError

Query = tuple[str, tuple[str | int | float, ...]]
Function = Callable[..., int]
_ROWS_AT_ONCE = 5_000
_NAMES = tuple(FIELDS)
_COLUMNS = ("time", "source", "product", "service", "trouble", "verbatim", *_NAMES, "unmapped")
_TABLE = f"""CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY, time INTEGER NOT NULL, source TEXT NOT NULL, product TEXT NOT NULL, service TEXT NOT NULL,
    trouble TEXT NOT NULL, verbatim INTEGER NOT NULL, {", ".join(f'"{name}"' for name in _NAMES)}, unmapped TEXT
)"""
_PLACES = ", ".join("?" * len(_COLUMNS))
_QUOTED = ", ".join(f'"{name}"' for name in _COLUMNS)
_INSERT = f"INSERT INTO event ({_QUOTED}) VALUES ({_PLACES})"  # noqa: S608 - names of our own schema


class Lookback:
    """The store. `functions` are those that conditions in SQL may call, by name; each answers 0 or 1.

    Raises, in every method:
        StateError: the file cannot be opened, read or written.
    """

    def __init__(self, path: Path | None, functions: dict[str, Function]) -> None:
        """Open a file, or one in memory where no path is given."""
        with _told(path):
            self._connection = sqlite3.connect(path or ":memory:", timeout=10, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(_TABLE)
            self._connection.execute("CREATE INDEX IF NOT EXISTS event_time ON event (time)")
        for name, function in functions.items():
            self._connection.create_function(name, -1, function, deterministic=True)
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def add(self, events: Iterable[Event]) -> int:
        """Keep events, all or none of them; how many."""
        count = 0
        with _told(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for count, event in enumerate(events, 1):  # noqa: B007 - the last one is the answer
                    self._connection.execute(_INSERT, _row(event))
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        return count

    def count(self, query: Query, start: int, end: int) -> int:
        """How many events of that time (milliseconds since 1970) fulfil a condition."""
        sql = f"SELECT count(*) FROM event WHERE {_between(query)}"  # noqa: S608 - ours; its values are parameters
        with _told(self._path):
            return int(self._connection.execute(sql, _asked(query, start, end)).fetchone()[0])

    def find(self, query: Query, start: int, end: int) -> Iterator[Event]:
        """The events of that time that fulfil a condition, oldest first."""
        sql = f"SELECT {_QUOTED} FROM event WHERE {_between(query)} ORDER BY time, id"  # noqa: S608 - as above
        with _told(self._path):
            rows = self._connection.execute(sql, _asked(query, start, end))
            while some := rows.fetchmany(_ROWS_AT_ONCE):
                yield from map(_event, some)


def _between(query: Query) -> str:
    return f"time >= ? AND time < ? AND ({query[0]})"


def _asked(query: Query, start: int, end: int) -> tuple[str | int | float, ...]:
    return (start, end, *query[1])


def _row(event: Event) -> tuple[object, ...]:
    fields = event.fields
    more = {name.removeprefix(UNMAPPED): value for name, value in fields.items() if name.startswith(UNMAPPED)}
    head = (event.time, event.source, *event.route, event.trouble, event.verbatim)
    return (*head, *map(fields.get, _NAMES), json.dumps(more) if more else None)


def _event(row: tuple[object, ...]) -> Event:
    time, source, product, service, trouble, verbatim = row[:6]
    fields = {name: value for name, value in zip(_NAMES, row[6:-1], strict=True) if value is not None}
    more = {UNMAPPED + name: value for name, value in json.loads(str(row[-1])).items()} if row[-1] else {}
    return Event(
        time=int(str(time)),
        source=str(source),
        route=(str(product), str(service)),
        fields={**fields, **more},  # type: ignore[dict-item]
        verbatim=bool(verbatim),
        trouble=str(trouble),
    )


@contextmanager
def _told(path: Path | None) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(
            f"the events in {path or 'memory'} cannot be used: {error}", hint="disk, permissions"
        ) from error
