"""Figures beside their objectives: met at the edge, missed beyond it, unknown of nothing."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nvcops.core.checks import Finding, Verdict
from nvcops.core.manifest import EvidenceEntry, Instance, Manifest, Platform, Series, ServiceEntry
from nvcops.core.target import ScrapeSummary
from nvcops.health.kpi import Figures, kpi_findings

NOW = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
AGE = dt.timedelta(seconds=15)
SERIES = Series(requests="requests_total", latency="seconds", outcomes="payments_total", outcome_title="payments")
BANK = ServiceEntry(
    name="bank",
    url="http://127.0.0.1:1",
    metrics="/metrics",
    series=SERIES,
    instances=(Instance(name="bank-1", url="http://127.0.0.1:1"), Instance(name="bank-2", url="http://127.0.0.1:1")),
)


def figures(**changes: Any) -> Figures:
    scrapes = changes.pop("scrapes", {})
    good = Figures(
        service="bank",
        window_s=86_400,
        scrapes=msgspec.structs.replace(
            ScrapeSummary(1_000, 1_000, 86_400.0, NOW, NOW, {"bank-1": NOW - AGE, "bank-2": NOW - AGE}), **scrapes
        ),
        requests=10_000.0,
        errors=0.0,
        slow_count=10_000.0,
        slow_sum_s=500.0,
        buckets=((0.05, 9_000.0), (0.1, 9_950.0)),
        outcomes={"settled": 90.0, "declined": 10.0},
    )
    return msgspec.structs.replace(good, **changes)


def lines(day: Figures, now: Figures | None = None, service: ServiceEntry = BANK) -> dict[str, Finding]:
    platform = Platform(name="bank", title="Bank", state=Path("state"))
    manifest = Manifest(platform=platform, services=(service,), evidence=EvidenceEntry(origin="example.com/log"))
    found = kpi_findings([day], [now or day], manifest, NOW)
    return {f"{line.check}/{line.subject}": line for line in found}


def test_a_good_day() -> None:
    found = lines(figures())
    assert {line.verdict for line in found.values()} == {Verdict.OK}
    assert found["kpi.response/bank"].observed == "50 ms, p99 97.4 ms, 10,000 requests"
    assert found["kpi.availability/bank"].observed == "100 %, 24 h of 24 h observed, 100 % of the error budget left"
    assert found["kpi.outcomes/bank"].title == "Payments"


@pytest.mark.parametrize(
    ("changes", "line", "verdict"),
    [
        ({"scrapes": {"ready": 999}}, "kpi.availability/bank", "OK"),
        ({"scrapes": {"ready": 998}}, "kpi.availability/bank", "CRITICAL"),
        ({"scrapes": {"asked": 0, "ready": 0}}, "kpi.availability/bank", "UNKNOWN"),
        ({"slow_sum_s": 1_999.9}, "kpi.response/bank", "OK"),
        ({"slow_sum_s": 2_000.0}, "kpi.response/bank", "CRITICAL"),
        ({"slow_count": 19.0}, "kpi.response/bank", "UNKNOWN"),
        ({"errors": 9.0}, "kpi.errors/bank", "OK"),
        ({"errors": 10.0}, "kpi.errors/bank", "CRITICAL"),
        ({"requests": 19.0}, "kpi.errors/bank", "UNKNOWN"),
        ({"requests": None}, "kpi.errors/bank", "UNKNOWN"),
        ({"outcomes": {}}, "kpi.outcomes/bank", "UNKNOWN"),
    ],
)
def test_of_the_day(changes: dict[str, Any], line: str, verdict: str) -> None:
    assert lines(figures(**changes), now=figures())[line].verdict.name == verdict


@pytest.mark.parametrize(
    ("changes", "line", "verdict"),
    [
        ({"slow_sum_s": 2_000.0}, "kpi.response_now/bank", "WARNING"),
        ({"slow_sum_s": 4_000.0}, "kpi.response_now/bank", "CRITICAL"),
        ({"errors": 9.0}, "kpi.errors_now/bank", "OK"),
        ({"errors": 10.0}, "kpi.errors_now/bank", "WARNING"),
        ({"errors": 100.0}, "kpi.errors_now/bank", "CRITICAL"),
        ({"requests": 19.0}, "kpi.errors_now/bank", "UNKNOWN"),
        ({"requests": None}, "kpi.response_now/bank", "UNKNOWN"),
    ],
)
def test_of_now(changes: dict[str, Any], line: str, verdict: str) -> None:
    found = lines(figures(), now=figures(window_s=300.0, **changes))
    assert found[line].verdict.name == verdict
    assert found["kpi.errors/bank"].verdict is Verdict.OK


@pytest.mark.parametrize(("age_s", "verdict"), [(59, "OK"), (60, "WARNING"), (300, "CRITICAL"), (None, "UNKNOWN")])
def test_figures_that_are_old_prove_nothing(age_s: float | None, verdict: str) -> None:
    pages = {"bank-2": NOW} | ({} if age_s is None else {"bank-1": NOW - dt.timedelta(seconds=age_s)})
    found = lines(figures(scrapes={"pages": pages}))
    assert found["kpi.metrics_age/bank-1"].verdict.name == verdict
    assert found["kpi.metrics_age/bank-2"].verdict is Verdict.OK


def test_what_a_service_does_not_have_is_not_asked_for() -> None:
    plain = msgspec.structs.replace(BANK, metrics=None, series=None)
    assert set(lines(figures(requests=None, slow_count=0.0, outcomes={}), service=plain)) == {"kpi.availability/bank"}


def test_p99_beyond_the_last_edge_is_not_invented() -> None:
    found = lines(figures(buckets=((0.05, 9_000.0), (0.1, 9_800.0))))
    assert "p99 above 100 ms" in found["kpi.response/bank"].observed
