"""A fresh database that is kept by a role of its own, and a service whose quickness the test decides."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1] / "database"))

from database_world import WHEELS, World, served, world_on

from nvclab.parts.postgres import Postgres
from nvcops.adapters.files import load_manifest
from nvcops.adapters.postgres import PostgresServer
from nvcops.adapters.upkeep.keeper import PostgresUpkeep
from nvcops.adapters.upkeep.latency import Meter
from nvcops.adapters.upkeep.pending import PendingFile
from nvcops.core.manifest import Instance, Manifest, Series, ServiceEntry
from nvcops.core.units import Seconds
from nvcops.core.upkeep import Guard

__all__ = ["QUICK", "ROLE", "WHEELS", "Bank", "UpkeepWorld", "World", "served", "upkeep_on", "world_on"]

ROLE = "nvcops_upkeep"
_PASSWORD = "kept"
QUICK = Guard(attempts=3, pause=Seconds(0.2), deadline=Seconds(60))
_MANIFEST = """
[platform]
name = "kept"
title = "Kept"
state = "state"
[database]
name = "{database}"
port = {port}
user = "nvcops"
password_file = "reader"
deadline = "10 s"
primary = {{ name = "db-1", host = "127.0.0.1" }}
[database.upkeep]
user = "{role}"
password_file = "keeper"
{upkeep}
[evidence]
origin = "kept.example/operations"
"""


@dataclass
class UpkeepWorld:
    """The database (see World), and what keeps it. Tables of `bank` are made and filled by the superuser."""

    world: World
    upkeep: PostgresUpkeep

    def table(self, name: str, rows: int = 1000, *, owner: str = "bank") -> None:
        """A table (id, owner, filler) with an index on each of the first two."""
        stem = name.rpartition(".")[2].strip('"')
        self.world.execute(
            f"CREATE TABLE {name} (id bigint, owner bigint, filler text) WITH (autovacuum_enabled = off)",
            f"INSERT INTO {name} SELECT n, n % 97, 'filler ' || n FROM generate_series(1, {rows}) n",  # noqa: S608 - ours
            f'CREATE UNIQUE INDEX "{stem}_id" ON {name} (id)',
            f'CREATE INDEX "{stem}_owner" ON {name} (owner)',
            f"ALTER TABLE {name} OWNER TO {owner}",
        )
        self.world.flushed()
        self.world.execute(f"VACUUM (ANALYZE) {name}")

    def invalid(self) -> list[str]:
        """Indexes that no query may use."""
        return self.names("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT (indisvalid AND indisready)")

    def names(self, query: str) -> list[str]:
        """The first column of all rows."""
        return [str(row[0]) for row in self.world.superuser.execute(cast("Any", query)).fetchall()]

    def ours(self) -> int:
        """How many sessions of upkeep the server has."""
        return int(self.world.value(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'"))  # noqa: S608 - ours

    def manifest(self, folder: Path, upkeep: str = "") -> Manifest:
        """A platform.toml about this database. upkeep: further lines of [database.upkeep]."""
        for name, password in (("reader", "not-in-any-error"), ("keeper", _PASSWORD)):
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(password, encoding="ascii")
        text = _MANIFEST.format(database=self.world.database, port=self.world.server.port, role=ROLE, upkeep=upkeep)
        (folder / "platform.toml").write_text(text, encoding="utf-8")
        return load_manifest(folder / "platform.toml")


def keeper_of(world: World, folder: Path, meter: Meter | None = None) -> PostgresUpkeep:
    """What keeps the database, by its own role; its notes are in the folder."""
    socket = PostgresServer(
        name="db-1",
        host="127.0.0.1",
        port=world.server.port,
        database=world.database,
        user=ROLE,
        deadline_s=10.0,
        password=_PASSWORD,
    )
    notes = PendingFile(folder / "pending.json")
    return PostgresUpkeep(
        servers={"db-1": socket}, primary="db-1", roles=None, meter=meter or Meter([]), notes=notes, old_s=20.0
    )


@contextmanager
def upkeep_on(
    server: Postgres, major: int, *, rights: bool = True, meter: Meter | None = None
) -> Iterator[UpkeepWorld]:
    """A fresh database; its role may see, is a member of the tables' owner, and nothing else."""
    with world_on(server, major) as world:
        if not world.value(f"SELECT 1 FROM pg_roles WHERE rolname = '{ROLE}'"):  # noqa: S608 - ours
            world.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{_PASSWORD}'")
        verb, word = ("GRANT", "TO") if rights else ("REVOKE", "FROM")
        world.execute(
            f"REVOKE pg_maintain FROM {ROLE}",
            f"{verb} pg_monitor, bank {word} {ROLE}",
            "GRANT CREATE ON SCHEMA public TO bank",
        )
        with tempfile.TemporaryDirectory() as folder:
            yield UpkeepWorld(world, keeper_of(world, Path(folder), meter))


@dataclass
class Bank:
    """A service that counts `requests` more, of `seconds` each, whenever its metrics are read."""

    requests: int = 200
    seconds: float = 0.02
    silent: bool = False
    edges: tuple[float, ...] = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
    counted: list[int] = field(default_factory=lambda: [0] * 8)
    port: int = 0

    def page(self) -> str:
        """The next reading, with the probes' own requests, which are slow and nobody's."""
        at = next((n for n, edge in enumerate(self.edges) if self.seconds <= edge), len(self.edges))
        self.counted[at] += self.requests
        lines, total = ["# TYPE bank_seconds histogram"], 0
        for edge, count in zip([*map(str, self.edges), "+Inf"], self.counted, strict=True):
            total += count
            lines.append(f'bank_seconds_bucket{{route="/pay",le="{edge}"}} {total}')
            lines.append(f'bank_seconds_bucket{{route="/readyz",le="{edge}"}} {0 if edge != "+Inf" else total * 9}')
        return "\n".join([*lines, f'bank_seconds_count{{route="/pay"}} {total}', ""])

    def entry(self) -> ServiceEntry:
        """Its table of platform.toml."""
        url = f"http://127.0.0.1:{self.port}"
        series = Series(requests="none", latency="bank_seconds", probe_routes=("/readyz",))
        instances = (Instance(name="bank-1", url=url),)
        return ServiceEntry(name="bank", url=url, metrics="/metrics", series=series, instances=instances)

    @contextmanager
    def serving(self) -> Iterator[Bank]:
        """Answer on a free port as long as the block lasts."""
        bank = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = b"" if bank.silent else bank.page().encode()
                self.send_response(503 if bank.silent else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()
