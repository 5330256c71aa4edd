"""System V shared memory: PostgreSQL keeps one small segment as an interlock, and kill -9 leaves it behind."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from nvclab.errors import LabError

_IPC_RMID = 0
_KEY_LINE = 7
_KEY, _ID, _ATTACHED = 0, 1, 6


def remove_orphan(postmaster_pid: Path) -> None:
    """Remove the segment that this file names, if nobody is attached to it; nothing to do is fine."""
    lines = postmaster_pid.read_text(encoding="ascii").splitlines() if postmaster_pid.exists() else []
    if len(lines) < _KEY_LINE or len(lines[_KEY_LINE - 1].split()) != 2:
        return
    key, number = (int(word) for word in lines[_KEY_LINE - 1].split())
    if (_signed(key), number) not in _unattached():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.shmctl(number, _IPC_RMID, None) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise LabError(f"Shared memory segment {number} cannot be removed: {reason}.", hint=f"ipcrm -m {number}")


def _unattached() -> set[tuple[int, int]]:
    """Key and id of every segment that no process has attached."""
    table = Path("/proc/sysvipc/shm")
    if not table.exists():
        return set()
    rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]]
    return {(_signed(int(row[_KEY])), int(row[_ID])) for row in rows if row[_ATTACHED] == "0"}


def _signed(key: int) -> int:
    """A key as the 32-bit signed number that both places can mean by it."""
    return ctypes.c_int32(key).value
