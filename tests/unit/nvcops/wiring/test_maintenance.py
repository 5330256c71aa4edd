"""Whose approved time is left out of the objectives: maintenance that was planned, and no repair of an outage."""

from __future__ import annotations

import datetime as dt

import pytest

from nvcops import wiring
from nvcops.core.procedures import planned, runbook
from nvcops.core.slo import Exclusion

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
assert wiring.ROOMS, "the rooms are what fills the runbook"


def took(procedure: str) -> Exclusion:
    end = NOON + dt.timedelta(minutes=5)
    return Exclusion(start=NOON, end=end, change=f"{procedure}@2026-11-22T12:00Z", approved_by="omar", approved=NOON)


@pytest.mark.parametrize("procedure", ["incident-drill", "optimize-indexes", "cache-flush", "db-optimization"])
def test_maintenance_that_was_approved_is_left_out(procedure: str) -> None:
    assert planned([took(procedure)]) == [took(procedure)]


@pytest.mark.parametrize("procedure", ["disaster-recovery", "restore-database", "fail-over", "no-such-procedure"])
def test_a_repair_that_was_approved_excuses_no_outage(procedure: str) -> None:
    assert planned([took(procedure)]) == []


def test_maintenance_always_asks_for_an_approval() -> None:
    assert all(entry.approval for entry in runbook() if entry.maintenance)
