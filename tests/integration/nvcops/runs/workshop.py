"""Procedures to be run, killed and resumed in tests: they act on a folder, and every act leaves a line in it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from nvcops.core.checks import Check, Verdict
from nvcops.core.errors import Unreachable
from nvcops.core.procedures import procedure
from nvcops.core.progress import tell
from nvcops.core.runs import Run, conduct

LEVEL = Check("workshop.level", "Level", "fill it")


@dataclass(frozen=True)
class Workshop:
    """The target: a folder with a file `acts`, a line for each act that was done."""

    folder: Path

    def act(self, name: str) -> int:
        with (self.folder / "acts").open("a") as acts:
            acts.write(f"{name}\n")
        self.die_at(name)
        return len(self.acts())

    @conduct(deadline="20 s", idempotent=True, attempts=3)
    def stir(self, name: str) -> str:
        self.act(f"stir-{name}")
        if len(self.acts()) < 2:
            raise OSError("not yet")
        return name

    def acts(self) -> list[str]:
        file = self.folder / "acts"
        return file.read_text().split() if file.exists() else []

    def die_at(self, name: str) -> None:
        """Die as by kill -9, once, in the middle of the act that the file `die` names."""
        die = self.folder / "die"
        if die.exists() and die.read_text() == name:
            die.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def levels(workshop: Workshop) -> list[int]:
    """Levels of the tanks."""
    if (workshop.folder / "dry").exists():
        raise Unreachable("no tank answers")
    return [1, 2, len(workshop.acts())]


@procedure("tanks-check", when="daily 08:00")
def tanks_check(run: Run, target: Workshop, *, tank: int = 0) -> None:
    """Look at the tanks."""
    seen = run.read(levels, target)
    run.conclude([LEVEL.finding(Verdict.OK, f"{seen[tank]} of 9")], summary="the tanks are well")


@procedure("tanks-fill", lock="tanks")
def tanks_fill(run: Run, target: Workshop, *, acts: int = 3, slow_s: float = 0.0) -> None:
    """Fill the tanks, one after the other."""
    for number in range(acts):
        before = run.read(levels, target)
        if slow_s:
            run.read(_slowly, slow_s)
        run.step(f"fill tank {number} (was {before[0]})", target.act, f"fill-{number}")
    run.conclude([LEVEL.finding(Verdict.OK, f"{len(run.read(target.acts))} acts")])


def _slowly(seconds: float) -> float:
    """Wait for the water."""
    time.sleep(seconds)
    return seconds


@procedure("tanks-morning")
def tanks_morning(run: Run, target: Workshop) -> None:
    """Look at everything, and ask who looked too."""
    run.include(tanks_check)
    run.step("open the valve", target.act, "open")
    said = run.attest("reviewed", "Review the tanks")
    run.step("close the valve", target.act, "close")
    run.conclude([LEVEL.finding(Verdict.OK, f"reviewed by {said.person}: {said.note}")])


@procedure("tanks-empty", lock="tanks", approval=True, approval_unless="into")
def tanks_empty(run: Run, target: Workshop, *, into: str = "") -> None:
    """Empty the tanks, when a second person agrees; into another tank nobody is asked."""
    if not into:
        run.approve("agreed", "Empty all tanks")
    run.step("empty them", target.act, "empty")
    run.conclude([LEVEL.finding(Verdict.OK, "empty")])


@procedure("tanks-stir")
def tanks_stir(run: Run, target: Workshop) -> None:
    """Stir, and stir again where it did not work."""
    run.step("stir", target.stir, "a")
    run.conclude([LEVEL.finding(Verdict.WARNING, "stirred")])


@conduct(deadline="200 ms")
def stuck() -> None:
    """Never come back in time."""
    time.sleep(5)


@procedure("tanks-stuck", lock="tanks")
def tanks_stuck(run: Run, target: Workshop) -> None:
    """Act for longer than the deadline."""
    run.step("turn the wheel", stuck)
    run.step("after the wheel", target.act, "after")
    run.conclude([LEVEL.finding(Verdict.OK, "turned")])


@procedure("tanks-broken")
def tanks_broken(run: Run, target: Workshop) -> None:
    """End without a conclusion."""
    run.read(levels, target)


def take_lids_back(target: Workshop, run: str) -> list[str]:
    """The lids that a run took off and nobody wants off: its own alone, once."""
    off = target.folder / f"lids-{run}"
    if not off.exists():
        return []
    if (target.folder / "rusty").exists():
        raise Unreachable("the lid does not move")
    off.unlink()
    return ["the lid is on again"]


@conduct(deadline="5 s", idempotent=True)
def lid(target: Workshop, run: str, *, off: bool) -> bool:
    """Take the lid off, noting that nobody wants it off yet; or forget that."""
    noted = target.folder / f"lids-{run}"
    if off:
        noted.touch()
    else:
        noted.unlink(missing_ok=True)
    return off


@procedure("tanks-open", lock="tanks", given_up=take_lids_back)
def tanks_open(run: Run, target: Workshop, *, broken: bool = False) -> None:
    """Take the lid off, and look for a long time whether that was a good idea."""
    run.step("take the lid off", lid, target, run.id, off=True)
    if broken:
        raise ValueError("nobody thought of that")
    run.read(_looking, target)
    run.step("leave it off", lid, target, run.id, off=False)
    run.conclude([LEVEL.finding(Verdict.OK, "it is off, and stays off")])


@conduct(deadline="5 min", idempotent=True)
def _looking(target: Workshop) -> int:
    """Look at it."""
    for look in range(3000):
        tell(0, 0, f"look {look}")
        if (target.folder / "enough").exists():
            return look
        time.sleep(0.1)
    return 3000


@procedure("tanks-day")
def tanks_day(run: Run, target: Workshop) -> None:  # noqa: ARG001 - its part is given it by the run
    """The lid, as a part of something larger."""
    run.include(tanks_open)
    run.conclude([LEVEL.finding(Verdict.OK, "a day")])
