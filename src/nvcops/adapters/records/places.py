"""Where records are kept: how a file or a server is opened, and what is said when it cannot be."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import django.db
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

from nvcops.adapters.files import secret
from nvcops.core.errors import StateError
from nvcops.core.manifest import Manifest

FILE = "records.sqlite"
_BUSY_S_MAX = 5.0
_CONNECT_S_MAX = 5
_STATEMENT_S_MAX = 15
_SILENT_S_MAX = 10
_LOCK = 0x6E76636F7073  # "nvcops": the advisory lock under which is decided


class Place(ABC):
    """A database: connections to it, and the words for what goes wrong there."""

    @abstractmethod
    def entry(self, *, writing: bool) -> dict[str, Any]:
        """Django's settings of a connection."""

    @abstractmethod
    def where(self) -> str:
        """How an error names it."""

    @abstractmethod
    def hint(self) -> str:
        """What to look at when it does not work."""

    def prepare(self) -> None:  # noqa: B027 - nothing to prepare at a server
        """Before it is connected to for the first time."""

    def alone(self, connection: BaseDatabaseWrapper) -> None:  # noqa: B027 - a file's lock is taken already
        """At the beginning of a transaction that decides: until its end there is no other."""

    def connection(self, alias: str, *, writing: bool) -> BaseDatabaseWrapper:
        """A connection of one's own, not opened yet; it may be used by one thread after the other."""
        entry = ConnectionHandler({"default": self.entry(writing=writing)}).create_connection("default")
        entry.alias = alias
        entry.inc_thread_sharing()
        return entry

    def error(self, done: str, error: Exception) -> StateError:
        """The sentence for a failure."""
        return StateError(f"the records in {self.where()} cannot be {done}: {_why(error)}", hint=self.hint())


@dataclass(frozen=True)
class File(Place):
    """A SQLite file. What writes takes the write lock when it begins; a commit is on the disk when it returns."""

    path: Path

    def entry(self, *, writing: bool) -> dict[str, Any]:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(self.path),
            "OPTIONS": {
                "timeout": _BUSY_S_MAX,
                "transaction_mode": "IMMEDIATE" if writing else "DEFERRED",
                "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF",
            },
        }

    def where(self) -> str:
        return str(self.path)

    def hint(self) -> str:
        return "look at the disk's space and rights, and at what else holds the file"

    def prepare(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.touch(mode=0o600)
        except OSError as error:
            raise self.error("opened", error) from error


@dataclass(frozen=True)
class Server(Place):
    """A PostgreSQL database. One advisory lock makes the transactions that decide follow one another."""

    host: str
    port: int
    name: str
    user: str
    ca_file: Path | None = None
    password: str | None = field(default=None, repr=False)

    def entry(self, *, writing: bool) -> dict[str, Any]:
        from psycopg import IsolationLevel

        limits = f"-c statement_timeout={_STATEMENT_S_MAX * 1000} -c synchronous_commit=on -c search_path=public"
        options: dict[str, Any] = {
            "connect_timeout": _CONNECT_S_MAX,
            "tcp_user_timeout": _SILENT_S_MAX * 1000,
            "keepalives_idle": _SILENT_S_MAX,
            "application_name": "nvcops records",
            "options": limits if writing else f"{limits} -c default_transaction_read_only=on",
            "isolation_level": IsolationLevel.READ_COMMITTED if writing else IsolationLevel.REPEATABLE_READ,
        }
        if self.ca_file:
            options |= {"sslmode": "verify-full", "sslrootcert": str(self.ca_file)}
        return {
            "ENGINE": "nvcops.adapters.records.postgresql",
            "HOST": self.host,
            "PORT": self.port,
            "NAME": self.name,
            "USER": self.user,
            "PASSWORD": self.password or "",
            "OPTIONS": options,
        }

    def where(self) -> str:
        return f"the database {self.name} on {self.host}:{self.port}"

    def hint(self) -> str:
        return "look at the server, and at [records] in platform.toml"

    def alone(self, connection: BaseDatabaseWrapper) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def place_of(manifest: Manifest) -> Place:
    """Where the manifest has them kept.

    Raises:
        ManifestError: the password cannot be read.
    """
    entry = manifest.records
    if entry.host is None:
        return File(manifest.platform.state / FILE)
    password = secret(entry.password_file, entry.password_env)
    return Server(entry.host, entry.port, entry.name, entry.user, entry.ca_file, password)


def fault(error: Exception) -> bool:
    """Whether an error is the database's state and not a mistake of ours."""
    ours = django.db.IntegrityError | django.db.DataError | django.db.ProgrammingError
    return isinstance(error, django.db.Error | sqlite3.Error | OSError) and not isinstance(error, ours)


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    line = str(error).strip().partition("\n")[0].strip()
    return "".join(letter if letter.isprintable() else "?" for letter in line)
