"""What `nvcops serve` writes down of the database: its statements every 5 minutes, its sessions' waits each second."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Sequence
from time import monotonic

import msgspec

from nvcops.adapters.postgres import PostgresServer
from nvcops.adapters.probes.database import Sessions
from nvcops.adapters.statements.reading import HOME, WAITS, Waiting, questions, reading
from nvcops.adapters.statements.store import StatementStore, statement_store
from nvcops.core.errors import Refused
from nvcops.core.manifest import Manifest
from nvcops.core.schedule import now

STATEMENTS_EVERY_S = 300.0
_LOOK_EVERY_S = 1.0
_LOOK_S_MAX = 2.0  # what lies between two looks counts as seen for so long at most
_FLUSH_EVERY_S = 15.0
_KEYS_MAX = 500
_Key = tuple[str, str, int, str]


class Sampler:
    """Looks at whichever server is the primary, over one session that it keeps."""

    name = "statements"

    def __init__(
        self, servers: Sequence[PostgresServer], store: StatementStore, *, every_s: float = STATEMENTS_EVERY_S
    ) -> None:
        self._servers = servers
        self._store = store
        self._every_s = every_s
        self._minute: dt.datetime | None = None
        self._observed_s = 0.0
        self._waited: dict[_Key, float] = {}

    @classmethod
    def of(cls, manifest: Manifest) -> Sampler | None:
        """The sampler of a platform; None where it has no database.

        Raises:
            ManifestError: a password cannot be read.
        """
        entry = manifest.database
        if entry is None:
            return None
        servers = [PostgresServer.of(entry, server) for server in (entry.primary, *entry.standbys)]
        return cls(servers, statement_store(manifest))

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set; what was seen so far is on the disk when it ends, however it ends.

        Raises:
            TargetError: no primary answers; StateError: nothing can be written.
        """
        sessions = Sessions(self._servers, kept=True)
        with asyncio.Runner() as runner:
            try:
                self._go_on(runner, sessions, stop)
            finally:
                sessions.close()
                self._flush()

    def _go_on(self, runner: asyncio.Runner, sessions: Sessions, stop: threading.Event) -> None:
        due = flush = monotonic()
        last: float | None = None
        while not stop.is_set():
            began = monotonic()
            rows = runner.run(sessions.rows(WAITS, "primary", fresh=False))
            if last is not None:
                self._hear(msgspec.convert(rows, list[Waiting]), min(began - last, _LOOK_S_MAX))
            last = began
            if began >= due:
                due = began + self._every_s
                self._read(runner, sessions)
            if began >= flush:
                flush = began + min(_FLUSH_EVERY_S, self._every_s)
                self._flush()
            stop.wait(max(began + _LOOK_EVERY_S - monotonic(), 0.01))

    def _hear(self, seen: Sequence[Waiting], seconds: float) -> None:
        """Add a look: each session has done what it does now since the look before."""
        minute = now().replace(second=0, microsecond=0)
        if self._minute != minute:
            self._flush()
            self._minute = minute
        self._observed_s += seconds
        for one in seen:
            key = (one.kind, one.event, one.query, one.application)
            if key not in self._waited and len(self._waited) >= _KEYS_MAX:
                key = (one.kind, one.event, 0, "")
            self._waited[key] = self._waited.get(key, 0.0) + one.count * seconds

    def _flush(self) -> None:
        if self._minute is None or not self._observed_s:
            return
        minute, observed, waited = self._minute, self._observed_s, self._waited
        self._observed_s, self._waited = 0.0, {}
        self._store.keep_waits(minute, observed, waited)

    def _read(self, runner: asyncio.Runner, sessions: Sessions) -> None:
        """Read the statements; a server without pg_stat_statements has none, and the checks say so."""
        try:
            asked = questions(runner.run(sessions.rows(HOME, "primary", fresh=False)))
        except Refused:
            return
        answers = {name: runner.run(sessions.rows(sql, "primary", fresh=False)) for name, sql in asked.items()}
        self._store.keep_reading(now(), reading(sessions.answered, answers["info"], answers["counted"]))
