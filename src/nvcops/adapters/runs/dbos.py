"""DBOS as the journal: it keeps what each step of a run returned, and answers with it when the run is resumed.

Who has a run is decided by our own claim (runs_store), so that a worker takes up exactly what it claimed. Each process
therefore has a DBOS queue of its own. Its cron is not used, its version is fixed (a run is bound to its procedure's
content instead), and it is launched only while there is something to carry out.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig, Serializer, SetWorkflowID

from nvcops.core.errors import RunError, StateError

_VERSION = "nvcops-journal-1"  # of the journal's format, not of our code
_QUEUE_POLL_S = 0.2
_PROBE_S_MAX = 2.0
_SETTLE_S_MAX = 2.0
_OVER = ("SUCCESS", "ERROR")
_FINISHED = (*_OVER, "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

_work: dict[str, Callable[[], None]] = {}
_open: list[Dbos] = []


class _Json(Serializer):
    """All that we journal is text; what DBOS adds of its own is written down, never unpickled."""

    def serialize(self, data: Any) -> str:
        return json.dumps({"error": repr(data)} if isinstance(data, BaseException) else data)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)

    def name(self) -> str:
        return "nvcops_json"


@DBOS.workflow(name="nvcops.run")
def _run(run: str) -> str:
    _work[run]()
    return run


class Dbos:
    """The journal in a file. One per process at a time: DBOS allows no more."""

    def __init__(self, path: Path, worker: str) -> None:
        if _open:
            raise StateError(f"this process already has the journal {_open[0].path} open")
        self.path: Path = path
        self._worker = worker
        probe(path)
        DBOS(
            config=DBOSConfig(
                name="nvcops",
                system_database_url=f"sqlite:///{path}",
                application_version=_VERSION,
                executor_id=worker,
                serializer=_Json(),
                log_level="CRITICAL",
                max_executor_threads=32,
                scheduler_polling_interval_sec=3600.0,
                notification_listener_polling_interval_sec=0.1,  # nothing listens; closing waits for it
            )
        )
        try:
            DBOS.listen_queues([worker])
            DBOS.launch()
            DBOS.register_queue(worker, polling_interval_sec=_QUEUE_POLL_S)
        except Exception as error:
            DBOS.destroy()
            raise StateError(
                f"the journal {path} cannot be opened: {error}", hint="look at the disk's space and rights"
            ) from error
        _open.append(self)

    def carry_out(self, run: str, work: Callable[[], None]) -> threading.Event:
        """Go through a run in a thread of the engine, from its beginning or over what the journal has of it.

        Returns:
            An event, set when `work` has come to an end, or was left by a Parked.

        Raises:
            RunError: the run is over for the journal, which therefore would never go through it.
        """
        status = DBOS.get_workflow_status(run)
        if status is not None and status.status in _OVER:
            raise RunError(
                f"the journal {self.path} says that {run} is over, and the records do not",
                hint=f"`nvcops cancel {run}` and run it again",
            )
        done = threading.Event()

        def noted() -> None:
            try:
                work()
            finally:
                done.set()

        _work[run] = noted
        if status is None:
            with SetWorkflowID(run):
                DBOS.start_workflow(_run, run)
        else:
            DBOS.resume_workflow(run, queue_name=self._worker)
        return done

    def settle(self, run: str, *, ended: bool) -> None:
        """Let the journal note that a run has ended, before it is closed."""
        _work.pop(run, None)
        until = time.monotonic() + _SETTLE_S_MAX
        while ended and time.monotonic() < until:
            status = DBOS.get_workflow_status(run)
            if status is None or status.status in _FINISHED:
                return
            time.sleep(0.02)

    @staticmethod
    def step(name: str, body: Callable[[], str]) -> str:
        """Within a run: the journaled outcome of its next step, or that of `body`, then journaled."""
        return DBOS.run_step({"name": name}, body)

    def forget_queues(self, gone: Callable[[str], bool]) -> None:
        """Remove the queues of workers that are gone."""
        for queue in DBOS.list_queues():
            if queue.name != self._worker and gone(queue.name):
                DBOS.delete_queue(queue.name)

    def close(self) -> None:
        """Stop the engine's threads."""
        _open.remove(self)
        try:
            DBOS.delete_queue(self._worker)
        finally:
            DBOS.destroy()


def probe(path: Path) -> None:
    """Whether the journal can be written now: DBOS itself would wait for minutes, or for ever.

    Raises:
        StateError: it cannot.
    """
    try:
        path.touch(mode=0o600)
        connection = sqlite3.connect(path, timeout=_PROBE_S_MAX, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE nvcops_probe (a)")
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise StateError(
            f"the journal {path} cannot be written: {error}",
            hint="look at the disk's space and rights, and at what else holds the file",
        ) from error
