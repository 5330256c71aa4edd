"""Whoever looks: one event loop in a thread of its own, a task for each probe, and the looks handed over as they end.

docs/decisions/watch.md says why it looks again so soon, why twice at once, and when a look that failed is not believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from nvcops.adapters.probes.asking import Asker, Exceeded, is_ours
from nvcops.core.errors import DeadlineExceeded, NvcopsError, StateError, TargetError
from nvcops.core.schedule import now
from nvcops.core.watch import Look, Probe

Told = Callable[[Sequence[Look]], None]
Make = Callable[[Probe], Asker]
AGAIN_S = 0.25  # after a first bad look, and while a first one is not answered
_AGAIN_UP_TO_S = 5.0  # the interval of probes for which that is worth while
_GRACE_S = 0.05  # so that whoever was asked can say itself that it was late
_BEAT_S = 0.1
_OURS_SHARE = 0.25  # of a deadline in which we stood still ourselves: then it proves nothing
_WAITING_MAX = 10_000
_AT_ONCE_MAX = 1_000
_STOP_LOOK_S = 0.2
_END_S = 5.0
_LEAVE_S = 0.5
_WHY_MAX = 300


class Standstill:
    """For how long this process has not been running in all, as far as its event loop noticed.

    A plain callback of the loop: after a standstill it runs before any look that timed out is resumed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.total_s = 0.0
        self._loop = loop
        self._due = loop.time()
        self._beat()

    def _beat(self) -> None:
        now = self._loop.time()
        self.total_s += max(0.0, now - self._due)
        self._due = now + _BEAT_S
        self._handle = self._loop.call_at(self._due, self._beat)

    def now_s(self) -> float:
        """The total, with what is not noticed yet."""
        return self.total_s + max(0.0, self._loop.time() - self._due)

    def stop(self) -> None:
        """Beat no more."""
        self._handle.cancel()


@dataclass
class Watched:
    """A probe, whoever asks for it, and what its looks add up to so far."""

    probe: Probe
    asker: Asker | None = None
    pending: asyncio.Task[float | None] | None = None
    down: bool = False
    streak: int = 0
    others: set[asyncio.Task[None]] = field(default_factory=set)

    def count(self, look: Look) -> None:
        """Count a look, as whoever is told counts it: what is unknown changes nothing."""
        if look.known:
            against = bool(look.why) != self.down
            self.streak = self.streak + 1 if against else 0
            if self.streak >= (self.probe.recoveries if self.down else self.probe.failures):
                self.down, self.streak = not self.down, 0

    @property
    def in_doubt(self) -> bool:
        """Whether it failed, and not often enough to be believed."""
        return not self.down and self.streak > 0

    @property
    def again(self) -> bool:
        """Whether it is looked at sooner than it is due while it is in doubt."""
        return self.probe.failures > 1 and self.probe.interval <= _AGAIN_UP_TO_S


class LoopProber:
    """See core.watch.Prober. `make` makes whoever asks for a probe; where it raises, that probe is unknown."""

    def __init__(self, probes: Sequence[Probe], make: Make, close: Callable[[], object] = lambda: None) -> None:
        self._probes, self._make, self._close = probes, make, close
        self._ended: queue.Queue[Look] = queue.Queue(_WAITING_MAX)
        self._lost: Counter[str] = Counter()
        self._standstill: Standstill | None = None
        self._leaving = asyncio.Event()
        self._asking: set[asyncio.Task[float | None]] = set()

    def run(self, stop: Any, told: Told) -> None:
        """Look until `stop` is set. What `told` raises ends it, and is raised."""
        loop = asyncio.new_event_loop()
        watch = loop.create_task(self._watch())
        thread = threading.Thread(target=_run, args=(loop, watch), name="probes", daemon=True)
        thread.start()
        try:
            while not stop.is_set():
                if looks := self._taken():
                    told(looks)
                elif not thread.is_alive():
                    raise StateError("the watch ended by itself") from watch.exception()
        finally:
            if thread.is_alive():
                loop.call_soon_threadsafe(watch.cancel)
            thread.join(_END_S)
            self._close()

    def _taken(self) -> list[Look]:
        """What ended since the last time; waits a moment for the first."""
        looks: list[Look] = []
        try:
            looks.append(self._ended.get(timeout=_STOP_LOOK_S))
            while len(looks) < _AT_ONCE_MAX:
                looks.append(self._ended.get_nowait())
        except queue.Empty:
            return looks
        return looks

    async def _watch(self) -> None:
        """A task for each probe until it is cancelled."""
        loop = asyncio.get_running_loop()
        self._standstill, self._leaving = Standstill(loop), asyncio.Event()
        watched = [Watched(probe) for probe in self._probes]
        tasks = [loop.create_task(self._follow(one)) for one in watched]
        try:
            for ended in (await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))[0] if tasks else ():
                ended.result()
            await asyncio.Event().wait()
        finally:
            self._standstill.stop()
            self._leaving.set()
            if tasks:  # a connection that is cut while it is being made is not always let go of
                await asyncio.wait(tasks, timeout=_LEAVE_S)
            for task in (every := [*tasks, *self._asking, *(task for one in watched for task in one.others)]):
                task.cancel()
            if every:
                await asyncio.wait(every, timeout=_END_S / 2)
            for one in watched:
                if one.asker:
                    await one.asker.close()

    async def _follow(self, watched: Watched) -> None:
        """Look each time that it is due, counted from the first time: lateness does not add up."""
        loop, probe = asyncio.get_running_loop(), watched.probe
        due = loop.time() + phase(probe.name) * probe.interval
        while True:
            still = self._still_s()
            if await self._left_within(due - loop.time()):
                return
            await self._look_now(watched)
            while watched.again and watched.in_doubt and loop.time() + AGAIN_S < due + probe.interval:
                if await self._left_within(AGAIN_S):
                    return
                await self._look_now(watched)
            missed = max(0, int((loop.time() - due) / probe.interval) - 1)
            if missed and self._still_s() - still > probe.interval / 2:
                why = f"looks that were due while we ourselves stood still: {missed:,}"
                self._hand_over(watched, Look(probe=probe.name, time=now(), why=why, known=False))
            due += probe.interval * (missed + 1)

    async def _left_within(self, seconds: float) -> bool:
        """Wait so long; whether it is to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._leaving.wait(), max(0.0, seconds))
        return self._leaving.is_set()

    async def _look_now(self, watched: Watched) -> None:
        """One look; beside it a second one, on a way of its own, when the first is not answered soon."""
        loop = asyncio.get_running_loop()
        second: asyncio.TimerHandle | None = None
        if watched.again and not watched.down and (watched.asker is None or watched.asker.twice):
            second = loop.call_later(AGAIN_S, self._begin_second, watched)
        await self._look(watched, fresh=False)
        if second:
            second.cancel()
        if watched.others:
            await asyncio.wait(watched.others)

    def _begin_second(self, watched: Watched) -> None:
        task = asyncio.get_running_loop().create_task(self._look(watched, fresh=True))
        watched.others.add(task)
        task.add_done_callback(watched.others.discard)

    async def _look(self, watched: Watched, *, fresh: bool) -> None:
        """One look: it ends well, badly, or unknown, and is handed over; it never raises."""
        began, still = perf_counter(), self._still_s()
        value, why, known = None, "", True
        try:
            value = await self._asked(watched, fresh=fresh)
        except DeadlineExceeded as error:
            why, known = error.sentence, self._still_s() - still <= _OURS_SHARE * watched.probe.deadline
            why = why if known else f"{why}, while we ourselves stood still"
        except TargetError as error:
            why, known = error.sentence, not is_ours(error)
            value = error.value if isinstance(error, Exceeded) else None
        except Exception as error:  # noqa: BLE001 - one probe's trouble is not the others'
            said = error.sentence if isinstance(error, NvcopsError) else f"{type(error).__name__}: {error}"
            why, known = f"it could not be looked at: {said}", False
        seconds, name = perf_counter() - began, watched.probe.name
        look = Look(probe=name, time=now(), why=why[:_WHY_MAX], seconds=seconds, value=value, known=known)
        self._hand_over(watched, look)

    async def _asked(self, watched: Watched, *, fresh: bool) -> float | None:
        """The answer within the deadline; who cannot be stopped is not asked anew until the answer is there."""
        limit_s = watched.probe.deadline + _GRACE_S
        if watched.asker is None:
            watched.asker = self._make(watched.probe)
        if not watched.asker.patient:
            try:
                async with asyncio.timeout(limit_s):
                    return await watched.asker.ask(fresh=fresh)
            except TimeoutError as error:
                raise _late(watched.probe) from error
        task = watched.pending
        if fresh or task is None or task.done():
            task = asyncio.get_running_loop().create_task(watched.asker.ask(fresh=fresh))
            self._asking.add(task)
            task.add_done_callback(self._answered)
            watched.pending = watched.pending if fresh else task
        if not (await asyncio.wait({task}, timeout=limit_s))[0]:
            raise _late(watched.probe)
        return task.result()

    def _answered(self, task: asyncio.Task[float | None]) -> None:
        """An answer that came too late was told as such."""
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()

    def _hand_over(self, watched: Watched, look: Look) -> None:
        """Put a look where it is taken; where nobody takes them, it is said later that some were lost."""
        watched.count(look)
        try:
            if lost := self._lost[look.probe]:
                why = f"looks that were not taken in time, and are lost: {lost:,}"
                self._ended.put_nowait(Look(probe=look.probe, time=look.time, why=why, known=False))
                del self._lost[look.probe]
            self._ended.put_nowait(look)
        except queue.Full:
            self._lost[look.probe] += 1

    def _still_s(self) -> float:
        return self._standstill.now_s() if self._standstill else 0.0


def phase(name: str) -> float:
    """When in its interval a probe is looked at, as a share of it: spread evenly, and the same each time.

    >>> round(phase("front-door.bank"), 3) == round(phase("front-door.bank"), 3), 0 <= phase("x") < 1
    (True, True)
    """
    return zlib.crc32(name.encode()) / 2**32


def _late(probe: Probe) -> DeadlineExceeded:
    return DeadlineExceeded(f"no answer within {probe.deadline}")


def _run(loop: asyncio.AbstractEventLoop, watch: asyncio.Task[None]) -> None:
    """The thread: whoever waits for it asks the task how it ended."""
    asyncio.set_event_loop(loop)
    try:
        with contextlib.suppress(Exception, asyncio.CancelledError):
            loop.run_until_complete(watch)
    finally:
        loop.close()
