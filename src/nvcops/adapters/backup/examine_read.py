"""Reading back: each object's bytes against the catalogue's digest, each file of the log against its name's.

What was found good is remembered by its stamp (size, time of writing, digest); what was not is read again next time.
"""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from nvcops.adapters.backup import wal
from nvcops.adapters.backup.examine_manifest import Trouble, label_trouble, manifest_trouble
from nvcops.adapters.backup.index import MANIFEST, Index, index_key, read_file, read_index
from nvcops.adapters.backup.pack import Damaged, Truncated, WrongKey, key_id_of
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.backup.store import StoredFile
from nvcops.core.backups import Cause, DatabaseBackup, Entry, Segment, Stored
from nvcops.core.errors import NotFoundError, StateError, Unreachable

_CHUNK_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LABEL = "backup_label"
_SMALL_BYTES_MAX = 512 << 20


@dataclass(slots=True)
class Reader:
    """Reads back what a deep audit must read, or what was not read since it was written.

    `before` is what earlier audits found good; `good` what this one did; `key_ids` the keys that the catalogue names.
    """

    repository: Repository
    deep: bool
    before: Mapping[str, tuple[str, bool]]
    key_ids: frozenset[str] = frozenset()
    good: dict[str, tuple[str, bool]] = field(default_factory=dict)
    read: int = 0

    def is_good(self, key: str, stamp: str, *, walked: bool = False) -> bool:
        """Whether it was read back as it is now; `walked`: and its records followed one another."""
        known = self.good.get(key) or (None if self.deep else self.before.get(key))
        return known is not None and known[0] == stamp and (known[1] or not walked)

    def is_good_file(self, file: Segment) -> bool:
        """The same of a file of the log, walked through."""
        return self.is_good(file.key, stamp_of(file), walked=True)

    def note_walked(self, file: Segment) -> None:
        """A whole file of the log is good."""
        self.good[file.key] = (stamp_of(file), True)

    def object(self, stored: Stored, listed: StoredFile) -> Trouble | None:
        """Compare an object's stored bytes with the digest in the catalogue."""
        stamp = _stamp(listed.bytes, listed.modified, stored.sha256)
        if self.is_good(stored.key, stamp):
            return None
        try:
            digest = self._digest(stored.key)
        except (OSError, NotFoundError, Unreachable, StateError) as error:
            return self._unreadable(stored.key, error)
        if digest != stored.sha256:
            return Trouble(Cause.CORRUPT, f"the bytes of {stored.key} are not those that were stored")
        self.good[stored.key] = (stamp, False)
        return None

    def contents(self, entry: Entry, parent: DatabaseBackup | None) -> Trouble | None:
        """Open a backup's index, and compare what the backup says of itself with its entry; digests were compared."""
        key = index_key(entry.id)
        backup = entry.database
        mine = f"contents of {entry.number} in {entry.previous}"
        if backup is None or self.is_good(f"{key}#", mine):
            return None
        try:
            index = read_index(self.repository.store, self.repository.sealing, entry.id)
            packs = {pack.key for pack in index.packs}
            if packs != {stored.key for stored in entry.objects} - {key}:
                return Trouble(Cause.EDITED, "its index names other packs than its entry")
            trouble = manifest_trouble(self._small(index, MANIFEST), backup)
            if trouble is None and parent is not None:
                trouble = label_trouble(self._small(index, _LABEL).decode(errors="replace"), parent)
        except Damaged as error:
            return Trouble(Cause.CORRUPT, error.sentence)
        except WrongKey as error:
            return Trouble(Cause.WRONG_KEY, f"{error.sentence}; its entry names the key {entry.key_id or 'of nobody'}")
        except (OSError, NotFoundError, Unreachable, StateError) as error:
            return self._unreadable(key, error)
        if trouble is None:
            self.good[f"{key}#"] = (mine, False)
        return trouble

    def segment(self, file: Segment, into: Path, segment_bytes: int) -> Trouble | None:
        """Write the raw bytes of a file of the log to `into`, compare them with its name; nothing stays of a bad one.

        What is being received is filled up with zeros to a segment's size, as its receiver does.
        """
        try:
            with into.open("wb", buffering=0) as copy:
                size = sum(copy.write(chunk) for chunk in wal.raw(self.repository, file))
                if file.partial and size < segment_bytes:
                    copy.truncate(segment_bytes)
        except (OSError, NotFoundError, Unreachable, StateError, Damaged) as error:
            with suppress(FileNotFoundError):
                into.unlink()
            if isinstance(error, OSError) and error.errno in _FULL:
                raise StateError(
                    f"the disk of {into.parent} is full", hint="[backups] scratch names another"
                ) from error
            return self._bad_segment(file, error)
        self.read += size
        if size != segment_bytes and not file.partial:
            into.unlink()
            return Trouble(Cause.TRUNCATED, f"it holds {size:,} bytes, and a segment has {segment_bytes:,}")
        return None

    def moved(self, file: Segment) -> Segment | None:
        """Where a file of the spool is now: whole under its own name, or in the repository."""
        if not file.key.startswith(wal.SPOOL_PREFIX):
            return None
        stored = wal.stored_segments(self.repository, f"{file.system_identifier}/{file.name[:8]}/{file.name}")
        there = [*wal.spooled(self.repository), *stored]
        return next((each for each in there if each.name == file.name and not each.partial), None)

    def text(self, file: Segment) -> str | Trouble:
        """A small file of the log: a timeline's history."""
        try:
            data = b"".join(wal.raw(self.repository, file))
        except (OSError, NotFoundError, Unreachable, StateError, Damaged) as error:
            return self._bad_segment(file, error)
        self.read += len(data)
        return data.decode(errors="replace")

    def _bad_segment(self, file: Segment, error: Exception) -> Trouble:
        if isinstance(error, Truncated) and not self._was_as_long(file):
            return Trouble(Cause.TRUNCATED, f"{error} ({file.key}, {file.bytes:,} bytes)")
        if isinstance(error, Damaged):
            return Trouble(Cause.CORRUPT, f"its bytes are not those that were stored: {error}")
        if isinstance(error, WrongKey):
            return self._other_key(file, error)
        return self._unreadable(file.key, error)

    def _was_as_long(self, file: Segment) -> bool:
        """Whether it had this size when it was good: then its end only seems to be missing, by a damaged length."""
        return self.before.get(file.key, ("", False))[0].startswith(f"{file.bytes} ")

    def _other_key(self, file: Segment, error: WrongKey) -> Trouble:
        """A damaged head names a key that nobody ever had; a real key is one that the catalogue knows."""
        try:
            with self.repository.store.open(file.key) as stored:
                key_id = key_id_of(stored)
        except (OSError, NotFoundError, Unreachable, StateError, Damaged) as again:
            return self._unreadable(file.key, again)
        if key_id in self.key_ids:
            return Trouble(Cause.WRONG_KEY, error.sentence)
        return Trouble(Cause.CORRUPT, f"its head names the key {key_id}, with which nothing else was encrypted")

    def _unreadable(self, key: str, error: Exception) -> Trouble:
        """One object that cannot be read is a fault of its own; a repository that cannot is not known at all."""
        if isinstance(error, NotFoundError):
            return Trouble(Cause.MISSING, f"{key} is gone")
        next(iter(self.repository.store.list("catalogue/")), None)  # raises Unreachable when nothing can be read
        return Trouble(Cause.UNREADABLE, f"{key} cannot be read: {error}")

    def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        with self.repository.store.open(key) as stored:
            while chunk := stored.read(_CHUNK_BYTES):
                digest.update(chunk)
                self.read += len(chunk)
        return digest.hexdigest()

    def _small(self, index: Index, path: str) -> bytes:
        data = bytearray()
        for chunk in read_file(self.repository.store, self.repository.sealing, index, path):
            data += chunk
            if len(data) > _SMALL_BYTES_MAX:
                raise Damaged(f"{path} of {index.id} is larger than {_SMALL_BYTES_MAX >> 20} MiB")
        return bytes(data)


def stamp_of(file: Segment) -> str:
    """By which a file of the log is known again."""
    return _stamp(file.bytes, file.modified, file.sha256)


def _stamp(size: int, modified: dt.datetime, sha256: str) -> str:
    return f"{size} {modified.isoformat()} {sha256}"


def written_end(path: Path) -> int:
    """How many bytes of a file are written: behind them are only zeros."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        while end > 0:
            begin = max(0, end - _CHUNK_BYTES)
            if rest := _nonzero(file, begin, end):
                return begin + rest
            end = begin
    return 0


def _nonzero(file: BinaryIO, begin: int, end: int) -> int:
    file.seek(begin)
    return len(file.read(end - begin).rstrip(b"\0"))
