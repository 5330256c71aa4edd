"""The customers' own book: what the bank told them about their payments. With it, lost payments can be found.

JSON lines: {"time": seconds since 1970, "key": idempotency key, "hash": SHA-256 of the body, "attempt": 1...,
"outcome": "settled" | "declined_..." | "refused" | "unknown", "payment": its number or null, "status": HTTP or 0}.
A key whose last line says "unknown" may or may not have been paid: it is tried again with the same key.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BYTES_MAX = 256 << 20


@dataclass(frozen=True)
class Acknowledgement:
    """One answer about one payment."""

    time: float
    key: str
    hash: str
    attempt: int
    outcome: str
    payment: str | None
    status: int

    def line(self) -> bytes:
        """As a line of the book."""
        return json.dumps(asdict(self)).encode() + b"\n"


class Book:
    """Appends to the book; an outgrown one is kept once, under another name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def write(self, entries: list[Acknowledgement]) -> None:
        """Append, and hand over to the kernel at once: our own end loses nothing that was written."""
        os.write(self._file, b"".join(entry.line() for entry in entries))
        if os.fstat(self._file).st_size > _BYTES_MAX:
            os.close(self._file)
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._open()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def read(path: Path) -> Iterator[Acknowledgement]:
    """All lines of a book; a last line that a kill cut off is left out."""
    with path.open("rb") as book:
        for line in book:
            if line.endswith(b"\n"):
                fields: dict[str, Any] = json.loads(line)
                yield Acknowledgement(**fields)
