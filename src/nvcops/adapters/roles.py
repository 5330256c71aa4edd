"""The servers of a cluster by the role that they have now: whoever is primary at the moment, and the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, overload

from nvcops.adapters.patroni import Patroni
from nvcops.core.errors import TargetError
from nvcops.core.queries import Rows
from nvcops.core.target import Database

_KNOWN_FOR_S = 1.0


class Roles:
    """Who is primary: asked of Patroni, and remembered for a moment so that one reading is of one state.

    While Patroni does not answer it is who it was last, and at first who the manifest says.
    """

    def __init__(self, patroni: Patroni, servers: Mapping[str, Database], primary: str) -> None:
        self._patroni = patroni
        self.servers = servers
        self._primary = primary
        self._until = 0.0
        self._lock = threading.Lock()

    def primary(self) -> Database:
        """The server that is primary now."""
        with self._lock:
            if monotonic() >= self._until:
                self._ask()
            return self.servers[self._primary]

    def standbys(self) -> list[Database]:
        """The others, in the manifest's order."""
        primary = self.primary()
        return [server for server in self.servers.values() if server is not primary]

    def _ask(self) -> None:
        try:
            leader = self._patroni.state().leader
        except TargetError:
            leader = ""
        if leader in self.servers:
            self._primary = leader
        self._until = monotonic() + _KNOWN_FOR_S


class PrimaryNow:
    """Whichever server is primary when it is asked. See core.target.Database."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles

    @property
    def name(self) -> str:
        """The manifest's name of the server that is primary now."""
        return self._roles.primary().name

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """All rows of a query."""
        return self._roles.primary().rows(sql, parameters)

    def read(self, queries: Mapping[str, str]) -> dict[str, Rows | TargetError]:
        """Several queries by name in one session."""
        return self._roles.primary().read(queries)


class StandbysNow(Sequence[Database]):
    """Whichever servers are not primary when they are looked at."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles

    @overload
    def __getitem__(self, index: int) -> Database: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Database]: ...
    def __getitem__(self, index: int | slice) -> Database | Sequence[Database]:
        return self._roles.standbys()[index]

    def __len__(self) -> int:
        return len(self._roles.servers) - 1

    def __iter__(self) -> Iterator[Database]:
        return iter(self._roles.standbys())
