"""Files of JSON lines that one process appends to while others read them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


class JsonLines:
    """Appends to a file; one that outgrew `bytes_max` is kept once, under another name."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._open()

    def write(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Append, and hand over to the kernel at once: our own end loses nothing that was written."""
        os.write(self._file, b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
        if os.fstat(self._file).st_size > self._bytes_max:
            os.close(self._file)
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._open()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """All lines of a file; a last line that is not whole is left out."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                fields: dict[str, Any] = json.loads(line)
                yield fields
