"""The machine that nvcops runs on, and what can be seen from it."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.http import reason
from nvcops.adapters.tls import read_certificate
from nvcops.core.errors import Refused, Unreachable
from nvcops.core.manifest import CertificateEntry, DiskEntry
from nvcops.core.target import Certificate, Disk

_FILES_MAX = 200_000


@dataclass(frozen=True, slots=True)
class LocalHost:
    """This machine."""

    disks: Sequence[DiskEntry]
    certificates: Sequence[CertificateEntry]

    def disk(self, name: str) -> Disk:
        """How full a disk of the manifest is: a folder with a quota by its files, else the file system it lies on."""
        entry = next(entry for entry in self.disks if entry.name == name)
        try:
            if entry.quota is not None:
                return Disk(used=_files_bytes(entry.path), size=int(entry.quota))
            system = os.statvfs(entry.path)
        except OSError as error:
            raise Unreachable(f"the disk {name} ({entry.path}) cannot be read: {reason(error)}") from error
        # As `df` counts: what is reserved for root is neither used nor there for anybody else.
        used = (system.f_blocks - system.f_bfree) * system.f_frsize
        return Disk(used=used, size=used + system.f_bavail * system.f_frsize)

    def certificate(self, name: str) -> Certificate:
        """A certificate of the manifest, off the handshake."""
        entry = next(entry for entry in self.certificates if entry.name == name)
        return read_certificate(entry.name, entry.address, entry.ca_file, entry.deadline)

    def now(self) -> dt.datetime:
        """The machine's clock, in UTC."""
        return dt.datetime.now(dt.UTC)


def _files_bytes(folder: Path) -> int:
    """Bytes on the disk of all files below a folder; a file with holes counts what it occupies."""
    total = 0
    for number, blocks in enumerate(_blocks(folder)):
        if number >= _FILES_MAX:
            raise Refused(f"{folder} has more than {_FILES_MAX:,} files: their sizes cannot be summed in time")
        total += blocks * 512
    return total


def _blocks(folder: Path) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _blocks(Path(entry.path))
            else:
                try:
                    yield entry.stat(follow_symlinks=False).st_blocks
                except FileNotFoundError:  # rotated away in between
                    continue
