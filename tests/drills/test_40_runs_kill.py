"""kill -9 of the process that carries out a run, at every write it makes: resumed, complete, nothing twice or lost."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/runs"))

import platform_file
from runs_fixtures import drive, folder, start_driver

from nvcops.adapters.runs.door import Runs
from nvcops.core.runs import RunRecord, RunState, StepKind

__all__ = ["drive", "folder", "start_driver"]

ACTS = 2
WRITES = 21  # of a run with two acts; test_the_drill_reaches_the_end knows
pytestmark = pytest.mark.drill


def killed_at(folder: Path, drive: Callable[..., dict[str, Any]], writes: list[int]) -> RunRecord:
    """Run, killed at the first of the writes; resume, killed at the next; and so on, until it ends."""
    answer = drive("run", "tanks-fill", f'{{"acts": {ACTS}}}', KILL_AT=str(writes[0]))
    manifest = platform_file.read_manifest(folder)
    for write in [*writes[1:], 0]:
        with platform_file.open_runs(manifest, folder) as runs:
            record = resolved(runs, folder)
        if record is None:
            answer = drive("run", "tanks-fill", f'{{"acts": {ACTS}}}', KILL_AT=str(write))
        elif not record.state.ended:
            answer = drive("resume", record.id, KILL_AT=str(write))
    with platform_file.open_runs(manifest, folder) as runs:
        record = resolved(runs, folder)
        assert record, answer
        return record if record.state.ended else runs.resume(record.id)


def resolved(runs: Runs, folder: Path) -> RunRecord | None:
    """The run; when an act's outcome is unknown, a person looks and says whether it was done, as the runbook asks."""
    if not runs.list():
        return None
    record = runs.show("tanks-fill")
    for step in record.steps:
        if step.state is RunState.WAITING and step.kind is StepKind.ACT:
            number = [s.number for s in record.steps if s.kind is StepKind.ACT].index(step.number)
            done = f"fill-{number}" in acts(folder)
            dana = platform_file.signer(runs.manifest, folder, "dana")
            record = runs.resolve(record.id, step.name, dana, done=done, note="looked")
    return record


def acts(folder: Path) -> list[str]:
    file = folder / "acts"
    return file.read_text().split() if file.exists() else []


def check_complete(folder: Path, record: RunRecord) -> None:
    assert record.state is RunState.CONCLUDED, record.error
    assert acts(folder) == [f"fill-{n}" for n in range(ACTS)], "every act once, in order"
    left = [entry for entry in platform_file.evidence(folder) if entry.run == record.id]
    kinds = Counter((entry.kind, entry.subject) for entry in left)
    for step in record.steps:
        assert kinds["step.started", step.name] == 1
        assert kinds["verdict" if step.kind is StepKind.CONCLUDE else "step.finished", step.name] <= 1
    assert sum(n for (kind, _), n in kinds.items() if kind == "step.finished") == len(record.steps) - 1
    assert kinds["verdict", "tanks-fill"] == kinds["run.requested", ""] == kinds["run.finished", ""] == 1
    assert len({entry.id for entry in left}) == len(left)


@pytest.mark.parametrize(
    "write", [pytest.param(n, marks=pytest.mark.sample if n in (4, 7, 8, 9, 21) else ()) for n in range(1, WRITES + 1)]
)
def test_killed_at_any_write_the_run_is_completed(
    folder: Path, drive: Callable[..., dict[str, Any]], write: int
) -> None:
    check_complete(folder, killed_at(folder, drive, [write]))


@pytest.mark.usefixtures("folder")
def test_the_drill_reaches_the_end(drive: Callable[..., dict[str, Any]]) -> None:
    options = f'{{"acts": {ACTS}}}'
    assert drive("run", "tanks-fill", options, KILL_AT=str(WRITES)) == {}
    assert drive("run", "tanks-fill", options, KILL_AT=str(WRITES + 1))["state"] == "concluded"


@pytest.mark.parametrize("seed", range(6))
def test_killed_again_and_again_the_run_is_completed(
    folder: Path, drive: Callable[..., dict[str, Any]], seed: int
) -> None:
    writes = [random.Random(seed).randint(1, 12) for _ in range(5)]
    print(f"killed at the writes {writes}")
    check_complete(folder, killed_at(folder, drive, writes))
