"""Where entries wait while the log cannot be written: a file per process, a line per entry, on disk before it counts.

A line is a check sum, a space and the entry. Folding takes a file's lock, commits its entries to the log, then removes
the file; a crash in between folds it once more, and the entries' ids make that harmless. What cannot be folded is kept
beside it under a name that says why, for the audit to report: `unfinished` (the write was cut before it was
acknowledged), `damaged` (the line is not what was written), `conflicting` (its id is taken by another content).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from nvcops.adapters.evidence import files
from nvcops.core.errors import StateError

FILE_BYTES_MAX = 2**22
FILES_PER_FOLD_MAX = 8
QUARANTINE = ("unfinished", "damaged", "conflicting")


class Claim(msgspec.Struct):
    """A spool file that this process has locked, and what stands in it."""

    path: Path
    handle: int
    entries: list[bytes]
    damaged: bytes
    unfinished: bytes


class Spool:
    """The waiting room of one process, and the folding of everybody's."""

    def __init__(self, folder: Path) -> None:
        self.folder = files.private_folder(folder)
        self._stem = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._number = 0

    def keep(self, entries: Sequence[bytes]) -> None:
        """Keep entries durably until the log can be written.

        Raises:
            StateError: not even here is room.
        """
        data = b"".join(_line(entry) for entry in entries)
        if not data:
            return
        try:
            while not self._append(self.folder / f"{self._stem}-{self._number}.spool", data):
                self._number += 1  # folded away or full: the next file
            files.sync_folder(self.folder)
        except OSError as error:
            raise StateError(
                f"evidence could be kept neither in the log nor in {self.folder}: {error.strerror}",
                hint="free some space; nothing was acknowledged",
            ) from error

    def _append(self, path: Path, data: bytes) -> bool:
        handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            status = os.fstat(handle)
            if status.st_nlink == 0 or status.st_size > FILE_BYTES_MAX:
                return False
            try:
                files.append_all(handle, data)
            except OSError:
                os.ftruncate(handle, status.st_size)
                raise
        finally:
            os.close(handle)
        return True

    def waiting(self) -> list[Path]:
        """The files that are not folded yet."""
        try:
            with os.scandir(self.folder) as names:  # before every transaction: a third of the time of a glob
                return sorted(self.folder / item.name for item in names if item.name.endswith(".spool"))
        except FileNotFoundError:
            return []  # somebody removed the folder: nothing waits in it
        except OSError as error:
            raise files.unusable(self.folder, error) from error

    def quarantined(self) -> list[Path]:
        """What could not be folded."""
        return sorted(path for reason in QUARANTINE for path in self.folder.glob(f"*.{reason}"))

    @contextlib.contextmanager
    def claims(self) -> Iterator[list[Claim]]:
        """Lock and read the waiting files. Call `fold_away` on each once its entries are committed."""
        found: list[Claim] = []
        try:
            for path in self.waiting()[:FILES_PER_FOLD_MAX]:
                claim = _claim(path)
                if claim:
                    found.append(claim)
            yield found
        finally:
            for claim in found:
                os.close(claim.handle)

    def set_aside(self, claim: Claim, conflicting: bytes) -> None:
        """Keep, durably, what cannot be folded.

        Raises:
            StateError: there is no room for it; the file must not be folded away.
        """
        for reason, data in zip(QUARANTINE, (claim.unfinished, claim.damaged, conflicting), strict=True):
            if data:
                path = (self.folder / claim.path.name).with_suffix(f".{reason}")
                try:
                    files.write_all(path, data, os.O_TRUNC)
                    files.sync_folder(self.folder)
                except OSError as error:
                    raise files.unusable(path, error) from error


def fold_away(claim: Claim) -> None:
    """Remove a file whose entries are in the log.

    Raises:
        StateError: it cannot be removed; it will be folded once more, harmlessly.
    """
    try:
        claim.path.unlink(missing_ok=True)
    except OSError as error:
        raise files.unusable(claim.path, error) from error


def _claim(path: Path) -> Claim | None:
    """Lock a file without waiting: one that its writer holds just now is folded next time."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise files.unusable(path, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_nlink:
            with os.fdopen(handle, "rb", closefd=False) as file:
                return Claim(path, handle, *_parse(file.read()))
    except BlockingIOError:
        pass  # its writer has it: next time
    os.close(handle)
    return None


def _parse(data: bytes) -> tuple[list[bytes], bytes, bytes]:
    """Whole entries, damaged lines, and the unfinished rest of a spool file."""
    *lines, unfinished = data.split(b"\n")
    whole = [_line(line[17:]) == line + b"\n" for line in lines]
    good = [line[17:] for line, fits in zip(lines, whole, strict=True) if fits]
    bad = [line + b"\n" for line, fits in zip(lines, whole, strict=True) if not fits]
    return good, b"".join(bad), unfinished


def _line(entry: bytes) -> bytes:
    return hashlib.sha256(entry).hexdigest()[:16].encode() + b" " + entry + b"\n"
