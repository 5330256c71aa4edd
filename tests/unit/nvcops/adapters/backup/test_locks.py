"""One at a time, also where there is nothing but objects."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from nvcops.adapters.backup.local import LocalStore
from nvcops.adapters.backup.locks import hold, hold_file
from nvcops.core.errors import LockHeld, Unreachable

LEASE_S = 0.6
_HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


class Bucket:
    """A store that is no folder: its locks are leases. `away`: it does not answer."""

    def __init__(self, folder: Path) -> None:
        self._kept, self.away = LocalStore(folder), False
        self.open, self.free, self.sweep = self._kept.open, self._kept.free, self._kept.sweep
        self.list, self.delete, self.read = self._kept.list, self._kept.delete, self._kept.read
        self.name = "s3://bucket"

    def put(self, key: str, chunks: Iterable[bytes], *, exclusive: bool = False) -> int:
        if self.away:
            raise Unreachable("the bucket does not answer")
        return self._kept.put(key, chunks, exclusive=exclusive)


def test_a_folder_has_one_holder(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "repository")
    with hold(store, "backup") as held, hold(store, "other"):
        with pytest.raises(LockHeld, match=r"backup of .* is held by process \d+"), hold(store, "backup"):
            pass
        held.check()
    with hold(store, "backup") as held:
        held.check()


def test_the_kernel_gives_a_dead_holders_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockHeld), hold_file(path, "it"):
            pass
        holder.kill()
        with hold_file(path, "it", wait_s=5.0):
            pass


def test_a_lease_has_one_holder_and_is_given_back(tmp_path: Path) -> None:
    store = Bucket(tmp_path / "bucket")
    with hold(store, "backup", lease_s=LEASE_S) as held:
        time.sleep(2 * LEASE_S)  # it is renewed meanwhile
        with pytest.raises(LockHeld, match="process"), hold(store, "backup", lease_s=LEASE_S):
            pass
        held.check()
    with hold(store, "backup", lease_s=LEASE_S):
        pass
    assert len(list(store.list("locks/"))) == 1


def test_a_dead_holders_lease_runs_out_and_one_of_many_takes_it(tmp_path: Path) -> None:
    store = Bucket(tmp_path / "bucket")
    with hold(store, "backup", lease_s=LEASE_S) as held:
        store.away = True
        end = time.monotonic() + 30
        while not held.lost.is_set() and time.monotonic() < end:
            time.sleep(0.05)
        with pytest.raises(LockHeld, match="ran out"):
            held.check()
        store.away = False
        end = time.monotonic() + 30
        while True:
            try:
                with hold(store, "backup", lease_s=LEASE_S) as other:
                    other.check()
                    break
            except LockHeld:
                assert time.monotonic() < end
                time.sleep(0.05)
