"""Faults of whole parts: stopped, frozen, slowed, or living in another time."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass, field

from nvclab.data_centre import DataCentre
from nvclab.errors import LabError
from nvclab.faults.kind import Kind, Options

READY_S = 30.0


@dataclass
class Stopped:
    """A part is stopped as an operator would stop it, and not started again."""

    centre: DataCentre
    part: str

    def inject(self) -> str:
        self.centre.keeper.stop(self.part)
        return f"{self.part} is stopped"

    def heal(self) -> str:
        self.centre.keeper.start(self.part, READY_S)
        return f"{self.part} runs again"


@dataclass
class Frozen:
    """A part has stopped computing, and still holds its port and its connections."""

    centre: DataCentre
    part: str

    def inject(self) -> str:
        self.centre.keeper[self.part].part.process.send(signal.SIGSTOP)
        return f"{self.part} is frozen"

    def heal(self) -> str:
        process = self.centre.keeper[self.part].part.process
        process.send(signal.SIGCONT)
        process.wait_until(self.centre.keeper[self.part].part.ready, READY_S)
        return f"{self.part} goes on"


@dataclass
class Slowed:
    """A part gets only a share of its time: it is frozen and let go in turns."""

    centre: DataCentre
    part: str
    frozen_s: float
    running_s: float
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def inject(self) -> str:
        self._thread = threading.Thread(target=self._alternate, name=f"slow {self.part}", daemon=True)
        self._thread.start()
        return f"{self.part} is frozen for {self.frozen_s:g} s, runs for {self.running_s:g} s, and so on"

    def heal(self) -> str:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        process = self.centre.keeper[self.part].part.process
        process.wait_until(self.centre.keeper[self.part].part.ready, READY_S)
        return f"{self.part} runs at full speed"

    def _alternate(self) -> None:
        process = self.centre.keeper[self.part].part.process
        while not self._over.is_set():
            process.send(signal.SIGSTOP)
            self._over.wait(self.frozen_s)
            process.send(signal.SIGCONT)
            self._over.wait(self.running_s)


@dataclass
class SkewedClock:
    """A bank instance believes that it is another time."""

    centre: DataCentre
    part: str
    offset_s: float

    def inject(self) -> str:
        self._restart(self.offset_s)
        return f"the clock of {self.part} is {self.offset_s:+g} s off"

    def heal(self) -> str:
        self._restart(0.0)
        return f"the clock of {self.part} is right"

    def _restart(self, offset_s: float) -> None:
        self.centre.keeper.stop(self.part)
        self.centre.instances[self.part].clock_offset_s = offset_s
        self.centre.keeper.start(self.part, READY_S)


def _instance(centre: DataCentre, options: Options) -> str:
    """The instance that the options name."""
    name = str(options["instance"])
    if name not in centre.instances:
        raise LabError(f"There is no bank instance {name!r}.", hint=f"instance= {' or '.join(centre.instances)}")
    return name


def _slowed(centre: DataCentre, options: Options) -> Slowed:
    return Slowed(centre, _instance(centre, options), float(options["frozen_s"]), float(options["running_s"]))


def _skewed(centre: DataCentre, options: Options) -> SkewedClock:
    return SkewedClock(centre, _instance(centre, options), float(options["offset_s"]))


KINDS = [
    Kind(
        "stop-instance",
        "Stops one bank instance; the other one serves everybody.",
        "services: the instance is down; proxy: its server is DOWN",
        lambda centre, options: Stopped(centre, _instance(centre, options)),
        {"instance": "bank-1"},
    ),
    Kind(
        "freeze-instance",
        "Freezes one bank instance (SIGSTOP): it accepts connections and never answers.",
        "services: the instance does not answer in time; proxy: its server is DOWN",
        lambda centre, options: Frozen(centre, _instance(centre, options)),
        {"instance": "bank-1"},
    ),
    Kind(
        "slow-instance",
        "Gives one bank instance only a share of its time, in turns of SIGSTOP and SIGCONT.",
        "response time; proxy: its server goes up and down",
        _slowed,
        {"instance": "bank-1", "frozen_s": 0.8, "running_s": 0.2},
    ),
    Kind(
        "stop-standby",
        "Stops the standby.",
        "database: the standby is down, and the primary has no replication connection",
        lambda centre, _: Stopped(centre, "standby"),
    ),
    Kind(
        "stop-cache",
        "Stops Valkey; the bank answers 503 where it needs it.",
        "cache: down; services: not ready",
        lambda centre, _: Stopped(centre, "cache"),
    ),
    Kind(
        "skew-clock",
        "Restarts one bank instance with a clock that is wrong by offset_s seconds.",
        "services: the instance's clock differs from ours",
        _skewed,
        {"instance": "bank-1", "offset_s": 300.0},
    ),
]
