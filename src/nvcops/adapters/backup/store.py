"""Where a repository keeps its objects: a folder, or a bucket."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

import msgspec

from nvcops.core.errors import UsageError
from nvcops.core.manifest import BackupsEntry

_KEY = re.compile(r"(?!.*(^|/)\.)[A-Za-z0-9._@=+-]+(/[A-Za-z0-9._@=+-]+)*")
_KEY_LENGTH_MAX = 512


class StoredFile(msgspec.Struct, frozen=True):
    """An object as its store lists it: bytes as they are stored."""

    key: str
    bytes: int
    modified: dt.datetime


class Store(Protocol):
    """Objects by key, such as `catalogue/00000001.json`: each is there whole, or not at all.

    Every call raises Unreachable when the store cannot be reached, and StateError when it refuses: a full disk, a disk
    that is read-only, a missing permission.
    """

    @property
    def name(self) -> str:
        """As a person knows it: the folder, or `s3://bucket/prefix`."""
        ...

    def put(self, key: str, chunks: Iterable[bytes], *, exclusive: bool = False) -> int:
        """Keep an object; it is durable when this returns its size in bytes. What fails leaves nothing.

        Raises:
            LockHeld: exclusive, and there is one by this key already.
        """
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """An object as a stream of its bytes.

        Raises:
            NotFoundError: there is none.
        """
        ...

    def read(self, key: str) -> bytes:
        """A small object (at most 64 MiB) at once; raises as `open` does."""
        ...

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Every object whose key begins so, by key."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is fine."""
        ...

    def free(self) -> int | None:
        """Bytes that are left; None: nobody says."""
        ...

    def sweep(self) -> int:
        """Remove what killed writers left half written; how many there were."""
        ...


def checked_key(key: str) -> str:
    """A key that names one object of the store and nothing outside of it.

    >>> checked_key("wal/7398/00000001/000000010000000000000003-0af1.seg")
    'wal/7398/00000001/000000010000000000000003-0af1.seg'
    >>> checked_key("../etc/passwd")
    Traceback (most recent call last):
    nvcops.core.errors.UsageError: '../etc/passwd' is no key of a repository
    """
    if len(key) > _KEY_LENGTH_MAX or not _KEY.fullmatch(key):
        raise UsageError(f"{key!r} is no key of a repository", hint="letters, digits and ._@=+- between slashes")
    return key


def open_store(entry: BackupsEntry) -> Store:
    """The store that the manifest names; nothing is asked of it yet."""
    if (folder := entry.repository.folder) is not None:
        from nvcops.adapters.backup.local import LocalStore

        return LocalStore(folder)
    from nvcops.adapters.backup.s3 import S3Store

    bucket, _, prefix = entry.repository.removeprefix("s3://").partition("/")
    return S3Store(bucket, prefix, entry.endpoint, entry.region)
