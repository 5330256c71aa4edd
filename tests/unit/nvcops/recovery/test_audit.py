"""The lines of an audit: what is whole is said once, each fault by itself, and nothing known is never OK."""

from __future__ import annotations

import datetime as dt

import pytest

from nvcops.core.backups import CATALOGUE_CHECK, Audit, Cause, Fault
from nvcops.core.checks import Finding, Verdict
from nvcops.core.procedures import find
from nvcops.core.runs import verdict_of
from nvcops.recovery.audit import FAULTS_MAX, NEXT_STEPS, ChainReading, chain_findings

DAY = dt.datetime(2026, 11, 22, 16, tzinfo=dt.UTC)
REPOSITORY = "/srv/backups"


def audit(*faults: Fault, backups: int = 2, oldest: dt.datetime | None = DAY, head: str = "7 " + "ab" * 32) -> Audit:
    newest = DAY + dt.timedelta(days=1, seconds=5) if oldest else None
    return Audit(
        backups=backups, segments=9, examined_bytes=3 << 30, oldest=oldest, newest=newest, head=head, faults=faults
    )


def fault(cause: Cause, subject: str = "000000010000000000000003", lost: str = "every point") -> Fault:
    return Fault(cause=cause, subject=subject, sentence="the segment is not in the repository", lost=lost)


def lines(given: Audit | None, trouble: str = "") -> list[Finding]:
    return chain_findings(ChainReading(given, trouble), REPOSITORY)


def test_a_whole_chain_is_one_line_and_the_head_for_the_evidence() -> None:
    whole, head = lines(audit())
    assert (whole.check, whole.verdict) == ("recovery.chain", Verdict.OK)
    assert whole.observed == (
        "any point from 2026-11-22 16:00:00 to 2026-11-23 16:00:05 UTC (2 backups, 9 segments, 3 GiB read back)"
    )
    assert (head.check, head.verdict, head.subject) == (CATALOGUE_CHECK, Verdict.OK, REPOSITORY)
    assert head.observed == f"7 entries, the newest: 7 {'ab' * 32}"


@pytest.mark.parametrize("cause", Cause)
def test_each_fault_is_a_critical_line_with_what_it_costs_and_what_to_do(cause: Cause) -> None:
    line = lines(audit(fault(cause)))[0]
    assert line.verdict is Verdict.CRITICAL
    assert line.subject == "000000010000000000000003"
    assert line.observed == f"{cause}: the segment is not in the repository; lost: every point"
    assert line.next_step == NEXT_STEPS[cause]
    assert verdict_of(lines(audit(fault(cause)))) is Verdict.CRITICAL


def test_the_head_of_an_edited_catalogue_is_no_evidence() -> None:
    assert [line.check for line in lines(audit(fault(Cause.EDITED)))] == ["recovery.chain"]
    assert CATALOGUE_CHECK in [line.check for line in lines(audit(fault(Cause.CORRUPT)))]


def test_of_many_faults_the_first_are_shown_and_the_others_counted() -> None:
    shown = lines(audit(*(fault(Cause.CORRUPT, f"S{n}") for n in range(FAULTS_MAX + 5)), head=""))
    assert len(shown) == FAULTS_MAX + 1
    assert shown[-1].observed == "5 more faults"
    assert shown[-1].verdict is Verdict.CRITICAL
    assert len(lines(audit(*(fault(Cause.CORRUPT) for _ in range(FAULTS_MAX)), head=""))) == FAULTS_MAX


def test_nothing_is_never_whole() -> None:
    assert [line.verdict for line in lines(None, "no disk")] == [Verdict.UNKNOWN]
    assert lines(None, "no disk")[0].observed == "no disk"
    assert [line.verdict for line in lines(audit(backups=0, oldest=None, head=""))] == [Verdict.UNKNOWN]
    assert [line.verdict for line in lines(audit(backups=2, oldest=None, head=""))] == [Verdict.UNKNOWN]


def test_one_is_continuous_and_one_is_daily() -> None:
    assert str(find("backup-audit").when) == "every 15 min"
    assert str(find("backup-verification").when) == "daily 18:30"
    for name in ("backup-audit", "backup-verification"):
        assert find(name).reads_only
        assert find(name).needs == ("backups",)
