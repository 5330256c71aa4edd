"""The customers' own book: what the bank told them about their payments. With it, lost payments can be found.

JSON lines: {"time": seconds since 1970, "key": idempotency key, "hash": SHA-256 of the body, "attempt": 1...,
"outcome": "settled" | "declined_..." | "refused" | "unknown", "payment": its number or null, "status": HTTP or 0}.
A key whose last line says "unknown" may or may not have been paid: it is tried again with the same key.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from nvclab import json_lines
from nvclab.json_lines import JsonLines

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


class Book:
    """Appends to the book."""

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path, _BYTES_MAX)

    def write(self, entries: list[Acknowledgement]) -> None:
        """Append; our own end loses nothing that was written."""
        self._lines.write(map(asdict, entries))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def read(path: Path) -> Iterator[Acknowledgement]:
    """All lines of a book; a last line that a kill cut off is left out."""
    for fields in json_lines.read(path):
        yield Acknowledgement(**fields)
