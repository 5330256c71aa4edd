"""What is new in logs since they were last backed up, however they were rotated in between.

A log's file is known again by what it holds, not by its name: renamed, copied and emptied, packed with gzip, it is the
same log. What was not backed up of it yet is what follows.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

from nvcops.adapters.backup.files_index import Mark, Source
from nvcops.adapters.logs import family
from nvcops.core.errors import Unreachable
from nvcops.core.manifest import Manifest

_KNOWN_BY = 4096
_CHUNK = 1 << 20


def log_files(manifest: Manifest) -> dict[str, Path]:
    """The logs that the manifest names, by whose they are."""
    logs = {service.name: service.log for service in manifest.services if service.log}
    if manifest.database and manifest.database.log:
        logs[manifest.database.primary.name] = manifest.database.log
    return logs


@contextmanager
def news(logs: Mapping[str, Path], before: Sequence[Mark]) -> Iterator[tuple[list[Source], list[Mark], list[str]]]:
    """What is new, while it is open; how far that reaches; and "path: why" of logs that cannot be read.

    A log that cannot be read keeps its marks: nothing of it is skipped when it can be read again.
    """
    with ExitStack() as stack:
        sources: list[Source] = []
        marks: list[Mark] = []
        unreadable: list[str] = []
        for name, path in logs.items():
            known = [mark for mark in before if mark.log == name]
            try:
                read, reached = _news_of(name, path, known, stack)
            except (OSError, EOFError, Unreachable) as error:
                unreadable.append(f"{path}: {getattr(error, 'strerror', None) or error}")
                read, reached = [], known
            sources += read
            marks += reached
        yield sources, marks, unreadable


def _news_of(name: str, path: Path, known: Sequence[Mark], stack: ExitStack) -> tuple[list[Source], list[Mark]]:
    sources: list[Source] = []
    marks: list[Mark] = []
    for file, status in _opened(path, stack):
        stamp = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
        if same := next((mark for mark in known if mark.stamp == stamp), None):
            marks.append(same)
            continue
        base = file.name
        content = _unpacked(file, base)
        size = content.seek(0, os.SEEK_END)
        start = max((mark.until for mark in known if _is_same(content, size, mark)), default=0)
        marks.append(_mark(name, stamp, content, size))
        if size > start:
            sources.append(
                Source(
                    name=f"{name}/{Path(base).name}@{start:012d}",
                    path=Path(base),
                    start=start,
                    read=lambda content=content, start=start, size=size: _between(content, start, size),  # type: ignore[misc]
                    status=status,
                )
            )
    return sources, marks


def _opened(path: Path, stack: ExitStack) -> list[tuple[IO[bytes], os.stat_result]]:
    """The log and its rotated files, each once: opened again where a rotation happened in the middle."""
    opened: list[tuple[IO[bytes], os.stat_result]] = []
    for _ in range(3):
        files = [stack.enter_context(name.open("rb")) for name in family(path)]
        opened = [(file, os.fstat(file.fileno())) for file in files]
        now = [name.stat() for name in family(path)]
        if [(s.st_dev, s.st_ino) for _, s in opened] == [(s.st_dev, s.st_ino) for s in now]:
            break
    unique = {(status.st_dev, status.st_ino): (file, status) for file, status in opened}
    return sorted(unique.values(), key=lambda pair: pair[1].st_mtime_ns)


def _unpacked(file: IO[bytes], name: str) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if name.endswith(".gz") else file


def _between(content: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    content.seek(start, io.SEEK_SET)
    while start < end and (chunk := content.read(min(_CHUNK, end - start))):
        start += len(chunk)
        yield chunk


def _mark(log: str, stamp: str, content: IO[bytes], until: int) -> Mark:
    head_bytes = min(until, _KNOWN_BY)
    return Mark(
        log=log,
        stamp=stamp,
        until=until,
        head_bytes=head_bytes,
        head=_digest(content, 0, head_bytes),
        tail=_digest(content, until - head_bytes, until),
    )


def _is_same(content: IO[bytes], size: int, mark: Mark) -> bool:
    """Whether a file goes on from where a mark stands."""
    return (
        size >= mark.until > 0
        and _digest(content, 0, mark.head_bytes) == mark.head
        and _digest(content, mark.until - mark.head_bytes, mark.until) == mark.tail
    )


def _digest(content: IO[bytes], start: int, end: int) -> str:
    return hashlib.sha256(b"".join(_between(content, start, end))).hexdigest()
