"""A server with its role for backups, and a repository beside it, for tests and drills; nothing remains of them."""

from __future__ import annotations

import base64
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvclab.parts import postgres
from nvclab.parts.account import give
from nvclab.parts.postgres import Postgres
from nvclab.parts.process import free_ports
from nvcops.adapters.backup import wal
from nvcops.adapters.backup.index import read_index, unseal_parts
from nvcops.adapters.backup.native import NativeBackups
from nvcops.adapters.backup.pack import unseal
from nvcops.adapters.backup.receiver import Receiver
from nvcops.adapters.backup.repository import Repository, open_repository
from nvcops.core.backups import SEGMENT_BYTES, Entry
from nvcops.core.catalogue import present
from nvcops.core.manifest import Manifest, parse

ROLE_PASSWORD = "only-for-this-test"
FULL, INCREMENTAL = "20261122T000000Z-F", "20261122T060000Z-I"
_PLATFORM = """
[platform]
name = "test-bank"
title = "Test bank"
state = "{folder}/state"
[evidence]
origin = "test.example/operations"
[database]
name = "{database}"
user = "postgres"
port = {port}
primary = {{ name = "db-1", host = "127.0.0.1" }}
standbys = [{standbys}]
{access}
[backups]
repository = "{folder}/repository"
user = "nvcops_backup"
password_file = "{folder}/password"
binaries = "{binaries}"
{more}
"""


@dataclass
class World:
    """The server that is backed up, and where."""

    server: Postgres
    folder: Path
    repository: Repository

    @property
    def backups(self) -> NativeBackups:
        return NativeBackups(self.repository)

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        with self.server.connect() as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description is not None else []

    @contextmanager
    def receiving(self) -> Iterator[Receiver]:
        """A receiver at work, connected; it is stopped at the end."""
        receiver, stop = Receiver(self.repository), threading.Event()
        thread = threading.Thread(target=receiver.run, args=(stop,))
        thread.start()
        try:
            self.wait(lambda: self.backups.receiver().slot_active)
            yield receiver
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()

    def wait(self, there: Callable[[], object], deadline_s: float = 30.0) -> None:
        end = time.monotonic() + deadline_s
        while not there():
            assert time.monotonic() < end, f"not within {deadline_s} s: {self.backups.receiver()}"
            time.sleep(0.05)

    @contextmanager
    def restored(self) -> Iterator[Postgres]:
        """A server from the repository alone: the newest chain of backups, and all of the log."""
        copy = Postgres(
            name="copy",
            data=self.folder / "copy",
            logs=self.folder / "copy-logs",
            sockets=self.folder / "copy-sockets",
            port=free_ports(1)[0],
            password=self.server.password,
            settings={
                "fsync": "off",
                "restore_command": f'cp "{self.folder}/copy-log/%f" "%p"',
                "recovery_target_timeline": "latest",
            },
            binaries=self.server.binaries,
        )
        fetch_data(self.repository, copy.data, self.folder)
        fetch_log(self.repository, self.folder / "copy-log")
        (copy.data / "recovery.signal").touch()
        for path in (copy.data, *copy.data.rglob("*")):
            give(path)
        try:
            copy.start(60)
            self.wait_for_end_of_recovery(copy)
            yield copy
        finally:
            copy.stop()
            for name in ("copy", "copy-log", "copy-logs", "copy-sockets"):
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def wait_for_end_of_recovery(self, copy: Postgres) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with copy.connect() as connection:
                if connection.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,):
                    return
            time.sleep(0.1)
        raise AssertionError(copy.process.tail())


def fetch_data(repository: Repository, into: Path, scratch: Path) -> None:
    """The newest backup and those that it builds upon, as one data folder."""
    entries = {entry.id: entry for entry in present(repository.catalogue.entries()) if entry.database}
    chain: list[Entry] = [list(entries.values())[-1]]
    while chain[0].database and chain[0].database.parent:
        chain.insert(0, entries[chain[0].database.parent])
    if len(chain) == 1:
        unpack(repository, chain[0].id, into)
        return
    parts = [scratch / f"part-{number}" for number, _ in enumerate(chain)]
    for part, entry in zip(parts, chain, strict=True):
        unpack(repository, entry.id, part)
    tools = repository.tools(17)
    done = tools.run("pg_combinebackup", "--no-sync", "-o", str(into), *map(str, parts), deadline_s=120)
    assert done.code == 0, done.said
    for part in parts:
        shutil.rmtree(part)


def unpack(repository: Repository, number: str, into: Path) -> None:
    """All files of one backup."""
    index = read_index(repository.store, repository.sealing, number)
    into.mkdir(mode=0o700)
    for folder, mode in index.folders:
        (into / folder).mkdir(mode=mode, parents=True, exist_ok=True)
    for file in index.files:
        (into / file.path).touch(file.mode)
    for pack in index.packs:
        with repository.store.open(pack.key) as stored:
            for part, piece in unseal_parts(unseal(stored, repository.sealing), pack):
                with (into / index.files[part.file].path).open("ab") as out:
                    out.write(piece)


def fetch_log(repository: Repository, into: Path) -> None:
    """The transaction log, what is being received included."""
    into.mkdir()
    into.chmod(0o755)
    for segment in sorted(wal.segments(repository), key=lambda each: each.partial):
        path = into / segment.name
        if not path.exists():
            wal.fetch(repository, segment, path)
            if segment.partial:
                os.truncate(path, SEGMENT_BYTES)  # a full disk may have ended it before it was filled up
            path.chmod(0o644)


@contextmanager
def world(
    folder: Path,
    *,
    durable: bool = False,
    encrypted: bool = False,
    database: str = "postgres",
    settings: Mapping[str, str] | None = None,
    wheel: str | None = None,
    more: str = "",
) -> Iterator[World]:
    """A running server with everything that its backups need."""
    given = {"wal_level": "replica", "summarize_wal": "on", **(settings or {})}
    with postgres.temporary(durable=durable, settings=given, wheel=wheel) as server:
        yield prepared(server, folder, encrypted=encrypted, database=database, more=more)


def prepared(
    server: Postgres, folder: Path, *, encrypted: bool = False, database: str = "postgres", more: str = ""
) -> World:
    """Everything that the backups of a running server need."""
    make_role(server)
    secrets_of(folder, encrypted=encrypted)
    more += f"\n{key_line(folder)}" if encrypted else ""
    return World(server, folder, repository_of(server, folder, database=database, more=more))


def make_role(server: Postgres) -> None:
    """The role that takes backups."""
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE nvcops_backup LOGIN REPLICATION PASSWORD '{ROLE_PASSWORD}'".encode())
        connection.execute("GRANT pg_read_all_data, pg_read_all_stats TO nvcops_backup")
        connection.execute("GRANT EXECUTE ON FUNCTION pg_switch_wal, pg_create_restore_point TO nvcops_backup")


def secrets_of(folder: Path, *, encrypted: bool) -> None:
    """The role's password, and a key of the repository's own."""
    secret(folder / "password", ROLE_PASSWORD)
    if encrypted:
        secret(folder / "key", base64.b64encode(os.urandom(32)).decode())


def key_line(folder: Path) -> str:
    return f'key_file = "{folder}/key"'


def repository_of(
    server: Postgres, folder: Path, *, database: str = "postgres", more: str = "", standby: Postgres | None = None
) -> Repository:
    return open_repository(manifest_of(server, folder, database=database, more=more, standby=standby))


def manifest_of(
    server: Postgres,
    folder: Path,
    *,
    database: str = "postgres",
    access: str = "",
    more: str = "",
    standby: Postgres | None = None,
) -> Manifest:
    """The platform as it is written into the folder; `access` is more of [database], `more` more of [backups]."""
    text = _PLATFORM.format(
        folder=folder,
        port=server.port,
        binaries=server.binaries.folder,
        database=database,
        access=access,
        more=more,
        standbys=f'{{ name = "db-2", host = "127.0.0.1", port = {standby.port} }}' if standby else "",
    )
    (folder / "platform.toml").write_text(text, encoding="utf-8")
    return parse(text, folder / "platform.toml")


def secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text + "\n", encoding="utf-8")
