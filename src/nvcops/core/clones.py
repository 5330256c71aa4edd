"""The socket behind which proofs are made: a restored copy of the database that is ours alone, to be tried on.

What is recommended for the live database was measured here before, on its own rows and its own statements. A copy is
made of the newest backup, runs on a private socket only while somebody looks at it, and is thrown away.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

from nvcops.core.queries import Rows
from nvcops.core.workload import IndexKey, Statement


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """A copy that lies ready: of which backup, as of when, bytes of its data, seconds that it took."""

    backup: str
    as_of: dt.datetime | None
    bytes: int
    seconds: float


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long a statement took, call by call, in seconds, after one that warmed the cache.

    `trouble` says why it could not be measured; `stopped`: it reached the deadline, which is then its time.
    """

    id: int
    seconds: tuple[float, ...] = ()
    stopped: bool = False
    trouble: str = ""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a number of sessions got done side by side: calls a second, and seconds of a call at p50 and p99."""

    calls: int
    seconds: float
    p50_s: float
    p99_s: float
    failed: int = 0

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds if self.seconds else 0.0


class WhatIf(Protocol):
    """The planner's word on indexes that nobody built; costs are in the planner's units.

    Nothing of what is asked stays in the copy.
    """

    @property
    def means(self) -> str:
        """By what it is found out: for the report."""
        ...

    def cost(self, statement: Statement, indexes: Collection[IndexKey]) -> float:
        """The statement's cost, on average over its arguments, were these indexes there beside the existing ones.

        Raises:
            Refused: it cannot be planned.
        """
        ...

    def bytes(self, index: IndexKey) -> int:
        """How large it is expected to be."""
        ...


class Copy(Protocol):
    """A copy that is being looked at. Every call has a deadline; nothing on it is anybody else's.

    Raises:
        TargetError: as Database.
    """

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """All rows of a query, at most 10,000."""
        ...

    def execute(self, *statements: str, deadline_s: float = 3600.0) -> None:
        """Change it, one statement after the other, each on its own; VACUUM and the like are fine."""
        ...

    def explain(
        self, statement: Statement, *, analyze: bool = False, settings: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """The plans, as EXPLAIN's JSON, one for each of its sets of arguments (one generic plan where it has none)."""
        ...

    def timed(
        self,
        statements: Sequence[Statement],
        *,
        rounds: int,
        deadline_s: float,
        settings: Mapping[str, str] | None = None,
    ) -> list[Timing]:
        """Each statement in turn with its arguments, rolled back; round by round, so that noise hits all alike."""
        ...

    def load(self, statements: Sequence[Statement], *, sessions: int, seconds: float, warm_s: float = 1.0) -> Load:
        """Sessions that run the statements by their calls' weights, each call a transaction that is committed."""
        ...

    def what_if(self) -> AbstractContextManager[WhatIf]:
        """Ask the planner about indexes that are not there."""
        ...


class Clones(Protocol):
    """Copies of the database, one for each run that needs one."""

    def make(self, run: str) -> Copied:
        """Restore the newest backup for a run; begun again it goes on, done it answers what there is.

        Raises:
            NotFoundError, StateError, Unreachable: as Restores; there is no backup, too little room ...
        """
        ...

    def opened(self, run: str, settings: Mapping[str, str] | None = None) -> AbstractContextManager[Copy]:
        """Run the copy's server as long as the block, with these settings over the live server's own.

        Raises:
            NotFoundError: the run has no copy.
            StateError: it does not come up, with its last words.
        """
        ...

    def with_arguments(self, copy: Copy, statements: Sequence[Statement], sets: int) -> list[Statement]:
        """The statements with arguments drawn from the copy's columns; one for which none are found is left out."""
        ...

    def discard(self, run: str) -> bool:
        """Leave nothing of a run's copy; whether there was one."""
        ...

    def tidy(self, run: str) -> list[str]:
        """Remove what other runs left when they were killed; what was removed.

        Whoever makes copies holds the lock "database": then no other run needs its own any more.
        """
        ...
