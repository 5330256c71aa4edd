"""What nvcops says of itself: missed and bad runs, silent instances, messages that reached nobody."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from nvcops.alerts.own import beats_said, runs_said, trouble_of, undeliverable
from nvcops.core.alerts import Category
from nvcops.core.checks import Verdict
from nvcops.core.oncall import Beat, Message
from nvcops.core.runs import RunRecord, RunState
from nvcops.core.schedule import Due, Standing

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
MISSED = Due("database-backup", NOON, Standing.MISSED)


def run(verdict: Verdict | None = Verdict.OK, *, due: bool = True, hours: int = 1, **fields: Any) -> RunRecord:
    started = NOON + hours * HOUR
    known: dict[str, Any] = {
        "id": f"database-backup@{hours}",
        "procedure": "database-backup",
        "platform": "bank",
        "state": RunState.CONCLUDED,
        "requested_by": "schedule",
        "requested": started,
        "started": started,
        "ended": started + HOUR,
        "due": started if due else None,
        "verdict": verdict,
    }
    return RunRecord(**{**known, **fields})


@pytest.mark.parametrize(
    ("record", "category"),
    [
        (run(Verdict.OK), None),
        (run(Verdict.WARNING), Category.LOW),
        (run(Verdict.CRITICAL), Category.HIGH),
        (run(Verdict.UNKNOWN), Category.MEDIUM),
        (run(None, state=RunState.FAILED, error="the disk is full"), Category.HIGH),
        (run(Verdict.CRITICAL, due=False), None),
    ],
)
def test_the_end_of_a_run_has_its_category(record: RunRecord, category: Category | None) -> None:
    trouble = trouble_of(record)
    assert (trouble[0] if trouble else None) is category


def test_what_was_missed_is_said_until_it_ran() -> None:
    (said,) = runs_said([MISSED], [], NOON + HOUR)
    assert (said.labels["alertname"], said.labels["procedure"]) == ("ProcedureMissed", "database-backup")
    assert runs_said([MISSED], [run(due=False)], NOON + 2 * HOUR) == []
    assert runs_said([MISSED], [run(hours=-3)], NOON + HOUR) != []


def test_only_the_last_run_of_a_procedure_counts() -> None:
    bad, good = run(Verdict.CRITICAL, hours=1), run(hours=2)
    assert runs_said([], [good, bad], NOON + 3 * HOUR) == []
    (said,) = runs_said([], [run(Verdict.CRITICAL, hours=3), good], NOON + 5 * HOUR)
    assert said.labels["alertname"] == "ProcedureEndedBadly"
    assert runs_said([], [run(Verdict.CRITICAL, dry_run=True), good], NOON + 5 * HOUR) == []


def test_a_run_that_goes_from_bad_to_worse_is_one_alert() -> None:
    (one,), (other,) = (runs_said([], [run(verdict)], NOON) for verdict in (Verdict.WARNING, Verdict.CRITICAL))
    assert one.fingerprint == other.fingerprint


def test_a_silent_instance_is_said_and_one_that_is_heard_again_is_over() -> None:
    beats = [Beat(id="ops-1", host="ops-1", last=NOON), Beat(id="ops-2", host="ops-2", last=NOON)]
    said = beats_said(beats, beats[:1])
    assert [(one.labels["instance"], one.over) for one in said] == [("ops-1", False), ("ops-2", True)]
    assert not said[0].lasts, "of one whose beat is removed nobody would say the end"


def test_a_message_that_reached_nobody_says_whom_and_why_but_no_address() -> None:
    message = Message(
        id="m",
        to="dana",
        channel="0:sms",
        subject="P0 #1",
        body="",
        purpose="page",
        created=NOON,
        due=NOON,
        error="refused",
    )
    said = undeliverable(message)
    assert said.labels["to"] == "dana"
    assert said.annotations == {"summary": "dana could not be told: P0 #1", "error": "refused"}
