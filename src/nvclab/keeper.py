"""Keeps parts alive: what dies is started again, with growing pauses and a limit; what a fault stopped stays down."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from nvclab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvclab.parts.process import Process

RESTARTS_MAX = 10
RESTARTS_WINDOW_S = 120.0
_PAUSE_FIRST_S = 0.2
_PAUSE_MAX_S = 10.0


class Part(Protocol):
    """Something that runs as one child process of ours."""

    process: Process

    def launch(self) -> None:
        """Start it without waiting."""

    def ready(self) -> bool:
        """Say whether it does its work."""

    def stop(self) -> None:
        """End it."""


@dataclass
class Kept:
    """A part and what became of it."""

    part: Part
    wanted: bool = True
    restarts: int = 0
    problem: str = ""
    due: float | None = None  # on the monotonic clock: when it is started again
    ends: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS_MAX + 1))

    @property
    def running(self) -> bool:
        """Say whether its process lives."""
        return self.part.process.pid is not None

    def pause_s(self, now: float) -> float | None:
        """How long to wait before the next start, given the recent ends; None when it is hopeless."""
        recent = sum(1 for end in self.ends if now - end < RESTARTS_WINDOW_S)
        if recent > RESTARTS_MAX:
            return None
        return float(min(_PAUSE_FIRST_S * 2 ** max(recent - 1, 0), _PAUSE_MAX_S))


class Keeper:
    """The parts by name, in the order in which they were added; they are stopped in the opposite order."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._kept: dict[str, Kept] = {}
        self._log = log

    def add(self, name: str, part: Part) -> None:
        """Look after a part from now on."""
        self._kept[name] = Kept(part)

    def __getitem__(self, name: str) -> Kept:
        """The part by that name; LabError when there is none."""
        if name not in self._kept:
            raise LabError(f"There is no part called {name!r}.", hint=f"there are {', '.join(self._kept)}")
        return self._kept[name]

    def __iter__(self) -> Iterator[tuple[str, Kept]]:
        """All parts with their names."""
        return iter(list(self._kept.items()))

    def look(self) -> None:
        """Notice who died and start whom it is time to start."""
        now = time.monotonic()
        for name, kept in self:
            if not kept.wanted or kept.running or kept.problem:
                continue
            if kept.due is None:
                self._plan(name, kept, now)
            elif kept.due <= now:
                self._restart(name, kept)

    def wait_s(self) -> float | None:
        """How long nothing needs to be done; None: until somebody dies."""
        due = [kept.due for _, kept in self if kept.due is not None and kept.wanted]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def let_go(self, name: str) -> None:
        """Look after a part no longer: whatever becomes of it, it is not started again."""
        kept = self[name]
        kept.wanted, kept.due = False, None

    def stop(self, name: str) -> None:
        """Stop a part, and leave it stopped."""
        self.let_go(name)
        self[name].part.stop()

    def start(self, name: str, deadline_s: float = 30.0) -> None:
        """Start a stopped part, wait until it is ready, and look after it again."""
        kept = self[name]
        kept.problem, kept.due = "", None
        kept.ends.clear()
        if not kept.running:
            kept.part.launch()
        kept.part.process.wait_until(kept.part.ready, deadline_s)
        kept.wanted = True

    def stop_all(self) -> None:
        """Stop everything, the newest first."""
        for name, _ in reversed(list(self)):
            self.stop(name)

    def _plan(self, name: str, kept: Kept, now: float) -> None:
        kept.ends.append(now)
        pause_s = kept.pause_s(now)
        if pause_s is None:
            kept.problem = f"ended {RESTARTS_MAX} times within {RESTARTS_WINDOW_S:g} s: not started again"
            self._log(f"{name} {kept.problem}")
            return
        kept.due = now + pause_s
        self._log(f"{name} ended with {kept.part.process.exit_code}, is started again in {pause_s:g} s")

    def _restart(self, name: str, kept: Kept) -> None:
        kept.due = None
        kept.restarts += 1
        try:
            kept.part.launch()
        except (LabError, OSError) as error:  # counted as one more end by the next look
            self._log(f"{name} was not started: {error}")
