"""Carrying out runs in this process: the engine is opened when there is something to carry out, and closed after it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from nvcops.adapters.runs import entries
from nvcops.adapters.runs.abandoned import met_by
from nvcops.adapters.runs.conduct import ConductedRun, Conducting, Journal, Parked, TooLate, Watch, within
from nvcops.adapters.runs.durable import Broken, Cancelled, DurableJournal
from nvcops.adapters.runs.evidence import Evidence
from nvcops.adapters.runs.loose import LooseJournal
from nvcops.adapters.runs.people import People
from nvcops.adapters.runs.store import RunStore
from nvcops.adapters.runs.workers import Heartbeat, Worker, is_gone
from nvcops.core import procedures
from nvcops.core.checks import Finding
from nvcops.core.errors import NvcopsError, RunError, StateError
from nvcops.core.identity import SignedStatement
from nvcops.core.manifest import Manifest
from nvcops.core.runs import RunRecord, RunState, Section, verdict_of
from nvcops.core.schedule import now
from nvcops.core.target import Target
from nvcops.core.units import Seconds

if TYPE_CHECKING:
    from nvcops.adapters.runs.dbos import Dbos

_GRACE_S = 3.0
_GIVE_UP_S = 600.0
_BUG_EXIT_CODE = 3


class Carrier:
    """What this process carries out."""

    def __init__(
        self,
        manifest: Manifest,
        target: Callable[[], Target],
        store: RunStore | None,
        evidence: Evidence,
        worker: Worker,
        people: People,
    ) -> None:
        self._manifest = manifest
        self._connect = target
        self._target: Target | None = None
        self._store = store
        self._evidence = evidence
        self._worker = worker
        self._people = people
        self._engine: Dbos | None = None
        self._heartbeat: Heartbeat | None = None
        self._stopping = threading.Event()
        self._leave = threading.Event()
        self._opening = threading.Lock()
        self.busy: dict[str, threading.Event] = {}

    # --- the engine ---

    def open(self) -> None:
        """Be ready to carry out runs.

        Raises:
            StateError: the records or the journal cannot be opened or written.
        """
        from nvcops.adapters.runs.dbos import Dbos

        self.sign_on()
        with self._opening:
            if self._engine is None:
                self._engine = Dbos(self._manifest.platform.state / "runs.sqlite", self._worker.id)
                self._engine.forget_queues(lambda worker: is_gone(self.store.ops, worker))

    def sign_on(self) -> None:
        """Be known as a worker that lives.

        Raises:
            StateError: the records cannot be opened or written.
        """
        with self._opening:
            self._heartbeat = self._heartbeat or Heartbeat(self.store.ops, self._worker)

    def rest(self) -> None:
        """Close the engine until the next run, when there is nothing to carry out: its threads are not for free."""
        with self._opening:
            if self._engine and not self.busy:
                self._engine.close()
                self._engine = None

    def stop(self) -> None:
        """Put everything down at its next step; what is in the middle of one after the grace is left behind."""
        self._stopping.set()
        for done in list(self.busy.values()):
            done.wait(_GRACE_S)
        self._leave.set()
        for done in list(self.busy.values()):
            done.wait(_GRACE_S)

    def close(self) -> None:
        """Stop, and close the engine."""
        self.stop()
        self.busy.clear()
        self.rest()
        if self._heartbeat:
            try:
                self._heartbeat.stop()
            except StateError as error:
                self._evidence.say(f"{error.sentence}: this worker could not sign off")
            self._heartbeat = None

    @property
    def store(self) -> RunStore:
        """The records.

        Raises:
            StateError: there are none.
        """
        if self._store is None:
            raise StateError("no records of runs can be kept", hint="look at the state folder's disk and rights")
        return self._store

    @property
    def target(self) -> Target:
        """The platform."""
        if self._target is None:
            self._target = self._connect()
        return self._target

    # --- a run ---

    def carry(self, record: RunRecord, watch: Watch) -> None:
        """Carry out a run that this worker has claimed, until it ends or is put down."""
        self.begin(record, watch)
        done = self.busy[record.id]
        try:
            while not done.wait(1.0):
                pass
        except KeyboardInterrupt:
            self.stop()
            raise
        self.settle(record.id)

    def begin(self, record: RunRecord, watch: Watch) -> None:
        """Carry out a run in a thread of the engine; `settle` it when `busy` says that it is done.

        Raises:
            RunError: the journal does not go through it any more; it is left to a person.
        """
        self.open()
        engine = self._engine
        if engine is None:
            raise StateError("the journal was closed")
        journal = DurableJournal(self.store, record, self._worker.id, engine, self._people, watch, self._stopping)
        try:
            self.busy[record.id] = engine.carry_out(record.id, lambda: self._work(record, journal))
        except RunError as error:
            self._put_down(record, RunState.WAITING, error.sentence)
            raise

    def settle(self, run: str) -> None:
        """Forget a run that is done here."""
        self.busy.pop(run, None)
        if self._engine:
            self._engine.settle(run, ended=self.store.get(run).state.ended)

    def _work(self, record: RunRecord, journal: Journal) -> None:
        """Go through the procedure, in a thread of the engine, and write down how it ended."""
        try:
            ended = self._conducted(record, journal)
        except Cancelled as cancelled:
            self._finish(self._given_up(_cancelled(record, str(cancelled))))
            return
        except Broken as broken:
            self._put_down(record, RunState.WAITING, str(broken))
            raise
        except Parked as parked:
            self._put_down(record, RunState.ENQUEUED, str(parked))
            raise
        self._finish(ended)

    def _conducted(self, record: RunRecord, journal: Journal) -> RunRecord:
        """The record with its end. Nothing that goes wrong on the way leaves a run without one."""
        try:
            procedure = procedures.find(record.procedure)
            day = (record.started or record.requested).astimezone(ZoneInfo(self._manifest.platform.time_zone)).date()
            conducting = Conducting(record, self.target, journal, self._manifest.exceptions, day, self._leave)
            run = ConductedRun(conducting, procedure, record.options)
            procedure.function(run, self.target, **record.options)
            run.concluded()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is how the run ended
            return self._given_up(_failed(record, error))
        return _concluded(record, conducting.sections)

    def _given_up(self, record: RunRecord) -> RunRecord:
        """The record, with what became of what it had changed and not yet accepted.

        While it still has its lock: no other run may change the same meanwhile.
        """
        if self._store is None or record.dry_run:
            return record
        said: list[str] = []
        try:
            met = (procedures.find(name) for name in met_by(self._store.get(record.id)))
            for undo in [procedure.given_up for procedure in met if procedure.given_up]:
                said += within(_GIVE_UP_S, partial(undo, self.target, record.id), self._leave)
        except TooLate:
            said += [f"taking back what it changed did not end within {Seconds(_GIVE_UP_S)}: it may still be in force"]
        except Exception as error:  # noqa: BLE001 - the run ends whatever happens, and says what may be left
            why = error.sentence if isinstance(error, NvcopsError) else f"{type(error).__name__}: {error}"
            said += [f"what it changed may still be in force: {why}"]
        return msgspec.structs.replace(record, error="; ".join([record.error, *said]))

    def _finish(self, record: RunRecord) -> None:
        """Record the end, or leave the run as it is: what the records do not have must not be over for the journal."""
        try:
            if self.store.finish(record, self._worker.id, [entries.ended(record)]):
                return
        except StateError as error:
            self._evidence.say(f"{error.sentence}: the end of {record.id} is recorded when it is resumed")
            raise Parked(error.sentence) from error
        raise Parked("another worker has it")

    def finish_cancelled(self, record: RunRecord, person: str) -> None:
        """Write down that a run was cancelled; it is this worker's.

        Raises:
            StateError: it cannot be written.
        """
        cancelled = self._given_up(_cancelled(record, person))
        self.store.finish(cancelled, self._worker.id, [entries.ended(cancelled)])

    def _put_down(self, record: RunRecord, state: RunState, why: str) -> None:
        entry = entries.run_entry(record, "run.interrupted", now(), again=True, reason=why, worker=self._worker.id)
        try:
            self.store.release(record, self._worker.id, state, why, [entry])
        except StateError as error:
            self._evidence.say(f"{error.sentence}: {record.id} is found abandoned and can be resumed")

    # --- without records ---

    def carry_loosely(self, record: RunRecord, watch: Watch, signed: SignedStatement | None) -> RunRecord:
        """Carry out a run of which no records can be kept, only evidence."""
        self._evidence.keep(
            [entries.requested(record, signed), entries.run_entry(record, "run.started", record.requested)]
        )
        journal = LooseJournal(record, self._evidence.keep, watch)
        ended = self._conducted(record, journal)
        if journal.unasked:
            ended = _with_findings(ended, journal.unasked)
        ended = msgspec.structs.replace(ended, steps=tuple(journal.steps), worker="")
        self._evidence.keep([entries.ended(ended)])
        return ended


def _concluded(record: RunRecord, sections: Sequence[Section]) -> RunRecord:
    findings = tuple(finding for section in sections for finding in section.findings)
    verdict = verdict_of(findings)
    return msgspec.structs.replace(
        record,
        state=RunState.CONCLUDED,
        ended=now(),
        verdict=verdict,
        exit_code=int(verdict),
        findings=findings,
        sections=tuple(sections),
        summary=sections[-1].summary,
    )


def _cancelled(record: RunRecord, person: str) -> RunRecord:
    error = f"cancelled by {person}"
    return msgspec.structs.replace(record, state=RunState.CANCELLED, ended=now(), error=error, exit_code=_BUG_EXIT_CODE)


def _told(error: NvcopsError) -> str:
    """The sentence with its hint: who reads the run's end has nothing else."""
    return f"{error.sentence} ({error.hint})" if error.hint else error.sentence


def _failed(record: RunRecord, error: Exception) -> RunRecord:
    sentence = _told(error) if isinstance(error, NvcopsError) else f"{type(error).__name__}: {error}"
    code = error.exit_code if isinstance(error, NvcopsError) else _BUG_EXIT_CODE
    return msgspec.structs.replace(record, state=RunState.FAILED, ended=now(), error=sentence, exit_code=code)


def _with_findings(record: RunRecord, findings: Sequence[Finding]) -> RunRecord:
    if record.verdict is None:
        return record
    verdict = verdict_of([*record.findings, *findings])
    return msgspec.structs.replace(
        record, findings=(*record.findings, *findings), verdict=verdict, exit_code=int(verdict)
    )
