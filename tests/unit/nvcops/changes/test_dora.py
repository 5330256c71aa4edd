"""DORA's four figures: what is counted, and that nothing is made up where there are no data."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from changes_world import DAY, HOUR, MINUTE, NOON, change

from nvcops.changes.dora import Dora, dora
from nvcops.core.changes import Change, ChangeKind, ChangeState
from nvcops.core.incidents import Incident, IncidentState, Severity

START = NOON - 28 * DAY


def deployed(number: int, days_ago: float, state: ChangeState = ChangeState.SUCCESSFUL, **fields: Any) -> Change:
    """One that took ten minutes and was out so long ago."""
    done = NOON - days_ago * DAY
    given = {
        "kind": ChangeKind.DEPLOYMENT,
        "state": state,
        "services": ("bank",),
        "began": done - 10 * MINUTE,
        "done": done,
        "ended": done + 30 * MINUTE,
    }
    return change(number, **(given | fields))


def incident(**fields: Any) -> Incident:
    given = {"title": "x", "state": IncidentState.RESOLVED, "severity": Severity.P1, "inferred": Severity.P1}
    return Incident(number=7, source="alerts", began=NOON, detected=NOON, **(given | fields))


def figures(*changes: Change, incidents: tuple[Incident, ...] = ()) -> dict[str, float | None]:
    found = four(*changes, incidents=incidents)
    return {one.name: one.value for one in found.figures}


def four(*changes: Change, incidents: tuple[Incident, ...] = ()) -> Dora:
    return dora(changes, {one.number: one for one in incidents}, START, NOON)


def test_of_nothing_there_are_no_data() -> None:
    found = four()
    assert [one.value for one in found.figures] == [None] * 4
    assert all("no data" in one.said for one in found.figures)
    assert [one.value for one in four(deployed(1, 40), change(2)).figures] == [None] * 4


def test_deployments_a_week_whatever_became_of_them() -> None:
    bad = deployed(3, 5, ChangeState.ROLLED_BACK)
    assert figures(deployed(1, 1), deployed(2, 2), bad, deployed(4, 30))["deployment frequency"] == pytest.approx(0.75)


def test_lead_time_is_the_median_over_commits() -> None:
    out = deployed(1, 1)
    assert out.done is not None
    commits = tuple(out.done - hours * HOUR for hours in (1, 2, 30))
    late = out.done + HOUR  # a clock that is wrong counts as nothing
    value = figures(deployed(1, 1, committed=(*commits, late)))["lead time for changes"]
    assert value == dt.timedelta(hours=2).total_seconds()


def test_the_failure_rate_counts_what_ended() -> None:
    found = [
        deployed(1, 1),
        deployed(2, 2, ChangeState.FAILED),
        deployed(3, 3, ChangeState.ROLLED_BACK),
        deployed(4, 4, incident=7),
        deployed(5, 5, ChangeState.VALIDATING, ended=None),
    ]
    assert figures(*found, incidents=(incident(),))["change failure rate"] == pytest.approx(0.75)
    said = four(*found).figures[2].said
    assert "3 of 4" in said
    assert "95 %" in said


def test_recovery_is_the_rollback_the_incidents_end_or_the_next_deployment() -> None:
    back = deployed(1, 3, ChangeState.ROLLED_BACK)
    back = deployed(1, 3, ChangeState.ROLLED_BACK, ended=(back.began or NOON) + 20 * MINUTE)
    assert figures(back)["failed deployment recovery time"] == 20 * 60
    hurt = deployed(2, 3, incident=7)
    over = incident(mitigated=(hurt.began or NOON) + 40 * MINUTE, resolved=NOON)
    assert figures(hurt, incidents=(over,))["failed deployment recovery time"] == 40 * 60
    failed, mended = deployed(3, 3, ChangeState.FAILED), deployed(4, 2)
    elsewhere = deployed(5, 2.5, services=("cards",))
    assert figures(failed, elsewhere, mended)["failed deployment recovery time"] == (DAY + 10 * MINUTE).total_seconds()


def test_what_is_not_recovered_from_is_said() -> None:
    found = four(deployed(1, 3, ChangeState.FAILED)).figures[3]
    assert found.value is None
    assert found.said == "no data; 1 not recovered from yet"
