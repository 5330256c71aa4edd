"""Who waits for a connection, by the gauge that the manifest names."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import cast

import pytest

from nvcops.core.checks import Verdict
from nvcops.core.errors import TargetError, Unreachable
from nvcops.core.manifest import DatabaseLimits, Series, ServiceEntry
from nvcops.core.target import Sample, Target
from nvcops.database.checks.pools import pool_findings, pools

NOW = dt.datetime(2026, 11, 22, 8, tzinfo=dt.UTC)
BEFORE = NOW - dt.timedelta(minutes=5)


class Gauges:
    """Metrics that were read: samples, or the trouble."""

    def __init__(self, answer: list[Sample] | TargetError) -> None:
        self.answer = answer

    def samples(self, service: str, series: str, start: dt.datetime, end: dt.datetime) -> list[Sample]:
        assert (service, series, start, end) == ("bank", "bank_waiting", BEFORE, NOW)
        if isinstance(self.answer, TargetError):
            raise self.answer
        return self.answer


def platform(answer: list[Sample] | TargetError, gauge: str | None = "bank_waiting") -> Target:
    series = Series(requests="r", latency="l", pool_waiting=gauge)
    services = (ServiceEntry(name="bank", url="http://bank", series=series), ServiceEntry(name="site", url="http://x"))
    return cast("Target", SimpleNamespace(manifest=SimpleNamespace(services=services), metrics=Gauges(answer)))


def sample(instance: str, waiting: float) -> Sample:
    return Sample({"instance": instance, "pool": "main"}, waiting, NOW)


@pytest.mark.parametrize(
    ("answer", "verdict", "observed"),
    [
        ([sample("bank-1", 0), sample("bank-2", 0)], Verdict.OK, "nobody"),
        ([sample("bank-1", 4), sample("bank-2", 12)], Verdict.WARNING, "12 in bank-2, main"),
        ([sample("bank-1", 70)], Verdict.CRITICAL, "70 in bank-1, main"),
        ([], Verdict.UNKNOWN, "its metrics were not read lately: `nvcops serve` reads them"),
        (Unreachable("Prometheus does not answer."), Verdict.UNKNOWN, "Prometheus does not answer."),
    ],
)
def test_the_pool_with_the_most_who_wait_is_named(
    answer: list[Sample] | TargetError, verdict: Verdict, observed: str
) -> None:
    (line,) = pool_findings(pools(platform(answer), BEFORE, NOW), DatabaseLimits())
    assert (line.verdict, line.subject, line.observed) == (verdict, "bank", observed)


def test_a_service_whose_gauge_is_not_named_is_not_checked() -> None:
    assert pools(platform([], gauge=None), BEFORE, NOW) == []
