"""What a supervisor that was killed leaves behind, and its removal.

Its children die with it (the kernel sees to that), so there should be none; whoever is found all the same is one of
ours for certain: it carries this lab's id in its environment, or works inside this lab's data.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nvclab.errors import LabError, NotRunning
from nvclab.layout import remove_dead_runtimes, remove_runtime
from nvclab.parts import shared_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvclab.layout import Layout

MARKER = "NVCLAB_ID"
_DEADLINE_S = 15.0


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
    _end_processes(layout, record.id if record else None)
    for server in ("primary", "standby"):
        lock = layout.at("data", server, "postmaster.pid")
        shared_memory.remove_orphan(lock)
        # Nobody works in the data any more; but whoever inherited the dead server may be slow to bury it, and as long
        # as it lies there PostgreSQL takes it for a living one.
        lock.unlink(missing_ok=True)
    if record:
        remove_runtime(record)
    layout.at("lab.json").unlink(missing_ok=True)
    return True


def _end_processes(layout: Layout, marker: str | None) -> None:
    """Kill what is still there and wait until it is gone."""
    end = time.monotonic() + _DEADLINE_S
    while found := list(processes(layout, marker)):
        if time.monotonic() > end:
            raise LabError(f"Processes of the dead lab do not end: {found}.", hint="end them by hand")
        for pid in found:
            _kill(pid)
        time.sleep(0.05)


def processes(layout: Layout, marker: str | None) -> Iterator[int]:
    """Process ids of a lab's parts: those that carry its marker, and PostgreSQL's own, which overwrite theirs."""
    data = str(layout.at("data").resolve())
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            works_in = str((folder / "cwd").readlink())
            marked = marker is not None and f"{MARKER}={marker}".encode() in (folder / "environ").read_bytes()
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
        if marked or works_in == data or works_in.startswith(f"{data}/"):
            yield int(folder.name)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it was quicker
