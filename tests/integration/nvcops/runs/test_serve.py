"""One worker process: it follows the schedule, takes up what is due, what was answered and what was left."""

from __future__ import annotations

import datetime as dt
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from platform_file import evidence, open_runs, read_manifest, signer, write_platform

from nvcops.adapters.runs.door import Runs
from nvcops.adapters.runs.serve import Server
from nvcops.core import procedures
from nvcops.core.runs import RunRecord, RunState
from nvcops.core.schedule import Standing

Drive = Callable[..., dict[str, Any]]
Start = Callable[..., subprocess.Popen[str]]
PATIENCE_S = 60.0
EIGHT = dt.datetime(2026, 11, 23, 13, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def until(runs: Runs, run: str, *states: RunState) -> RunRecord:
    end = time.monotonic() + PATIENCE_S
    while (record := runs.show(run)).state not in states:
        assert time.monotonic() < end, record
        time.sleep(0.05)
    return record


@pytest.fixture
def serving(start_driver: Start) -> subprocess.Popen[str]:
    process = start_driver("serve")
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_due_procedure_is_enqueued_once_and_carried_out(
    runs: Runs, folder: Path, serving: subprocess.Popen[str]
) -> None:
    assert runs.tick(EIGHT - MINUTE).enqueued == [], "followed from now on"
    (due,) = runs.tick(EIGHT + MINUTE).enqueued
    assert (due.procedure, due.due, due.standing) == ("tanks-check", EIGHT, Standing.DUE)
    assert runs.tick(EIGHT + 2 * MINUTE).enqueued == []
    with open_runs(read_manifest(folder), folder) as other:
        assert other.tick(EIGHT + 3 * MINUTE).enqueued == [], "nor by another process"
    record = until(runs, "tanks-check@2026-11-23T13:00Z", RunState.CONCLUDED)
    assert (record.requested_by, record.due) == ("schedule", EIGHT)
    assert record.verdict is not None
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(timeout=20) == 0


def test_what_was_due_and_did_not_run_is_missed_once(runs: Runs, folder: Path) -> None:
    runs.tick(EIGHT - MINUTE)
    two_days_later = EIGHT + dt.timedelta(days=2, minutes=40)
    missed = runs.tick(two_days_later).missed
    assert [(due.procedure, due.due) for due in missed] == [
        ("tanks-check", EIGHT + dt.timedelta(days=n)) for n in range(3)
    ]
    assert runs.tick(two_days_later + MINUTE).missed == []
    assert not runs.list(), "a person decides whether it is made up for"
    runs.drain()
    assert [entry.id for entry in evidence(folder) if entry.kind == "run.missed"] == [
        f"tanks-check@2026-11-{day}T13:00Z/run.missed" for day in (23, 24, 25)
    ]


def test_what_stays_enqueued_for_too_long_is_missed_and_still_runs_late(runs: Runs) -> None:
    runs.tick(EIGHT - MINUTE)
    runs.tick(EIGHT)
    (missed,) = runs.tick(EIGHT + 31 * MINUTE).missed
    assert missed.due == EIGHT
    assert runs.resume("tanks-check@2026-11-23T13:00Z").state is RunState.CONCLUDED


@pytest.mark.parametrize("same_process", [True, False])
def test_a_clock_that_was_far_ahead_and_is_put_back_stops_no_schedule(
    runs: Runs, folder: Path, same_process: bool
) -> None:
    runs.tick(EIGHT - MINUTE)
    runs.tick(EIGHT + dt.timedelta(days=40))
    with open_runs(read_manifest(folder), folder) as other:
        later = runs if same_process else other
        later.tick(EIGHT + dt.timedelta(days=1) - MINUTE)
        (due,) = later.tick(EIGHT + dt.timedelta(days=1)).enqueued
    assert due.due == EIGHT + dt.timedelta(days=1)


def test_the_due_moments_of_a_day_and_how_they_stand(runs: Runs) -> None:
    moment = dt.datetime.now(dt.UTC)
    assert list(runs.due(moment - dt.timedelta(days=2), moment)) == [], "nobody followed them yet"
    runs.tick(moment - dt.timedelta(days=2))
    runs.start(procedures.find("tanks-check"), due=moment.replace(hour=13, minute=0, second=0, microsecond=0))
    stands = {due.standing for due in runs.due(moment - dt.timedelta(days=2), moment)}
    assert stands <= {Standing.MISSED, Standing.LATE, Standing.BEGUN, Standing.DUE}
    assert stands


def test_another_cadence_begins_anew(folder: Path, runs: Runs) -> None:
    runs.tick(EIGHT - MINUTE)
    write_platform(folder, '[procedures.tanks-check]\nwhen = "daily 07:00"')
    with open_runs(read_manifest(folder), folder) as later:
        assert later.tick(EIGHT + 5 * MINUTE).missed == []
        (due,) = later.tick(EIGHT + dt.timedelta(hours=23)).enqueued
        assert due.due == EIGHT + dt.timedelta(hours=23)


@pytest.mark.usefixtures("serving")
def test_an_answer_lets_the_worker_go_on(runs: Runs, folder: Path) -> None:
    waiting = runs.start(procedures.find("tanks-morning"))
    record = runs.attest(waiting.id, "reviewed", signer(runs.manifest, folder, "dana"), note="seen")
    assert not record.state.ended, "the worker does it"
    assert until(runs, waiting.id, RunState.CONCLUDED).state is RunState.CONCLUDED


def test_the_worker_takes_up_what_a_dead_process_left_and_says_so(
    runs: Runs, folder: Path, drive: Drive, start_driver: Start
) -> None:
    assert drive("run", "tanks-fill", KILL_AT="3") == {}
    (left,) = runs.abandoned()
    start_driver("serve")
    record = until(runs, left.run.id, RunState.CONCLUDED)
    assert record.state is RunState.CONCLUDED
    assert (folder / "acts").read_text().split() == ["fill-0", "fill-1", "fill-2"]
    runs.drain()
    assert [entry.kind for entry in evidence(folder)].count("run.abandoned") == 1


def test_a_run_that_kills_its_workers_is_left_to_a_person(runs: Runs, drive: Drive) -> None:
    assert drive("run", "tanks-fill", KILL_AT="3") == {}
    run = runs.list()[0].id
    for _ in range(3):
        assert drive("resume", run, KILL_AT="1") == {}
    said: list[str] = []
    runs.notify = said.append
    Server(runs)._take_up_abandoned()
    (left,) = runs.abandoned()
    assert left.crashes == 3
    assert runs.show(run).state is RunState.RUNNING
    assert "its worker" in said[0]


def test_sigterm_puts_a_run_down_between_two_steps(runs: Runs, folder: Path, serving: subprocess.Popen[str]) -> None:
    entered = procedures.find("tanks-fill")
    runs.enqueue(entered, EIGHT)
    until(runs, "tanks-fill", RunState.RUNNING, RunState.CONCLUDED)  # it may be done before anybody looks
    began = time.monotonic()
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(timeout=30) == 0
    print(f"stopped after {time.monotonic() - began:.1f} s")
    record = runs.show("tanks-fill")
    assert record.state in (RunState.ENQUEUED, RunState.CONCLUDED)
    assert not runs.abandoned()
    if record.state is RunState.ENQUEUED:
        assert runs.resume(record.id).state is RunState.CONCLUDED
    assert (folder / "acts").read_text().split() == ["fill-0", "fill-1", "fill-2"]


def test_changed_code_is_left_to_a_person_with_a_sentence(runs: Runs) -> None:
    waiting = runs.start(procedures.find("tanks-morning"))
    with runs.store.ops.changing() as change:
        change.execute("UPDATE runs SET state = 'enqueued', content_hash = 'older' WHERE id = ?", (waiting.id,))
    Server(runs)._take_up_enqueued()
    record = runs.show(waiting.id)
    assert record.state is RunState.WAITING
    assert "was changed since" in record.error


def test_jobs_are_repeated_and_one_that_fails_goes_on(folder: Path) -> None:
    called: list[str] = []
    said: list[str] = []

    def fails() -> None:
        called.append("fails")
        raise OSError("no route")

    with open_runs(read_manifest(folder), folder, kind="serve", notify=said.append) as runs:
        stop = threading.Event()
        jobs = [("scrape", 0.05, lambda: called.append("scrape")), ("fails", 0.05, fails)]
        thread = threading.Thread(target=Server(runs, jobs).work, args=(stop,))
        thread.start()
        end = time.monotonic() + PATIENCE_S
        while (called.count("scrape") < 3 or called.count("fails") < 3) and time.monotonic() < end:
            time.sleep(0.02)
        stop.set()
        thread.join(PATIENCE_S)
    assert called.count("scrape") >= 3
    assert called.count("fails") >= 3
    assert "fails: no route" in said


def test_an_idle_worker_costs_next_to_nothing(runs: Runs, serving: subprocess.Popen[str]) -> None:
    process = psutil.Process(serving.pid)
    time.sleep(2)
    before = sum(process.cpu_times()[:2])
    time.sleep(5)
    share = (sum(process.cpu_times()[:2]) - before) / 5
    print(f"an idle worker takes {share:.1%} of a core")
    assert share < 0.05
    assert msgspec.json.encode(list(runs.list())) == b"[]"
