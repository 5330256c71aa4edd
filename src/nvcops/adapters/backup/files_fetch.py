"""Writing files of a backup back, each digest compared."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nvcops.adapters.backup.files_index import Kept
from nvcops.adapters.backup.pack import Damaged, unseal
from nvcops.adapters.backup.repository import Repository

_CHUNK = 1 << 20


def fetch(repository: Repository, files: Sequence[Kept], path_of: Callable[[Kept], Path]) -> None:
    """Write files, folders and links, where nothing may be yet but folders; digests are compared, disks waited for.

    Raises:
        OSError: something cannot be written, or is there.
        Damaged: a digest is not what it was.
    """
    folders = [file for file in files if file.kind == "folder"]
    for folder in folders:
        path_of(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    regular = [file for file in files if file.kind == "file"]
    for pack in sorted({file.pack for file in regular}):
        _fetch_pack(repository, pack, [file for file in regular if file.pack == pack], path_of)
    for link in (file for file in files if file.kind == "link"):
        path_of(link).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path_of(link).symlink_to(link.link)
        own(path_of(link), link)
    for folder in reversed(folders):  # the innermost first: permissions may close the outer ones
        own(path_of(folder), folder)


def _fetch_pack(repository: Repository, pack: str, files: Sequence[Kept], path_of: Callable[[Kept], Path]) -> None:
    ahead = sorted(files, key=lambda file: (file.offset, file.name))
    if not pack:  # empty files lie in no pack
        for file in ahead:
            with _new_file(path_of(file), file):
                pass
        return
    with repository.store.open(pack) as stored:
        raw = _Raw(unseal(stored, repository.sealing))
        last: tuple[Kept, Path] | None = None
        for file in ahead:
            if last is not None and last[0].offset == file.offset:  # the same contents under two names
                with last[1].open("rb") as twin, _new_file(path_of(file), file) as out:
                    while chunk := twin.read(_CHUNK):
                        _write(out, chunk)
                continue
            digest = hashlib.sha256()
            with _new_file(path_of(file), file) as out:
                for piece in raw.between(file.offset, file.offset + file.size):
                    digest.update(piece)
                    _write(out, piece)
            if digest.hexdigest() != file.sha256:
                raise Damaged(f"{file.name} in {pack} is not what was stored")
            last = file, path_of(file)


@contextmanager
def _new_file(path: Path, file: Kept) -> Iterator[int]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    out = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield out
        os.fsync(out)
    finally:
        os.close(out)
    own(path, file)


def _write(out: int, chunk: bytes | memoryview) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(out, rest) :]


def copied(path: Path, into: Path, file: Kept) -> None:
    """Copy a file or a link, with what is known of it, durably; nothing may be by that name yet."""
    if file.kind == "link":
        into.symlink_to(file.link)
        own(into, file)
        return
    with path.open("rb") as source, _new_file(into, file) as out:
        while chunk := source.read(_CHUNK):
            _write(out, chunk)


def own(path: Path, file: Kept) -> None:
    """Give a path its owner (where we are root), permissions and time."""
    if os.geteuid() == 0:
        os.chown(path, file.uid, file.gid, follow_symlinks=False)
    if file.kind != "link":
        path.chmod(file.mode)
    os.utime(path, ns=(file.mtime_ns, file.mtime_ns), follow_symlinks=False)


class _Raw:
    """Ranges of a stream of chunks, in order."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._position = 0
        self._rest = memoryview(b"")

    def between(self, start: int, end: int) -> Iterator[memoryview]:
        """The bytes from start to end; what lies before is passed over."""
        while self._position < end:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    raise Damaged("a pack holds less than its index says")
                self._rest = memoryview(chunk)
            skipped = min(max(start - self._position, 0), len(self._rest))
            self._position, self._rest = self._position + skipped, self._rest[skipped:]
            piece = self._rest[: end - self._position] if self._position >= start else memoryview(b"")
            if piece:
                yield piece
            self._position, self._rest = self._position + len(piece), self._rest[len(piece) :]


def contents(repository: Repository, files: Sequence[Kept]) -> dict[str, bytes]:
    """The bytes of small files, by name.

    Raises:
        Damaged: a digest is not what it was.
    """
    found = {file.name: b"" for file in files if not file.pack}
    for pack in sorted({file.pack for file in files if file.pack}):
        with repository.store.open(pack) as stored:
            raw = _Raw(unseal(stored, repository.sealing))
            seen: dict[int, bytes] = {}
            for file in sorted((file for file in files if file.pack == pack), key=lambda file: file.offset):
                if file.offset not in seen:
                    seen[file.offset] = b"".join(raw.between(file.offset, file.offset + file.size))
                found[file.name] = seen[file.offset]
                if hashlib.sha256(found[file.name]).hexdigest() != file.sha256:
                    raise Damaged(f"{file.name} in {pack} is not what was stored")
    return found
