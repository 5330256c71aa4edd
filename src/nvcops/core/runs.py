"""The contract of a run: what a procedure may ask for while it runs. The engine behind it is an adapter.

Every call of a Run is a step of the journal: done once, and answered from the journal when a resumed run comes
by again. So a procedure must be a function of what its steps returned: no clock, no randomness, no reading outside
of a step.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, ParamSpec, Protocol, TypeVar

import msgspec

from nvcops.core.checks import Finding, Verdict, worst
from nvcops.core.procedures import Procedure
from nvcops.core.units import Seconds

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class RunState(StrEnum):
    """Where a run or a step stands. CONCLUDED: it came to an end of its own; FAILED: it came to none.

    A run is ENQUEUED while it is due and no worker has it, also after its worker stopped in an orderly way between two
    steps; WAITING while it needs a person; RUNNING while a worker has it.
    """

    ENQUEUED = "enqueued"
    RUNNING = "running"
    WAITING = "waiting"
    CONCLUDED = "concluded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in (RunState.CONCLUDED, RunState.FAILED, RunState.CANCELLED)


class StepKind(StrEnum):
    """What a step is."""

    READ = "read"
    ACT = "act"
    ATTEST = "attest"
    APPROVE = "approve"
    INCLUDE = "include"
    CONCLUDE = "conclude"


class Signed(msgspec.Struct, frozen=True):
    """What a person said, signed by their SSH key: an attestation or an approval.

    `person` is empty where nobody was asked: in a dry run, and while no records can be kept.
    """

    person: str
    note: str
    time: dt.datetime


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One step as it stands in the journal. `name` is its handle at the command line: unique in the run.

    A step of an included procedure is called `procedure/name`. A WAITING act is one whose worker died, or whose
    deadline passed, between its beginning and its end: `error` says so, and a person says whether it was done.
    `progress` is told to who watches while it runs, and is not kept.
    """

    number: int
    name: str
    title: str
    kind: StepKind
    state: RunState
    started: dt.datetime | None = None
    ended: dt.datetime | None = None
    result: Any = None
    error: str = ""
    progress: str = ""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """What one procedure of a run concluded: the run's own, or one that it included."""

    procedure: str
    title: str
    verdict: Verdict
    summary: str
    findings: tuple[Finding, ...]


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run as it stands in the journal. `findings` are those of all its sections, in order."""

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
    lock: str = ""
    started: dt.datetime | None = None
    ended: dt.datetime | None = None
    verdict: Verdict | None = None
    findings: tuple[Finding, ...] = ()
    sections: tuple[Section, ...] = ()
    summary: str = ""
    error: str = ""
    exit_code: int | None = None
    worker: str = ""
    steps: tuple[StepRecord, ...] = ()


class Run(Protocol):
    """A procedure's view of its own run."""

    @property
    def id(self) -> str:
        """`procedure@due` when it was due, `procedure@moment-suffix` when a person asked for it."""

    @property
    def started(self) -> dt.datetime:
        """When the run began, in UTC: the procedure's only clock, the same after a resume."""

    def read(self, fact: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Read the world. Titled by the fact's docstring; its annotated return type is how the journal keeps it.

        A TargetError that it raises is journaled and raised as what it is: the room decides what it means.
        """

    def step(self, title: str, act: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Act on the world: done once, and not begun again when its end is not known (unless `conduct` allows it).

        A dry run records the title instead and returns None: what an act did is learned by reading again.

        Raises:
            StepFailed: it raised, after its retries.
        """

    def attest(self, name: str, title: str) -> Signed:
        """Wait for a named person of the roster who says, with a note and a signature, that this was done by hand."""

    def approve(self, name: str, title: str) -> Signed:
        """Wait for a second person with the role approver; the requester cannot approve.

        The procedure is declared with `approval=True`, so that its requester is asked for a signature too.
        """

    def include(self, procedure: Procedure, **options: Any) -> Verdict:
        """Run another procedure as a part of this one: its steps and findings become a section of this run.

        When it cannot conclude, its section is one UNKNOWN finding that says why, and this run goes on.
        """

    def conclude(self, findings: Sequence[Finding], *, summary: str = "") -> None:
        """The last beat: the findings that were read again, and a sentence for a person, else made of the findings.

        Exactly once per procedure.
        """


class Conduct(msgspec.Struct, frozen=True):
    """How a fact or an act is to be carried out."""

    deadline: Seconds
    idempotent: bool = False
    attempts: int = 1


READING = Conduct(Seconds(60), idempotent=True)
ACTING = Conduct(Seconds(300))


def conduct(*, deadline: str, idempotent: bool = False, attempts: int = 1) -> Callable[[F], F]:
    """Declare how an act or a fact is carried out, where it differs from READING and ACTING.

    An idempotent act may be begun again: after a crash, and up to `attempts` times when it raises.
    """
    if attempts != 1 and not idempotent:
        raise ValueError("only an idempotent act is tried again")
    declared = Conduct(Seconds.read(deadline), idempotent, attempts)

    def declare(function: F) -> F:
        function.__dict__["__conduct__"] = declared
        return function

    return declare


def conduct_of(function: Callable[..., Any], default: Conduct) -> Conduct:
    """What was declared for a function, a bound method of one included."""
    declared = getattr(function, "__conduct__", default)
    return declared if isinstance(declared, Conduct) else default


class Exemption(Protocol):
    """A line that somebody has accepted as it is, until a date: an entry of the manifest's [[exceptions]]."""

    @property
    def check(self) -> str:
        """The check's name."""

    @property
    def reason(self) -> str:
        """Why it is accepted."""

    @property
    def owner(self) -> str:
        """Who accepted it."""

    @property
    def until(self) -> dt.date:
        """The first day on which it counts again."""


def accept(findings: Iterable[Finding], exemptions: Sequence[Exemption], day: dt.date) -> tuple[Finding, ...]:
    """The findings as of a day: one that is exempt keeps its verdict and says who accepted it.

    >>> from types import SimpleNamespace
    >>> backups = Finding(check="recovery.backups", title="Backups", verdict=Verdict.UNKNOWN)
    >>> until = SimpleNamespace(check="recovery.backups", reason="soon", owner="omar", until=dt.date(2026, 12, 31))
    >>> [accept([backups], [until], dt.date(2026, 12, n))[0].accepted for n in (30, 31)]
    ['by omar until 2026-12-31: soon', '']
    """
    valid = {exemption.check: exemption for exemption in exemptions if day < exemption.until}
    return tuple(
        msgspec.structs.replace(finding, accepted=_accepted(valid[finding.check]))
        if finding.verdict is not Verdict.OK and finding.check in valid
        else finding
        for finding in findings
    )


def _accepted(exemption: Exemption) -> str:
    return f"by {exemption.owner} until {exemption.until}: {exemption.reason}"


def verdict_of(findings: Sequence[Finding]) -> Verdict:
    """The verdict that findings add up to: the worst of those that nobody accepted; nothing looked at is UNKNOWN.

    >>> seen = Finding(check="a", title="a", verdict=Verdict.CRITICAL, accepted="by omar")
    >>> verdict_of([seen]).name, verdict_of([]).name
    ('OK', 'UNKNOWN')
    """
    deciding = [finding.verdict for finding in findings if not finding.accepted]
    return Verdict.OK if findings and not deciding else worst(deciding)


def scheduled_id(procedure: str, due: dt.datetime) -> str:
    """The id of the run that is due then: due twice is one run.

    >>> scheduled_id("morning-health-check", dt.datetime(2026, 11, 22, 13, tzinfo=dt.UTC))
    'morning-health-check@2026-11-22T13:00Z'
    """
    return f"{procedure}@{due.astimezone(dt.UTC):%Y-%m-%dT%H:%MZ}"


def requested_id(procedure: str, moment: dt.datetime, suffix: str) -> str:
    """The id of a run that somebody asked for.

    >>> requested_id("db-maintenance", dt.datetime(2026, 11, 22, 13, 4, 7, tzinfo=dt.UTC), "k3f")
    'db-maintenance@2026-11-22T13:04:07Z-k3f'
    """
    return f"{procedure}@{moment.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}-{suffix}"
