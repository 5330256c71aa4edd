"""Going through a procedure in a world in memory, as the engine does; and what must hold at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rollout_world import MAIN, NOW, SPARE, World, target_of

from nvcops.adapters.runs import journal as journal_format
from nvcops.adapters.runs.conduct import ConductedRun, Conducting
from nvcops.core.checks import Finding
from nvcops.core.procedures import Procedure
from nvcops.core.rollouts import Rollout
from nvcops.core.runs import RunRecord, RunState, Section, Signed, StepRecord


class Journal:
    """The twin of a run's journal; it outlives who wrote it."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[str, str]] = {}
        self.sections: list[Section] = []

    def once(self, step: StepRecord, body: Callable[[], str], *, repeatable: bool) -> str:
        if step.number not in self.kept:
            assert repeatable, f"{step.title} could not be begun again"
            self.kept[step.number] = (step.title, body())
        title, outcome = self.kept[step.number]
        assert title == step.title, "a resumed run takes another way"
        return outcome

    def person(self, step: StepRecord) -> str:
        return self.once(step, lambda: journal_format.returned(Signed("omar", "yes", NOW)), repeatable=True)

    def conclude(self, _step: StepRecord, section: Section) -> None:
        self.sections.append(section)


def carry(
    here: World, procedure: Procedure, journal: Journal, *, dry_run: bool = False, **options: Any
) -> Section | None:
    """Go through a procedure as the engine does; its conclusion. Raises Killed where the deployer died."""
    arguments = procedure.arguments(options)
    record = RunRecord(
        id=f"{procedure.name}@1",
        procedure=procedure.name,
        platform="test",
        state=RunState.RUNNING,
        requested_by="dana",
        requested=NOW,
        started=NOW,
        dry_run=dry_run,
        options=arguments,
    )
    target = target_of(here)
    conducting = Conducting(record, target, journal, [], NOW.date(), threading.Event())
    procedure.function(ConductedRun(conducting, procedure, arguments), target, **arguments)
    return journal.sections[-1]


def rollout(here: World, run: str = "deploy@1") -> Rollout:
    with here.records.reading() as reading:
        found = reading.get(Rollout, run)
    assert found is not None
    return found


def line(section: Section, check: str) -> Finding:
    return next(one for one in section.findings if one.check == check)


def one_release_serves(here: World) -> str:
    """The invariant: all traffic goes to exactly one release, and it runs and is ready in every slot that is served."""
    serving = {name: one for name, one in here.slots.items() if one.weight}
    assert serving, "traffic goes to nobody"
    assert all(here.ready(one) for one in serving.values()), f"traffic goes where nobody is ready: {serving}"
    digests = {one.digest for one in serving.values()}
    assert len(digests) == 1, f"traffic goes to two releases: {serving}"
    return digests.pop()


def everywhere(here: World) -> str:
    """And every main slot runs it, no spare slot is served."""
    digest = one_release_serves(here)
    for name in MAIN:
        assert here.slots[name].digest == digest
        assert here.slots[name].weight
        assert here.ready(here.slots[name])
    assert not any(here.slots[name].weight for name in SPARE)
    return digest
