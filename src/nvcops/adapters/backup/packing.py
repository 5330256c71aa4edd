"""From a stream of tar to packs: the files of a data folder, as pg_basebackup sends them."""

from __future__ import annotations

import hashlib
import itertools
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Protocol, cast

from nvcops.adapters.backup.index import MANIFEST, PACK_BYTES, File, Index, Pack, Range, pack_key, sealed_index
from nvcops.adapters.backup.index import index_key as key_of_index
from nvcops.adapters.backup.pack import BLOCK_BYTES, Sealing, seal
from nvcops.adapters.backup.store import Store
from nvcops.core.backups import Stored
from nvcops.core.errors import TargetError
from nvcops.core.progress import tell

_FILES_MAX = 5_000_000
_MANIFEST_MAX = 1 << 30
_TOLD_EVERY = 16 << 20
_Piece = tuple[int, int, bytes]  # number of the file, offset in it, bytes


class Readable(Protocol):
    """All that tarfile asks of a stream."""

    def read(self, size: int, /) -> bytes: ...


class Digest:
    """Lets chunks through, and knows their SHA-256 afterwards."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._sha256 = chunks, hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._sha256.update(chunk)
            yield chunk

    @property
    def hex(self) -> str:
        """Of all that went through so far."""
        return self._sha256.hexdigest()


@dataclass
class Packing:
    """One backup that is being put into a store."""

    id: str
    store: Store
    sealing: Sealing
    expected_bytes: int = 0
    manifest: bytearray = field(default_factory=bytearray)
    objects: list[Stored] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    _folders: list[tuple[str, int]] = field(default_factory=list)
    _packs: list[Pack] = field(default_factory=list)
    _done: int = 0

    def take(self, stream: Readable) -> None:
        """Put all files of a tar stream into packs.

        Raises:
            TargetError: the stream ends too early, or holds what no data folder holds.
        """
        pieces = self._pieces(stream)
        for first in pieces:
            ranges: list[Range] = []
            key = pack_key(self.id, len(self._packs) + 1)
            stored = Digest(seal(_pack(itertools.chain([first], pieces), ranges), self.sealing))
            size = self.store.put(key, stored)
            raw_bytes = sum(part.bytes for part in ranges)
            self.objects.append(Stored(key=key, bytes=size, sha256=stored.hex, raw_bytes=raw_bytes))
            self._packs.append(Pack(key, raw_bytes, tuple(ranges)))

    def finish(self) -> Index:
        """Put the index; what it says is the backup."""
        index = Index(self.id, tuple(self.files), tuple(sorted(set(self._folders))), tuple(self._packs))
        stored = Digest(sealed_index(index, self.sealing))
        size = self.store.put(key_of_index(self.id), stored)
        self.objects.append(Stored(key=key_of_index(self.id), bytes=size, sha256=stored.hex, raw_bytes=0))
        return index

    def _pieces(self, stream: Readable) -> Iterator[_Piece]:
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", bufsize=BLOCK_BYTES) as tar:
                for member in tar:
                    yield from self._of_member(tar, member)
        except tarfile.TarError as error:
            raise TargetError(f"what pg_basebackup sent is no whole archive: {error}") from error

    def _of_member(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[_Piece]:
        path = member.name.removeprefix("./").rstrip("/")
        if member.isdir():
            self._folders.append((path, member.mode & 0o777))
            return
        if not (member.isreg() or member.issym()) or len(self.files) >= _FILES_MAX:
            raise TargetError(f"pg_basebackup sent {path}, which is no file")
        number = len(self.files)
        self.files.append(File(path, member.mode & 0o777, member.size, member.linkname if member.issym() else ""))
        content = tar.extractfile(member) if member.isreg() else None
        offset = 0
        while content is not None and (chunk := content.read(BLOCK_BYTES)):
            if path == MANIFEST and len(self.manifest) < _MANIFEST_MAX:
                self.manifest += chunk
            yield number, offset, chunk
            offset += len(chunk)
            self._tell(len(chunk))

    def _tell(self, size: int) -> None:
        before, self._done = self._done, self._done + size
        if before // _TOLD_EVERY != self._done // _TOLD_EVERY:
            tell(self._done, self.expected_bytes, "backing up")


def _pack(pieces: Iterable[_Piece], ranges: list[Range]) -> Iterator[bytes]:
    """The bytes of one pack; says in `ranges` what they are."""
    size = 0
    for number, offset, chunk in pieces:
        last = ranges[-1] if ranges else None
        if last is not None and last.file == number:
            ranges[-1] = Range(number, last.offset, last.bytes + len(chunk))
        else:
            ranges.append(Range(number, offset, len(chunk)))
        yield chunk
        size += len(chunk)
        if size > PACK_BYTES - BLOCK_BYTES:
            return
