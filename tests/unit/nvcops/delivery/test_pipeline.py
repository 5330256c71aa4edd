"""When a stage admits a release, and when a gate counts."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from desk import MemoryDesk
from nvcops.core.checks import Verdict
from nvcops.core.errors import UsageError
from nvcops.core.gates import GateControl, GateLine, GateReport, GateVerdict, definition, judged
from nvcops.core.manifest.delivery import Gate, Stage
from nvcops.core.releases import Admission
from nvcops.delivery import pipeline

DAY = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
LINT, TESTS = Gate(name="lint", kind="lint"), Gate(name="tests", kind="tests")
DEV, STAGING = Stage(name="dev", gates=(LINT, TESTS)), Stage(name="staging", gates=(LINT,))
STAGES = (DEV, STAGING)
PASS, REFUSED, UNKNOWN = GateVerdict.PASS, GateVerdict.REFUSED, GateVerdict.UNKNOWN


def admission(stage: Stage, digest: str = "ab", at: dt.datetime = DAY) -> Admission:
    gates = tuple(gate.name for gate in stage.gates)
    name = pipeline.key_of(stage.name, digest)
    return Admission(id=name, stage=stage.name, digest=digest, time=at, by="dana", run="r", gates=gates)


def desk(*admissions: Admission) -> MemoryDesk:
    made = MemoryDesk()
    made.put(*admissions)
    return made


def control(verdict: GateVerdict, refused: dt.datetime | None = None, gate: Gate = LINT) -> GateControl:
    return GateControl(
        id="dev/lint", definition=definition(gate), time=DAY, verdict=verdict, sentence="", run="r0", refused=refused
    )


def report(verdict: GateVerdict) -> GateReport:
    return GateReport(verdict=verdict, sentence=verdict.value, checked=1)


GOOD = {"lint": control(REFUSED, DAY), "tests": control(REFUSED, DAY, TESTS)}


def test_a_release_that_every_stage_admitted_in_order_may_go_on() -> None:
    reading = desk(admission(DEV), admission(STAGING, at=DAY + HOUR))
    assert pipeline.admitted(reading, STAGES, "ab") == ""
    assert pipeline.admitted(reading, STAGES, "cd") == "it was not admitted to dev"
    assert pipeline.admitted(reading, (), "cd") == "", "where no stage is, nothing has to be passed"


def test_no_stage_is_passed_over() -> None:
    assert pipeline.admitted(desk(admission(STAGING)), STAGES, "ab") == "it was not admitted to dev"
    assert pipeline.admitted(desk(admission(DEV)), STAGES, "ab") == "it was not admitted to staging"
    early = desk(admission(DEV, at=DAY + HOUR), admission(STAGING))
    assert pipeline.admitted(early, STAGES, "ab") == "it was admitted to staging before it was admitted to dev"


def test_an_admission_is_of_one_digest_and_of_all_gates() -> None:
    other = msgspec.structs.replace(admission(DEV), digest="cd")  # stands under the wrong key
    assert pipeline.admitted(desk(other), (DEV,), "ab") == "it was not admitted to dev"
    fewer = msgspec.structs.replace(admission(DEV), gates=("lint",))
    assert pipeline.admitted(desk(fewer), (DEV,), "ab") == "dev has gates that did not judge it: tests"


@pytest.mark.parametrize(
    ("lint", "tests", "verdict"),
    [
        (PASS, PASS, PASS),
        (PASS, UNKNOWN, UNKNOWN),
        (UNKNOWN, PASS, UNKNOWN),
        (PASS, REFUSED, REFUSED),
        (UNKNOWN, REFUSED, REFUSED),
        (REFUSED, UNKNOWN, REFUSED),
    ],
)
def test_every_gate_must_let_it_pass(lint: GateVerdict, tests: GateVerdict, verdict: GateVerdict) -> None:
    reports = {"lint": report(lint), "tests": report(tests)}
    assert pipeline.judge(DEV, "", reports, GOOD, DAY).verdict is verdict


def test_a_gate_that_was_not_asked_has_not_passed() -> None:
    for reports in ({}, {"lint": report(PASS)}, {"other": report(PASS)}):
        assert pipeline.judge(DEV, "", reports, GOOD, DAY, complete=True).verdict is UNKNOWN
    both = {"lint": report(PASS), "tests": report(PASS)}
    assert pipeline.judge(DEV, "", both, GOOD, DAY, complete=False).verdict is UNKNOWN
    assert pipeline.judge(DEV, "not yet", both, GOOD, DAY).verdict is REFUSED


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [
        (control(REFUSED, DAY), PASS),
        (control(REFUSED, DAY - pipeline.CONTROL_VALID), PASS),
        (control(REFUSED, DAY - pipeline.CONTROL_VALID - dt.timedelta(seconds=1)), UNKNOWN),
        (control(UNKNOWN, DAY - HOUR), PASS),
        (control(UNKNOWN), UNKNOWN),
        (control(PASS), REFUSED),
        (control(PASS, DAY), REFUSED),
        (control(REFUSED, DAY, Gate(name="lint", kind="lint", options={"select": "F"})), UNKNOWN),
        (control(REFUSED, DAY, Gate(name="lint", kind="lint", program=("true",))), UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_a_gate_counts_while_its_fault_was_refused_within_seven_days(
    kept: GateControl | None, verdict: GateVerdict
) -> None:
    stage = Stage(name="dev", gates=(LINT,))
    assert pipeline.judge(stage, "", {"lint": report(PASS)}, {"lint": kept}, DAY).verdict is verdict


def test_what_a_control_says_is_kept_as_it_counts() -> None:
    later = DAY + HOUR
    first = pipeline.controlled("dev", LINT, report(REFUSED), None, DAY, "r1")
    assert (first.id, first.refused) == ("dev/lint", DAY)
    assert pipeline.controlled("dev", LINT, report(UNKNOWN), first, later, "r2").refused == DAY
    assert pipeline.controlled("dev", LINT, report(PASS), first, later, "r2").refused is None
    broken = pipeline.controlled("dev", LINT, report(PASS), first, later, "r2")
    assert pipeline.controlled("dev", LINT, report(UNKNOWN), broken, later, "r3").refused is None
    changed = Gate(name="lint", kind="lint", options={"select": "F"})
    assert pipeline.controlled("dev", changed, report(UNKNOWN), first, later, "r2").refused is None


def test_what_a_broken_gate_admitted_since_its_last_good_control_is_doubtful() -> None:
    before, after = admission(DEV, "old", DAY - HOUR), admission(DEV, "new", DAY + HOUR)
    reading = desk(before, after, admission(STAGING, "new", DAY + HOUR))
    assert pipeline.doubtful(reading, "dev", "lint", control(REFUSED, DAY)) == [after]
    assert pipeline.doubtful(reading, "dev", "other", control(REFUSED, DAY)) == []
    assert pipeline.doubtful(reading, "dev", "lint", None) == []


def test_findings_warn_a_day_before_a_gate_counts_no_more() -> None:
    def verdict(age: dt.timedelta) -> Verdict:
        return pipeline.control_finding(DEV, LINT, control(REFUSED, DAY - age), DAY).verdict

    days = dt.timedelta(days=1)
    assert [verdict(age) for age in (6 * days, 6 * days + HOUR, 7 * days, 7 * days + HOUR)] == [
        Verdict.OK,
        Verdict.WARNING,
        Verdict.WARNING,
        Verdict.UNKNOWN,
    ]
    assert pipeline.control_finding(DEV, LINT, control(PASS), DAY).verdict is Verdict.CRITICAL


def test_the_report_names_every_gate() -> None:
    lines = pipeline.gate_findings(DEV, {"lint": report(PASS)}, GOOD, DAY)
    assert [(line.subject, line.verdict) for line in lines] == [("lint", Verdict.OK), ("tests", Verdict.UNKNOWN)]


def test_a_stage_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UsageError) as caught:
        pipeline.find_stage(STAGES, "prod")
    assert "dev, staging" in caught.value.hint


def test_a_report_keeps_the_first_objections_and_counts_all() -> None:
    said = judged([GateLine(text="x" * 1000) for _ in range(500)], 3, "files")
    assert (said.verdict, said.objections, len(said.lines), len(said.lines[0].text)) == (REFUSED, 500, 200, 500)
