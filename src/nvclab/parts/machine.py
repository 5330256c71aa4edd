"""A host in a process: whatever is started on it is its descendant, so that it can be put off like a real one.

    python -m nvclab.parts.machine FOLDER PROGRAM ARGUMENTS...

SIGTERM, which the kernel sends when the lab's supervisor is gone, is its power switch: all that runs on it is killed
and buried at once. SIGINT shuts it down: the program is asked to end first. A program that ends by itself is started
again, as systemd would.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_RESTART_S = 1.0
_LOOK_S = 0.5
_PARENT = 1  # of the words that follow the name in /proc/PID/stat


def main(program: list[str]) -> None:
    """Run the program until one of the two signals; everything is buried when it returns."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    child, due, ending = _start(program), 0.0, False
    while True:
        told = signal.sigtimedwait(_SIGNALS, _LOOK_S)
        if told is not None and told.si_signo == signal.SIGTERM:
            break
        if told is not None and told.si_signo == signal.SIGINT and child:
            ending = True
            os.kill(child, signal.SIGTERM)
        if child in _buried():
            child, due = 0, time.monotonic() + _RESTART_S
        if ending and not child:
            break
        if not child and time.monotonic() >= due:
            child = _start(program)
    _power_off()


def _start(program: list[str]) -> int:
    """The program in a session of its own, with no signal blocked; its process id."""
    return os.posix_spawn(program[0], program, os.environ, setsigmask=[], setsid=True)


def _buried() -> set[int]:
    """Bury whoever has ended: our own child, and the orphans that came to us."""
    found: set[int] = set()
    with contextlib.suppress(ChildProcessError):  # nobody is left
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            found.add(pid)
    return found


def _power_off() -> None:
    """Kill all descendants, again and again, because they may be forking, until nobody is left to bury."""
    while True:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):  # it was quicker
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                continue
        except ChildProcessError:
            return
        time.sleep(0.005)


def descendants(pid: int) -> Iterator[int]:
    """Process ids of the children of a process, their children, and so on."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                words = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                parents[int(folder.name)] = int(words[_PARENT])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
        yield from more


if __name__ == "__main__":
    os.chdir(sys.argv[1])  # whoever looks for what runs on this host finds it by where it works
    main(sys.argv[2:])
