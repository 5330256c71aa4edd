"""The full check, as the procedure asks it, of a world in which something was planted."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from database_world import NAME, PASSWORD, Lines, World

from nvclab.parts.postgres import Postgres
from nvclab.parts.process import free_ports
from nvcops.adapters.postgres import PostgresServer
from nvcops.core.manifest import EvidenceEntry, Manifest, Platform
from nvcops.core.manifest.database import DatabaseEntry, DatabaseLimits, Server
from nvcops.core.target import Database
from nvcops.database.checks.performance import performance, performance_findings

STANDBY = "db-2"
# Of a fresh server: what it did is too little to say anything, and fsync is off to be quick, unless a test wants it on.
FRESH = {"performance.cache_hit", "performance.statements", "database.dangerous_settings"}


def platform(limits: Mapping[str, Any] | None = None, **entry: Any) -> Manifest:
    """A platform that is one database. limits: of [database.limits]; entry: more of [database]."""
    server = Server(name=NAME, host="127.0.0.1")
    database = DatabaseEntry(
        name="unused", user="nvcops", primary=server, limits=DatabaseLimits(**(limits or {})), **entry
    )
    return Manifest(
        platform=Platform(name="checked", title="Checked", state=Path("unused")),
        database=database,
        evidence=EvidenceEntry(origin="checked.example.com/operations"),
    )


def checked(
    world: World,
    limits: Mapping[str, Any] | None = None,
    standbys: Sequence[Database] = (),
    asked: Database | None = None,
    **entry: Any,
) -> Lines:
    """All lines about a world: its queries asked in one session, by the role nvcops unless another one asks."""
    seen = performance(world.target(database=asked or world.socket(), standbys=list(standbys)))
    assert seen is not None
    return Lines(performance_findings(seen, platform(limits, **entry), NAME))


def wrong(lines: Lines) -> dict[str, str]:
    """The checks that are not OK, with their subjects; without what a fresh server cannot know of itself."""
    return {line.check: line.subject for line in lines.wrong() if line.check not in FRESH}


@contextmanager
def followed(server: Postgres, **settings: str) -> Iterator[Postgres]:
    """A standby that replays from the server, for as long as the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="nvclab-pg-"))
    folder.chmod(0o755)
    role, password = f"follower_{secrets.token_hex(4)}", secrets.token_hex(8)
    with server.connect() as administrator:
        administrator.execute("SET synchronous_commit = local")
        administrator.execute(f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{password}'".encode())
        administrator.execute("SELECT pg_create_physical_replication_slot(%s, true)", [role])
    source = server.conninfo(user=role, password=password, application_name=role)
    following = {"primary_conninfo": source, "primary_slot_name": role, "hot_standby": "on"}
    standby = Postgres(
        name="standby",
        data=folder / "data",
        logs=folder / "logs",
        sockets=folder / "sockets",
        port=free_ports(1)[0],
        password=server.password,
        settings={**server.settings, **following, **settings},
        binaries=server.binaries,
    )
    try:
        standby.clone(server, role, password, role)
        standby.start()
        yield standby
    finally:
        standby.stop()
        shutil.rmtree(folder)
        with server.connect() as administrator:
            administrator.execute("SET synchronous_commit = local")  # the standby that should confirm is gone
            wait = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s AND active"
            while administrator.execute(wait, [role]).fetchone() != (0,):
                administrator.execute("SELECT pg_sleep(0.02)")
            administrator.execute("SELECT pg_drop_replication_slot(%s)", [role])
            administrator.execute(f"DROP ROLE {role}".encode())


def caught_up(world: World, standby: Postgres) -> None:
    """Wait until the standby has replayed what the primary wrote."""
    position = world.value("SELECT pg_current_wal_lsn()")

    def replayed() -> bool:
        with standby.connect(world.database) as session:
            return session.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position]).fetchone() == (True,)

    world.wait_until(replayed, "the standby has caught up")


def socket_of(standby: Postgres, database: str, deadline_s: float = 10.0) -> PostgresServer:
    """How production asks a standby."""
    return PostgresServer(
        name=STANDBY,
        host="127.0.0.1",
        port=standby.port,
        database=database,
        user="nvcops",
        deadline_s=deadline_s,
        password=PASSWORD,
    )
