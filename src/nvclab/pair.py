"""The database: a primary and a standby that streams from it, each a server that the keeper looks after.

Both are configured alike, so that either can follow the other: who does says the file `standby.signal` in its data,
however that came to be. In platform.toml the part "primary" is called db-1, and "standby" db-2.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from psycopg.conninfo import make_conninfo

from nvclab import database_roles
from nvclab.database_roles import DATABASE, REPLICATION
from nvclab.errors import LabError
from nvclab.parts.postgres import Postgres
from nvclab.parts.postgres_binaries import Binaries, find_binaries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nvclab.keeper import Keeper
    from nvclab.layout import Layout, Record

SLOT = "standby"
_SETTINGS: Mapping[str, str] = {
    "max_connections": "100",
    "superuser_reserved_connections": "3",
    "reserved_connections": "4",  # for operations: they can look when everybody else is locked out
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "wal_level": "replica",
    "max_slot_wal_keep_size": "512MB",  # a standby that is away does not fill the primary's disk
    "wal_sender_timeout": "10s",
    "wal_receiver_timeout": "10s",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "1s",
    "hot_standby_feedback": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "all",  # the bank posts by functions: what is slow is inside of them
    "track_io_timing": "on",
    "password_encryption": "scram-sha-256",
    "log_destination": "jsonlog",
    "logging_collector": "on",
    "log_filename": "postgresql.log",
    "log_file_mode": "0644",
    "log_rotation_age": "0",
    "log_rotation_size": "0",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_lock_waits": "on",
    "log_statement": "ddl",  # who granted what to whom
    "log_min_duration_statement": "500ms",
}
# The name by which the receiver of the transaction log goes, for commits that wait for it.
RECEIVER = "nvcops_wal"
_READY_S = 60.0
_INCREMENTAL_MAJOR = 17  # knows which blocks changed, for incremental backups


@dataclass
class Pair:
    """Two servers by their names as parts, "primary" and "standby": those are the roles with which they begin."""

    layout: Layout
    record: Record
    keeper: Keeper
    servers: Mapping[str, Postgres] = field(init=False)
    names: ClassVar[Mapping[str, str]] = {"db-1": "primary", "db-2": "standby"}

    def __post_init__(self) -> None:
        names = list(self.names.values())
        pairs = zip(names, reversed(names), strict=True)
        self.servers = {name: self._server(name, follows=other) for name, other in pairs}

    @property
    def primary(self) -> Postgres:
        """The server that is primary."""
        first, second = self.servers.values()
        return second if first.follows() and second.data.exists() and not second.follows() else first

    @property
    def standby(self) -> Postgres:
        """The other one."""
        return self._other(self.primary)

    @property
    def parts(self) -> Mapping[str, Postgres]:
        """What the keeper looks after, in the order of the start."""
        return self.servers

    def url(self, user: str, password: str) -> str:
        """Where programs find the bank's database: at whichever server is primary."""
        return url(self.servers.values(), user, password)

    def begin(self) -> None:
        """Start the primary, made if it is the first time, and give it what it lacks."""
        self.primary.initialise()
        self.start(self.primary.name)

    def complete(self) -> None:
        """Start the standby, made if there is none."""
        self.start(self.standby.name)

    def start(self, name: str) -> None:
        """Start a server and wait until it has its role.

        A standby is cloned where there is none; a primary gets what it lacks of roles and slots, whatever its data are.
        """
        server = self.servers[name]
        if not server.data.exists():
            self._clone(server)
        self.keeper.start(name, _READY_S)
        if not server.follows():
            server.process.wait_until(server.accepts_writes, _READY_S)
            database_roles.prepare(server, self.layout, (SLOT,))

    def rebuild(self, name: str) -> None:
        """Make a server anew as the standby of the other one, which must be primary."""
        server = self.servers[name]
        self._source_of(server)
        self.keeper.stop(name)
        if server.data.exists():
            shutil.rmtree(server.data)
        self.start(name)

    def wait_for_receiver(self) -> None:
        """From now on a commit waits until the receiver of the transaction log has it."""
        for server in self.servers.values():
            server.settings = {**server.settings, "synchronous_standby_names": RECEIVER}
            server.reload()

    def _clone(self, server: Postgres) -> None:
        source = self._source_of(server)
        database_roles.prepare(source, self.layout, (SLOT,))
        server.clone(source, REPLICATION, self.layout.secret("replication"), SLOT)

    def _source_of(self, server: Postgres) -> Postgres:
        """The server from which another one is copied: it must be primary now."""
        source = self._other(server)
        if not source.accepts_writes():
            hint = f"restore the data of {server.name}, or start {source.name} as primary first"
            raise LabError(f"{server.name} cannot be made: {source.name} is no running primary.", hint=hint)
        return source

    def _other(self, server: Postgres) -> Postgres:
        first, second = self.servers.values()
        return second if server is first else first

    def _server(self, name: str, *, follows: str) -> Postgres:
        """A server with everything that it needs to follow the other one, for when it is told to."""
        source = {
            "user": REPLICATION,
            "password": self.layout.secret("replication"),
            "host": "127.0.0.1",
            "port": str(self.record.ports[follows]),
            "application_name": SLOT,
            "connect_timeout": "3",  # a dead network must be noticed
        }
        logs = self.layout.at("logs", name)
        following = {"primary_conninfo": make_conninfo("", **source), "primary_slot_name": SLOT}
        binaries = find_binaries()
        return Postgres(
            name=name,
            data=self.layout.at("data", name),
            logs=logs,
            sockets=self.record.database_sockets,
            port=self.record.ports[name],
            password=self.layout.secret("administrator"),
            settings={**settings(binaries), "log_directory": str(logs), **following},
            binaries=binaries,
        )


def url(servers: Iterable[Postgres], user: str, password: str) -> str:
    """The URL of the bank's database at whichever of the servers is primary. Our passwords need no escaping."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"postgresql://{user}:{password}@{hosts}/{DATABASE}?target_session_attrs=read-write"


def settings(binaries: Binaries) -> dict[str, str]:
    """The settings that every server of the lab has, in this release of PostgreSQL."""
    incremental = {"summarize_wal": "on"} if binaries.major() >= _INCREMENTAL_MAJOR else {}
    return {**_SETTINGS, **incremental}
