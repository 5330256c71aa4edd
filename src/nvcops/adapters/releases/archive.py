"""The artifact: a tar of plain files with fixed headers in one frame of zstandard, by the SHA-256 of its bytes.

It is read as strictly as it is written: whatever we would not have written is refused, before anything is made of it.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, BinaryIO, Protocol, cast

import zstandard

from nvcops.adapters.releases.contents import ABOUT, APP, LOCK, MIGRATIONS, SBOM, WHEELS
from nvcops.core.errors import EvidenceError, UsageError

FILES_MAX = 50_000
FILE_BYTES_MAX = 512 << 20
TOTAL_BYTES_MAX = 2 << 30
_PATH_BYTES_MAX = 250
_BLOCK = 512
_CHUNK = 1 << 20
_END = bytes(_BLOCK)
_MODIFIED = 315_532_800  # 1980-01-01, the first day that a zip knows too: when it was built says the statement
_LEVEL = 10
_WINDOW_BYTES_MAX = 128 << 20
_ALONE = (ABOUT, SBOM, LOCK)
_FOLDERS = (APP, MIGRATIONS, WHEELS)


@dataclass(frozen=True, slots=True)
class Packed:
    """A file of the artifact."""

    path: str
    data: bytes
    executable: bool = False

    @property
    def sha256(self) -> str:
        """Its digest in hex."""
        return hashlib.sha256(self.data).hexdigest()


def pack(files: Iterable[Packed]) -> Iterator[bytes]:
    """The artifact's bytes for files in their order: the same files are the same bytes.

    Raises:
        UsageError: there are too many, or one has a name or a size that an artifact cannot have.
    """
    chunker = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).chunker(chunk_size=_CHUNK)
    limits = _Limits()
    for file in files:
        if trouble := limits.trouble(file.path, len(file.data)):
            raise UsageError(trouble, hint="an artifact holds one service's package, not its data")
        for piece in (_header(file), file.data, bytes(-len(file.data) % _BLOCK)):
            yield from chunker.compress(piece)
    yield from chunker.compress(_END * 2)
    yield from chunker.finish()  # type: ignore[no-untyped-call] # the library forgot to say what it takes: nothing


@contextmanager
def reading(artifact: BinaryIO, digest: str) -> Iterator[Iterator[Packed]]:
    """The files of an artifact, read once, in the order in which they stand in it.

    What was taken counts only when this ends without an error: its last act is to compare the digest of all bytes.

    Raises:
        EvidenceError: the bytes have another digest, it is no artifact of ours, or whoever takes its files said so.
    """
    source = _Hashed(artifact)
    try:
        yield _files(source)
    except EvidenceError as error:
        source.check(digest)  # bytes that were changed are why something does not fit
        raise EvidenceError(f"release {digest[:16]}: {error.sentence}", hint=error.hint) from error
    source.check(digest)


def _files(source: _Hashed) -> Iterator[Packed]:
    limits = _Limits()
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
    with decompressor.stream_reader(cast("IO[bytes]", source), read_size=_CHUNK, closefd=False) as plain:
        while (block := _exactly(plain, _BLOCK)) != _END:
            info = _parsed(block)
            if trouble := limits.trouble(info.name, info.size):
                raise _strange(trouble)
            data = _exactly(plain, info.size)
            file = Packed(info.name, data, info.mode == 0o755)
            if _exactly(plain, -info.size % _BLOCK).strip(b"\0") or not _wrote(file, block):
                raise _strange(f"{info.name!r} has a header that is none of ours")
            yield file
        if _exactly(plain, _BLOCK) != _END or _some(plain, 1):
            raise _strange("something stands behind its end")


def _header(file: Packed) -> bytes:
    info = tarfile.TarInfo(file.path)
    info.size, info.mtime, info.mode = len(file.data), _MODIFIED, 0o755 if file.executable else 0o644
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError as error:
        raise UsageError(f"{file.path!r} cannot stand in an artifact: {error}", hint="rename it") from error


def _wrote(file: Packed, block: bytes) -> bool:
    try:
        return _header(file) == block
    except UsageError:
        return False


def _parsed(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise _strange(f"a header is damaged: {error}") from error
    if info.type != tarfile.REGTYPE:
        raise _strange(f"{info.name!r} is no plain file")
    return info


@dataclass(slots=True)
class _Limits:
    """What was seen so far, to say what is wrong with the next file."""

    seen: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    total: int = 0

    def trouble(self, path: str, size: int) -> str:
        """Why the next file may not stand in an artifact; empty: it may."""
        self.total += size
        above = {str(folder) for folder in PurePosixPath(path).parents}
        if trouble := path_trouble(path):
            return trouble
        if path in self.seen or path in self.folders or above & self.seen:
            return f"{path!r} stands in it twice"
        if size < 0 or size > FILE_BYTES_MAX or self.total > TOTAL_BYTES_MAX or len(self.seen) >= FILES_MAX:
            return (
                f"{path!r} is too much: a file has at most {FILE_BYTES_MAX >> 20} MiB, "
                f"an artifact {TOTAL_BYTES_MAX >> 20} MiB in {FILES_MAX:,} files"
            )
        self.seen.add(path)
        self.folders |= above
        return ""


def path_trouble(path: str) -> str:
    """Why a path may not stand in an artifact; empty: it may.

    >>> path_trouble("app/bank/main.py")
    ''
    >>> path_trouble("app/../../etc/passwd")
    "'app/../../etc/passwd' leads out of its folder"
    >>> path_trouble("etc/passwd")
    "'etc/passwd' is in none of the artifact's folders"
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return f"{path!r} leads out of its folder"
    if not path.isprintable() or "\\" in path or len(path.encode(errors="replace")) > _PATH_BYTES_MAX:
        return f"{path!r} is no name for a file: printable letters, no \\, at most {_PATH_BYTES_MAX} bytes"
    if not (path in _ALONE or (len(parts) > 1 and parts[0] in _FOLDERS)):
        return f"{path!r} is in none of the artifact's folders"
    return ""


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(slots=True)
class _Hashed:
    """A stream, and the SHA-256 of what was read from it."""

    stream: BinaryIO
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes."""
        data = self.stream.read(size)
        self.sha256.update(data)
        return data

    def check(self, digest: str) -> None:
        """Read the rest, and compare.

        Raises:
            EvidenceError: it is another artifact, or one that was changed.
        """
        while self.read(_CHUNK):
            pass
        if (found := self.sha256.hexdigest()) != digest:
            raise EvidenceError(
                f"the artifact {digest[:16]} was changed: its bytes have the digest {found[:16]}",
                hint="copy it again from where it verifies, or build the release again",
            )


def _exactly(stream: _Readable, size: int) -> bytes:
    data = _some(stream, size)
    if len(data) != size:
        raise _strange("it ends too early")
    return data


def _some(stream: _Readable, size: int) -> bytes:
    pieces: list[bytes] = []
    missing = size
    try:
        while missing and (piece := stream.read(min(missing, _CHUNK))):
            pieces.append(piece)
            missing -= len(piece)
    except zstandard.ZstdError as error:
        raise _strange(f"it cannot be decompressed: {error}") from error
    return b"".join(pieces)


def _strange(why: str) -> EvidenceError:
    return EvidenceError(f"the artifact is none of ours: {why}", hint="build the release again")
