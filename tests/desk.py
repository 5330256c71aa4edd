"""Records in memory: what a room decides, without the store that makes it durable.

The store's conditions are kept: a record crosses JSON and its type when it is written, a transaction that raises leaves
nothing, and evidence is checked as the log checks it.
"""

from __future__ import annotations

import datetime as dt
import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from nvcops.core.evidence import Entry
from nvcops.core.evidence.entry import encode
from nvcops.core.oncall import Message, MessageState
from nvcops.core.records import FOUND_MAX

R = TypeVar("R", bound=msgspec.Struct)
Rows = dict[str | int, Any]

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "": operator.eq,
    "in": lambda value, wanted: value in wanted,
    "lt": lambda value, bound: value is not None and value < bound,
    "lte": lambda value, bound: value is not None and value <= bound,
    "gt": lambda value, bound: value is not None and value > bound,
    "gte": lambda value, bound: value is not None and value >= bound,
    "isnull": lambda value, wanted: (value is None) == wanted,
}


def key_field(kind: type[msgspec.Struct]) -> str:
    """The field that is the key: the first."""
    return kind.__struct_fields__[0]


class MemoryDesk:
    """The twin of core/records.Desk; `asked` counts what it was asked."""

    def __init__(self, tables: Mapping[type, Rows] | None = None) -> None:
        self.tables: dict[type, Rows] = {kind: dict(rows) for kind, rows in (tables or {}).items()}
        self.notes: list[Entry] = []
        self.asked = 0

    def get(self, kind: type[R], key: str | int) -> R | None:
        self.asked += 1
        return self.tables.get(kind, {}).get(key)

    def find(self, kind: type[R], /, *, order: str = "", limit: int = FOUND_MAX, **where: Any) -> list[R]:
        self.asked += 1
        name = key_field(kind)
        found = sorted(self._matching(kind, where), key=lambda record: getattr(record, name))
        if order:
            field = order.removeprefix("-")
            assert field in kind.__struct_fields__, f"{kind.__name__} has no field {field}"
            found.sort(key=lambda r: (getattr(r, field) is not None, getattr(r, field)), reverse=order.startswith("-"))
        return found[:limit]

    def count(self, kind: type[R], /, **where: Any) -> int:
        self.asked += 1
        return sum(1 for _ in self._matching(kind, where))

    def _matching(self, kind: type[Any], where: Mapping[str, Any]) -> Iterator[Any]:
        rows, key = self.tables.get(kind, {}), key_field(kind)
        tests = []
        for asked, wanted in where.items():
            field, _, how = asked.partition("__")
            assert field in kind.__struct_fields__, f"{kind.__name__} has no field {field}"
            tests.append((field, _COMPARE[how], set(wanted) if how == "in" else wanted))
        among = where.get(f"{key}__in")
        there = rows.values() if among is None else [rows[one] for one in set(among) if one in rows]
        return (r for r in there if all(compare(getattr(r, field), wanted) for field, compare, wanted in tests))

    def put(self, *records: msgspec.Struct) -> None:
        for record in records:
            kept = msgspec.json.decode(msgspec.json.encode(record), type=type(record))
            self.tables.setdefault(type(record), {})[getattr(kept, key_field(type(record)))] = kept

    def add(self, record: msgspec.Struct) -> bool:
        if getattr(record, key_field(type(record))) in self.tables.get(type(record), {}):
            return False
        self.put(record)
        return True

    def remove(self, kind: type[R], keys: Iterable[str | int]) -> int:
        rows = self.tables.get(kind, {})
        return sum(rows.pop(key, None) is not None for key in list(keys))

    def next_number(self, kind: type[R]) -> int:
        return 1 + max((int(key) for key in self.tables.get(kind, {})), default=0)

    def note(self, entry: Entry) -> None:
        encode(entry)
        self.notes.append(entry)

    def every(self, kind: type[R]) -> list[R]:
        """All records of a kind, by key: for a test to look at."""
        return [self.tables.get(kind, {})[key] for key in sorted(self.tables.get(kind, {}))]


class MemoryRecords:
    """The twin of core/records.Records: one transaction at a time, all of it or nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[type, Rows] = {}
        self._notes: list[Entry] = []

    @contextmanager
    def changing(self) -> Iterator[MemoryDesk]:
        with self._lock:
            desk = MemoryDesk(self._tables)
            yield desk
            self._tables = desk.tables
            self._notes += desk.notes

    @contextmanager
    def reading(self) -> Iterator[MemoryDesk]:
        yield MemoryDesk(self._tables)

    def claim(self, worker: str, at: dt.datetime, lease_until: dt.datetime, *, limit: int) -> Sequence[str]:
        with self.changing() as desk:
            waiting = desk.find(Message, state=MessageState.WAITING, due__lte=at)
            left = desk.find(Message, state=MessageState.SENDING, lease_until__lte=at)
            mine = sorted([*waiting, *left], key=lambda message: (message.due, message.id))[:limit]
            leased = {"state": MessageState.SENDING, "leased_by": worker, "lease_until": lease_until}
            desk.put(*(msgspec.structs.replace(message, **leased) for message in mine))
            return [message.id for message in mine]

    def drain(self, log: Any) -> int:
        with self._lock:
            if self._notes:
                log.append(self._notes)
            count, self._notes = len(self._notes), []
            return count

    def close(self) -> None:
        """Nothing is held."""
