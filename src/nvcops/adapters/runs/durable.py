"""A run's journal in two parts: what steps returned (DBOS), and what people see of them (records and evidence).

The order of writes, so that a kill between any two of them loses and doubles nothing:
    1. records: the step has begun          killed after it: a read is read again, an act's outcome is unknown
    2. the act itself
    3. journal: what it returned            killed after it: the resumed run is answered from the journal
    4. records: the step has ended          killed before it: made up for when the resumed run comes by
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from nvcops.adapters.runs import entries
from nvcops.adapters.runs import journal as journal_format
from nvcops.adapters.runs.conduct import OutcomeUnknown, Parked, Watch
from nvcops.adapters.runs.people import People
from nvcops.adapters.runs.store import RunStore
from nvcops.core.errors import NvcopsError
from nvcops.core.identity import Statement
from nvcops.core.progress import heard_by
from nvcops.core.runs import RunRecord, RunState, Section, Signed, StepKind, StepRecord
from nvcops.core.schedule import now

_LOST = "its worker was gone before its end was recorded: it may be done, half done or not done"


class Steps(Protocol):
    """The journal of what steps returned."""

    def step(self, name: str, body: Callable[[], str]) -> str:
        """The journaled outcome of the next step, or that of `body`, then journaled."""
        ...


class Cancelled(Parked):
    """Somebody cancelled the run; the argument is who."""


class Broken(Parked):
    """The journal cannot be written or does not fit; the argument is a sentence."""


class DurableJournal:
    """The journal of one run in the hands of one worker."""

    def __init__(
        self,
        store: RunStore,
        run: RunRecord,
        worker: str,
        steps: Steps,
        people: People,
        watch: Watch,
        stopping: threading.Event,
    ) -> None:
        self._store = store
        self._run = run
        self._worker = worker
        self._steps = steps
        self._people = people
        self._watch = watch
        self._stopping = stopping
        self._ended = {step.number for step in run.steps if step.ended}

    def once(self, step: StepRecord, body: Callable[[], str], *, repeatable: bool) -> str:
        """See runs_conduct.Journal."""

        def journaled() -> str:
            begun = msgspec.structs.replace(step, started=now())
            earlier = self._begin(begun)
            if earlier is not None and not repeatable:
                settled = self._settle_unknown(begun, _LOST)
                if settled is not None:
                    return settled
            self._watch(begun)
            while True:
                try:
                    with heard_by(lambda far: self._told(begun, str(far))):
                        return body()
                except OutcomeUnknown as unknown:
                    settled = self._settle_unknown(begun, f"{unknown}: it may be done, half done or not done")
                    if settled is not None:
                        return settled

        kept = self._journaled(step, journaled)
        self._end(step, kept)
        return kept

    def _told(self, step: StepRecord, progress: str) -> None:
        """Pass on how far a step is; a reading is left there when the run was cancelled, for it has changed nothing."""
        self._watch(msgspec.structs.replace(step, progress=progress))
        if step.kind is StepKind.READ and (person := self._store.cancelled_by(self._run.id)):
            raise Cancelled(person)

    def person(self, step: StepRecord) -> str:
        """See runs_conduct.Journal."""

        def journaled() -> str:
            self._begin(begun := msgspec.structs.replace(step, started=now()))
            while (said := self._store.decision(self._run.id, step.name)) is None:
                self._wait(begun)
            self._confirmed(step, said)
            self._store.go_on(self._run, step)
            return journal_format.returned(said)

        said = self._confirmed(step, journal_format.read_back(self._journaled(step, journaled), str))
        kept = journal_format.returned(Signed(said.actor, said.note, dt.datetime.fromisoformat(said.time)))
        self._end(step, kept)
        return kept

    def conclude(self, step: StepRecord, section: Section) -> None:
        """See runs_conduct.Journal."""
        if step.number in self._ended:
            return
        moment = now()
        begun = msgspec.structs.replace(step, started=moment)
        with _breaking():
            self._begin(begun)
            ended = msgspec.structs.replace(begun, state=RunState.CONCLUDED, ended=moment)
            evidence = entries.concluded(self._run, section, step.number, moment)
            self._store.end(self._run, ended, "null", evidence, section)
        self._ended.add(step.number)
        self._watch(ended)

    def _begin(self, step: StepRecord) -> RunState | None:
        """Enter the beginning; the state in which an earlier worker left the step, if one had begun it."""
        if self._stopping.is_set():
            raise Parked("its worker was stopped")
        entry = entries.step_entry(self._run, step, "step.started", step.started or now())
        state, cancelled_by, earlier = self._store.begin(self._run, self._worker, step, entry)
        if state is None:
            raise Parked("another worker has it")
        if cancelled_by:
            raise Cancelled(cancelled_by)
        return earlier

    def _settle_unknown(self, step: StepRecord, why: str) -> str | None:
        """What a person decided about an act whose outcome is not known: its outcome, or None: do it again."""
        while (said := self._store.decision(self._run.id, step.name)) is None:
            self._wait(msgspec.structs.replace(step, error=f"the outcome of {step.name} is unknown: {why}"))
        done = not self._confirmed(step, said).note.startswith("redo")
        self._store.use_up(self._run, step.name)
        self._store.go_on(self._run, step)
        return journal_format.assumed() if done else None

    def _confirmed(self, step: StepRecord, said: str) -> Statement:
        """What a person said, if it is signed by them: neither the records nor the journal are believed."""
        with _breaking():
            requester = self._store.requester(self._run.id)
            return self._people.confirm(self._run, step, said, requester)

    def _wait(self, step: StepRecord) -> None:
        """Put the run down until somebody has said something; returns when somebody already did."""
        moment = now()
        evidence = [entries.step_entry(self._run, step, "step.waiting", moment, again=True, error=step.error)]
        waiting = msgspec.structs.replace(step, state=RunState.WAITING)
        if self._store.wait(self._run, self._worker, step, evidence):
            self._watch(waiting)
            raise Parked(f"it waits for a person: {step.title}")

    def _journaled(self, step: StepRecord, journaled: Callable[[], str]) -> str:
        with _breaking():
            return self._steps.step(step.name, journaled)

    def _end(self, step: StepRecord, kept: str) -> None:
        if step.number in self._ended:
            return
        error = journal_format.error_in(kept)
        state = RunState.FAILED if error else RunState.CONCLUDED
        ended = msgspec.structs.replace(step, state=state, ended=now(), error=error)
        result = journal_format.value_in(kept)
        with _breaking():
            self._store.end(self._run, ended, result, [entries.finished(self._run, ended, result)])
        self._ended.add(step.number)
        self._watch(ended)


class _breaking:  # noqa: N801 - reads as a preposition
    """Whatever goes wrong with the journal itself puts the run down: no procedure takes it for a step's error."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Exception):
            sentence = error.sentence if isinstance(error, NvcopsError) else f"{type(error).__name__}: {error}"
            raise Broken(f"the journal cannot go on: {sentence}") from error
