"""kill -9 of `serve` at random moments while it works through a queue: the next one takes up what was left."""

from __future__ import annotations

import datetime as dt
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/runs"))

import platform_file
from runs_fixtures import folder, only_the_tanks, runs, start_driver

from nvcops.adapters.runs.door import Runs
from nvcops.core import procedures
from nvcops.core.runs import RunState, StepKind

__all__ = ["folder", "only_the_tanks", "runs", "start_driver"]

RUNS = 5
KILLS = 6
PATIENCE_S = 150.0
EIGHT = dt.datetime(2026, 11, 23, 13, tzinfo=dt.UTC)


def answer_what_is_unknown(runs: Runs, folder: Path) -> None:
    """A person counts the acts and so knows whether the unknown one was done: under a lock there is only one."""
    for listed in runs.list([RunState.WAITING]):
        record = runs.show(listed.id)
        known = sum(
            step.kind is StepKind.ACT and step.state is RunState.CONCLUDED
            for run in runs.list()
            for step in runs.show(run.id).steps
        )
        file = folder / "acts"
        done = len(file.read_text().split()) > known if file.exists() else False
        unknown = next(step for step in record.steps if step.state is RunState.WAITING)
        dana = platform_file.signer(runs.manifest, folder, "dana")
        runs.resolve(record.id, unknown.name, dana, done=done, note="counted")


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(3))
def test_the_next_worker_takes_up_what_was_left(
    runs: Runs, folder: Path, start_driver: Callable[..., subprocess.Popen[str]], seed: int
) -> None:
    chance = random.Random(seed)
    for number in range(RUNS):
        runs.enqueue(procedures.find("tanks-fill"), EIGHT + dt.timedelta(days=number))
    for _ in range(KILLS):
        serving = start_driver("serve")
        time.sleep(chance.uniform(1.0, 4.0))
        serving.kill()
        serving.wait(timeout=20)
    start_driver("serve")
    end = time.monotonic() + PATIENCE_S
    while not all(run.state.ended for run in runs.list()):
        assert time.monotonic() < end, [runs.show(run.id) for run in runs.list() if not run.state.ended]
        answer_what_is_unknown(runs, folder)
        time.sleep(0.5)

    assert {run.state for run in runs.list()} == {RunState.CONCLUDED}
    assert Counter((folder / "acts").read_text().split()) == {f"fill-{n}": RUNS for n in range(3)}
    runs.drain()
    left = Counter((entry.run, entry.kind, entry.subject) for entry in platform_file.evidence(folder))
    for run in runs.list():
        assert left[run.id, "run.finished", ""] == 1
        for step in runs.show(run.id).steps:
            assert left[run.id, "step.started", step.name] == 1
            assert step.kind is StepKind.CONCLUDE or left[run.id, "step.finished", step.name] == 1
