"""A repository in a folder: written under another name, forced to the disk, renamed."""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nvcops.adapters.backup.store import StoredFile, checked_key
from nvcops.adapters.evidence.files import locked_scratch, sync_folder
from nvcops.core.errors import LockHeld, NotFoundError, NvcopsError, StateError, Unreachable

_PARTIAL = ".partial"  # the folder of what is being written; a lock on each says that its writer lives
_READ_MAX = 64 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class LocalStore:
    """See store.Store. The folder is made when something is first put into it, if its parent is there."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def put(self, key: str, chunks: Iterable[bytes], *, exclusive: bool = False) -> int:
        """Keep an object durably."""
        path = self.folder / checked_key(key)
        with self._errors(key, writing=True):
            if exclusive and path.exists():
                raise _taken(key)
            self._make_folder(path.parent)
            self._make_folder(self.folder / _PARTIAL)
            with self._scratch() as (scratch, handle):
                size = _write(handle, chunks)
                os.fsync(handle)
                _name(scratch, path, exclusive=exclusive)
            sync_folder(path.parent)
        return size

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """An object as a stream, unbuffered: its readers read much at a time."""
        with self._errors(key):
            stream = (self.folder / checked_key(key)).open("rb", buffering=0)
        with stream:
            yield stream

    def read(self, key: str) -> bytes:
        """A small object at once."""
        with self._errors(key), (self.folder / checked_key(key)).open("rb") as stream:
            data = stream.read(_READ_MAX + 1)
        if len(data) > _READ_MAX:
            raise StateError(f"{key} in {self.folder} is larger than {_READ_MAX >> 20} MiB", hint="it is none of ours")
        return data

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Every object whose key begins so, by key."""
        with self._errors(prefix):
            if not self.folder.exists():
                self._look_for_parent()
                return
            yield from _files(self.folder, prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, and the folders that they leave empty."""
        folders = set()
        for key in keys:
            path = self.folder / checked_key(key)
            with self._errors(key, writing=True):
                path.unlink(missing_ok=True)
            folders.add(path.parent)
        with self._errors("", writing=True):
            for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
                self._forget_folder(folder)

    def free(self) -> int | None:
        """Bytes that are left for us on its disk."""
        with self._errors(""):
            there = self.folder if self.folder.exists() else self.folder.parent
            return shutil.disk_usage(there).free

    def sweep(self) -> int:
        """Remove what killed writers left: those whose lock nobody holds."""
        left = 0
        partial = self.folder / _PARTIAL
        with self._errors("", writing=True):
            for path in sorted(partial.iterdir()) if partial.is_dir() else ():
                left += _removed_if_dead(path)
        return left

    @contextmanager
    def _scratch(self) -> Iterator[tuple[Path, int]]:
        """An empty file of our own that is locked while we live, and gone afterwards whatever happens."""
        folder = self.folder / _PARTIAL
        path, handle = locked_scratch(lambda: folder / f"{os.getpid()}-{secrets.token_hex(8)}", _created)
        try:
            yield path, handle
        finally:
            os.close(handle)
            path.unlink(missing_ok=True)

    def _make_folder(self, path: Path) -> None:
        """Make a folder and those above it up to the repository's own, durably."""
        if path.is_dir():
            return
        if path == self.folder:
            self._look_for_parent()
        else:
            self._make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_folder(path.parent)

    def _look_for_parent(self) -> None:
        if not self.folder.parent.is_dir():
            raise Unreachable(
                f"the repository {self.folder} cannot be reached: there is no folder {self.folder.parent}",
                hint="is its disk mounted?",
            )

    def _forget_folder(self, path: Path) -> None:
        while path != self.folder and path.is_relative_to(self.folder):
            try:
                path.rmdir()
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                sync_folder(path)
                return
            path = path.parent
        with suppress(FileNotFoundError):
            sync_folder(self.folder)

    @contextmanager
    def _errors(self, key: str, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except NvcopsError:
            raise
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            self._look_for_parent()
            if writing:
                raise StateError(
                    f"{self.folder} cannot be written: {error.strerror}", hint="is something removing it?"
                ) from error
            raise NotFoundError(f"there is no {key} in {self.folder}", hint="`nvcops backups` lists them") from error
        except OSError as error:
            raise self._sentence(error, "written" if writing else "read") from error

    def _sentence(self, error: OSError, done: str) -> NvcopsError:
        if error.errno in _FULL:
            return StateError(f"the disk of {self.folder} is full", hint="make room: retention, or a larger disk")
        if error.errno in _REFUSED:
            return StateError(f"{self.folder} cannot be {done}: {error.strerror}", hint="look at its permissions")
        return Unreachable(f"{self.folder} cannot be {done}: {error.strerror}", hint="look at the disk")


def _created(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)


def _taken(key: str) -> LockHeld:
    return LockHeld(f"there is a {key} already", hint="another one was quicker")


def _write(handle: int, chunks: Iterable[bytes]) -> int:
    size = 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(handle, rest) :]
        size += len(chunk)
    return size


def _name(scratch: Path, path: Path, *, exclusive: bool) -> None:
    if not exclusive:
        scratch.rename(path)
        return
    try:
        os.link(scratch, path)
    except FileExistsError:
        raise _taken(path.name) from None


def _files(folder: Path, prefix: str) -> Iterator[StoredFile]:
    """The files below a folder whose relative path begins so, in the order of their whole paths."""
    start = folder / prefix.rpartition("/")[0]
    found = []
    for root, folders, names in os.walk(start, onerror=_unless_gone):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(root).relative_to(folder).as_posix()
        keys = (name if below == "." else f"{below}/{name}" for name in names if not name.startswith("."))
        found += [key for key in keys if key.startswith(prefix)]
    for key in sorted(found):
        with suppress(FileNotFoundError):  # removed since
            status = (folder / key).stat()
            yield StoredFile(key, status.st_size, dt.datetime.fromtimestamp(status.st_mtime, dt.UTC))


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _removed_if_dead(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
