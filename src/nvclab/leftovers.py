"""What a supervisor that was killed leaves behind, and its removal.

Its children die with it (the kernel sees to that), so there should be none; whoever is found all the same is one of
ours for certain: it carries this lab's id in its environment, or works inside this lab's data.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nvclab.errors import LabError, NotRunning
from nvclab.layout import remove_dead_runtimes, remove_runtime
from nvclab.parts import shared_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvclab.layout import Layout

MARKER = "NVCLAB_ID"
_DEADLINE_S = 15.0
_REMOVED = " (deleted)"  # where a process works whose folder is gone


def clean(layout: Layout) -> bool:
    """Remove the traces of a dead lab; True when there were any. Call it while holding the folder's lock.

    Socket folders of other dead labs go, too: their own folders may be gone for good.
    """
    remove_dead_runtimes()
    try:
        record = layout.record()
    except NotRunning:
        return False
    except LabError:  # damaged: the next lines need only what they find for themselves
        record = None
    end_all(lambda: processes(layout, record.id if record else None))
    for lock in layout.at("data").glob("**/postmaster.pid"):
        forget_server(lock)
    if record:
        remove_runtime(record)
    layout.at("lab.json").unlink(missing_ok=True)
    return True


def forget_server(lock: Path) -> None:
    """Remove what a killed PostgreSQL left: its shared memory, and its postmaster.pid.

    Nobody works in the data any more; but whoever inherited the dead server may be slow to bury it, and as long as it
    lies there PostgreSQL takes it for a living one.
    """
    shared_memory.remove_orphan(lock)
    lock.unlink(missing_ok=True)


def processes(layout: Layout, marker: str | None) -> Iterator[int]:
    """Process ids of a lab's parts: those that carry its marker, and PostgreSQL's own, which overwrite theirs."""
    yield from _processes(layout.at("data"), marker)


def working_in(folder: Path) -> Iterator[int]:
    """Process ids of whoever works in a folder or below."""
    yield from _processes(folder, None)


def _processes(data: Path, marker: str | None) -> Iterator[int]:
    place = str(data.resolve())
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            works_in = str((folder / "cwd").readlink()).removesuffix(_REMOVED)
            marked = marker is not None and f"{MARKER}={marker}".encode() in (folder / "environ").read_bytes()
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
        if marked or works_in == place or works_in.startswith(f"{place}/"):
            yield int(folder.name)


def signal_all(folder: Path, number: signal.Signals, *, but: int | None = None) -> None:
    """Signal whoever works in a folder or below, twice: somebody may have been born meanwhile."""
    for _ in range(2):
        for pid in working_in(folder):
            if pid != but:
                _signal(pid, number)


def end_all(find: Callable[[], Iterator[int]]) -> None:
    """Kill -9 whoever is found until nobody is; LabError when somebody does not end."""
    end = time.monotonic() + _DEADLINE_S
    while found := list(find()):
        if time.monotonic() > end:
            raise LabError(f"These processes do not end: {found}.", hint="end them by hand")
        for pid in found:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.01)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
        os.kill(pid, number)
