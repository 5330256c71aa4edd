"""One at a time on a repository: a lock on a file of a folder, a lease in a bucket.

A lease is an object that only one can create, with a number, a holder, and a time until which it holds; its holder
writes it again before that. A dead holder's lease runs out, and the next number takes its place: who creates that has
the lock. The clock of the two holders may differ by half a lease.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from nvcops.adapters.backup.local import LocalStore
from nvcops.adapters.backup.store import Store
from nvcops.adapters.evidence.files import private_folder, unusable
from nvcops.core.errors import LockHeld, NotFoundError, NvcopsError

LEASE_S = 60.0


class Lease(msgspec.Struct, frozen=True):
    """Who holds a lock of a bucket, and until when."""

    holder: str
    until: dt.datetime


class Hold:
    """A lock that is held. `check()` before what must not be done by two. `until`: when a lease counts as lost."""

    def __init__(self, what: str, until: float | None = None) -> None:
        self._what = what
        self.until = until
        self.lost = threading.Event()

    def check(self) -> None:
        """Raise LockHeld when the lock could not be kept."""
        if self.lost.is_set() or self.over:
            raise LockHeld(
                f"the lock {self._what} ran out: the repository was out of reach, or we stood still", hint="begin again"
            )

    @property
    def over(self) -> bool:
        """Whether it was not renewed in time: somebody else may have it."""
        return self.until is not None and _clock() > self.until


@contextmanager
def hold(store: Store, what: str, *, lease_s: float = LEASE_S) -> Iterator[Hold]:
    """Hold a lock of a repository, by name.

    Raises:
        LockHeld: another one holds it; it says who.
    """
    if isinstance(store, LocalStore):
        next(store.list("locks/"), None)  # says so when the folder is out of reach
        with hold_file(store.folder / f".lock-{what}", f"{what} of {store.folder}") as held:
            yield held
    else:
        with _leased(store, what, lease_s) as held:
            yield held


@contextmanager
def hold_file(path: Path, what: str, *, wait_s: float = 0.0) -> Iterator[Hold]:
    """Hold a lock on a file, which says who holds it. The kernel gives it back when the holder dies.

    Raises:
        LockHeld: another one holds it, still after `wait_s` seconds.
    """
    private_folder(path.parent)
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(path, error) from error
    try:
        if not _locked(handle, wait_s):
            raise _held(what, os.pread(handle, 200, 0).decode(errors="replace").strip())
        with suppress(OSError):  # the disk may be full: who holds it is not said then
            os.ftruncate(handle, 0)
            os.pwrite(handle, _myself().encode(), 0)
        yield Hold(what)
    finally:
        os.close(handle)


def _locked(handle: int, wait_s: float) -> bool:
    end = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        else:
            return True


@contextmanager
def _leased(store: Store, what: str, lease_s: float) -> Iterator[Hold]:
    myself, until = f"{_myself()} ({secrets.token_hex(4)})", _clock() + lease_s / 2
    number = _taken_lease(store, what, myself, lease_s)
    held, ending = Hold(f"{what} of {store.name}", until), threading.Event()
    keeper = threading.Thread(target=_keep, args=(store, number, myself, lease_s, ending, held), daemon=True)
    keeper.start()
    try:
        yield held
    finally:
        ending.set()
        keeper.join(lease_s)
        if not held.lost.is_set() and not held.over:
            with suppress(NvcopsError):  # what was done under it is done: it runs out by itself
                store.put(number, [_lease(myself, 0)])  # over: the next one need not wait


def _taken_lease(store: Store, what: str, myself: str, lease_s: float) -> str:
    """The key of the lease that is ours now."""
    kept = [file.key for file in store.list(f"locks/{what}/")]
    if kept:
        try:
            lease = msgspec.json.decode(store.read(kept[-1]), type=Lease)
        except NotFoundError:
            raise _held(f"{what} of {store.name}", "somebody who was quicker") from None
        if lease.until > dt.datetime.now(dt.UTC):
            raise _held(f"{what} of {store.name}", lease.holder)
    number = int(kept[-1].rpartition("/")[2]) + 1 if kept else 1
    key = f"locks/{what}/{number:08d}"
    try:
        store.put(key, [_lease(myself, lease_s)], exclusive=True)
    except LockHeld:
        raise _held(f"{what} of {store.name}", "somebody who was quicker") from None
    if [file.key for file in store.list(f"locks/{what}/")][-1] != key:  # others came and went since we looked
        store.delete([key])
        raise _held(f"{what} of {store.name}", "somebody who was quicker")
    store.delete(kept)
    return key


def _keep(store: Store, key: str, myself: str, lease_s: float, ending: threading.Event, held: Hold) -> None:
    """Write the lease again three times in its life; one that ran out is not ours any more, and not written again."""
    while not ending.wait(lease_s / 6):
        began = _clock()
        if not held.over:
            with suppress(NvcopsError):  # out of reach for a moment: the next beat tries again
                store.put(key, [_lease(myself, lease_s)])
                held.until = began + lease_s / 2
        if held.over:
            held.lost.set()
            return


def _clock() -> float:
    """Seconds that nobody sets, and that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _lease(holder: str, seconds: float) -> bytes:
    return msgspec.json.encode(Lease(holder, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)))


def _myself() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _held(what: str, holder: str) -> LockHeld:
    return LockHeld(f"the lock {what} is held by {holder or 'another process'}", hint="wait for its end")
