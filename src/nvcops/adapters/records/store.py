"""The store of records: transactions, the outbox's leases, and evidence on its way into the log."""

from __future__ import annotations

import datetime as dt
import pkgutil
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import django.db
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import F, Q

from nvcops.adapters.evidence import outbox
from nvcops.adapters.records import migrations
from nvcops.adapters.records.connections import Connections
from nvcops.adapters.records.desk import OpenDesk, OpenReading, rows_of
from nvcops.adapters.records.models import KINDS
from nvcops.adapters.records.places import Place
from nvcops.core.errors import StateError
from nvcops.core.evidence import Log
from nvcops.core.oncall import Message, MessageState
from nvcops.core.records import FOUND_MAX, Desk, Reading

_APP = "records"
_LOOKED_AT = 256  # of the messages that are due, for those to somebody else


class Store:
    """What core.records.Records promises."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._connections = Connections(place)
        self._messages = threading.Event()
        place.prepare()
        try:
            self._prepare()
        except django.db.ProgrammingError as error:
            self.close()
            raise place.error("opened", error) from error
        except StateError:
            self.close()
            raise

    @contextmanager
    def changing(self) -> Iterator[Desk]:
        """A transaction that may write."""
        with self._connections.writing() as connection:
            desk = OpenDesk(connection)
            yield desk
        if desk.wrote_message:
            self._messages.set()

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """What stands there now."""
        with self._connections.reading() as connection:
            yield OpenReading(connection)

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
        """Lease messages that are due, the oldest first."""
        free = Q(state=MessageState.WAITING.value, due__lte=at) | Q(
            state=MessageState.SENDING.value, lease_until__lte=at
        )
        with self._connections.reading() as connection:
            due = rows_of(KINDS[Message], connection).filter(free).exclude(to__in=besides)
            oldest = due.order_by("due", "id").values_list("id", "to")[: max(limit, _LOOKED_AT)]
            ids = _some_of_each(oldest, limit, each)
        if not ids:
            return ids
        with self._connections.writing() as connection:
            still = rows_of(KINDS[Message], connection).filter(free, id__in=ids)
            won = set(still.values_list("id", flat=True))
            still.update(
                state=MessageState.SENDING.value, leased_by=worker, lease_until=lease_until, attempts=F("attempts") + 1
            )
        return [message for message in ids if message in won]

    def wait(self, seconds: float) -> bool:
        """Wait until a message was written by this process, `seconds` at most; whether one was."""
        written = self._messages.wait(seconds)
        self._messages.clear()
        return written

    def drain(self, log: Log) -> int:
        """Move the evidence of committed changes into the log."""
        moved = 0
        while True:
            with self._connections.reading() as connection:
                entries = outbox.waiting(connection.connection)
            if not entries:
                return moved
            outbox.append(log, list(entries.values()))
            with self._connections.writing() as connection:
                outbox.forget(connection.connection, list(entries))
            moved += len(entries)

    def close(self) -> None:
        """Let go of it."""
        self._connections.close()

    def _prepare(self) -> None:
        """Make the tables, or what of them a former release did not have."""
        with self._connections.reading() as connection:
            if not self._missing(connection):
                return
        with self._connections.writing() as connection:
            if self._missing(connection):  # nobody made them meanwhile
                executor = MigrationExecutor(connection)
                executor.migrate(executor.loader.graph.leaf_nodes(_APP))

    def _missing(self, connection: BaseDatabaseWrapper) -> bool:
        applied = {name for app, name in MigrationRecorder(connection).applied_migrations() if app == _APP}
        ours = {module.name for module in pkgutil.iter_modules(migrations.__path__)}
        if applied - ours:
            raise StateError(
                f"the records in {self._place.where()} were written by another release:"
                f" it knows {', '.join(sorted(applied - ours))}",
                hint="use that release, or a newer one",
            )
        return applied != ours


def _some_of_each(oldest: Iterable[tuple[str, str]], limit: int, each: int) -> list[str]:
    """The first of messages (id, to), at most `limit`, and at most `each` to the same."""
    taken: list[str] = []
    to_whom: Counter[str] = Counter()
    for identity, to in oldest:
        if to_whom[to] < each and len(taken) < limit:
            to_whom[to] += 1
            taken.append(identity)
    return taken
