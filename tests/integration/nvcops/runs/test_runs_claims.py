"""One run at a time under a lock, one worker per run, and no run under other code than it began with."""

from __future__ import annotations

import datetime as dt
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import workshop
from platform_file import evidence, open_runs, read_manifest, signer

from nvcops.adapters.runs.door import Runs
from nvcops.cli.report import waiting_lines
from nvcops.core import procedures
from nvcops.core.errors import LockHeld, RunError
from nvcops.core.procedures import Procedure
from nvcops.core.runs import RunRecord, RunState, StepKind, scheduled_id

Drive = Callable[..., dict[str, Any]]
Start = Callable[..., subprocess.Popen[str]]
PATIENCE_S = 60.0


def until(runs: Runs, reached: Callable[[RunRecord], bool]) -> RunRecord:
    """The only run, once it has got so far."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = runs.list()
        if found and reached(record := runs.show(found[0].id)):
            return record
        time.sleep(0.05)
    raise AssertionError(f"not reached: {runs.list()}")


def test_a_lock_has_one_run_and_the_second_is_told_whose(runs: Runs, folder: Path) -> None:
    dana = signer(runs.manifest, folder, "dana")
    first = runs.start(procedures.find("tanks-empty"), signer=dana)
    assert first.state is RunState.WAITING, "it waits for an approval and keeps the lock"

    with pytest.raises(LockHeld, match=f"is held by the run {first.id}, requested by dana") as held:
        runs.start(procedures.find("tanks-fill"))
    assert held.value.hint == f"wait for it, or `nvcops cancel {first.id}`"
    assert len(runs.list()) == 1
    assert [entry.body["error"] for entry in evidence(folder) if entry.kind == "refusal"] == ["LockHeld"]
    assert runs.start(procedures.find("tanks-fill"), dry_run=True).state is RunState.CONCLUDED, (
        "a dry run needs no lock"
    )

    runs.cancel(first.id, dana)
    assert runs.start(procedures.find("tanks-fill")).state is RunState.CONCLUDED


def test_two_processes_that_begin_at_once_do_not_share_a_lock(start_driver: Start) -> None:
    options = '{"acts": 2, "slow_s": 0.5}'
    both = [start_driver("run", "tanks-fill", options) for _ in range(2)]
    answers = [process.communicate(timeout=PATIENCE_S)[0] for process in both]
    assert sorted("LockHeld" in answer for answer in answers) == [False, True]
    assert sorted('"concluded"' in answer for answer in answers) == [False, True]


def test_a_waiting_run_is_cancelled_at_once(runs: Runs, folder: Path) -> None:
    run = runs.start(procedures.find("tanks-morning")).id
    record = runs.cancel(run, "user:ann")
    assert (record.state, record.error) == (RunState.CANCELLED, "cancelled by user:ann")
    with pytest.raises(RunError, match="has ended: cancelled"):
        runs.resume(run)
    with pytest.raises(RunError, match="has ended: cancelled"):
        runs.cancel(run, "user:ann")
    assert [entry.kind for entry in evidence(folder)][-2:] == ["run.cancellation", "run.finished"]


def test_a_cancelled_run_asks_nobody_for_anything_any_more(runs: Runs, folder: Path) -> None:
    run = runs.start(procedures.find("tanks-morning")).id
    record = runs.cancel(run, "user:ann")
    assert list(waiting_lines(record, "")) == []
    with pytest.raises(RunError, match="has ended: cancelled"):
        runs.attest(run, "reviewed", signer(runs.manifest, folder, "dana"), note="seen")
    assert "attestation" not in [entry.kind for entry in evidence(folder)]


def test_a_due_run_is_cancelled_while_another_holds_its_lock(runs: Runs, folder: Path) -> None:
    holder = runs.start(procedures.find("tanks-empty"), signer=signer(runs.manifest, folder, "dana"))
    due = dt.datetime(2026, 11, 23, 13, tzinfo=dt.UTC)
    assert runs.enqueue(procedures.find("tanks-fill"), due)
    record = runs.cancel(scheduled_id("tanks-fill", due), "user:ann")
    assert record.state is RunState.CANCELLED
    with pytest.raises(LockHeld, match=holder.id):
        runs.start(procedures.find("tanks-fill"))


def test_a_run_under_way_is_cancelled_at_its_next_step(runs: Runs, folder: Path, start_driver: Start) -> None:
    process = start_driver("run", "tanks-fill", '{"acts": 50, "slow_s": 0.2}')
    under_way = until(runs, lambda run: len(run.steps) > 3)
    assert runs.cancel(under_way.id, "user:ann").state in (RunState.RUNNING, RunState.CANCELLED)
    assert '"cancelled"' in process.communicate(timeout=PATIENCE_S)[0]
    record = runs.show(under_way.id)
    assert (record.state, record.worker) == (RunState.CANCELLED, "")
    assert len((folder / "acts").read_text().split()) < 50


def test_a_live_worker_keeps_its_run(runs: Runs, start_driver: Start) -> None:
    start_driver("run", "tanks-fill", '{"acts": 50, "slow_s": 0.2}')
    under_way = until(runs, lambda run: len(run.steps) > 1)
    assert not runs.abandoned()
    with pytest.raises(RunError, match="is being carried out by cli-"):
        runs.resume(under_way.id)


def test_two_processes_resume_a_run_and_one_does(drive: Drive, folder: Path, start_driver: Start) -> None:
    options = '{"acts": 4, "slow_s": 0.2}'
    assert drive("run", "tanks-fill", options, KILL_AT="3") == {}
    with open_runs(read_manifest(folder), folder) as runs:
        (left,) = runs.abandoned()
        both = [start_driver("resume", left.run.id) for _ in range(2)]
        answers = [process.communicate(timeout=PATIENCE_S)[0] for process in both]
        assert sorted('"concluded"' in answer for answer in answers) == [False, True], answers
        assert runs.show(left.run.id).state is RunState.CONCLUDED
        assert not runs.abandoned()
    assert (folder / "acts").read_text().split() == [f"fill-{n}" for n in range(4)]


@pytest.mark.parametrize("changed", ["tanks-morning", "tanks-check"])
def test_a_run_does_not_go_on_under_other_code(
    runs: Runs, folder: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    run = runs.start(procedures.find("tanks-morning")).id
    original = Procedure.content_hash.fget  # type: ignore[attr-defined]
    other = property(lambda self: "other" if self.name == changed else original(self))
    monkeypatch.setattr(Procedure, "content_hash", other)

    with pytest.raises(RunError, match=f"{changed} was changed since {run} began"):
        runs.attest(run, "reviewed", signer(runs.manifest, folder, "dana"), note="seen")

    assert runs.show(run).state is RunState.ENQUEUED
    assert (folder / "acts").read_text().split() == ["open"]
    monkeypatch.undo()
    assert runs.resume(run).state is RunState.CONCLUDED


def test_ctrl_c_puts_a_run_down_at_its_next_step(runs: Runs, folder: Path) -> None:
    def stop_after_two(_step: object) -> None:
        if len(workshop.Workshop(folder).acts()) == 2:
            runs.stop()

    thread = threading.Thread(target=lambda: runs.start(procedures.find("tanks-fill"), on_event=stop_after_two))
    thread.start()
    thread.join(PATIENCE_S)
    with open_runs(read_manifest(folder), folder) as later:
        (record,) = later.list()
        assert record.state is RunState.ENQUEUED
        runs.close()
        assert later.resume(record.id).state is RunState.CONCLUDED
    assert workshop.Workshop(folder).acts() == ["fill-0", "fill-1", "fill-2"]


def test_whoever_follows_a_run_goes_on_with_it_when_its_worker_dies(
    runs: Runs, folder: Path, start_driver: Start
) -> None:
    process = start_driver("run", "tanks-fill", '{"acts": 20, "slow_s": 0.3}')
    under_way = until(runs, lambda run: len(run.steps) > 1)
    followed: list[RunRecord] = []
    thread = threading.Thread(target=lambda: followed.append(runs.follow(under_way.id, seconds=PATIENCE_S)))
    thread.start()
    until(runs, lambda run: StepKind.ACT in [step.kind for step in run.steps if step.ended])
    process.kill()
    thread.join(PATIENCE_S)
    (record,) = followed
    assert record.state in (RunState.CONCLUDED, RunState.WAITING), "or it was killed in the middle of an act"
    assert len((folder / "acts").read_text().split()) == len({*(folder / "acts").read_text().split()})
