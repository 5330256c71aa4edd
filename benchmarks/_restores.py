"""What the benchmarks of restores share: a server with pgbench's tables, backed up into a repository beside it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nvclab.parts import postgres
from nvclab.parts.account import is_root
from nvclab.parts.postgres import Postgres
from nvcops.adapters.backup.native import NativeBackups
from nvcops.adapters.backup.repository import open_repository
from nvcops.adapters.backup.restores import NativeRestores
from nvcops.core.manifest import parse

_PLATFORM = """
[platform]
name = "bench"
title = "Bench"
state = "{folder}/state"
[evidence]
origin = "bench.example/operations"
[database]
name = "postgres"
user = "postgres"
port = {port}
primary = {{ name = "db-1", host = "127.0.0.1" }}
[backups]
repository = "{folder}/repository"
user = "nvcops_backup"
password_file = "{folder}/password"
binaries = "{binaries}"
{account}
"""
_SETTINGS = {
    "wal_level": "replica",
    "summarize_wal": "on",
    "max_wal_size": "8GB",
    "autovacuum": "off",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
}


@dataclass
class Bench:
    """The server and its backups, in a folder that is gone afterwards."""

    server: Postgres
    folder: Path
    backups: NativeBackups
    restores: NativeRestores

    def pgbench(self, *arguments: str) -> None:
        """Run pgbench on it, quietly."""
        environment = {**os.environ, **self.server.binaries.environment(), "PGPASSWORD": self.server.password}
        where = ["-h", "127.0.0.1", "-p", str(self.server.port), "-U", "postgres", "-q" if "-i" in arguments else "-n"]
        subprocess.run(
            [self.server.binaries.path("pgbench"), *where, *arguments, "postgres"],
            env=environment,
            capture_output=True,
            check=True,
        )

    def execute(self, sql: str) -> None:
        """Ask the server as its administrator."""
        with self.server.connect() as session:
            session.execute(sql.encode())


@contextmanager
def bench(scale: int) -> Iterator[Bench]:
    """A server with pgbench's tables, about 15 MB for each unit of scale."""
    folder = Path(tempfile.mkdtemp(prefix="nvcops-bench-"))
    try:
        with postgres.temporary(settings=_SETTINGS) as server:
            password = secrets.token_hex(16)
            (folder / "password").touch(mode=0o600)
            (folder / "password").write_text(password, encoding="ascii")
            account = 'account = "nobody"' if is_root() else ""
            text = _PLATFORM.format(folder=folder, port=server.port, binaries=server.binaries.folder, account=account)
            manifest = parse(text, folder / "platform.toml")
            repository = open_repository(manifest)
            restores = NativeRestores(repository=repository, manifest=manifest, state=folder / "state" / "restores")
            made = Bench(server, folder, NativeBackups(repository), restores)
            made.execute(f"CREATE ROLE nvcops_backup LOGIN REPLICATION PASSWORD '{password}'")
            made.execute("GRANT pg_read_all_data, pg_read_all_stats TO nvcops_backup")
            made.pgbench("-i", "-s", str(scale))
            yield made
    finally:
        shutil.rmtree(folder)
