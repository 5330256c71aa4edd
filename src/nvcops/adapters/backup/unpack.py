"""A base backup becomes a data folder: packs side by side, digests compared as they are read, then verified as a whole.

A pack's thread reads, hashes, decrypts, unpacks and writes a block at a time; each of these calls leaves Python's lock.
Increments are unpacked beside the full backup, and PostgreSQL's own program combines them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from nvcops.adapters.backup.index import File, Index, Pack, read_index, unseal_parts
from nvcops.adapters.backup.pack import Damaged, unseal
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.backup.tools import Tools
from nvcops.core.backups import Entry, Stored
from nvcops.core.errors import EvidenceError, NotFoundError, StateError
from nvcops.core.progress import tell
from nvcops.core.restores import Unpacked

THREADS_MAX = 4
_READ_BYTES = 1 << 20
_DEADLINE_S = 24 * 3600.0
_VERIFIED = "backup successfully verified"
_TELL_EVERY_S = 0.5


@dataclass(slots=True)
class Pace:
    """At how many bytes a second all threads together may write, and at which priority; the fastest by default."""

    bytes_per_s: float | None = None
    quiet: bool = False
    done: int = 0
    _began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def threads(self) -> int:
        """How many threads may work side by side."""
        return 1 if self.quiet else min(THREADS_MAX, max(os.cpu_count() or 1, 2))

    def settle(self) -> None:
        """Take the priority, for the calling thread and what it starts: only when nobody else wants the processor."""
        if self.quiet:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)

    def add(self, size: int) -> None:
        """Count bytes, and wait until they are due."""
        with self._lock:
            self.done += size
            due = self._began + self.done / self.bytes_per_s if self.bytes_per_s else 0.0
        if (early := due - time.monotonic()) > 0:
            time.sleep(min(early, 5.0))


class HashedReader:
    """A stream that hashes what is read of it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """As the stream does."""
        data = self._stream.read(size)
        self._digest.update(data)
        return data

    def compare(self, stored: Stored) -> None:
        """Raise Damaged unless all of it has been read and has the digest that the catalogue says."""
        while self.read(_READ_BYTES):
            pass
        if self._digest.hexdigest() != stored.sha256:
            raise Damaged(f"{stored.key} is not what was stored: its digest differs from the catalogue's")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacking:
    """Backups of a repository (the full one first) on their way into `work`/data."""

    repository: Repository
    chain: Sequence[Entry]
    work: Path
    tools: Tools
    pace: Pace

    @property
    def data(self) -> Path:
        """The result."""
        return self.work / "data"

    def carry_out(self) -> Unpacked:
        """Unpack, combine, verify. What an earlier attempt left is thrown away.

        Raises:
            EvidenceError: a digest or checksum is wrong: it names the object or the file.
            StateError: something of it is missing, the key is another one, or the disk is full.
        """
        began = time.monotonic()
        parts = self.work / "parts"
        for folder in (parts, self.data):
            remove_tree(folder)
        try:
            folders = [parts / entry.id for entry in self.chain] if len(self.chain) > 1 else [self.data]
            for entry, folder in zip(self.chain, folders, strict=True):
                self._one(entry, folder)
            if len(folders) > 1:
                self._combine(folders)
                remove_tree(parts)
        except (Damaged, NotFoundError) as error:
            raise EvidenceError(f"{self.chain[-1].id} cannot be restored: {error.sentence}", hint=_AUDIT) from error
        except OSError as error:
            raise StateError(f"{self.work} cannot be written: {error.strerror}", hint="look at the disk") from error
        verified = time.monotonic()
        verify(self.tools, self.data, quiet=self.pace.quiet)
        ended = time.monotonic()
        return Unpacked(bytes=self.pace.done, seconds=ended - began, verified_s=ended - verified)

    def _one(self, entry: Entry, folder: Path) -> None:
        index = self._index(entry)
        make_folders(index, folder, self.tools)
        stored = {stored.key: stored for stored in entry.objects}
        of = sum(known.raw_bytes for known in self.chain)
        with ThreadPoolExecutor(self.pace.threads, initializer=self.pace.settle) as pool:
            waiting: set[Future[None]] = {
                pool.submit(self._pack, index, pack, stored[pack.key], folder) for pack in index.packs
            }
            try:
                while waiting:
                    ended, waiting = wait(waiting, _TELL_EVERY_S, FIRST_COMPLETED)
                    for done in ended:
                        done.result()
                    tell(self.pace.done, of, "fetching")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _index(self, entry: Entry) -> Index:
        """The backup's index; its packs are those that the catalogue knows."""
        known = {stored.key for stored in entry.objects}
        for stored in entry.objects:
            if stored.key.endswith("/index"):
                compare_stored(self.repository, stored)
        index = read_index(self.repository.store, self.repository.sealing, entry.id)
        if strange := next((pack.key for pack in index.packs if pack.key not in known), None):
            raise Damaged(f"the catalogue does not know {strange}")
        if link := next((file for file in index.files if file.link), None):
            raise StateError(
                f"{entry.id} has a tablespace or a link ({link.path}), which the server itself uses",
                hint="restore it by hand, with pg_basebackup's --tablespace-mapping in mind",
            )
        return index

    def _pack(self, index: Index, pack: Pack, stored: Stored, folder: Path) -> None:
        """Write what is in one pack; files that it shares with another pack are written at their offsets by both."""
        with self.repository.store.open(pack.key) as stream, ExitStack() as files:
            reader = HashedReader(stream)
            handle, part, offset = -1, None, 0
            for current, piece in unseal_parts(unseal(cast("BinaryIO", reader), self.repository.sealing), pack):
                if current is not part:
                    files.pop_all().close()
                    part, offset = current, current.offset
                    handle = open_file(index.files[current.file], folder, self.tools)
                    files.callback(os.close, handle)
                offset += _written(handle, piece, offset)
                self.pace.add(len(piece))
            reader.compare(stored)

    def _combine(self, folders: Sequence[Path]) -> None:
        """Let pg_combinebackup make one of them, in the cheapest way that this disk and version know."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        ways = [["--link"]] if self.tools.major >= 18 else [["--copy-file-range"], []]
        for way in ways:
            remove_tree(self.data)
            arguments = [*way, "--no-sync", "-o", str(self.data), *map(str, folders)]
            done = self.tools.run(
                "pg_combinebackup", *arguments, deadline_s=_DEADLINE_S, quiet=self.pace.quiet, as_server=True
            )
            if done.code == 0:
                return
        raise EvidenceError(f"pg_combinebackup refuses {self.chain[-1].id}: {done.said}", hint=_AUDIT)


def compare_stored(repository: Repository, stored: Stored) -> None:
    """Raise Damaged unless an object is what the catalogue says, byte for byte."""
    with repository.store.open(stored.key) as stream:
        HashedReader(stream).compare(stored)


_AUDIT = "`nvcops run backup-audit` says what is lost; an older backup may be whole"


def make_folders(index: Index, folder: Path, tools: Tools) -> None:
    """The folders of a backup, and its files that hold nothing: all others come with their packs."""
    folder.mkdir(mode=0o700, parents=True)
    tools.give(folder.parent)
    tools.give(folder)
    for path, mode in index.folders:
        made = folder / path
        made.mkdir(mode=mode, exist_ok=True)
        tools.give(made)
    for file in index.files:
        if not file.size:
            os.close(open_file(file, folder, tools))


def open_file(file: File, folder: Path, tools: Tools) -> int:
    """A handle to write to a file, which is made where it is not there yet."""
    path = folder / file.path
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if file.mode & 0o777 != 0o600:
        os.fchmod(handle, file.mode & 0o777)
    tools.give(path)
    return handle


def verify(tools: Tools, data: Path, *, quiet: bool = False) -> None:
    """Have pg_verifybackup compare every file with the backup's manifest; its log is replayed afterwards anyway.

    Raises:
        EvidenceError: with its words.
    """
    done = tools.run(
        "pg_verifybackup", "--no-parse-wal", str(data), deadline_s=_DEADLINE_S, quiet=quiet, as_server=True
    )
    if done.code != 0 or _VERIFIED not in done.output:
        raise EvidenceError(f"the restored files are not those that were backed up: {done.said}", hint=_AUDIT)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it; fine when it is not there."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        if folder.exists():  # something in it was removed by another at the same time
            shutil.rmtree(folder)


def _written(handle: int, piece: memoryview, offset: int) -> int:
    done = 0
    while done < len(piece):
        done += os.pwrite(handle, piece[done:], offset + done)
    return done
