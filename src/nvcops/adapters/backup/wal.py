"""The transaction log in the repository: which files there are, and each of them read back.

    wal/<system identifier>/<timeline, 8 hex>/<file name>-<first 32 hex of the SHA-256 of its raw bytes>.seg

One name with two digests is a duplicate that differs: both are kept, and the audit names them. `X.partial` is the end
of a timeline that the server left in the middle of the segment X.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from nvcops.adapters.backup.pack import Damaged, unseal
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.backup.spool import identity, look
from nvcops.adapters.evidence.files import sync_folder
from nvcops.core.backups import Segment
from nvcops.core.errors import NotFoundError, StateError

DIGEST_DIGITS = 32
SUFFIX = ".seg"
SPOOL_PREFIX = "spool/"
_PREFIX = "wal/"
_FILE = r"([0-9A-F]{24}|[0-9A-F]{8}\.history)(\.partial)?"
_KEY = re.compile(rf"wal/([0-9]{{1,20}})/[0-9A-F]{{8}}/{_FILE}-([0-9a-f]{{32}})\.seg")
_SEGMENTS_MAX = 5_000_000
_COPY_BYTES = 1 << 20


def segments(repository: Repository, system_identifier: str = "") -> list[Segment]:
    """Every file of the log, by name: what is in the repository, then what is still in the spool.

    With a system identifier only those of that server.
    """
    prefix = f"{system_identifier}/" if system_identifier else ""
    mine = (segment for segment in spooled(repository) if system_identifier in ("", segment.system_identifier))
    found = [*stored_segments(repository, prefix), *mine]
    if len(found) > _SEGMENTS_MAX:
        raise StateError(f"{repository.store.name} holds more than {_SEGMENTS_MAX:,} segments", hint="retention")
    return sorted(found, key=lambda segment: (segment.name, segment.partial, segment.key))


def stored_segments(repository: Repository, prefix: str = "") -> Iterator[Segment]:
    """What the repository itself has, by key; of another kind of name nothing is said here."""
    for file in repository.store.list(_PREFIX + prefix):
        if match := _KEY.fullmatch(file.key):
            yield Segment(
                name=match[2],
                system_identifier=match[1],
                sha256=match[4],
                key=file.key,
                bytes=file.bytes,
                modified=file.modified,
                partial=bool(match[3]),
            )


def spooled(repository: Repository) -> list[Segment]:
    """What lies in the spool. Its digest is empty, since it is not known before it is read."""
    folder, whose = repository.spool, identity(repository.spool)
    there = look(folder)
    found = (_spooled(folder / name, whose) for name in (*there.histories, *there.logs))
    return [segment for segment in found if segment is not None]


def wal_key(system_identifier: str, name: str, digest: str) -> str:
    """The key of a file of the log.

    >>> wal_key("7398", "00000002.history", "ab" * 32)
    'wal/7398/00000002/00000002.history-abababababababababababababababab.seg'
    """
    return f"{_PREFIX}{system_identifier}/{name[:8]}/{name}-{digest[:DIGEST_DIGITS]}{SUFFIX}"


def fetch(repository: Repository, segment: Segment, into: Path) -> int:
    """Write the raw bytes of a file of the log to `into`, which must not be there; its size in bytes.

    Nothing is left by that name when it fails.

    Raises:
        NotFoundError: it is gone.
        Damaged, WrongKey: it cannot be read back, or its bytes are not those that its name says.
    """
    scratch = into.with_name(f".{into.name}.fetching")
    try:
        with scratch.open("wb", buffering=0) as file:
            size = sum(file.write(chunk) for chunk in raw(repository, segment))
            os.fsync(file.fileno())
        scratch.rename(into)
        sync_folder(into.parent)
    except OSError as error:
        raise StateError(f"{into} cannot be written: {error.strerror}", hint="look at the disk's space") from error
    finally:
        scratch.unlink(missing_ok=True)
    return size


def raw(repository: Repository, segment: Segment) -> Iterator[bytes]:
    """The raw bytes of a file of the log, about 1 MiB at a time; raises as `fetch` does, the digest last."""
    if segment.key.startswith(SPOOL_PREFIX):
        yield from chunks(repository.spool / segment.key.removeprefix(SPOOL_PREFIX))
        return
    digest = hashlib.sha256()
    with repository.store.open(segment.key) as stored:
        for chunk in unseal(stored, repository.sealing):
            digest.update(chunk)
            yield chunk
    if not digest.hexdigest().startswith(segment.sha256):
        raise Damaged(f"{segment.name} is not what its name says: {segment.key}")


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file of the spool.

    Raises:
        NotFoundError: it was archived since.
        StateError: it cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_COPY_BYTES):
                yield chunk
    except FileNotFoundError:
        raise NotFoundError(f"{path.name} is no longer in the spool", hint="list the log again") from None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}", hint="look at the disk") from error


def _spooled(path: Path, system_identifier: str) -> Segment | None:
    try:
        status = path.stat()
    except FileNotFoundError:  # it became whole, or went into the repository
        return None
    return Segment(
        name=path.name.removesuffix(".partial"),
        system_identifier=system_identifier,
        sha256="",
        key=SPOOL_PREFIX + path.name,
        bytes=status.st_size,
        modified=dt.datetime.fromtimestamp(status.st_mtime, dt.UTC),
        partial=path.suffix == ".partial",
    )
