"""Runs as the doors use them: start, resume, cancel, sign, list. A lone command line needs no other process for it."""

from __future__ import annotations

import datetime as dt
import functools
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import msgspec

from nvcops.adapters.evidence.log import EvidenceLog
from nvcops.adapters.ops_store import OpsStore
from nvcops.adapters.runs import entries, workers
from nvcops.adapters.runs.abandoned import Abandoned, changed_since, find_abandoned
from nvcops.adapters.runs.carry import Carrier
from nvcops.adapters.runs.evidence import Evidence, Notify
from nvcops.adapters.runs.people import ANSWERED, People, Speaker, unsigned_user
from nvcops.adapters.runs.schedule import Scheduler, Tick
from nvcops.adapters.runs.store import RunStore
from nvcops.core import procedures
from nvcops.core.errors import LockHeld, NotAllowed, NotFoundError, RunError, StateError, UsageError
from nvcops.core.evidence import Entry
from nvcops.core.identity import Say, SignedStatement
from nvcops.core.manifest import Manifest
from nvcops.core.procedures import Procedure
from nvcops.core.runs import RunRecord, RunState, StepKind, StepRecord, requested_id, scheduled_id
from nvcops.core.schedule import Due, now
from nvcops.core.target import Target

Watch = Callable[[StepRecord], None]
_FOLLOW_S = 0.5
_SUFFIX = "abcdefghjkmnpqrstuvwxyz23456789"


def unseen(_step: StepRecord) -> None:
    """Nobody watches."""


class Runs:
    """The runs of one platform.

    `target` connects to the platform when the first procedure needs it; `open_log` opens the evidence; `notify` is
    told, in sentences, what does not stop a run and should not go unnoticed.
    """

    def __init__(
        self,
        manifest: Manifest,
        target: Callable[[], Target],
        open_log: Callable[[], EvidenceLog],
        *,
        notify: Notify,
        kind: str = "cli",
    ) -> None:
        self.manifest = manifest
        self.notify = notify
        self.worker = workers.this_process(kind)
        self.evidence = Evidence(manifest.platform.name, open_log, notify)
        self._broken: StateError | None = None
        self._store: RunStore | None = None
        try:
            self._store = RunStore(OpsStore(manifest.platform.state / "ops.sqlite"), manifest.platform.name)
        except StateError as error:
            self._broken = error
        self._people = People(manifest, self._note)
        self.carrier = Carrier(manifest, target, self._store, self.evidence, self.worker, self._people)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop what is under way at its next step, and let go of all files."""
        self.carrier.close()
        self.drain()
        if self._store:
            self._store.ops.close()
            self._store = None
        self.evidence.close()

    @property
    def store(self) -> RunStore:
        """The records.

        Raises:
            StateError: they cannot be opened.
        """
        if self._store is None:
            raise self._broken or StateError("the records of runs are not open")
        return self._store

    @functools.cached_property
    def _scheduler(self) -> Scheduler:
        return Scheduler(self.manifest, self.store, self.enqueue)

    def drain(self) -> None:
        """Move committed evidence into the log; what cannot be moved now stays where it is and is moved later."""
        if self._store is None or self.evidence.log is None:
            return
        try:
            self._store.ops.drain(self.evidence.log)
        except StateError as error:
            self.notify(f"{error.sentence}: evidence waits beside the records and is folded in later")

    # --- begin ---

    def start(  # noqa: PLR0913 - what a person may say about a run
        self,
        procedure: Procedure,
        *,
        options: Mapping[str, Any] | None = None,
        signer: Speaker | None = None,
        requested_by: str = "",
        dry_run: bool = False,
        due: dt.datetime | None = None,
        wait: bool = False,
        on_event: Watch = unseen,
    ) -> RunRecord:
        """Run a procedure here and now, until it ends or waits for a person (`wait`: until it ends).

        `due` makes it the run of a due moment, once. Without a signer the requester is the operating system's user.

        Raises:
            UsageError: a wrong option.
            NotAllowed: the procedure asks for an approval, and the requester did not sign.
            LockHeld: naming the run that holds the lock.
            RunError: that due moment has its run already.
            StateError: no records can be kept, and the procedure acts.
        """
        moment = now()
        suffix = "".join(secrets.choice(_SUFFIX) for _ in range(3))
        record = RunRecord(
            id=scheduled_id(procedure.name, due) if due else requested_id(procedure.name, moment, suffix),
            procedure=procedure.name,
            platform=self.manifest.platform.name,
            state=RunState.RUNNING,
            requested_by=signer.name if signer else requested_by or unsigned_user(),
            requested=moment,
            due=due,
            dry_run=dry_run,
            options=procedure.arguments(options or {}),
            content_hash=procedure.content_hash,
            lock=procedure.lock or "",
            started=moment,
            worker=self.worker.id,
        )
        signed, key = self._signed_request(record, procedure, signer)
        try:
            store = self.store
            self.carrier.open()
            evidence = [entries.requested(record, signed), entries.run_entry(record, "run.started", moment)]
            if not store.add(record, key, evidence):
                raise RunError(f"{record.id} has its run already", hint=f"`nvcops show {record.id}`")
        except StateError as error:
            if not (procedure.reads_only or dry_run):
                raise
            self.notify(f"{error.sentence}; the run goes on without a journal")
            return self.carrier.carry_loosely(record, on_event, signed)
        except LockHeld as error:
            self._people.refuse(error, record, record.requested_by)
            raise
        return self._carried(record, on_event, wait=wait)

    def _signed_request(
        self, record: RunRecord, procedure: Procedure, signer: Speaker | None
    ) -> tuple[SignedStatement | None, str]:
        """The request under the requester's signature, where one is given or needed, and their key's fingerprint."""
        if signer is None:
            if procedure.asks_approval(record.options) and not record.dry_run:
                error = NotAllowed(
                    f"{procedure.name} asks for an approval, so its requester must sign", hint="give --as NAME"
                )
                self._people.refuse(error, record, record.requested_by)
                raise error
            return None, ""
        return self._people.said(signer, Say.REQUEST, record)

    def enqueue(
        self, procedure: Procedure, due: dt.datetime, options: Mapping[str, Any] | None = None, by: str = "schedule"
    ) -> bool:
        """Enter the run of a due moment, for a worker to begin; False when it is there already."""
        moment = now()
        record = RunRecord(
            id=scheduled_id(procedure.name, due),
            procedure=procedure.name,
            platform=self.manifest.platform.name,
            state=RunState.ENQUEUED,
            requested_by=by,
            requested=moment,
            due=due,
            options=procedure.arguments(options or {}),
            content_hash=procedure.content_hash,
            lock=procedure.lock or "",
        )
        return self.store.add(record, "", [entries.requested(record, None)])

    # --- go on ---

    def resume(self, run: str, *, wait: bool = False, on_event: Watch = unseen) -> RunRecord:
        """Go on with a run here: one that was interrupted, or one that waits (it then may wait again).

        Raises:
            NotFoundError: there is no such run.
            RunError: it ended, another worker has it, or its procedure was changed since it began.
            LockHeld: naming the run that holds the lock.
        """
        return self._carried(self.take(run), on_event, wait=wait)

    def take(self, run: str) -> RunRecord:
        """Claim a run for this process, which then must carry it out. Raises as `resume` does."""
        record = self._going(run)
        self._check_resumable(record)
        self.carrier.open()
        moment = now()
        kind = "run.resumed" if record.started else "run.started"
        if not record.started:
            record = msgspec.structs.replace(record, content_hash=procedures.find(record.procedure).content_hash)
        entry = entries.run_entry(record, kind, moment, again=True, worker=self.worker.id, left_by=record.worker)
        if not self.store.claim(record, self.worker.id, moment, [entry]):
            raise RunError(f"another worker was quicker to take {record.id}", hint=f"`nvcops show {record.id}`")
        return self.store.get(record.id)

    def _going(self, run: str) -> RunRecord:
        record = self.store.get(run)
        if record.state.ended:
            raise RunError(f"{record.id} has ended: {record.state}", hint=f"`nvcops show {record.id}`")
        return record

    def _check_resumable(self, record: RunRecord) -> None:
        if record.worker and not workers.has_left(self.store.ops, record.worker):
            raise RunError(f"{record.id} is being carried out by {record.worker}")
        changed = changed_since(record) if record.started else ""
        if changed:
            error = RunError(
                f"{changed} was changed since {record.id} began: it cannot go on under other code",
                hint=f"`nvcops cancel {record.id}` and run it again, or put the code back",
            )
            self._people.refuse(error, record, self.worker.id)
            raise error

    def cancel(self, run: str, by: str | Speaker) -> RunRecord:
        """Stop a run: at its next step where a worker has it, at once otherwise.

        What it did is not undone, but for changes that were being tried: its procedure takes them back.

        Raises:
            NotFoundError: there is no such run.
            RunError: it has ended.
            NotAllowed: the roster does not let this person do that.
        """
        record = self._going(run)
        moment = now()
        if isinstance(by, str):
            person, entry = by, entries.run_entry(record, "run.cancellation", moment, again=True, by=by)
        else:
            signed, _ = self._people.said(by, Say.CANCELLATION, record)
            person, entry = by.name, entries.said(signed)
        self.store.ask_to_cancel(record, person, [entry])
        nobodys = workers.has_left(self.store.ops, record.worker)
        if nobodys and self.store.claim(record, self.worker.id, moment, [], locking=False):
            self.carrier.finish_cancelled(self.store.get(record.id), person)
        self.drain()
        return self.store.get(record.id)

    def follow(self, run: str, *, seconds: float, on_event: Watch = unseen) -> RunRecord:
        """Stay with a run until it has ended, for so long at most; go on with it here when nobody else does."""
        end = time.monotonic() + seconds
        shown: set[tuple[int, RunState]] = set()
        while True:
            record = self.store.get(run)
            for step in record.steps:
                if (step.number, step.state) not in shown and step.ended:
                    on_event(step)
                shown.add((step.number, step.state))
            if record.state.ended or time.monotonic() > end:
                return record
            if self._nobody_has(record) and not workers.serving(self.store.ops):
                return self._gone_on(run, on_event, wait=True)
            time.sleep(_FOLLOW_S)

    def _nobody_has(self, record: RunRecord) -> bool:
        """Whether a run could go on and no living worker has it."""
        if record.state is RunState.ENQUEUED:
            return True
        return record.state is RunState.RUNNING and workers.is_gone(self.store.ops, record.worker)

    def _carried(self, record: RunRecord, on_event: Watch, *, wait: bool) -> RunRecord:
        self.carrier.carry(record, on_event)
        self.drain()
        record = self.store.get(record.id)
        if record.state.ended:
            self.evidence.sign()
        elif wait:
            return self.follow(record.id, seconds=math.inf, on_event=on_event)
        return record

    # --- people ---

    def attest(self, run: str, step: str, signer: Speaker, *, note: str, on_event: Watch = unseen) -> RunRecord:
        """Say, signed, that a manual step was done; the run goes on.

        Raises:
            NotFoundError: there is no such run or step.
            NotAllowed: the signature or the roster does not allow it.
            RunError: the step does not wait for this.
            UsageError: a note is missing.
        """
        if not note.strip():
            raise UsageError("an attestation needs a note: what was looked at, and what was seen", hint='--note "..."')
        return self._say(Say.ATTESTATION, run, step, signer, note, on_event)

    def approve(self, run: str, step: str, signer: Speaker, *, note: str = "", on_event: Watch = unseen) -> RunRecord:
        """Approve, signed, what another person requested; the run goes on. Raises as `attest` does."""
        return self._say(Say.APPROVAL, run, step, signer, note, on_event)

    def resolve(
        self, run: str, step: str, signer: Speaker, *, done: bool, note: str = "", on_event: Watch = unseen
    ) -> RunRecord:
        """Say, signed, what became of an act whose outcome is unknown: it was done, or it is to be done again."""
        word = "done" if done else "redo"
        return self._say(Say.RESOLUTION, run, step, signer, f"{word}: {note}", on_event)

    def _say(self, kind: Say, run: str, name: str, signer: Speaker, note: str, on_event: Watch) -> RunRecord:
        record = self._going(run)
        step = self._waiting_step(record, name, ANSWERED[kind])
        signed, key = self._people.said(signer, kind, record, step=step.name, note=note)
        if kind is Say.APPROVAL:
            self._people.check_second(record, step.name, (signer.name, key), self.store.requester(record.id))
        if not self.store.decide(record, signed, entries.said(signed)):
            raise RunError(f"somebody was quicker to answer {step.name}", hint=f"`nvcops show {record.id}`")
        self.drain()
        record = self.store.get(record.id)
        if record.state is not RunState.ENQUEUED or workers.serving(self.store.ops):
            return record
        return self._gone_on(record.id, on_event, wait=False)

    def _waiting_step(self, record: RunRecord, name: str, kind: StepKind) -> StepRecord:
        step = next((step for step in record.steps if step.name == name), None)
        waiting = [step.name for step in record.steps if step.state is RunState.WAITING and step.kind is kind]
        hint = f"it waits for: {', '.join(waiting)}" if waiting else f"`nvcops show {record.id}` has its steps"
        if step is None:
            raise NotFoundError(f"{record.id} has no step {name!r}", hint=hint)
        if step.name not in waiting:
            raise RunError(f"the step {name!r} of {record.id} is {step.state}, and waits for no {kind}", hint=hint)
        return step

    def _gone_on(self, run: str, on_event: Watch, *, wait: bool) -> RunRecord:
        """Go on here with a run that nobody has; somebody may be quicker, as a terminal that waits for it."""
        try:
            return self.resume(run, wait=wait, on_event=on_event)
        except RunError:
            record = self.store.get(run)
            if self._nobody_has(record):
                raise  # nobody was quicker: it refuses to go on
            return self.follow(run, seconds=math.inf, on_event=on_event) if wait else record

    def _note(self, entry: Entry) -> None:
        try:
            self.store.note([entry])
        except StateError:
            self.evidence.keep([entry])
        self.drain()

    def refuse(self, run: str, step: str, claimed: str, error: NotAllowed) -> None:
        """Keep as evidence that somebody who is not known wanted to say something about a run."""
        self._people.refuse(error, self.store.get(run), claimed or unsigned_user(), step)

    # --- look ---

    def list(self, states: Sequence[RunState] = (), *, procedure: str = "", limit: int = 50) -> Sequence[RunRecord]:
        """Runs without their steps and findings, the newest first."""
        return self.store.find(states, procedure=procedure, limit=limit)

    def show(self, run: str) -> RunRecord:
        """A run with its steps and findings, by its id or an unambiguous beginning of it."""
        return self.store.get(run)

    def abandoned(self) -> Sequence[Abandoned]:
        """Runs that a worker has that died or fell silent."""
        return [left for left in find_abandoned(self.store) if left.run.worker != self.worker.id]

    def due(self, start: dt.datetime, end: dt.datetime) -> Sequence[Due]:
        """The due moments of a time and how each stands; nothing from before anybody followed them."""
        return self._scheduler.due(start, end, now())

    def tick(self, moment: dt.datetime) -> Tick:
        """Enqueue what is due, and note what was missed since the last tick."""
        return self._scheduler.tick(moment)

    def stop(self) -> None:
        """Put down what this process carries out at the next step; for Ctrl-C and SIGTERM."""
        self.carrier.stop()
