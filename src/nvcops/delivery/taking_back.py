"""Taking a release back: its traffic first, then every slot; read back, and written down at its end only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NvcopsError, StepFailed
from nvcops.core.rollouts import Phase, Rollout
from nvcops.core.target import Target
from nvcops.delivery.rollout import Doing, at_goal, reach, split, stop, traffic_finding
from nvcops.delivery.standing import ROLLBACK, finished, records_of, standing, written
from nvcops.delivery.strategies import Goal, Split

P = ParamSpec("P")
T = TypeVar("T")


class Carrying(Doing, Protocol):
    """As much of a run as taking back takes."""

    @property
    def id(self) -> str:
        """The rollout's id."""


TROUBLE = Check(
    "delivery.taken_back", "Taken back", "`nvcops release status`; scripts/restore_application.sh --version V"
)


def taken_back(run: Carrying, target: Target, new: str, old: str, why: str) -> list[Finding]:
    """All traffic to the release before, then every slot: the lines that were read again, and what went wrong."""
    if not old:
        return _nothing_before(run, target, new, why)
    troubles = tried(run, f"take all traffic from release {new[:8]}", split, target, Split.ALL, old, new, 0)
    fields: dict[str, Any] = {"phase": Phase.ROLLING_BACK, "weight": 0, "why": why}
    troubles += tried(run, "write down that it is taken back", written, target, run.id, fields)
    goal = Goal(serve=old, leave=new, urgent=True)
    reached = reach(run, target, goal)
    after = at_goal(reached.seen, goal)
    bad = [line.observed for line in after if line.verdict is not Verdict.OK]
    stays = traffic_finding(reached.seen, new).verdict is Verdict.OK  # the release before could be started nowhere
    phase, said = (Phase.HEALTHY if stays else Phase.ROLLED_BACK), "; ".join([why, *bad])
    troubles += tried(run, "write down who serves", finished, target, run.id, phase, said, 0.0)
    return [*after, *_trouble_lines([*troubles, *reached.troubles])]


def _held_to(run: Carrying, target: Target, new: str, old: str, why: str) -> list[Finding]:
    """The version that somebody had to put back serves, where it can: never again the one that they got rid of."""
    goal = Goal(serve=new, leave=old if old != new else "", urgent=True)
    reached = reach(run, target, goal)
    after = at_goal(reached.seen, goal)
    serves = traffic_finding(reached.seen, new).verdict is Verdict.OK
    said = "; ".join([why, *(line.observed for line in after if line.verdict is not Verdict.OK)])
    phase = Phase.HEALTHY if serves else Phase.ROLLED_BACK
    troubles = tried(run, "write down who serves", finished, target, run.id, phase, said, 0.0)
    return [*after, *_trouble_lines([*troubles, *reached.troubles])]


def _nothing_before(run: Carrying, target: Target, new: str, why: str) -> list[Finding]:
    """The first release of all: there is nothing to go back to, so it is stopped where it serves nobody."""
    troubles: list[str] = []
    for one in (seen for seen in run.read(standing, target).slots if seen.running and not seen.serves):
        troubles += tried(run, f"stop {one.slot}", stop, target, one.slot)
    said = f"{why}; nothing ran before release {new[:8]}"
    troubles += tried(run, "write down how it ended", finished, target, run.id, Phase.ROLLED_BACK, said, 0.0)
    return [
        TROUBLE.finding(Verdict.CRITICAL, "nothing ran before: there is nothing to go back to"),
        *_trouble_lines(troubles),
    ]


def tried(run: Doing, title: str, act: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> list[str]:
    """An act without which the others go on all the same; what it said when it failed."""
    try:
        run.step(title, act, *args, **kwargs)
    except StepFailed as error:
        return [error.sentence]
    return []


def _trouble_lines(troubles: list[str]) -> list[Finding]:
    """What went wrong on the way back: it counts as a warning, since what stands now was read."""
    return [TROUBLE.finding(Verdict.WARNING, said) for said in dict.fromkeys(troubles)]


class AtOnce:
    """A run without a journal: where the run itself is over, and its release must not stay half rolled out."""

    def __init__(self, run: str) -> None:
        self._run = run

    @property
    def id(self) -> str:
        """The rollout's id."""
        return self._run

    def read(self, fact: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See core.runs.Run."""
        return fact(*args, **kwargs)

    def step(self, title: str, act: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See core.runs.Run."""
        try:
            return act(*args, **kwargs)
        except NvcopsError as error:
            raise StepFailed(f"{title}: {error.sentence}") from error


def given_up(target: Target, run: str) -> list[str]:
    """What a run that was cancelled, or failed, left half rolled out: what became of it, in sentences.

    A deployment is taken back. A version that somebody put back into service stays: what it replaced was bad.
    """
    with records_of(target).reading() as reading:
        rollout = reading.get(Rollout, run)
    if rollout is None or rollout.phase.ended:
        return []
    back = _held_to if rollout.strategy == ROLLBACK else taken_back
    lines = back(AtOnce(run), target, rollout.new, rollout.old, "its run was given up")
    return [f"{line.title} {line.subject}: {line.observed}".replace(" :", ":") for line in lines]
