"""The socket behind which a database is restored: beside the live one, or in its place."""

from __future__ import annotations

from typing import Protocol


class Restores(Protocol):
    """Restored copies of the database, each in a folder of its own."""
