"""Private files that are on disk when a function returns."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nvcops.core.errors import StateError

_TRIES = 10


def private_folder(path: Path) -> Path:
    """A folder for its owner only, made if it is not there.

    Raises:
        StateError: it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(path, error) from error
    return path


def create_private(path: Path) -> bool:
    """Make an empty file for its owner only; False: it was there."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    except OSError as error:
        raise unusable(path, error) from error
    sync_folder(path.parent)
    return True


def write_new(path: Path, data: bytes) -> bool:
    """Put a whole file there at once, durably, for its owner only; False: there was one, and it stays."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_all(scratch, data, os.O_TRUNC)
        try:
            os.link(scratch, path)
        except FileExistsError:
            return False
        finally:
            scratch.unlink()
    except OSError as error:
        raise unusable(path, error) from error
    sync_folder(path.parent)
    return True


def write_all(path: Path, data: bytes, flags: int) -> None:
    """Write all bytes and wait until the disk has them. What was only partly written is taken back.

    Raises:
        OSError: the disk is full, the folder is read-only ...
    """
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
    try:
        before = os.fstat(handle).st_size
        try:
            append_all(handle, data)
        except OSError:
            os.ftruncate(handle, before)
            raise
    finally:
        os.close(handle)


def append_all(handle: int, data: bytes) -> None:
    """Write all bytes to an open file and wait until the disk has them."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
    os.fsync(handle)


def locked_scratch(name: Callable[[], Path], make: Callable[[Path], int]) -> tuple[Path, int]:
    """Something of our own under a fresh name, and the lock by which a sweep knows that its maker lives.

    `make` creates it and opens it. A sweep that came between its making and its lock took it for a dead one's: then
    the next is made.

    Raises:
        StateError: it vanished each time.
    """
    for _ in range(_TRIES):
        path = name()
        with suppress(FileNotFoundError):
            handle = make(path)
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists():
                    return path, handle
            os.close(handle)
    raise StateError(f"{path} cannot be used: it vanishes as soon as it is made", hint="what else removes files there?")


def sync_folder(path: Path) -> None:
    """Wait until the disk knows the folder's names."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unusable(path: Path, error: OSError) -> StateError:
    """The sentence for a file or folder of ours that the system refuses."""
    return StateError(f"{path} cannot be used: {error.strerror}", hint="look at the disk's space and the permissions")
