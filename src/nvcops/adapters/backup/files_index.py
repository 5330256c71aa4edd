"""What lies where in a backup of files, and how one is told from another.

    backups/<id>/index           what there is, sealed JSON: FileIndex
    backups/<id>/<n>.pack        the contents that no earlier entry has, one after the other, about 64 MiB each

An index names packs of earlier entries too, and its entry lists all of them: retention keeps what any entry lists.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nvcops.adapters.backup.index import decode_index
from nvcops.adapters.backup.pack import Damaged
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.backup.unpack import compare_stored
from nvcops.core.backups import Entry
from nvcops.core.catalogue import present
from nvcops.core.errors import NotFoundError


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file, folder or symbolic link: `name` in the backup; where its `size` bytes lie in the raw bytes of a pack.

    `start` is where in a log its bytes began. `kind` is "file", "folder" or "link".
    """

    name: str
    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    sha256: str = ""
    link: str = ""
    pack: str = ""
    offset: int = 0
    start: int = 0


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far a log was backed up: known again by the digests of what it began with, and of what stood before there.

    `stamp` changes when its file does; of two equal ones nothing need be read. `head_bytes` are in both digests.
    """

    log: str
    stamp: str
    until: int
    head_bytes: int
    head: str
    tail: str


class FileIndex(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All of an entry. `left_out` are names that were there and are not in it."""

    id: str
    files: tuple[Kept, ...]
    left_out: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be kept under a name. `read` and `status` are of a file that is open: its name may move meanwhile."""

    name: str
    path: Path
    start: int = 0
    read: Callable[[], Iterator[bytes]] | None = None
    status: os.stat_result | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was kept. `unreadable` are "path: why". `added_bytes` (raw) were not in the repository before."""

    entry: Entry
    files: int
    bytes: int
    added_bytes: int
    unreadable: tuple[str, ...] = ()


def read_index(repository: Repository, id: str) -> FileIndex:  # noqa: A002 - the catalogue's own word
    """What an entry of files holds.

    Raises:
        NotFoundError: there is no such entry, or it is none of files.
        Damaged, WrongKey: it is not what the catalogue says, or cannot be unsealed.
    """
    entry = next((entry for entry in present(repository.catalogue.entries()) if entry.id == id), None)
    kept = next((stored for stored in entry.objects if stored.key.endswith("/index")), None) if entry else None
    if entry is None or kept is None or entry.kind.of_database:
        raise NotFoundError(f"there are no files of {id!r} in {repository.store.name}", hint="`nvcops backups`")
    index = decode_index(repository.store, repository.sealing, kept.key, id, FileIndex)
    compare_stored(repository, kept)
    for file in index.files:
        if file.name.startswith("/") or not file.name or ".." in file.name.split("/") or "\0" in file.name:
            raise Damaged(f"the index of {id} names {file.name!r}, which lies outside of it")
    return index


def revision_of(repository: Repository, files: Sequence[Kept]) -> str:
    """A digest of names, contents and permissions; of an encrypted repository nobody without its key can guess it.

    Times are no part of it: a file that was only touched is the same.
    """
    told = [(file.name, file.kind, file.mode, file.uid, file.gid, file.sha256, file.link, file.start) for file in files]
    data = msgspec.json.encode(sorted(told))
    key = repository.sealing.key
    return hmac.new(key, data, hashlib.sha256).hexdigest() if key else hashlib.sha256(data).hexdigest()
