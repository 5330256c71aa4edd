"""Unpacking: a folder that is there whole, or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nvcops.adapters.evidence.files import append_all, locked_scratch, sync_folder, unusable
from nvcops.adapters.releases.archive import Packed
from nvcops.adapters.releases.contents import ABOUT, Contents
from nvcops.core.errors import EvidenceError, StateError

_SUFFIX = ".unpacking"
_CACHE = "__pycache__"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(slots=True)
class Scratch:
    """A folder under another name, beside the one that it is to become."""

    folder: Path
    made: set[Path] = field(default_factory=set)

    def keep(self, file: Packed) -> None:
        """Write a file durably; its path was checked when it was read."""
        path = self.folder / file.path
        self._make(path.parent)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            append_all(handle, file.data)
            os.fchmod(handle, 0o755 if file.executable else 0o644)
        finally:
            os.close(handle)

    def sync(self) -> None:
        """Wait until the disk knows all names."""
        for folder in self.made:
            sync_folder(folder)

    def _make(self, folder: Path) -> None:
        if folder in self.made:
            return
        if folder != self.folder:
            self._make(folder.parent)
            folder.mkdir()
        folder.chmod(0o755)
        self.made.add(folder)


def unpack_into(folder: Path, fill: Callable[[Callable[[Packed], None]], Contents]) -> None:
    """Have `fill` unpack into a scratch folder, and give that the name when everything fits.

    Where somebody else was quicker, theirs is compared and stays.

    Raises:
        EvidenceError: `fill` says so, or what is there already is something else.
        StateError: the disk is full, or the folder cannot be written.
    """
    try:
        folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _sweep(folder)
        with _scratch(folder) as scratch:
            contents = fill(scratch.keep)
            scratch.sync()
            try:
                scratch.folder.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                compare(folder, contents)
        sync_folder(folder.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise StateError(
                f"the disk of {folder.parent} is full", hint="remove old releases, or make room"
            ) from error
        raise unusable(folder, error) from error


def compare(folder: Path, contents: Contents) -> None:
    """Whether an unpacked folder is still what was unpacked; what Python caches beside its files does not count.

    Raises:
        EvidenceError: a file was changed, is missing, or came in.
        StateError: something cannot be read.
    """
    hint = "stop what runs there, remove the folder, and unpack the release again"
    missing = set(contents.files) | {ABOUT}
    try:
        for path in _files(folder):
            name = path.relative_to(folder).as_posix()
            if name not in missing or path.is_symlink() or not path.is_file():
                raise EvidenceError(f"{folder} is not the release any more: {name} came into it", hint=hint)
            if _digest(path, contents, name):
                raise EvidenceError(f"{folder} is not the release any more: {name} was changed", hint=hint)
            missing.discard(name)
    except OSError as error:
        raise unusable(folder, error) from error
    if missing:
        raise EvidenceError(f"{folder} is not the release any more: {min(missing)} is missing", hint=hint)


def _digest(path: Path, contents: Contents, name: str) -> bool:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    listed = hashlib.sha256(contents.encoded()).hexdigest() if name == ABOUT else contents.files[name]
    return found != listed


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_symlink() or not folder.is_dir():
        raise EvidenceError(f"{folder} is no folder", hint="remove it, and unpack the release again")
    for root, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if name != _CACHE]
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        yield from (Path(root) / name for name in (*names, *links))


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def _scratch(folder: Path) -> Iterator[Scratch]:
    """An empty folder that is locked while we live, and gone afterwards whatever happens."""
    path, handle = locked_scratch(
        lambda: folder.with_name(f".{folder.name}.{secrets.token_hex(8)}{_SUFFIX}"),
        _made,
    )
    try:
        yield Scratch(path)
    finally:
        os.close(handle)
        if path.exists():
            shutil.rmtree(path)


def _made(path: Path) -> int:
    path.mkdir(mode=0o700)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _sweep(folder: Path) -> None:
    """Remove what killed ones left: the scratch folders whose lock nobody holds."""
    for path in sorted(folder.parent.glob(f".{folder.name}.*{_SUFFIX}")):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)  # its owner may be removing it too
        finally:
            os.close(handle)
