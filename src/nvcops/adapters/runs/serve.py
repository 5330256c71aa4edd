"""`nvcops serve`: follows the schedule, carries out what is enqueued, takes up what others left, does periodic jobs."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Sequence

from nvcops.adapters.runs import entries
from nvcops.adapters.runs.abandoned import Abandoned
from nvcops.adapters.runs.door import Runs
from nvcops.core.errors import LockHeld, NvcopsError, RunError, StateError
from nvcops.core.runs import RunRecord, RunState, StepRecord
from nvcops.core.schedule import now

Job = tuple[str, float, Callable[[], object]]
Life = Callable[[threading.Event], object]
_LOOK_EVERY_S = 1.0
_CLOCK_EVERY_S = 10.0
_REST_AFTER_S = 30.0
_JOIN_S_MAX = 5.0
_AT_ONCE_MAX = 8
_CRASHES_MAX = 3
_REVIVE_AFTER_S = 5.0


class Server:
    """One worker process. `jobs` are (name, seconds between two calls, function), each in a thread of its own.

    `lives` are (name, function) that go on until the event which they are given is set; one that ends before is begun
    again.
    """

    def __init__(
        self,
        runs: Runs,
        jobs: Sequence[Job] = (),
        lives: Sequence[tuple[str, Life]] = (),
        *,
        on_step: Callable[[RunRecord, StepRecord], None] = lambda _run, _step: None,
    ) -> None:
        self._runs = runs
        self._jobs = jobs
        self._lives = lives
        self._on_step = on_step
        self._alarmed: set[tuple[str, str]] = set()
        self._idle_since = time.monotonic()

    def work(self, stop: threading.Event) -> None:
        """Serve until `stop` is set; then put everything down at its next step, within seconds.

        Raises:
            StateError: the records cannot be opened. Later on such an error is told and tried again.
        """
        self._runs.carrier.sign_on()
        threads = [
            threading.Thread(target=self._repeat, args=(*job, stop), name=job[0], daemon=True) for job in self._jobs
        ]
        threads += [
            threading.Thread(target=self._keep_alive, args=(*life, stop), name=life[0], daemon=True)
            for life in self._lives
        ]
        for thread in threads:
            thread.start()
        clock = 0.0
        while not stop.is_set():
            try:
                if time.monotonic() >= clock:
                    self._runs.tick(now())
                    self._take_up_abandoned()
                    self._take_back()
                    clock = time.monotonic() + _CLOCK_EVERY_S
                self._take_up_enqueued()
                self._settle()
                self._runs.drain()
            except StateError as error:
                self._runs.notify(f"{error.sentence}; trying again")
            stop.wait(_LOOK_EVERY_S)
        self._runs.stop()
        self._settle()
        for thread in threads:
            thread.join(_JOIN_S_MAX)

    def _take_up_enqueued(self) -> None:
        """Begin what is due, the oldest first; what another run's lock keeps back is tried again."""
        enqueued = self._runs.store.find([RunState.ENQUEUED], limit=1000)
        for record in reversed(enqueued):
            if len(self._runs.carrier.busy) >= _AT_ONCE_MAX:
                return
            try:
                self._begin(record)
            except LockHeld:
                continue
            except StateError:
                raise
            except NvcopsError as error:
                self._runs.notify(f"{record.id}: {error.sentence}")
                if not isinstance(error, RunError) or not self._taken(record):
                    self._runs.store.hold(record, error.sentence)

    def _taken(self, record: RunRecord) -> bool:
        """Whether somebody else has taken a run in the meantime."""
        return bool(self._runs.show(record.id).worker)

    def _begin(self, record: RunRecord) -> None:
        taken = self._runs.take(record.id)
        self._runs.carrier.begin(taken, lambda step: self._on_step(taken, step))

    def _take_up_abandoned(self) -> None:
        """Alarm about runs whose worker is gone or silent; go on with those that are certainly nobody's."""
        for left in self._runs.abandoned():
            self._alarm(left)
            if left.gone and left.crashes < _CRASHES_MAX and len(self._runs.carrier.busy) < _AT_ONCE_MAX:
                try:
                    self._begin(left.run)
                except RunError as error:
                    self._runs.notify(f"{left.run.id}: {error.sentence}")

    def _take_back(self) -> None:
        """Put down what a full disk kept us from putting down when we left it."""
        ours = self._runs.worker.id
        for record in self._runs.store.find([RunState.RUNNING], limit=1000):
            if record.worker == ours and record.id not in self._runs.carrier.busy:
                self._runs.store.release(record, ours, RunState.ENQUEUED, "its end could not be recorded", [])

    def _alarm(self, left: Abandoned) -> None:
        key = (left.run.id, left.run.worker)
        if key in self._alarmed:
            return
        self._alarmed.add(key)
        why = "is gone" if left.gone else "has not been heard of"
        self._runs.notify(f"{left.run.id} was left in the middle: its worker {left.run.worker} {why}")
        # The same for every process that notices it, so that the log has it once.
        moment = dt.datetime.fromtimestamp(left.silent_since, dt.UTC) if left.silent_since else left.run.requested
        entry = entries.run_entry(left.run, "run.abandoned", moment, again=True, worker=left.run.worker)
        self._runs.store.note([entry])

    def _settle(self) -> None:
        """Forget runs that are done here; without any for a while, let the engine rest."""
        carrier = self._runs.carrier
        for run, done in list(carrier.busy.items()):
            if done.is_set():
                carrier.settle(run)
        if carrier.busy:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > _REST_AFTER_S:
            carrier.rest()

    def _repeat(self, name: str, interval_s: float, job: Callable[[], object], stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                job()
            except Exception as error:  # noqa: BLE001 - one failing job stops neither itself nor the others
                self._runs.notify(f"{name}: {error}")
            stop.wait(interval_s)

    def _keep_alive(self, name: str, live: Life, stop: threading.Event) -> None:
        told = ""
        while not stop.is_set():
            try:
                live(stop)
            except Exception as error:  # noqa: BLE001 - the same
                if str(error) != told:  # a receiver that runs elsewhere is no news
                    told = str(error)
                    self._runs.notify(f"{name}: {error}")
            stop.wait(_REVIVE_AFTER_S)
