"""A PostgreSQL over a data folder, for ourselves alone: on a socket in a private folder, with no way in or out.

All that its data say of networks, archiving and replication is overruled on its command line. It dies with the thread
that started it, by SIGQUIT, so that nothing of it stays; whoever comes next waits until it is gone.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from nvcops.adapters.backup.tools import Tools
from nvcops.core.errors import DeadlineExceeded, NvcopsError, Refused, StateError

_SOCKET_PATH_MAX = 107 - len("/.s.PGSQL.5432")
_TAIL_BYTES = 16384
_STOP_S = 120.0
_GONE_S = 20.0
_LOOK_S = 30.0
# Of the server that wrote the log: a copy that allows less cannot replay it.
_AS_WRITTEN = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
    "track_commit_timestamp": "track_commit_timestamp setting",
}
_ALONE = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "ssl": "off",
    "archive_mode": "off",
    "archive_command": "",
    "archive_library": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "max_logical_replication_workers": "0",  # subscriptions in the data would take what is meant for the live ones
    "hot_standby": "off",
    "autovacuum": "off",
    "recovery_init_sync_method": "syncfs",
    "restart_after_crash": "off",
    "dynamic_shared_memory_type": "mmap",
    "huge_pages": "off",
    "shared_buffers": "128MB",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "warning",
    "log_line_prefix": "%m ",
    "timezone": "GMT",
    "log_timezone": "GMT",
    "lc_messages": "C",
}


class CloneEnded(StateError):
    """The server of a copy ended instead of answering; `said` are its last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A copy's data, and the folder of work beside them in which its log, its socket and its rules lie."""

    data: Path
    work: Path
    tools: Tools
    superuser: str
    quiet: bool = False

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.work / "server.log"

    @property
    def sockets(self) -> Path:
        """The private folder of its socket: in the folder of work, or where the path is short enough for one."""
        below = self.work / "socket"
        if len(str(below)) <= _SOCKET_PATH_MAX:
            return below
        digest = hashlib.sha256(str(self.work).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"nvcops-{digest}"

    @property
    def conninfo(self) -> str:
        """For libpq; the database is for the caller to add."""
        return make_conninfo("", host=str(self.sockets), port="5432", user=self.superuser)

    @contextmanager
    def running(self, *, deadline_s: float, recovery: Mapping[str, str] | None = None) -> Iterator[str]:
        """Run it for as long as the block lasts, and stop it in an orderly way; yields `conninfo`.

        `recovery`: settings of a recovery; it answers once that has ended.

        Raises:
            CloneEnded: it did not come up, with its last words.
            DeadlineExceeded: it did not come up in time.
        """
        self._prepare()
        with self.log.open("ab") as log:
            began_at = log.tell()
            process = self.tools.start(
                "postgres", *self._arguments(recovery or {}), quiet=self.quiet, as_server=True, stdout=log, stderr=log
            )
        try:
            self._wait(process, deadline_s, began_at)
            yield self.conninfo
        finally:
            stop(process)
            remove_sockets(self)

    def said(self, since: int = 0) -> str:
        """The end of its log."""
        with self.log.open("rb") as log:
            log.seek(max(since, self.log.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace")

    def _prepare(self) -> None:
        end_server(self.data)
        private = self.sockets
        private.mkdir(mode=0o700, exist_ok=True)
        status = private.lstat()
        if status.st_mode & 0o077 or not private.is_dir() or private.is_symlink():
            raise StateError(f"{private} is not only ours", hint="remove it")
        self.tools.give(private)
        for name, text in (("hba.conf", "local all all trust\n"), ("ident.conf", ""), ("postgresql.conf", "")):
            (self.work / name).write_text(text, encoding="ascii")
            self.tools.give(self.work / name)

    def _arguments(self, recovery: Mapping[str, str]) -> list[str]:
        written = control_data(self.tools, self.data)
        settings = {
            **_ALONE,
            # Forcing a copy that is thrown away to the disk would keep the customers' commits waiting for theirs.
            "fsync": "off" if self.quiet else "on",
            **{name: written[label] for name, label in _AS_WRITTEN.items() if label in written},
            "config_file": str(self.work / "postgresql.conf"),
            "hba_file": str(self.work / "hba.conf"),
            "ident_file": str(self.work / "ident.conf"),
            "unix_socket_directories": str(self.sockets),
            **recovery,
        }
        return ["-D", str(self.data), *(f"--{name}={value}" for name, value in settings.items())]

    def _wait(self, process: subprocess.Popen[bytes], deadline_s: float, log_from: int) -> None:
        end, pause_s = time.monotonic() + deadline_s, 0.02
        while True:
            try:
                psycopg.connect(self.conninfo, dbname="template1", connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if "does not exist" in str(error):
                    raise Refused(
                        f"the copy has no superuser {self.superuser}", hint="[backups] superuser names it"
                    ) from error
            else:
                return
            if process.poll() is not None:
                raise CloneEnded(f"the copy's server ended: {last_errors(self.said(log_from))}", hint=str(self.log))
            if time.monotonic() > end:
                raise DeadlineExceeded(f"the copy's server was not ready within {deadline_s:g} s")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.3, 0.5)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a server as its administrator would; one that does not end in time is killed."""
    for number, patience_s in ((signal.SIGINT, _STOP_S), (signal.SIGQUIT, _GONE_S), (signal.SIGKILL, _GONE_S)):
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue


def server_of(data: Path) -> int | None:
    """The process id of the server that runs over a data folder; None: none does."""
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="ascii").split("\n", 1)[0])
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    try:
        there = Path(f"/proc/{pid}/cwd").readlink()
    except FileNotFoundError:
        return None
    except PermissionError:  # another account's: its name must do
        return pid if "postgres" in Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace") else None
    return pid if there == data.resolve() else None


def end_server(data: Path) -> None:
    """Wait until a server of ours over these data, which lost its parent, is gone; help it when it does not end."""
    for number in (signal.SIGQUIT, signal.SIGKILL):
        end = time.monotonic() + _GONE_S / 2
        while (pid := server_of(data)) and time.monotonic() < end:
            time.sleep(0.05)
        if pid is None:
            return
        os.kill(pid, number)
    while server_of(data):
        time.sleep(0.05)


def remove_sockets(clone: Clone) -> None:
    """Remove the folder of its socket, and what a killed server left in it."""
    if clone.sockets.is_dir():
        for left in clone.sockets.iterdir():
            left.unlink()
        clone.sockets.rmdir()


def control_data(tools: Tools, data: Path) -> dict[str, str]:
    """What pg_controldata says, by its labels.

    Raises:
        StateError: these are no data of that version.
    """
    done = tools.run("pg_controldata", "-D", str(data), deadline_s=_LOOK_S, as_server=True)
    if done.code != 0:
        raise StateError(f"{data} holds no data of PostgreSQL {tools.major}: {done.said}")
    pairs = (line.partition(":") for line in done.output.splitlines())
    return {label.strip(): value.strip() for label, _, value in pairs}


def last_errors(said: str) -> str:
    r"""The server's own reason for its end: what it called FATAL, PANIC or an error, the last of them.

    >>> last_errors("x GMT LOG:  shutting down\ny GMT FATAL:  recovery ended before its target\nz GMT LOG:  bye")
    'FATAL:  recovery ended before its target'
    """
    found = re.findall(r"(?:FATAL|PANIC|ERROR|HINT|DETAIL):  .*", said)
    return "; ".join(found[-2:]) or said.strip().rpartition("\n")[2] or "it said nothing"


def ended_before_target(error: NvcopsError) -> bool:
    """Whether a recovery ended because the log did: its target lies beyond what there is."""
    return "recovery ended before configured recovery target was reached" in error.sentence
