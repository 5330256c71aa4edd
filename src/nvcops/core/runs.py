"""The contract of a run: what a procedure may ask for while it runs. The engine behind it is an adapter.

Every call below is a step of the journal: done once, and answered from the journal when a resumed run comes by again.
So a procedure must be a function of what its steps returned: no clock, no randomness, no reading outside of a step.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, ParamSpec, Protocol, TypeVar

import msgspec

from nvcops.core.checks import Finding, Verdict
from nvcops.core.procedures import Procedure

P = ParamSpec("P")
T = TypeVar("T")


class RunState(StrEnum):
    """Where a run stands. CONCLUDED: it came to a verdict, good or bad; FAILED: it came to none."""

    ENQUEUED = "enqueued"
    RUNNING = "running"
    WAITING = "waiting"
    CONCLUDED = "concluded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepKind(StrEnum):
    """What a step is."""

    READ = "read"
    ACT = "act"
    ATTEST = "attest"
    APPROVE = "approve"
    CONCLUDE = "conclude"


class Signed(msgspec.Struct, frozen=True):
    """What a person said, signed by their SSH key: an attestation or an approval."""

    person: str
    note: str
    time: dt.datetime


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One step as it stands in the journal. `name` is its handle at the command line: unique in the run."""

    number: int
    name: str
    title: str
    kind: StepKind
    state: RunState
    started: dt.datetime | None = None
    ended: dt.datetime | None = None
    result: Any = None
    error: str = ""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run as it stands in the journal."""

    id: str
    procedure: str
    platform: str
    state: RunState
    requested_by: str
    requested: dt.datetime
    due: dt.datetime | None = None
    dry_run: bool = False
    options: dict[str, Any] = {}
    content_hash: str = ""
    ended: dt.datetime | None = None
    verdict: Verdict | None = None
    findings: tuple[Finding, ...] = ()
    summary: str = ""
    error: str = ""
    worker: str = ""
    steps: tuple[StepRecord, ...] = ()


class Run(Protocol):
    """A procedure's view of its own run."""

    @property
    def id(self) -> str: ...
    @property
    def started(self) -> dt.datetime:
        """When the run began, in UTC: the procedure's only clock, the same after a resume."""
        ...

    def read(self, fact: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Read the world. Titled by the fact's docstring; its annotated return type is how the journal keeps it."""
        ...

    def step(self, title: str, act: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Act on the world: done once, and not begun again when its end is not known (see `retrying`)."""
        ...

    def attest(self, name: str, title: str) -> Signed:
        """Wait for a named person of the roster who says, with a note and a signature, that this was done by hand."""
        ...

    def approve(self, name: str, title: str) -> Signed:
        """Wait for a second person with the role approver; the requester cannot approve."""
        ...

    def include(self, procedure: Procedure, **options: Any) -> Verdict:
        """Run another procedure as a part of this one: its steps and findings become a section of this run."""
        ...

    def conclude(self, findings: Sequence[Finding], *, summary: str = "") -> None:
        """The last beat: the findings that were read again, and a sentence for a person. Exactly once per procedure."""
        ...
