"""The checkout of which the platform is built: its commits, and what a revision brings over another."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Protocol

import msgspec


class Commit(msgspec.Struct, frozen=True):
    """One commit of the platform's source; `time` is when it was committed, in UTC."""

    id: str
    time: dt.datetime
    author: str
    subject: str


class Touched(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a change touches: lines added and removed, commits to it in the 90 days before.

    `by_author`: its author committed to it within a year. Of its `statements`, tests cover so many; 0: not known.
    """

    path: str
    lines: int = 0
    commits: int = 0
    by_author: bool = False
    statements: int = 0
    covered: int = 0


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """What lies between two revisions: at most 1,000 commits, and 2,000 files."""

    commits: tuple[Commit, ...] = ()
    files: tuple[Touched, ...] = ()


class Commits(Protocol):
    """The checkout of which the platform is built."""

    def brought(self, old: str, new: str, author: Sequence[str], at: dt.datetime) -> Brought:
        """What a revision brings over an older one (empty: what its own commit does); `author` by any of their names.

        Raises:
            TargetError: it cannot be read, or there is no such revision.
        """
        ...

    def between(self, start: dt.datetime, end: dt.datetime) -> list[Commit]:
        """What was committed between two moments, the newest first; at most 100.

        Raises:
            TargetError: it cannot be read.
        """
        ...
