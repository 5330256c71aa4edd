"""Connections of one database: one that writes, some that read. A thread has one for as long as it uses it.

Django finds a connection by an alias, in a table of each thread. A store enters its own there while a thread is inside,
and takes it out again, so that it closes what it opened whichever thread that was.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import django.db
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.connection import ConnectionDoesNotExist

from nvcops.adapters.records.places import Place, fault
from nvcops.core.errors import StateError, UsageError

_IDLE_MAX = 8
_TURN_S_MAX = 60.0
_aliases = itertools.count(1)


class Connections:
    """What a store connects by.

    Raises:
        StateError: from every method: the database cannot be reached, read or written.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.alias = f"records-{next(_aliases)}"
        self._turn = threading.Lock()
        self._table = threading.Lock()
        self._writer: BaseDatabaseWrapper | None = None
        self._readers: list[BaseDatabaseWrapper] = []
        self._closed = False

    @contextmanager
    def writing(self) -> Iterator[BaseDatabaseWrapper]:
        """A transaction that may write, alone."""
        self._not_inside()
        if not self._turn.acquire(timeout=_TURN_S_MAX):
            raise StateError(
                f"the records in {self.place.where()} are being written for longer than {_TURN_S_MAX:g} s",
                hint="something holds a transaction open; its thread is to be found and ended",
            )
        try:
            with self._entered(self._for_writing(), "written") as connection, transaction.atomic(using=self.alias):
                self.place.alone(connection)
                yield connection
        finally:
            self._turn.release()

    @contextmanager
    def reading(self) -> Iterator[BaseDatabaseWrapper]:
        """A transaction that sees one moment."""
        self._not_inside()
        connection = self._for_reading()
        with self._entered(connection, "read"), transaction.atomic(using=self.alias):
            yield connection
        self._keep(connection)

    @contextmanager
    def plain(self) -> Iterator[BaseDatabaseWrapper]:
        """The connection that writes, outside of a transaction."""
        self._not_inside()
        with self._turn, self._entered(self._for_writing(), "written") as connection:
            yield connection

    def close(self) -> None:
        """Close all of them; whoever is inside ends first."""
        with self._turn, self._table:
            self._closed = True
            for connection in filter(None, [self._writer, *self._readers]):
                connection.close()
            self._writer = None
            self._readers.clear()

    def _not_inside(self) -> None:
        if self._inside():
            raise UsageError("the records are asked inside of their own transaction", hint="use the desk that is open")

    def _inside(self) -> bool:
        try:
            connections[self.alias]
        except ConnectionDoesNotExist:
            return False
        return True

    @contextmanager
    def _entered(self, connection: BaseDatabaseWrapper, done: str) -> Iterator[BaseDatabaseWrapper]:
        """This thread uses the connection; after a fault it is thrown away."""
        connections[self.alias] = connection
        try:
            yield connection
        except Exception as error:
            if not fault(error):
                raise
            self._throw_away(connection)
            raise self.place.error(done, error) from error
        finally:
            del connections[self.alias]

    def _for_writing(self) -> BaseDatabaseWrapper:
        self._not_closed()
        if self._writer is None or not self._alive(self._writer):
            self._writer = self.place.connection(self.alias, writing=True)
        return self._writer

    def _for_reading(self) -> BaseDatabaseWrapper:
        while True:
            with self._table:
                self._not_closed()
                if not self._readers:
                    return self.place.connection(self.alias, writing=False)
                connection = self._readers.pop()
            if self._alive(connection):
                return connection

    def _alive(self, connection: BaseDatabaseWrapper) -> bool:
        """A server may have been restarted since."""
        if connection.vendor == "sqlite" or connection.connection is None or connection.is_usable():
            return True
        with suppress(django.db.Error):
            connection.close()
        return False

    def _keep(self, connection: BaseDatabaseWrapper) -> None:
        with self._table:
            if not self._closed and len(self._readers) < _IDLE_MAX:
                self._readers.append(connection)
                return
        connection.close()

    def _throw_away(self, connection: BaseDatabaseWrapper) -> None:
        with suppress(django.db.Error):
            connection.close()
        if connection is self._writer:
            self._writer = None

    def _not_closed(self) -> None:
        if self._closed:
            raise StateError(f"the records in {self.place.where()} were closed")
