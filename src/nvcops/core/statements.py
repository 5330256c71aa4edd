"""The socket behind which is kept what the database was asked and what its sessions waited for, over time."""

from __future__ import annotations

import datetime as dt
from typing import Any, Protocol

import msgspec

from nvcops.core.workload import Statement, Workload


class Waited(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that sessions spent on one thing, all of them together: 41 sessions that wait for 2 s are 82 s.

    `kind` and `event` are wait_event_type and wait_event; both are empty of a session that works. `query` is the id of
    the statement that it was in, 0 where none is known; `application` whose session it was.
    """

    kind: str
    event: str
    seconds: float
    query: int = 0
    application: str = ""

    @property
    def title(self) -> str:
        """How it is told.

        >>> Waited(kind="Lock", event="tuple", seconds=2.0).title, Waited(kind="", event="", seconds=1.0).title
        ('Lock: tuple', 'working')
        """
        return f"{self.kind}: {self.event}" if self.kind else "working"


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """What active sessions did, the longest first. `observed_s`: for how long somebody looked, each second."""

    observed_s: float
    waited: tuple[Waited, ...] = ()

    @property
    def sessions(self) -> float:
        """How many sessions were active at a time, on average."""
        return sum(one.seconds for one in self.waited) / self.observed_s if self.observed_s else 0.0


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """How a statement would be carried out: by which server, and what EXPLAIN says there, as JSON."""

    server: str
    explained: dict[str, Any]


class Inside(msgspec.Struct, frozen=True, kw_only=True):
    """What functions asked inside since the server counts, the costliest first; `tracked`: whether that is counted.

    Their time is in that of the statements that called them, too: which those were, the server does not say.
    """

    tracked: bool
    statements: tuple[Statement, ...] = ()


class Statements(Protocol):
    """The history that `nvcops serve` writes: 48 hours closely, 35 days by the hour."""

    def between(self, start: dt.datetime, end: dt.datetime) -> Workload:
        """What was asked between two moments, the costliest statements first (at most 1,000).

        Where the history knows nothing of that time, it is what the server has counted since its statistics were reset:
        then `since` is that moment, and `until` is now. Of known time, `since` and `until` are what is known of it.

        Raises:
            TargetError: the server does not answer, or pg_stat_statements is not there.
            StateError: the file cannot be read.
        """
        ...

    def plan(self, text: str) -> Planned:
        """The plan of a statement whose constants nobody knows: of a standby, where one answers. It is not run.

        Raises:
            TargetError: nobody answers, it is older than 16, or a privilege on a table is missing.
        """
        ...

    def inside(self) -> Inside:
        """What functions ask inside (at most 100 statements).

        Raises:
            TargetError: the server does not answer, or pg_stat_statements is not there.
        """
        ...

    def waits(self, start: dt.datetime, end: dt.datetime) -> Waits:
        """What was waited for between two moments; nothing is observed where nobody looked.

        Raises:
            StateError: the file cannot be read.
        """
        ...

    def sample(self, seconds: float) -> Waits:
        """Look at the sessions each second, for so long.

        Raises:
            TargetError: the server does not answer.
        """
        ...
