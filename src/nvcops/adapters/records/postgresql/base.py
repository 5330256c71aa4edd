"""What Django loads as the engine."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from django.db.backends.postgresql import base
from psycopg.abc import PQGen

SILENT_S_MAX = 20.0  # beyond the server's own statement_timeout, so that it has its say first
T = TypeVar("T")


class PatientConnection(psycopg.Connection[Any]):
    """A connection that waits for nothing longer than its deadline, and is closed when it is over."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        try:
            return super().wait(gen, interval, timeout or SILENT_S_MAX)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 - psycopg has no other name for it
            self.close()
            raise psycopg.OperationalError(f"the server said nothing for {SILENT_S_MAX:g} s") from error


class _Driver:
    """psycopg, but for how it connects."""

    connect = staticmethod(PatientConnection.connect)

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's, with such connections."""

    Database = _Driver()  # type: ignore[assignment]  # a module in all but its type
