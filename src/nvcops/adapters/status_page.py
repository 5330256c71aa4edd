"""The status page's folder: each file is whole at every moment, and written only when it changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nvcops.core.errors import StateError

_BYTES_MAX = 8 << 20
_HINT = "[incidents] status_page names a folder that we may write to"


def publish(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Write the files that differ, each in one move; their names. A web server may read them all the while.

    Raises:
        StateError: the folder cannot be written, or a file is larger than 8 MiB.
    """
    changed = []
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name, data in files.items():
            if len(data) > _BYTES_MAX:
                raise StateError(f"{name} of the status page has {len(data):,} bytes", hint="at most 8 MiB")
            if _put(folder / name, data):
                changed.append(name)
    except OSError as error:
        raise StateError(f"{folder} cannot be written: {error.strerror or error}", hint=_HINT) from error
    return changed


def _put(path: Path, data: bytes) -> bool:
    if path.exists() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True
