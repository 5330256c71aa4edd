"""One screen: what is wrong and since when, what is well, what changed."""

from __future__ import annotations

import datetime as dt

from nvcops.core.checks import Verdict
from nvcops.core.target import Change
from nvcops.health.parts import FRONT, INSTANCE
from nvcops.health.status import down_since, status_findings

NOW = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)


def change(minutes: float, what: str, before: str, after: str, instance: str = "bank-1") -> Change:
    return Change(NOW - dt.timedelta(minutes=minutes), "bank", instance, what, before, after)


STORY = [
    change(90, "ready", "", "ready"),
    change(60, "version", "1.0", "1.1"),
    change(50, "ready", "ready", "answers 503"),
    change(45, "ready", "answers 503", "ready"),
    change(12, "ready", "ready", "connection refused"),
    change(11, "ready", "ready", "answers 503", instance=""),
]


def test_since_when() -> None:
    assert down_since(STORY) == {"bank-1": NOW - dt.timedelta(minutes=12), "bank": NOW - dt.timedelta(minutes=11)}
    assert down_since(STORY[:4]) == {}


def test_what_is_wrong_comes_first_and_what_changed_last() -> None:
    findings = [
        FRONT.finding(Verdict.OK, "ready", subject="bank"),
        INSTANCE.finding(Verdict.CRITICAL, "connection refused", subject="bank-1"),
    ]
    lines = status_findings(findings, STORY, NOW, "America/New_York")
    assert lines[0].observed == "connection refused; since 07:48 (12 min)"
    assert [(line.subject, line.observed) for line in lines[1:]] == [
        ("bank", "07:49 not ready: answers 503"),
        ("bank-1", "07:48 not ready: connection refused"),
        ("bank-1", "07:15 ready again"),
        ("bank-1", "07:10 not ready: answers 503"),
        ("bank-1", "07:00 version 1.0 → 1.1"),
    ]


def test_a_group_that_is_well_is_one_line() -> None:
    findings = [FRONT.finding(Verdict.OK, "ready", subject="bank"), INSTANCE.finding(Verdict.OK, "ready", subject="a")]
    (line,) = status_findings(findings, [], NOW, "UTC")
    assert (line.subject, line.observed, line.verdict) == ("services", "all 2 checks", Verdict.OK)


def test_it_stays_one_screen() -> None:
    flapping = [change(100 - number, "ready", "ready", "answers 503") for number in range(100)]
    assert len(status_findings([FRONT.finding(Verdict.OK, "ready")], flapping, NOW, "UTC")) < 12
