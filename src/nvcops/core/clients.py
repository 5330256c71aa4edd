"""What customers saw, by the journal of what they were told: the socket, and the arithmetic of gaps in it."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable
from typing import Protocol

import msgspec

_KEYS_SHOWN = 20


class Told(msgspec.Struct, frozen=True):
    """One line of the journal. `unknown`: they were not told how it ended."""

    time: dt.datetime
    key: str
    settled: bool
    unknown: bool


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What customers saw in a window.

    `gap_s` is the longest time without an acknowledged write between two of them, from `gap_from` on; None where fewer
    than two were acknowledged. `unknown` answers told nothing, `unresolved` are the keys of which that was the last.
    """

    settled: int = 0
    declined: int = 0
    unknown: int = 0
    unresolved: tuple[str, ...] = ()
    unresolved_count: int = 0
    gap_s: float | None = None
    gap_from: dt.datetime | None = None
    last: dt.datetime | None = None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Acknowledged writes of a window, looked for in the database: how many, and which are not there."""

    acknowledged: int
    missing: int
    missing_keys: tuple[str, ...] = ()


class Clients(Protocol):
    """The customers' side of the platform."""

    def seen(self, start: dt.datetime, end: dt.datetime) -> Seen:
        """What they saw between two moments.

        Raises:
            TargetError: the journal cannot be read.
        """
        ...

    def acknowledged_after(self, moment: dt.datetime, deadline_s: float) -> dt.datetime:
        """Wait for a write that is acknowledged after a moment; when that was.

        Raises:
            DeadlineExceeded: there was none.
        """
        ...

    def kept(self, start: dt.datetime, end: dt.datetime) -> Kept:
        """Look in the database for every write that was acknowledged between two moments.

        Raises:
            TargetError: the journal or the database cannot be read.
        """
        ...


def seen_in(lines: Iterable[Told]) -> Seen:
    """Sum up a window's lines, in any order.

    >>> at = [dt.datetime(2026, 1, 1, 0, 0, second, tzinfo=dt.UTC) for second in (0, 1, 5, 6)]
    >>> lines = [Told(at[0], "a", True, False), Told(at[1], "b", False, True), Told(at[2], "b", True, False)]
    >>> one = seen_in([*lines, Told(at[3], "c", False, True)])
    >>> one.gap_s, one.unknown, one.unresolved
    (5.0, 2, ('c',))
    """
    ordered = sorted(lines, key=lambda line: line.time)
    settled = [line.time for line in ordered if line.settled]
    gaps = [(later - earlier, earlier) for earlier, later in itertools.pairwise(settled)]
    longest = max(gaps, default=None)
    ends = {line.key: line.unknown for line in ordered}
    unresolved = [key for key, unknown in ends.items() if unknown]
    return Seen(
        settled=len(settled),
        declined=sum(not line.settled and not line.unknown for line in ordered),
        unknown=sum(line.unknown for line in ordered),
        unresolved=tuple(unresolved[:_KEYS_SHOWN]),
        unresolved_count=len(unresolved),
        gap_s=longest[0].total_seconds() if longest else None,
        gap_from=longest[1] if longest else None,
        last=settled[-1] if settled else None,
    )
