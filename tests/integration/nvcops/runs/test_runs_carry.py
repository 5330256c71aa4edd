"""A run from its beginning to its end in one process."""

from __future__ import annotations

import datetime as dt
import functools
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from platform_file import evidence, open_runs, read_manifest, write_platform
from workshop import Workshop

from nvcops.adapters.evidence.log import EvidenceLog, open_log
from nvcops.adapters.metrics.store import MetricsStore
from nvcops.adapters.runs.door import Runs
from nvcops.adapters.runs.serve import Server
from nvcops.core import procedures
from nvcops.core.checks import Verdict
from nvcops.core.errors import ManifestError, RunError, StateError, UsageError
from nvcops.core.evidence import Redactor
from nvcops.core.runs import RunState, StepKind, StepRecord, scheduled_id
from nvcops.core.target import Target

EIGHT = dt.datetime(2026, 11, 23, 13, tzinfo=dt.UTC)


def test_acts_are_done_in_order_and_the_verdict_is_the_findings(runs: Runs, folder: Path) -> None:
    seen: list[StepRecord] = []
    record = runs.start(
        procedures.find("tanks-fill"), options={"acts": 2}, requested_by="user:ann", on_event=seen.append
    )

    assert (folder / "acts").read_text().split() == ["fill-0", "fill-1"]
    assert (record.state, record.verdict, record.exit_code) == (RunState.CONCLUDED, Verdict.OK, 0)
    assert [step.name for step in record.steps] == ["levels", "act", "levels-2", "act-2", "acts", "conclude"]
    assert record.steps[1].title == "fill tank 0 (was 1)"
    assert record.steps[1].result == 1
    assert {step.state for step in record.steps} == {RunState.CONCLUDED}
    assert [step.number for step in seen if step.state is RunState.CONCLUDED] == [1, 2, 3, 4, 5, 6]
    assert runs.show(record.id) == record
    assert [run.id for run in runs.list()] == [record.id]


def test_every_step_leaves_one_beginning_and_one_end_in_the_evidence(runs: Runs, folder: Path) -> None:
    record = runs.start(procedures.find("tanks-fill"), options={"acts": 1}, requested_by="user:ann")
    left = [(entry.kind, entry.subject) for entry in evidence(folder) if entry.run == record.id]
    assert left == [
        ("run.requested", ""),
        ("run.started", ""),
        *[(f"step.{what}", name) for name in ("levels", "act", "acts") for what in ("started", "finished")],
        ("step.started", "conclude"),
        ("verdict", "tanks-fill"),
        ("run.finished", ""),
    ]


def test_a_dry_run_reads_for_real_and_acts_on_nothing(runs: Runs, folder: Path) -> None:
    record = runs.start(procedures.find("tanks-morning"), dry_run=True)
    assert not (folder / "acts").exists()
    assert record.state is RunState.CONCLUDED
    assert [step.title for step in record.steps if step.kind is StepKind.ACT] == [
        "would open the valve",
        "would close the valve",
    ]
    assert record.sections[0].findings[0].observed == "1 of 9"


def test_an_included_procedure_is_a_section_with_its_own_steps(runs: Runs) -> None:
    record = runs.start(procedures.find("tanks-morning"))
    assert record.state is RunState.WAITING
    assert [step.name for step in record.steps] == [
        "tanks-check",
        "tanks-check/levels",
        "tanks-check/conclude",
        "act",
        "reviewed",
    ]
    assert [(section.procedure, section.summary) for section in record.sections] == [
        ("tanks-check", "the tanks are well")
    ]


def test_a_section_that_cannot_conclude_is_unknown_and_the_rest_goes_on(runs: Runs, folder: Path) -> None:
    (folder / "dry").touch()
    record = runs.start(procedures.find("tanks-morning"))
    assert record.state is RunState.WAITING
    (finding,) = record.findings
    assert (finding.check, finding.verdict, finding.observed) == (
        "tanks-check.concluded",
        Verdict.UNKNOWN,
        "no tank answers",
    )


def test_an_unreachable_target_fails_the_run_that_does_not_expect_it(runs: Runs, folder: Path) -> None:
    (folder / "dry").touch()
    record = runs.start(procedures.find("tanks-check"))
    assert (record.state, record.error, record.exit_code) == (RunState.FAILED, "no tank answers", 3)
    assert record.steps[0].error == "no tank answers"


def test_a_procedure_that_ends_without_a_conclusion_fails(runs: Runs) -> None:
    record = runs.start(procedures.find("tanks-broken"))
    assert (record.state, record.error) == (
        RunState.FAILED,
        "tanks-broken ended without a conclusion (conclude() is its last beat)",
    )


def test_an_idempotent_act_is_tried_again(runs: Runs, folder: Path) -> None:
    record = runs.start(procedures.find("tanks-stir"))
    assert (record.state, record.verdict) == (RunState.CONCLUDED, Verdict.WARNING)
    assert (folder / "acts").read_text().split() == ["stir-a", "stir-a"]


def test_an_act_beyond_its_deadline_waits_for_a_person_with_its_outcome_unknown(runs: Runs, folder: Path) -> None:
    record = runs.start(procedures.find("tanks-stuck"))
    assert record.state is RunState.WAITING
    assert record.steps[-1].error == (
        "the outcome of stuck is unknown: it did not end within 200 ms: it may be done, half done or not done"
    )
    assert not (folder / "acts").exists()


def test_what_somebody_accepted_does_not_decide_until_its_date(tmp_path: Path) -> None:
    for until, verdict in (("2999-01-01", Verdict.OK), ("2000-01-01", Verdict.WARNING)):
        folder = tmp_path / until
        folder.mkdir()
        more = f'[[exceptions]]\ncheck = "workshop.level"\nreason = "new tanks"\nowner = "omar"\nuntil = {until}'
        write_platform(folder, more)
        with open_runs(read_manifest(folder), folder) as runs:
            record = runs.start(procedures.find("tanks-stir"))
        assert record.verdict is verdict
        assert record.findings[0].verdict is Verdict.WARNING


def test_a_due_moment_has_one_run(runs: Runs) -> None:
    record = runs.start(procedures.find("tanks-check"), due=EIGHT)
    assert record.id == "tanks-check@2026-11-23T13:00Z"
    with pytest.raises(RunError, match="has its run already"):
        runs.start(procedures.find("tanks-check"), due=EIGHT)
    assert not runs.enqueue(procedures.find("tanks-check"), EIGHT)


def test_an_option_of_the_wrong_type_is_refused_before_anything_is_recorded(runs: Runs) -> None:
    with pytest.raises(UsageError):
        runs.start(procedures.find("tanks-check"), options={"tank": "x"})
    assert not runs.list()


def test_a_run_is_found_by_an_unambiguous_beginning_of_its_id(runs: Runs) -> None:
    record = runs.start(procedures.find("tanks-check"))
    assert runs.show(record.id[:-1]).id == record.id


def test_an_entry_that_the_log_refuses_is_withheld_and_said(folder: Path) -> None:
    """What a tank says may hold a secret: it does not get into the log, and does not keep the rest out of it."""
    manifest = read_manifest(folder)
    redactor = Redactor(["fill tank 1"])
    origin = manifest.evidence.origin

    def log() -> EvidenceLog:
        return open_log(manifest.platform.state, origin=origin, redactor=redactor)

    with Runs(manifest, lambda: Workshop(folder), log, notify=lambda _: None) as runs:  # type: ignore[arg-type,return-value]
        record = runs.start(procedures.find("tanks-fill"), options={"acts": 3})
    left = evidence(folder)
    assert record.state is RunState.CONCLUDED
    assert [entry.kind for entry in left].count("entry.withheld") == 2
    assert "fill tank 1" not in str(left)
    assert left[-1].kind == "run.finished"


def test_a_platform_that_cannot_even_be_connected_to_ends_the_run_with_a_sentence(folder: Path) -> None:
    def broken() -> Target:
        raise ManifestError("the password file is gone", hint="put it back")

    manifest = read_manifest(folder)
    origin = manifest.evidence.origin
    log = functools.partial(open_log, manifest.platform.state, origin=origin)
    with Runs(manifest, broken, log, notify=lambda _: None) as runs:
        record = runs.start(procedures.find("tanks-check"))
        assert (record.state, record.error, record.exit_code) == (
            RunState.FAILED,
            "the password file is gone (put it back)",
            3,
        )
        assert not runs.abandoned()


def test_the_files_of_the_state_folder_are_for_their_owner_only(folder: Path) -> None:
    state = folder / "state"
    state.mkdir(mode=0o755)
    with open_runs(read_manifest(folder), folder) as runs:
        runs.start(procedures.find("tanks-check"))
        MetricsStore(state / "metrics.sqlite", 60, 60).record(EIGHT, [], 1)
        found = {file.name: file.stat().st_mode & 0o077 for file in state.rglob("*")}
    assert {"ops.sqlite", "ops.sqlite-wal", "runs.sqlite", "metrics.sqlite", "log.key"} <= set(found)
    assert set(found.values()) == {0}, found


def fail_once(monkeypatch: pytest.MonkeyPatch, runs: Runs) -> None:
    """The disk is full just when the next run's end is to be recorded."""
    finish = runs.store.finish

    def full(*_: object) -> bool:
        monkeypatch.setattr(runs.store, "finish", finish)
        raise StateError("the disk is full")

    monkeypatch.setattr(runs.store, "finish", full)


def test_an_end_that_could_not_be_recorded_is_recorded_when_the_run_is_resumed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with open_runs(read_manifest(folder), folder, notify=said.append) as runs:
        fail_once(monkeypatch, runs)
        left = runs.start(procedures.find("tanks-fill"))
        assert left.state is RunState.RUNNING
        assert said == [f"the disk is full: the end of {left.id} is recorded when it is resumed"]
    with open_runs(read_manifest(folder), folder) as runs:
        assert runs.resume(left.id).state is RunState.CONCLUDED
    assert (folder / "acts").read_text().split() == ["fill-0", "fill-1", "fill-2"]


def test_a_server_takes_back_what_it_could_not_put_down(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_runs(read_manifest(folder), folder, kind="serve") as runs:
        fail_once(monkeypatch, runs)
        runs.tick(EIGHT - dt.timedelta(minutes=1))
        (due,) = runs.tick(EIGHT).enqueued
        stop = threading.Event()
        worker = threading.Thread(target=Server(runs).work, args=(stop,))
        worker.start()
        end = time.monotonic() + 60
        while not (record := runs.show(scheduled_id(due.procedure, due.due))).state.ended and time.monotonic() < end:
            time.sleep(0.1)
        stop.set()
        worker.join(60)
    assert record.state is RunState.CONCLUDED


def test_a_run_that_only_the_journal_takes_for_over_is_left_to_a_person(folder: Path) -> None:
    with open_runs(read_manifest(folder), folder) as runs:
        run = runs.start(procedures.find("tanks-check")).id
    with sqlite3.connect(folder / "state" / "ops.sqlite") as records:
        records.execute("UPDATE runs SET state = 'running', ended = NULL, worker = 'gone' WHERE id = ?", (run,))
    records.close()
    with open_runs(read_manifest(folder), folder) as runs:
        with pytest.raises(RunError, match=f"says that {run} is over, and the records do not"):
            runs.resume(run)
        assert runs.show(run).state is RunState.WAITING
        assert runs.cancel(run, "user:ann").state is RunState.CANCELLED
