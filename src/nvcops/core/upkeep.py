"""The socket by which the live database is changed: one statement at a time, under a guard that stops it in time.

Whoever waits for a lock stands in a queue, and everybody behind waits too. So a statement waits for its own lock a
moment only, tries again later, and gives up what it does when customers pay for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from nvcops.core.queries import Rows
from nvcops.core.units import Seconds


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A statement to be carried out, and what it is about for a person.

    `settings` are set for its session. `undo` are the statements that clear away what is left when it is stopped or
    killed in the middle (an invalid index, say): fine when there is nothing; carried out before each attempt and after
    a stop.
    """

    title: str
    sql: str
    settings: Mapping[str, str] = {}
    undo: tuple[str, ...] = ()


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """When a statement gives up. `lock` is how long it waits for its own lock, `attempts` how often, `pause` between.

    It is stopped when somebody waited longer than `queue` behind it, when the p99 of a service exceeds `slowdown` times
    what it was before, at `until` (the end of the window), and after `deadline`.
    """

    lock: Seconds = Seconds(0.5)
    queue: Seconds = Seconds(1)
    slowdown: float = 2.0
    attempts: int = 30
    pause: Seconds = Seconds(2)
    deadline: Seconds = Seconds(4 * 3600)
    until: dt.datetime | None = None


class Outcome(StrEnum):
    """DONE; STOPPED by the guard; REFUSED by the server, or never got its lock."""

    DONE = "done"
    STOPPED = "stopped"
    REFUSED = "refused"


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an order: `why` it was not done, in a sentence; seconds that it took, all attempts together.

    `queued_s` is the longest that anybody was seen waiting behind it; the p99s are of the slowest service, before and
    at worst during it (for longer than a moment), in seconds; None where they are not known.
    """

    outcome: Outcome
    why: str = ""
    seconds: float = 0.0
    attempts: int = 1
    queued_s: float = 0.0
    p99_before_s: float | None = None
    p99_worst_s: float | None = None


class Privilege(msgspec.Struct, frozen=True, kw_only=True):
    """Something that upkeep's role needs: what for, whether it has it, and the statement that gives it."""

    purpose: str
    held: bool
    grant: str


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A change that is in force, or may be, and that nobody has accepted yet.

    `run` made it on `server`; `change` is what the room that made it takes it back by, in its own notation.
    """

    run: str
    subject: str
    server: str
    since: dt.datetime
    change: str


class Upkeep(Protocol):
    """The primary, by a role of its own that may keep it: [database.upkeep]."""

    @property
    def name(self) -> str:
        """The server's."""
        ...

    def carry_out(self, order: Order, guard: Guard) -> Done:
        """Carry an order out; it returns when it is done, stopped or refused, and leaves nothing half done.

        Its session ends with us: the server cancels what it does within seconds of our death.

        Raises:
            TargetError: the server cannot be reached; whether it was done is not known.
        """
        ...

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None, *, deadline_s: float = 60.0) -> Rows:
        """Read with the eyes of that role, read only."""
        ...

    def privileges(self) -> list[Privilege]:
        """What it needs and what of it it holds."""
        ...

    def pending(self) -> list[Pending]:
        """The changes that nobody has accepted, whoever made them; the oldest first."""
        ...

    def note(self, change: Pending) -> None:
        """Note a change, durably, before it is made; one of the same run and subject is noted once.

        Raises:
            StateError: it cannot be noted: then it must not be made.
        """
        ...

    def settle(self, run: str, subjects: Sequence[str]) -> None:
        """Forget changes of a run that were accepted, or taken back."""
        ...
