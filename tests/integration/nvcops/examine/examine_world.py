"""A pair of servers that was backed up across a promotion, and its repository: what audits look at in tests and drills.

The repository that is broken is at rest, so that what was done to it can be undone byte by byte; the living one is
another fixture.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

sys.path.insert(0, str(Path(__file__).parents[1] / "backup"))

import backup_world

from nvclab.parts.postgres import ADMINISTRATOR, Postgres
from nvclab.parts.process import free_ports
from nvcops.adapters.backup.native import NativeBackups
from nvcops.adapters.backup.receiver import Receiver
from nvcops.adapters.backup.repository import Repository, open_repository
from nvcops.adapters.target import connect
from nvcops.core.backups import lsn_bytes
from nvcops.core.manifest import Manifest
from nvcops.core.target import Target

_SETTINGS = {
    "wal_level": "replica",
    "summarize_wal": "on",
    "wal_keep_size": "512MB",
    "fsync": "off",
    "shared_buffers": "32MB",
    "max_wal_senders": "10",
}


@dataclass
class Pair:
    """Two servers, the second of which follows the first until it is promoted, and their backups."""

    folder: Path
    servers: list[Postgres]
    manifest: Manifest
    repository: Repository
    target: Target
    receiver: threading.Thread | None = None
    taken: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def backups(self) -> NativeBackups:
        return NativeBackups(self.repository)

    @property
    def primary(self) -> Postgres:
        return self.servers[0]

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        with self.primary.connect() as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def write(self, rows: int = 8_000) -> None:
        """About three megabytes of log in several transactions, the last part of which is there to be lost."""
        for _ in range(4):
            self.execute(f"INSERT INTO t SELECT g, repeat('x', 300) FROM generate_series(1, {rows // 4}) g")  # noqa: S608

    def next_segment(self) -> None:
        self.execute("SELECT pg_switch_wal()")

    def back_up(self, *, full: bool) -> str:
        self.taken += 1
        name = f"20261122T{self.taken:02d}0000Z-{'F' if full else 'I'}"
        entry = self.backups.back_up(name, full=full)
        assert entry.database is not None
        assert bool(entry.database.parent) != full, entry.note
        return name

    def receive(self) -> None:
        self._stop = threading.Event()
        self.receiver = threading.Thread(target=Receiver(self.repository).run, args=(self._stop,))
        self.receiver.start()

    def received(self) -> None:
        """Wait until the repository has all that is written now, and has put finished segments away."""
        end = self.execute("SELECT pg_current_wal_flush_lsn()::text")[0][0]
        self.until(lambda: self._has(lsn_bytes(end)))

    def _has(self, position: int) -> bool:
        state = self.backups.receiver()
        return bool(state.received_lsn) and lsn_bytes(state.received_lsn) >= position and not state.spooled

    def until(self, there: Callable[[], object], deadline_s: float = 60.0) -> None:
        end = time.monotonic() + deadline_s
        while not there():
            assert time.monotonic() < end, self.backups.receiver()
            time.sleep(0.05)

    def promote(self) -> None:
        """Kill the primary once the standby has everything, and let the standby take over."""
        end = self.execute("SELECT pg_current_wal_flush_lsn()::text")[0][0]
        old, new = self.servers
        self.until(lambda: _ask(new, f"SELECT pg_last_wal_replay_lsn() >= '{end}'"))
        old.process.kill()
        old.forget_shared_memory()
        _ask(new, "SELECT pg_promote()")
        self.servers.reverse()
        self.until(lambda: _ask(new, "SELECT NOT pg_is_in_recovery()"))

    def rest(self) -> None:
        """Stop receiver and servers: from now on the repository is what it is."""
        self._stop.set()
        if self.receiver is not None:
            self.receiver.join(60)
            assert not self.receiver.is_alive()
            self.receiver = None
        for server in self.servers:
            server.stop()


def _ask(server: Postgres, sql: str) -> Any:
    with suppress(psycopg.OperationalError), server.connect() as connection:
        row = connection.execute(sql.encode()).fetchone()
        return row[0] if row else None
    return None


@contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    """Both servers, running, and an empty repository; nothing of them is left behind."""
    word = secrets.token_hex(16)
    servers = [_server(folder, number, port, word) for number, port in enumerate(free_ports(2), 1)]
    backup_world.secrets_of(folder, encrypted=True)
    manifest = backup_world.manifest_of(servers[0], folder, more=backup_world.key_line(folder), standby=servers[1])
    made = Pair(folder, servers, manifest, open_repository(manifest), connect(manifest))
    with ExitStack() as stack:
        stack.callback(made.rest)
        _start(servers)
        yield made


def _server(folder: Path, number: int, port: int, password: str) -> Postgres:
    return Postgres(
        name=f"db-{number}",
        data=folder / f"data-{number}",
        logs=folder / f"logs-{number}",
        sockets=folder / f"sockets-{number}",
        port=port,
        password=password,
        settings=dict(_SETTINGS),
    )


def _start(servers: list[Postgres]) -> None:
    first, second = servers
    for path in first.data.parents:
        if path.stat().st_uid == os.geteuid() and path.name.startswith("pytest-"):
            path.chmod(0o755)
    first.initialise()
    first.start()
    backup_world.make_role(first)
    with first.connect() as connection:
        connection.execute("CREATE TABLE t (a int, b text)")
        connection.execute("SELECT pg_create_physical_replication_slot('pair')")
    second.clone(first, ADMINISTRATOR, first.password, "pair")
    source = make_conninfo("", host="127.0.0.1", port=str(first.port), user=ADMINISTRATOR, password=first.password)
    second.settings = {**second.settings, "primary_conninfo": source, "primary_slot_name": "pair"}
    second.start()


def grown(made: Pair) -> list[str]:
    """Full and incremental backups before and after a promotion, and log between all of them; the backups' ids."""
    made.receive()
    made.until(lambda: made.backups.receiver().slot_active)
    ids = []
    for full in (True, False, False):
        made.write()
        ids.append(made.back_up(full=full))
        made.write()
        made.next_segment()
    made.write(800)
    made.received()
    made.promote()
    made.until(lambda: made.backups.receiver().slot_active)
    for full in (True, False):
        made.write()
        made.next_segment()
        ids.append(made.back_up(full=full))
    made.write(16_000)
    made.received()
    return ids


@dataclass
class Rest:
    """A repository at rest: its state, a copy to undo what was done to it, and who is backed up in it."""

    pair: Pair
    ids: list[str]
    copy: Path

    @property
    def repository(self) -> Repository:
        return self.pair.repository

    @property
    def target(self) -> Target:
        return self.pair.target

    @property
    def folder(self) -> Path:
        return self.pair.folder / "repository"

    @property
    def state(self) -> Path:
        return self.pair.folder / "state"

    def keep(self) -> None:
        """Keep what is there now as what is put back."""
        for name in ("repository", "state"):
            shutil.copytree(self.pair.folder / name, self.copy / name)

    def put_back(self) -> None:
        """Undo everything, times of writing included."""
        for name in ("repository", "state"):
            shutil.rmtree(self.pair.folder / name)
            shutil.copytree(self.copy / name, self.pair.folder / name)

    def forget(self) -> None:
        """Take the memory of earlier audits away."""
        for path in (self.state / "backups").glob("examined-*"):
            path.unlink()


@contextmanager
def at_rest(folder: Path) -> Iterator[Rest]:
    """A repository with a promotion in it, audited once and found whole."""
    with pair(folder) as made:
        ids = grown(made)
        made.rest()
        rest = Rest(made, ids, folder / "copy")
        audit = made.backups.examine(deep=True)
        assert audit.faults == (), audit.faults
        assert (audit.backups, audit.oldest is not None) == (len(ids), True)
        age_partial(rest)
        rest.keep()
        yield rest


def age_partial(rest: Rest) -> None:
    """What was being received is an hour old: nobody is writing it any more."""
    long_ago = dt.datetime.now(dt.UTC).timestamp() - 3600
    for path in (rest.folder / "spool").glob("*.partial"):
        os.utime(path, (long_ago, long_ago))
