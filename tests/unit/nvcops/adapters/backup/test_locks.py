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


def test_a_lease_that_ran_out_while_we_stood_still_is_not_taken_back(tmp_path: Path) -> None:
    """Somebody else may have it by then: renewing it would make two of us."""
    store = Bucket(tmp_path / "bucket")
    with hold(store, "backup", lease_s=LEASE_S) as held:
        key = next(store.list("locks/")).key
        held.until = 0.0  # as after a stop of minutes
        before = store.read(key)
        with pytest.raises(LockHeld, match="ran out"):
            held.check()
        assert held.lost.wait(30)
        assert store.read(key) == before


@pytest.mark.parametrize("when", ["before it reads", "after it has read"])
def test_whoever_looked_before_others_came_and_went_does_not_take_a_number_of_the_past(
    tmp_path: Path, when: str
) -> None:
    store = Bucket(tmp_path / "bucket")
    with hold(store, "backup", lease_s=LEASE_S):
        pass
    seen = list(store.list("locks/backup/"))
    over = store.read(seen[0].key)
    with hold(store, "backup", lease_s=LEASE_S):
        pass
    with hold(store, "backup", lease_s=60) as held:
        listed = iter([seen])
        store.list = lambda prefix: iter(next(listed, None) or LocalStore(tmp_path / "bucket").list(prefix))
        if when == "after it has read":
            store.read = lambda _: over
        with pytest.raises(LockHeld, match="quicker"), hold(store, "backup", lease_s=LEASE_S):
            pass
        held.check()
        assert [file.key for file in store.list("locks/")] == ["locks/backup/00000003"]


def test_what_was_done_under_a_lease_is_done_though_it_cannot_be_given_back(tmp_path: Path) -> None:
    store = Bucket(tmp_path / "bucket")
    with hold(store, "backup", lease_s=60) as held:
        held.check()
        store.away = True
