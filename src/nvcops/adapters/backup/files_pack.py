"""Reading files, and putting those contents into packs that the repository does not have yet."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from nvcops.adapters.backup.files_index import FileIndex, Kept, Source, read_index
from nvcops.adapters.backup.index import PACK_BYTES, pack_key
from nvcops.adapters.backup.pack import Damaged, seal
from nvcops.adapters.backup.packing import Digest
from nvcops.adapters.backup.repository import Repository
from nvcops.core.backups import Entry, Kind, Stored
from nvcops.core.catalogue import present
from nvcops.core.errors import NotFoundError, StateError
from nvcops.core.progress import tell

_CHUNK = 1 << 20
_LIVE_MIN = 0.5  # of an earlier entry's packs; with less of them in use, everything is stored afresh
_TELL_EVERY = 16 << 20
Place = tuple[str, int]  # a pack, and where in its raw bytes
Known = Mapping[tuple[str, int], Place]  # by digest and size


def looked_at(sources: Iterable[Source]) -> tuple[list[tuple[Source, Kept]], list[str]]:
    """Every source with what there is to say of it, by name; and "path: why" of those that cannot be read."""
    found: list[tuple[Source, Kept]] = []
    unreadable: list[str] = []
    for source in sorted(sources, key=lambda source: source.name):
        try:
            found.append((source, _look(source)))
        except (OSError, EOFError) as error:
            unreadable.append(f"{source.path}: {getattr(error, 'strerror', None) or error}")
    return found, unreadable


def read(source: Source) -> Iterator[bytes]:
    """The bytes of a source.

    Raises:
        OSError: it cannot be read, or became something else than a file.
    """
    if source.read is not None:
        yield from source.read()
        return
    handle = os.open(source.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def earlier(
    repository: Repository, kind: Kind, entries: Sequence[Entry]
) -> tuple[Entry | None, FileIndex | None, Known]:
    """The newest entry of the kind that can be read with our key, its index, and the contents that it has.

    One that is damaged is none: then everything is stored afresh.
    """
    key = repository.sealing.key_id
    newest = next((entry for entry in reversed(present(entries)) if entry.kind is kind and entry.key_id == key), None)
    if newest is None:
        return None, None, {}
    try:
        index = read_index(repository, newest.id)
    except (NotFoundError, Damaged):
        return None, None, {}
    folders = {stored.key.rpartition("/")[0] + "/" for stored in newest.objects}
    there = {file.key: file.bytes for folder in folders for file in repository.store.list(folder)}
    if any(there.get(stored.key) != stored.bytes for stored in newest.objects):
        return None, None, {}
    files = {(file.sha256, file.size): (file.pack, file.offset) for file in index.files if file.pack}
    held = sum(stored.raw_bytes for stored in newest.objects)
    return newest, index, files if sum(size for _, size in files) >= _LIVE_MIN * held else {}


def packed(
    repository: Repository,
    id: str,  # noqa: A002 - the catalogue's own word
    found: Sequence[tuple[Source, Kept]],
    known: Known,
) -> tuple[list[Kept], list[Stored]]:
    """Put the contents that are not known into packs; the files as they were stored, by name, and the new objects.

    Raises:
        StateError: a file cannot be read any more.
    """
    places = dict(known)
    files: list[Kept] = []
    objects: list[Stored] = []
    ahead = list(reversed(found))
    while ahead:
        now: list[Kept] = []
        key = pack_key(id, len(objects) + 1)
        chunks = _pack(ahead, key, places, now, files)
        first = next(chunks, None)
        if first is not None:
            objects.append(put(repository, key, _with_first(first, chunks), None))
        files += now
    return sorted(files, key=lambda file: file.name), objects


def put(repository: Repository, key: str, chunks: Iterable[bytes], raw_bytes: int | None) -> Stored:
    """Put an object, sealed. `raw_bytes` are counted where they are None."""
    counted = _Counted(chunks)
    stored = Digest(seal(counted, repository.sealing))
    size = repository.store.put(key, stored)
    return Stored(key=key, bytes=size, sha256=stored.hex, raw_bytes=counted.bytes if raw_bytes is None else raw_bytes)


class _Counted:
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self.bytes = chunks, 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            before, self.bytes = self.bytes, self.bytes + len(chunk)
            if before // _TELL_EVERY != self.bytes // _TELL_EVERY:
                tell(self.bytes, 0, "storing")
            yield chunk


def _with_first(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from chunks


def _pack(
    ahead: list[tuple[Source, Kept]], key: str, places: dict[tuple[str, int], Place], now: list[Kept], known: list[Kept]
) -> Iterator[bytes]:
    """The bytes of one pack, from the files ahead; says in `now` and `known` where each of them lies."""
    position = 0
    while ahead and position < PACK_BYTES:
        source, file = ahead.pop()
        if file.kind != "file" or not file.size or (file.sha256, file.size) in places:
            pack, offset = places.get((file.sha256, file.size), ("", 0))
            known.append(msgspec.structs.replace(file, pack=pack, offset=offset))
            continue
        digest, size = hashlib.sha256(), 0
        try:
            for chunk in read(source):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
        except (OSError, EOFError) as error:
            raise StateError(f"{source.path} cannot be read any more: {error}", hint="back it up again") from error
        if size:
            places[(digest.hexdigest(), size)] = (key, position)
        stored = msgspec.structs.replace(
            file, size=size, sha256=digest.hexdigest(), pack=key if size else "", offset=position if size else 0
        )
        now.append(stored)
        position += size


def _look(source: Source) -> Kept:
    status = source.status or source.path.lstat()
    kept = Kept(
        name=source.name,
        kind="file",
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        start=source.start,
    )
    if stat.S_ISLNK(status.st_mode):
        return msgspec.structs.replace(kept, kind="link", link=str(source.path.readlink()))
    if stat.S_ISDIR(status.st_mode):
        with os.scandir(source.path) as listed:  # whether it can be read at all
            next(listed, None)
        return msgspec.structs.replace(kept, kind="folder")
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is neither a file, nor a folder, nor a symbolic link")
    digest, size = hashlib.sha256(), 0
    for chunk in read(source):
        digest.update(chunk)
        size += len(chunk)
    return msgspec.structs.replace(kept, size=size, sha256=digest.hexdigest())
