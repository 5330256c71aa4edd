"""What lies where in a backup: its files and folders, and the packs that their bytes are in.

A pack holds at most 64 MiB of raw bytes: ranges of files one after the other, so that packs are fetched side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, TypeVar

import msgspec

from nvcops.adapters.backup.pack import Damaged, Sealing, seal, unseal
from nvcops.adapters.backup.store import Store
from nvcops.core.errors import NotFoundError

PACK_BYTES = 64 << 20
MANIFEST = "backup_manifest"
_INDEX_BYTES_MAX = 256 << 20
T = TypeVar("T")
_Size = Annotated[int, msgspec.Meta(ge=0)]


class File(msgspec.Struct, frozen=True, array_like=True):
    """A file: path below the data folder, permissions, size in bytes. `link` is where a symbolic link leads to."""

    path: str
    mode: int
    size: _Size
    link: str = ""


class Range(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of a file (its number in `Index.files`) from `offset` on, the next ones of their pack."""

    file: _Size
    offset: _Size
    bytes: _Size


class Pack(msgspec.Struct, frozen=True):
    """An object of the store, and what is in it, in order."""

    key: str
    raw_bytes: _Size
    ranges: tuple[Range, ...]


class Index(msgspec.Struct, frozen=True):
    """All of a backup. `folders` are paths with their permissions, each after the one that it lies in."""

    id: str
    files: tuple[File, ...]
    folders: tuple[tuple[str, int], ...]
    packs: tuple[Pack, ...]

    @property
    def raw_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def index_key(id: str) -> str:  # noqa: A002 - the catalogue's own word
    """The key of a backup's index.

    >>> index_key("20261122T160500Z-F")
    'backups/20261122T160500Z-F/index'
    """
    return f"backups/{id}/index"


def pack_key(id: str, number: int) -> str:  # noqa: A002 - the catalogue's own word
    """The key of a backup's pack.

    >>> pack_key("20261122T160500Z-F", 3)
    'backups/20261122T160500Z-F/000003.pack'
    """
    return f"backups/{id}/{number:06d}.pack"


def sealed_index(index: Index, sealing: Sealing) -> Iterator[bytes]:
    """An index as it is stored."""
    return seal([msgspec.json.encode(index)], sealing)


def read_index(store: Store, sealing: Sealing, id: str) -> Index:  # noqa: A002 - the catalogue's own word
    """The index of a backup.

    Raises:
        NotFoundError, Damaged, WrongKey.
    """
    index = decode_index(store, sealing, index_key(id), id, Index)
    _check(index, id)
    return index


def decode_index(store: Store, sealing: Sealing, key: str, id: str, kind: type[T]) -> T:  # noqa: A002 - the catalogue's own word
    """An index of either kind, as it is stored under a key; what it says is not looked at.

    Raises:
        NotFoundError, Damaged, WrongKey.
    """
    data = bytearray()
    with store.open(key) as stored:
        for chunk in unseal(stored, sealing):
            data += chunk
            if len(data) > _INDEX_BYTES_MAX:
                raise Damaged(f"the index of {id} is larger than {_INDEX_BYTES_MAX >> 20} MiB")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise Damaged(f"the index of {id} is none: {error}") from None


def read_file(store: Store, sealing: Sealing, index: Index, path: str) -> Iterator[bytes]:
    """The bytes of one file of a backup.

    Raises:
        NotFoundError: the backup has no such file, or a pack of it is not there.
        Damaged, WrongKey.
    """
    number = next((number for number, file in enumerate(index.files) if file.path == path), None)
    if number is None:
        raise NotFoundError(f"the backup {index.id} has no file {path}")
    for pack in index.packs:
        if any(part.file == number for part in pack.ranges):
            yield from _of_pack(store, sealing, pack, number)


def _of_pack(store: Store, sealing: Sealing, pack: Pack, number: int) -> Iterator[bytes]:
    with store.open(pack.key) as stored:
        for part, chunk in unseal_parts(unseal(stored, sealing), pack):
            if part.file == number:
                yield bytes(chunk)


def unseal_parts(chunks: Iterable[bytes], pack: Pack) -> Iterator[tuple[Range, memoryview]]:
    """The raw bytes of a pack, each with the range that it is of; not copied, and in order.

    Raises:
        Damaged: there are fewer or more of them than the index says.
    """
    ranges = iter(part for part in pack.ranges if part.bytes)
    part, missing = None, 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            if not missing:
                part = next(ranges, None)
                if part is None:
                    raise Damaged(f"{pack.key} holds more than the index says")
                missing = part.bytes
            assert part is not None  # noqa: S101 - for the type checker: a range is open while bytes are missing
            piece = rest[:missing]
            yield part, piece
            missing -= len(piece)
            rest = rest[len(piece) :]
    if missing or next(ranges, None) is not None:
        raise Damaged(f"{pack.key} holds less than the index says")


def _check(index: Index, id: str) -> None:  # noqa: A002 - the catalogue's own word
    """Refuse an index that would write outside of the data folder, or leave a gap in a file."""
    if index.id != id:
        raise Damaged(f"the index of {id} is that of {index.id}")
    for path in [*(file.path for file in index.files), *(folder for folder, _ in index.folders)]:
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise Damaged(f"the index of {id} names {path!r}, which lies outside of it")
    ends = [0] * len(index.files)
    for part in (part for pack in index.packs for part in pack.ranges):
        if part.file >= len(ends) or part.offset != ends[part.file]:
            raise Damaged(f"the index of {id} does not say where every byte is")
        ends[part.file] += part.bytes
    if any(end != file.size for end, file in zip(ends, index.files, strict=True)):
        raise Damaged(f"the index of {id} does not say where every byte is")
