"""The processes that work on runs: who they are, and whether they still live."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import msgspec

from nvcops.adapters.ops_store import OpsStore
from nvcops.core.errors import StateError
from nvcops.core.schedule import now

HEARTBEAT_S = 5.0
SILENT_AFTER_S = 30.0
_FORGOTTEN_AFTER_S = 7 * 86_400.0


class Worker(msgspec.Struct, frozen=True):
    """A process. `birth` tells it from a later one with the same pid; `host` from one in another container."""

    id: str
    kind: str
    host: str
    pid: int
    birth: str
    heartbeat: float

    @property
    def gone(self) -> bool:
        """Whether it certainly does not live any more; of another host's processes only silence can be known."""
        return self.host == _host() and _birth(self.pid) != self.birth

    def silent(self, moment: float) -> bool:
        """Whether it has not been heard of for too long: it may hang, or its host may be gone."""
        return moment - self.heartbeat > SILENT_AFTER_S


def this_process(kind: str) -> Worker:
    """The process that asks."""
    pid = os.getpid()
    birth = _birth(pid)
    return Worker(f"{kind}-{socket.gethostname()}-{pid}-{birth}", kind, _host(), pid, birth, now().timestamp())


def find(ops: OpsStore, worker: str) -> Worker | None:
    """A worker by its id."""
    rows = ops.rows("SELECT * FROM workers WHERE id = ?", worker)
    return Worker(**rows[0]) if rows else None


def is_gone(ops: OpsStore, worker: str) -> bool:
    """Whether a worker certainly does not live any more."""
    found = find(ops, worker)
    return found is None or found.gone


def has_left(ops: OpsStore, worker: str) -> bool:
    """Whether a worker does not live any more, or has not been heard of for so long that others may take its runs."""
    found = find(ops, worker)
    return found is None or found.gone or found.silent(now().timestamp())


def serving(ops: OpsStore) -> Worker | None:
    """A `serve` process that takes up what others leave, if one lives."""
    moment = now().timestamp()
    rows = ops.rows("SELECT * FROM workers WHERE kind = 'serve' ORDER BY heartbeat DESC LIMIT 100")
    live = (worker for worker in (Worker(**row) for row in rows) if not worker.gone and not worker.silent(moment))
    return next(live, None)


class Heartbeat:
    """Enters a worker into the store and keeps saying that it lives, until it is stopped."""

    def __init__(self, ops: OpsStore, worker: Worker) -> None:
        self._ops = ops
        self._worker = worker
        self._stop = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._keep, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave: whatever this worker still has is then found at once."""
        self._stop.set()
        self._thread.join(HEARTBEAT_S)
        with self._ops.changing() as change:
            change.execute("DELETE FROM workers WHERE id = ?", (self._worker.id,))

    def _keep(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            try:
                self._beat()
            except StateError:
                continue  # the next step of a run meets the same error and says so; silence is what the others see

    def _beat(self) -> None:
        fresh = msgspec.structs.replace(self._worker, heartbeat=now().timestamp())
        with self._ops.changing() as change:
            forgotten = fresh.heartbeat - _FORGOTTEN_AFTER_S  # a run of a worker that is not known is nobody's, too
            change.execute("DELETE FROM workers WHERE heartbeat < ?", (forgotten,))
            change.execute(
                "INSERT INTO workers (id, kind, host, pid, birth, heartbeat) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET heartbeat = excluded.heartbeat",
                msgspec.structs.astuple(fresh),
            )


def _host() -> str:
    """This host, this boot and this process namespace: where a pid means something."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"


def _birth(pid: int) -> str:
    """When a process began, in ticks since the boot; "" when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
