"""Where everything of one lab lies.

    D/lab.lock  lab.json  platform.toml  faults.json
    D/data/{primary,standby,cache}   D/logs/   D/secrets/   D/keys/   D/tls/   D/archive/   D/customers/
    D/delivery/{store,releases,slots,environments}

Sockets cannot lie in D, because their paths end at 107 bytes: they lie in a private folder under /tmp that lab.json
names.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nvclab.errors import LabBusy, LabError, NotRunning

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTANCES = ("bank-1", "bank-2")
SPARE = ("bank-3", "bank-4")  # slots in which a new release is tried, and the one before is kept warm
OPERATIONS = "operations"  # where `nvcops serve` listens, which is no part of the lab
PORT_NAMES = ("primary", "standby", "cache", "http", "https", "proxy_statistics", *INSTANCES, "pager", OPERATIONS)
_OWNER = "lab"
_LOCK_TRIES, _LOCK_PAUSE_S = 8, 0.05
_RUNTIME_PREFIX = "/tmp/nvclab-"  # noqa: S108 - made with mode 0711 and a random name; D may be too long for sockets


@dataclass(frozen=True)
class Record:
    """lab.json: what another process must know to find a running lab, or to clean up after a dead one."""

    id: str
    pid: int
    runtime: str
    ports: dict[str, int]

    @property
    def control(self) -> Path:
        """The control socket."""
        return Path(self.runtime) / "control.sock"

    @property
    def proxy_socket(self) -> Path:
        """HAProxy's runtime socket."""
        return Path(self.runtime) / "haproxy.sock"

    @property
    def database_sockets(self) -> Path:
        """The folder of PostgreSQL's sockets."""
        return Path(self.runtime) / "postgres"


@dataclass(frozen=True)
class Layout:
    """The paths of the lab in `folder`."""

    folder: Path

    def at(self, *names: str) -> Path:
        """A path inside the lab's folder."""
        return self.folder.joinpath(*names)

    def log(self, name: str) -> Path:
        """The log file of a part."""
        return self.at("logs", f"{name}.log")

    @property
    def application_log(self) -> Path:
        """JSON lines of both bank instances."""
        return self.log("application")

    @property
    def pages(self) -> Path:
        """JSON lines of what arrived at the pager."""
        return self.at("logs", "pages.jsonl")

    @property
    def archive(self) -> Path:
        """A folder with a quota of its own."""
        return self.at("archive")

    def prepare(self) -> None:
        """Make the folders; the lab's own are for its owner's eyes only."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, mode in (("data", 0o711), ("logs", 0o755), ("archive", 0o755), ("customers", 0o755)):
            self.at(name).mkdir(mode=mode, exist_ok=True)
        for name in ("secrets", "keys", "tls"):
            self.at(name).mkdir(mode=0o700, exist_ok=True)

    def secret(self, name: str) -> str:
        """A password: made once, kept in a file that only the owner reads."""
        path = self.secret_file(name)
        if not path.exists() or not path.read_text(encoding="ascii").strip():
            write_private(path, secrets.token_hex(24))
        return path.read_text(encoding="ascii").strip()

    def secret_file(self, name: str) -> Path:
        """The file of a password."""
        return self.at("secrets", f"{name}.password")

    def record(self) -> Record:
        """What lab.json says; NotRunning when there is none."""
        try:
            return Record(**json.loads(self.at("lab.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise NotRunning(f"No lab runs in {self.folder}.", hint=f"nvclab up --dir '{self.folder}'") from None
        except (ValueError, TypeError) as error:
            raise LabError(f"{self.at('lab.json')} is damaged: {error}.", hint="nvclab down removes it") from error

    def write_record(self, record: Record) -> None:
        """Write lab.json whole or not at all."""
        write_private(self.at("lab.json"), json.dumps(asdict(record), indent=2) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: LabBusy when another supervisor (or `down`) holds it. The kernel lets go when we die."""
        with self.at("lab.lock").open("a+") as file:
            if not _lock_soon(file):
                raise LabBusy(
                    f"A lab already runs in {self.folder}.",
                    hint="nvclab status shows it, nvclab down ends it, another --dir starts a second one",
                )
            yield

    def is_held(self) -> bool:
        """Say whether a living supervisor holds the folder."""
        lock = self.at("lab.lock")
        if not lock.exists():
            return False
        with lock.open("a+") as file:
            return not _try_lock(file)


def new_record(ports: dict[str, int]) -> Record:
    """A record for a lab that is about to start."""
    name = secrets.token_hex(6)
    return Record(id=name, pid=os.getpid(), runtime=f"{_RUNTIME_PREFIX}{name}", ports=ports)


def make_runtime(record: Record, layout: Layout) -> Path:
    """Make the folder for sockets; its name is random, so nobody can have made it before us.

    A link in it names the lab, so that it can be removed even when nobody comes back to the lab's own folder.
    """
    runtime = Path(record.runtime)
    runtime.mkdir(mode=0o711)
    (runtime / _OWNER).symlink_to(layout.folder.absolute())
    return runtime


def remove_dead_runtimes() -> None:
    """Remove our account's socket folders whose labs are dead: nobody holds the lab's folder, or it is gone."""
    for runtime in Path(_RUNTIME_PREFIX).parent.glob(f"{Path(_RUNTIME_PREFIX).name}*"):
        owner = runtime / _OWNER
        try:
            ours = runtime.stat().st_uid == os.geteuid()  # and only then may we look into it
            if ours and owner.is_symlink() and not Layout(owner.readlink()).is_held():
                shutil.rmtree(runtime)
        except FileNotFoundError:  # its own lab was quicker
            continue


def remove_runtime(record: Record) -> None:
    """Remove the folder for sockets, if it is one of ours."""
    if record.runtime.startswith(_RUNTIME_PREFIX) and Path(record.runtime).exists():
        shutil.rmtree(record.runtime)


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_soon(file: IO[str]) -> bool:
    """Take the lock now, or within a moment: whoever only asks whether a lab runs holds it meanwhile."""
    for _ in range(_LOCK_TRIES):
        if _try_lock(file):
            return True
        time.sleep(_LOCK_PAUSE_S)
    return False
