"""Writes a part of the log as one file for somebody who does not have the log."""

from __future__ import annotations

import os
from pathlib import Path

from nvcops.adapters.evidence import files
from nvcops.adapters.evidence.store import Store
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.evidence import checkpoint as notes
from nvcops.core.evidence.bundle import ENTRIES_MAX, Part, Verification, verify_bundle
from nvcops.core.evidence.checkpoint import Checkpoint


def read_part(store: Store, vkey: str, start: int, stop: int) -> Part:
    """The entries from start to stop, the checkpoints inside, and the first one that covers them all.

    Raises:
        UsageError: it is no range of the log.
        NotFoundError: no checkpoint covers it yet.
    """
    size = store.size()
    if not 0 <= start < stop <= size or stop - start > ENTRIES_MAX:
        raise UsageError(
            f"{start} to {stop} is not a range of 1 to {ENTRIES_MAX:,} entries of this log",
            hint=f"it has the entries 0 to {size - 1}; the end is not part of a range",
        )
    rows = store.rows("SELECT data FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx", start, stop)
    return Part(start, [bytes(data) for (data,) in rows], _checkpoints(store, vkey, start, stop))


def _checkpoints(store: Store, vkey: str, start: int, stop: int) -> list[Checkpoint]:
    found: list[Checkpoint] = []
    for size, note, _ in store.checkpoints():
        if size > start:
            found.append(notes.open_checkpoint(note, vkey))
            if size >= stop:
                return found
    raise NotFoundError("no checkpoint covers that yet", hint="`nvcops evidence checkpoint` makes one")


def write_bundle(path: Path, data: bytes) -> None:
    """Put the file there at once: never a half one.

    Raises:
        StateError: the folder is not there, read-only or full.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            files.write_all(scratch, data, os.O_TRUNC)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
        files.sync_folder(path.parent)
    except OSError as error:
        raise files.unusable(path, error) from error


def verify_file(path: Path, vkey: str = "") -> list[Verification]:
    """Verify the bundle in a file.

    Raises:
        UsageError: it is no bundle.
        StateError: there is no such file, or it cannot be read.
    """
    try:
        return verify_bundle(path.read_bytes(), vkey)
    except OSError as error:
        raise files.unusable(path, error) from error
