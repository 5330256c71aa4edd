"""A cluster of PostgreSQL 15 that archives into pgBackRest's repository: Debian's own packages, where they are."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from nvclab.parts.account import give
from nvclab.parts.postgres import Postgres
from nvclab.parts.postgres_binaries import Binaries
from nvclab.parts.process import free_ports
from nvcops.adapters.backup.pgbackrest import PgBackRestBackups
from nvcops.adapters.backup.repository import open_repository
from nvcops.core import manifest
from nvcops.core.backups import Entry

POSTGRES = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "of-the-test"


@dataclass(frozen=True, slots=True)
class Platform:
    """What a test has: the server, the backups as nvcops sees them, and the folder that everything lies in."""

    server: Postgres
    backups: PgBackRestBackups
    manifest: manifest.Manifest
    folder: Path

    @property
    def repository(self) -> Path:
        return self.folder / "pgbackrest"

    def segment(self, name: str) -> Path:
        """A segment as it lies in the archive."""
        return next(self.repository.glob(f"archive/main/*/*/{name}-*"))

    def write(self, rows: int = 100) -> str:
        """Write something, and end the segment; the segment's name."""
        with self.server.connect() as session:
            session.execute("INSERT INTO payment SELECT g, md5(g::text) FROM generate_series(1, %s) g", [rows])
            ended = session.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
            assert ended is not None
            return str(ended[0])


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    if shutil.which("pgbackrest") is None or not (POSTGRES / "postgres").exists():
        pytest.skip("Debian's pgbackrest and PostgreSQL 15 are not installed: apt-get install pgbackrest postgresql-15")
    folder = Path(tempfile.mkdtemp(prefix="nvcops-pgbackrest-"))
    folder.chmod(0o755)
    home = owned(folder / "home")
    environment = pytest.MonkeyPatch()
    environment.setenv("HOME", str(home))
    server = _server(folder)
    secret = home / ".pgpass"
    secret.touch(mode=0o600)
    secret.write_text(f"*:*:*:*:{PASSWORD}\n", encoding="utf-8")
    give(secret)
    try:
        server.initialise()
        server.start()
        described = _manifest(folder, server.port)
        found = Platform(server, PgBackRestBackups(open_repository(described)), described, folder)
        found.backups.program.answer("stanza-create")
        with server.connect() as session:
            session.execute("CREATE TABLE payment (number int, key text)")
        yield found
    finally:
        server.stop()
        environment.undo()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def taken(platform: Platform) -> list[Entry]:
    """A full backup, some segments, an incremental one, some more segments."""
    full = platform.backups.back_up("20261122T100000Z-F", full=True)
    for _ in range(4):
        platform.write()
    incremental = platform.backups.back_up("20261122T110000Z-I", full=False)
    for _ in range(2):
        platform.write()
    return [full, incremental]


def owned(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return give(folder)


def server_at(folder: Path, name: str, settings: Mapping[str, str]) -> Postgres:
    """A server of PostgreSQL 15 over `<folder>/<name>`."""
    return Postgres(
        name="postgres-15",
        data=folder / name,
        logs=folder / f"{name}-logs",
        sockets=folder / "sockets",
        port=free_ports(1)[0],
        password=PASSWORD,
        settings={"fsync": "off", "shared_buffers": "32MB", **settings},
        binaries=Binaries(POSTGRES),
    )


def _server(folder: Path) -> Postgres:
    config = folder / "pgbackrest.conf"
    command = f"pgbackrest --config={config} --stanza=main archive-push %p"
    server = server_at(folder, "data", {"archive_mode": "on", "archive_command": command})
    own = {name: owned(folder / name) for name in ("pgbackrest", "lock", "queue")}
    config.write_text(
        f"[global]\nrepo1-path={own['pgbackrest']}\nlock-path={own['lock']}\nspool-path={own['queue']}\n"
        "log-level-file=off\nstart-fast=y\ncompress-type=zst\nrepo1-retention-full=2\n\n"
        f"[main]\npg1-path={folder / 'data'}\npg1-port={server.port}\npg1-socket-path={folder / 'sockets'}\n"
        "pg1-user=postgres\n",
        encoding="utf-8",
    )
    return server


def _manifest(folder: Path, port: int) -> manifest.Manifest:
    password = folder / "password"
    password.write_text(PASSWORD, encoding="utf-8")
    password.chmod(0o600)
    (folder / "state").mkdir(mode=0o700)
    text = f"""
[platform]
name = "fifteen"
title = "Fifteen"
state = "{folder}/state"
[database]
port = {port}
name = "postgres"
user = "postgres"
password_file = "{password}"
primary = {{ name = "db-1", host = "127.0.0.1" }}
[backups]
repository = "{folder}/ours"
engine = "pgbackrest"
engine_config = "{folder}/pgbackrest.conf"
user = "postgres"
password_file = "{password}"
account = "{give(folder).owner()}"
[evidence]
origin = "fifteen.test"
"""
    return manifest.parse(text, folder / "platform.toml")
