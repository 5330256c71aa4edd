"""Conducting a procedure: the one implementation of core.runs.Run, over a journal of what its steps returned."""

from __future__ import annotations

import contextvars
import datetime as dt
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar

import msgspec

from nvcops.adapters.runs import journal as journal_format
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import DeadlineExceeded, NvcopsError, RunError, StepFailed
from nvcops.core.procedures import Procedure
from nvcops.core.runs import (
    ACTING,
    READING,
    Conduct,
    Exemption,
    RunRecord,
    RunState,
    Section,
    Signed,
    StepKind,
    StepRecord,
    accept,
    conduct_of,
    verdict_of,
)
from nvcops.core.summary import in_a_sentence
from nvcops.core.target import Target

P = ParamSpec("P")
T = TypeVar("T")
Watch = Callable[[StepRecord], None]
_RETRY_AFTER_S = 1.0
_LOOK_UP_S = 0.5
_STEPS_MAX = 10_000


class Parked(BaseException):
    """The run is put down here: it waits for a person, its worker stops, it was cancelled or taken over.

    No Exception, so that no procedure catches it and no journal takes it for the step's outcome.
    """


class Journal(Protocol):
    """Where steps are kept."""

    def once(self, step: StepRecord, body: Callable[[], str], *, repeatable: bool) -> str:
        """The step's outcome: from the journal, else by carrying out `body`. May raise Parked."""
        ...

    def person(self, step: StepRecord) -> str:
        """What a person said about the step: a kept Signed. May raise Parked until somebody has."""
        ...

    def conclude(self, step: StepRecord, section: Section) -> None:
        """Keep a section. May raise Parked."""
        ...


class Conducting:
    """What the sections of one run share. Once `leave` is set, a step that is under way is left behind."""

    def __init__(
        self,
        record: RunRecord,
        target: Target,
        journal: Journal,
        exemptions: Sequence[Exemption],
        day: dt.date,
        leave: threading.Event,
    ) -> None:
        self.record = record
        self.target = target
        self.journal = journal
        self.exemptions = exemptions
        self.day = day
        self.leave = leave
        self.sections: list[Section] = []
        self._names: Counter[str] = Counter()
        self._steps = 0

    def new_step(self, kind: StepKind, name: str, title: str) -> StepRecord:
        """The next step: numbers and names come out the same whenever the procedure is gone through again."""
        self._steps += 1
        if self._steps > _STEPS_MAX:
            raise RunError(f"the run has more than {_STEPS_MAX:,} steps", hint="read many things in one step")
        self._names[name] += 1
        unique = name if self._names[name] == 1 else f"{name}-{self._names[name]}"
        return StepRecord(number=self._steps, name=unique, title=title, kind=kind, state=RunState.RUNNING)


class ConductedRun:
    """One procedure's view of the run."""

    def __init__(
        self, conducting: Conducting, procedure: Procedure, options: Mapping[str, Any], *, prefix: str = ""
    ) -> None:
        self._all = conducting
        self._options = options
        self._procedure = procedure
        self._prefix = prefix
        self.verdict: Verdict | None = None

    @property
    def id(self) -> str:
        """The run's id."""
        return self._all.record.id

    @property
    def started(self) -> dt.datetime:
        """When the run began."""
        return self._all.record.started or self._all.record.requested

    def read(self, fact: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See core.runs.Run."""
        kind = journal_format.return_type(fact)
        step = self._new(StepKind.READ, journal_format.name_of(fact), journal_format.title_of(fact))
        how = conduct_of(fact, READING)
        body = _body(lambda: fact(*args, **kwargs), how, StepKind.READ, self._all.leave)
        value: T = journal_format.read_back(self._all.journal.once(step, body, repeatable=True), kind)
        return value

    def step(self, title: str, act: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See core.runs.Run."""
        kind = journal_format.return_type(act)
        step = self._new(StepKind.ACT, journal_format.name_of(act), title)
        how = conduct_of(act, ACTING)
        body = _body(lambda: act(*args, **kwargs), how, StepKind.ACT, self._all.leave)
        if self._all.record.dry_run:
            step, body = msgspec.structs.replace(step, title=f"would {title}"), journal_format.assumed
        repeatable = how.idempotent or self._all.record.dry_run
        kept = self._all.journal.once(step, body, repeatable=repeatable)
        if error := journal_format.error_in(kept):
            raise StepFailed(f"{title}: {error}", hint=f"`nvcops show {self.id}` has all steps")
        value: T = journal_format.read_back(kept, kind)
        return value

    def attest(self, name: str, title: str) -> Signed:
        """See core.runs.Run."""
        return self._asked(StepKind.ATTEST, name, title)

    def approve(self, name: str, title: str) -> Signed:
        """See core.runs.Run."""
        if not self._procedure.asks_approval(self._options):
            raise RunError(
                f"{self._procedure.name} asks for an approval and is not declared with approval=True",
                hint="its requester would not be known",
            )
        return self._asked(StepKind.APPROVE, name, title)

    def include(self, procedure: Procedure, **options: Any) -> Verdict:
        """See core.runs.Run."""
        step = self._new(StepKind.INCLUDE, procedure.name, procedure.summary.rstrip("."))
        kept = self._all.journal.once(step, lambda: journal_format.returned(procedure.content_hash), repeatable=True)
        if journal_format.read_back(kept, str) != procedure.content_hash:
            raise RunError(
                f"{procedure.name} was changed since this run began", hint="cancel the run and begin a new one"
            )
        arguments = procedure.arguments(options)
        part = ConductedRun(self._all, procedure, arguments, prefix=f"{self._prefix}{procedure.name}/")
        try:
            procedure.function(part, self._all.target, **arguments)
            return part.concluded()
        except Exception as error:  # noqa: BLE001 - a part that fails is a finding of the whole, never its end
            return part.fail(error)

    def conclude(self, findings: Sequence[Finding], *, summary: str = "") -> None:
        """See core.runs.Run."""
        if self.verdict is not None:
            raise RunError(f"{self._procedure.name} concluded twice", hint="conclude() is its last beat")
        accepted = accept(findings, self._all.exemptions, self._all.day)
        title = self._procedure.summary.rstrip(".")
        self._keep(
            Section(
                procedure=self._procedure.name,
                title=title,
                verdict=verdict_of(accepted),
                summary=summary or in_a_sentence(accepted),
                findings=accepted,
            )
        )

    def concluded(self) -> Verdict:
        """The verdict that this procedure came to.

        Raises:
            RunError: it came to none.
        """
        if self.verdict is None:
            raise RunError(f"{self._procedure.name} ended without a conclusion", hint="conclude() is its last beat")
        return self.verdict

    def fail(self, error: Exception) -> Verdict:
        """Make a finding of what kept an included procedure from concluding."""
        if self.verdict is not None:
            raise error
        sentence = error.sentence if isinstance(error, NvcopsError) else f"{type(error).__name__}: {error}"
        hint = error.hint if isinstance(error, NvcopsError) else f"`nvcops show {self.id}` has all steps"
        name, title = self._procedure.name, self._procedure.summary.rstrip(".")
        finding = Finding(
            check=f"{name}.concluded", title=title, verdict=Verdict.UNKNOWN, observed=sentence, next_step=hint
        )
        self._keep(Section(procedure=name, title=title, verdict=Verdict.UNKNOWN, summary=sentence, findings=(finding,)))
        return Verdict.UNKNOWN

    def _keep(self, section: Section) -> None:
        step = self._new(StepKind.CONCLUDE, "conclude", f"conclude: {section.verdict.name}")
        self._all.journal.conclude(step, section)
        self.verdict = section.verdict
        self._all.sections.append(section)

    def _asked(self, kind: StepKind, name: str, title: str) -> Signed:
        step = self._new(kind, name, title)
        if self._all.record.dry_run:
            nobody = journal_format.returned(Signed("", "dry run: nobody was asked", self.started))
            kept = self._all.journal.once(step, lambda: nobody, repeatable=True)
        else:
            kept = self._all.journal.person(step)
        signed: Signed = journal_format.read_back(kept, Signed)
        return signed

    def _new(self, kind: StepKind, name: str, title: str) -> StepRecord:
        return self._all.new_step(kind, self._prefix + name, title)


class OutcomeUnknown(Exception):
    """An act was begun and did not end within its deadline: it may be done, half done or not done."""


def _body(call: Callable[[], Any], how: Conduct, kind: StepKind, leave: threading.Event) -> Callable[[], str]:
    """Carry out a fact or an act within its deadline, again where that is declared harmless; its outcome, kept."""

    def carry_out() -> str:
        for attempt in range(1, how.attempts + 1):
            try:
                return journal_format.returned(within(how.deadline, call, leave))
            except TooLate:
                late = DeadlineExceeded(f"it did not end within {how.deadline}")
                if kind is StepKind.ACT and not how.idempotent:
                    raise OutcomeUnknown(late.sentence) from None
                return journal_format.raised(late)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the step's outcome
                if attempt == how.attempts:
                    return journal_format.raised(error)
            leave.wait(_RETRY_AFTER_S * attempt)
        raise AssertionError("a step has at least one attempt")

    return carry_out


class TooLate(Exception):
    """What was called did not end in time; it is left behind."""


def within(deadline_s: float, call: Callable[[], T], leave: threading.Event) -> T:
    """Call in a thread of its own and wait so long; what does not end is left behind.

    Raises:
        TooLate: it did not end.
        Parked: the worker leaves.
    """
    outcome: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def carry() -> None:
        try:
            outcome.put((True, call()))
        except BaseException as error:  # noqa: BLE001 - handed over to the caller
            outcome.put((False, error))

    in_context = contextvars.copy_context().run  # so that what it tells of its progress is heard
    threading.Thread(target=in_context, args=(carry,), name="step", daemon=True).start()
    end = time.monotonic() + deadline_s
    while (left := end - time.monotonic()) > 0:
        try:
            good, value = outcome.get(timeout=min(left, _LOOK_UP_S))
        except queue.Empty:
            if leave.is_set():
                raise Parked("its worker left in the middle of a step") from None
            continue
        if not good:
            raise value
        result: T = value
        return result
    raise TooLate
