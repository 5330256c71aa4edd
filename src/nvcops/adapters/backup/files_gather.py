"""Which files are a release, and which are the configuration."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from nvcops.adapters.backup.files_index import Source

_VERSION_BYTES_MAX = 200
WAITING = ".nvcops-"  # in the names of new files that wait beside their places while a configuration is put back


class Gathered(msgspec.Struct):
    """Files by their names in the backup; `left_out` are secrets; `unreadable` are "path: why"."""

    sources: list[Source]
    left_out: list[str]
    unreadable: list[str]


def release(folder: Path) -> Gathered:
    """Everything below a release's folder, by the path below it."""
    gathered = Gathered([], [], [])
    for path in _below(folder, gathered.unreadable):
        gathered.sources.append(Source(path.relative_to(folder).as_posix(), path))
    return gathered


def version_in(folder: Path) -> str:
    """The first line of the folder's VERSION file; empty where there is none."""
    try:
        with (folder / "VERSION").open("rb") as file:
            return file.readline(_VERSION_BYTES_MAX).decode(errors="replace").strip()
    except OSError:
        return ""


def configuration(paths: Sequence[Path], secrets: Sequence[str], *, encrypted: bool) -> Gathered:
    """Every file that the manifest names, and all below every folder, by the path from the root on.

    Files whose name is like a secret's are left out where nothing is encrypted.
    """
    gathered = Gathered([], [], [])
    for named in paths:
        top = Path(os.path.normpath(named.absolute()))
        for path in (top, *_below(top, gathered.unreadable)):
            if not encrypted and is_secret(path, secrets) and not (path.is_dir() and not path.is_symlink()):
                gathered.left_out.append(name_of(path))
            else:
                gathered.sources.append(Source(name_of(path), path))
    gathered.sources = list({source.name: source for source in gathered.sources}.values())
    return gathered


def name_of(path: Path) -> str:
    """A file's name in a backup of the configuration.

    >>> name_of(Path("/etc/bank.toml"))
    'etc/bank.toml'
    """
    return path.as_posix().lstrip("/")


def is_secret(path: Path, secrets: Sequence[str]) -> bool:
    """Whether a file's name is like a secret's.

    >>> is_secret(Path("/etc/bank/tls.key"), ["*.key", "*password*"]), is_secret(Path("/etc/keys/a"), ["*.key"])
    (True, False)
    """
    return any(fnmatch.fnmatch(path.name, pattern) for pattern in secrets)


def _below(folder: Path, unreadable: list[str]) -> Iterator[Path]:
    """Everything below a folder, folders before what is in them; links are not followed."""
    if folder.is_symlink() or not folder.is_dir():
        return

    def cannot(error: OSError) -> None:
        unreadable.append(f"{error.filename}: {error.strerror}")

    for root, folders, files in os.walk(folder, onerror=cannot):
        folders.sort()
        yield from (Path(root) / name for name in sorted([*folders, *files]) if not _is_waiting(name))


def _is_waiting(name: str) -> bool:
    return name.startswith(".") and WAITING in name
