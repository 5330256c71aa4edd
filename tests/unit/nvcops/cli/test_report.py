from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from nvcops.cli.report import report_lines, waiting_lines
from nvcops.core.checks import Finding, Verdict
from nvcops.core.runs import RunRecord, RunState, Section, StepKind, StepRecord

MOMENT = dt.datetime(2026, 11, 23, 13, 0, tzinfo=dt.UTC)
LAG = Finding(
    check="database.lag",
    title="Replication lag",
    subject="db-2",
    verdict=Verdict.CRITICAL,
    observed="2 min",
    limit="< 60 s",
    next_step="scripts/db_diagnostics.py",
)
BACKUPS = Finding(
    check="recovery.backups",
    title="Backups",
    verdict=Verdict.UNKNOWN,
    observed="no backups are configured",
    next_step="set up backups",
    accepted="by omar until 2026-12-31: soon",
)


def run(state: RunState = RunState.CONCLUDED, steps: tuple[StepRecord, ...] = ()) -> RunRecord:
    section = Section(
        procedure="daily-health-check",
        title="Daily health check",
        verdict=Verdict.CRITICAL,
        summary="1 of 2 lines needs you.",
        findings=(LAG, BACKUPS),
    )
    return RunRecord(
        id="daily-health-check@2026-11-23T13:00Z",
        procedure="daily-health-check",
        platform="nvc-bank",
        state=state,
        requested_by="schedule",
        requested=MOMENT,
        verdict=Verdict.CRITICAL,
        sections=(section,),
        findings=section.findings,
        steps=steps,
    )


def text(record: RunRecord) -> str:
    return "\n".join(line for _, line in report_lines(record, ZoneInfo("America/New_York")))


def test_a_report_says_what_was_seen_the_limit_and_the_next_step() -> None:
    assert text(run()).splitlines() == [
        "nvc-bank · daily-health-check · 2026-11-23 08:00:00 EST · ✗ CRITICAL",
        "",
        "daily-health-check: ✗ CRITICAL",
        "  ✗ CRITICAL  Replication lag (db-2)  2 min                      limit < 60 s",
        "              next: scripts/db_diagnostics.py",
        "  ? UNKNOWN   Backups                 no backups are configured",
        "              accepted: by omar until 2026-12-31: soon",
        "  1 of 2 lines needs you.",
        "Accepted as it is: Backups, UNKNOWN (no backups are configured), by omar until 2026-12-31: soon",
    ]


def test_an_accepted_line_keeps_its_verdict() -> None:
    assert "? UNKNOWN   Backups" in text(run())


def test_a_waiting_run_says_what_to_type() -> None:
    asked = StepRecord(
        number=3, name="alerts-reviewed", title="Security alerts reviewed", kind=StepKind.ATTEST, state=RunState.WAITING
    )
    lost = StepRecord(
        number=4,
        name="vacuum",
        title="vacuum entries",
        kind=StepKind.ACT,
        state=RunState.WAITING,
        error="the outcome of vacuum is unknown",
    )
    record = run(RunState.WAITING, (asked, lost))
    said = list(waiting_lines(record, " --target p.toml"))
    assert f'  nvcops attest {record.id} alerts-reviewed --note "..." --as NAME --target p.toml' in said
    assert any(line.strip().startswith(f"nvcops resume {record.id} --done vacuum --target p.toml") for line in said)
