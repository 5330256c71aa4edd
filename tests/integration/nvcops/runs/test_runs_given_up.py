"""What a run was only trying is taken back when it is cancelled or fails, whoever had it; what cannot be is said."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from platform_file import open_runs, read_manifest

from nvcops.adapters.runs.door import Runs
from nvcops.core import procedures
from nvcops.core.runs import RunRecord, RunState


def lids(folder: Path) -> list[Path]:
    return list(folder.glob("lids-*"))


def looking(runs: Runs, procedure: str) -> RunRecord:
    """The run, as soon as it looks whether that was a good idea."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for found in runs.list():
            steps = {step.name for step in runs.show(found.id).steps}
            if found.procedure == procedure and any(name.endswith("looking") for name in steps):
                return runs.show(found.id)
        time.sleep(0.05)
    raise AssertionError("it does not begin to look")


@pytest.mark.parametrize("procedure", ["tanks-open", "tanks-day"])
def test_cancelled_while_it_looks_it_stops_there_and_takes_back(runs: Runs, folder: Path, procedure: str) -> None:
    with open_runs(read_manifest(folder), folder) as others:
        worker = threading.Thread(target=lambda: others.start(procedures.find(procedure)))
        worker.start()
        run = looking(runs, procedure)
        assert lids(folder)
        runs.cancel(run.id, "user:ann")
        worker.join(30)
    ended = runs.show(run.id)
    assert (ended.state, ended.error) == (RunState.CANCELLED, "cancelled by user:ann; the lid is on again")
    assert lids(folder) == []


@pytest.mark.parametrize("rusty", [False, True])
def test_whose_worker_was_killed_is_cancelled_by_who_asks(
    runs: Runs, folder: Path, start_driver: Callable[..., subprocess.Popen[str]], rusty: bool
) -> None:
    worker = start_driver("run", "tanks-open")
    run = looking(runs, "tanks-open")
    worker.kill()
    worker.wait(30)
    if rusty:
        (folder / "rusty").touch()
    ended = runs.cancel(run.id, "user:ann")
    assert ended.state is RunState.CANCELLED
    said = "what it changed may still be in force: the lid does not move" if rusty else "the lid is on again"
    assert ended.error == f"cancelled by user:ann; {said}"
    assert bool(lids(folder)) == rusty
    assert runs.start(procedures.find("tanks-fill")).state is RunState.CONCLUDED, "its lock is free"


def test_whose_worker_is_of_another_host_and_silent_is_cancelled_by_who_asks(
    runs: Runs, folder: Path, start_driver: Callable[..., subprocess.Popen[str]]
) -> None:
    worker = start_driver("run", "tanks-open")
    run = looking(runs, "tanks-open")
    worker.kill()
    worker.wait(30)
    with closing(sqlite3.connect(folder / "state" / "ops.sqlite")) as records, records:
        records.execute("UPDATE workers SET host = 'another', heartbeat = 0")
    assert runs.cancel(run.id, "user:ann").state is RunState.CANCELLED
    assert runs.start(procedures.find("tanks-fill")).state is RunState.CONCLUDED, "its lock is free"


def test_one_that_fails_takes_back_too(runs: Runs, folder: Path) -> None:
    ended = runs.start(procedures.find("tanks-open"), options={"broken": True})
    assert (ended.state, lids(folder)) == (RunState.FAILED, [])
    assert ended.error == "ValueError: nobody thought of that; the lid is on again"


def test_what_was_accepted_stays(runs: Runs, folder: Path) -> None:
    (folder / "enough").touch()
    assert runs.start(procedures.find("tanks-open")).state is RunState.CONCLUDED
    assert lids(folder) == []
