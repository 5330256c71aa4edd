"""What maintenance says of what it read back: the server's word that something was done is not enough."""

from __future__ import annotations

import msgspec
import pytest

from nvcops.core.checks import Verdict
from nvcops.core.manifest import UpkeepEntry
from nvcops.core.upkeep import Done, Outcome, Privilege
from nvcops.database.checks.vacuum import Table
from nvcops.database.checks.wraparound import Holder
from nvcops.database.maintenance.db_maintenance import (
    Carried,
    felt_finding,
    holders_finding,
    kept_finding,
    rights_finding,
)
from nvcops.database.maintenance.needs import Aged, Condition, Kind, Measure, Parent, Task, plan

DONE = Done(outcome=Outcome.DONE, seconds=1.5)
BEFORE = Measure(
    name="a.t",
    rows=1e5,
    dead=5e4,
    modified=5e4,
    age=1e8,
    bytes=2**23,
    valid=True,
    partitioned=False,
    vacuums=3,
    analyses=3,
)
AFTER = msgspec.structs.replace(BEFORE, dead=0, modified=0, age=50, vacuums=4, analyses=4)
REPORT = Holder("session", "report", 812, "psql", 5e4, 600)


def task(kind: Kind, *, analyzes: bool = False) -> Task:
    return Task(kind=kind, name="a.t", sql="...", why="because", analyzes=analyzes)


@pytest.mark.parametrize(
    ("kind", "changed", "said"),
    [
        (Kind.VACUUM, {}, ""),
        (Kind.VACUUM, {"vacuums": 3}, "it was not vacuumed"),
        (Kind.VACUUM, {"dead": 4e4}, "its dead rows are there"),
        (Kind.VACUUM, {"dead": 2e4}, ""),
        (Kind.VACUUM, {"analyses": 3}, "it was not analysed"),
        (Kind.FREEZE, {}, ""),
        (Kind.FREEZE, {"age": 1e8}, "it is not younger"),
        (Kind.ANALYZE, {"dead": 5e4, "vacuums": 3}, ""),
        (Kind.ANALYZE, {"analyses": 3}, "it was not analysed"),
        (Kind.REINDEX, {"valid": False}, "it is not valid"),
        (Kind.REINDEX, {"bytes": 2**20}, ""),
    ],
)
def test_what_was_meant_is_looked_for(kind: Kind, changed: dict[str, float], said: str) -> None:
    after = msgspec.structs.replace(AFTER, **changed)
    carried = Carried(task(kind, analyzes=kind is not Kind.REINDEX), DONE)
    finding = kept_finding(carried, BEFORE, after, [REPORT])
    assert finding.verdict is (Verdict.WARNING if said else Verdict.OK)
    assert finding.observed.startswith(said)
    if said == "its dead rows are there":
        assert "still seen by pid 812 (report, psql) for 10 min" in finding.observed
        assert "SELECT pg_terminate_backend(812)" in finding.next_step


def test_what_was_stopped_or_is_gone_is_said() -> None:
    stopped = Done(outcome=Outcome.STOPPED, why="pid 7 waited 0.6 s behind it", queued_s=0.6)
    finding = kept_finding(Carried(task(Kind.VACUUM), stopped), BEFORE, BEFORE, [])
    assert (finding.verdict, finding.observed) == (
        Verdict.WARNING,
        "vacuum stopped: pid 7 waited 0.6 s behind it",
    )
    assert kept_finding(Carried(task(Kind.VACUUM), DONE), BEFORE, None, []).verdict is Verdict.UNKNOWN
    assert kept_finding(Carried(task(Kind.VACUUM), None), BEFORE, BEFORE, []).observed == "would vacuum a.t (because)"


@pytest.mark.parametrize(
    ("queued_s", "worst_s", "verdict"),
    [(0.9, 0.05, Verdict.OK), (1.1, 0.05, Verdict.WARNING), (0, 0.07, Verdict.WARNING)],
)
def test_what_customers_felt_is_measured_against_the_promise(queued_s: float, worst_s: float, verdict: Verdict) -> None:
    done = Done(outcome=Outcome.DONE, queued_s=queued_s, p99_before_s=0.03, p99_worst_s=worst_s)
    assert felt_finding([DONE, done], UpkeepEntry()).verdict is verdict


def test_no_request_is_no_proof() -> None:
    assert "too few requests for a p99" in felt_finding([DONE], UpkeepEntry()).observed


def test_holders_and_rights_come_with_what_helps() -> None:
    assert holders_finding([]).verdict is Verdict.OK
    assert holders_finding([REPORT]).next_step == "SELECT pg_terminate_backend(812)"
    lacking = Privilege(purpose="see", held=False, grant="GRANT pg_monitor TO x")
    assert rights_finding([lacking]).next_step == "GRANT pg_monitor TO x"
    assert rights_finding([msgspec.structs.replace(lacking, held=True)]).verdict is Verdict.OK


def test_the_worst_comes_first_and_what_is_in_vain_is_left_out() -> None:
    tables = (
        Table(name="a.bad", dead=100, vacuum_at=100),
        Table(name="a.vain", dead=900, vacuum_at=100, vacuumed_s=300),
        Table(name="a.worse", dead=500, vacuum_at=100, vacuumed_s=900),
        Table(name="a.old", dead=90, vacuum_at=100),
        Table(name="a.busy", dead=999, vacuum_at=100, running=True),
        Table(name="pg_catalog.pg_class", dead=999, vacuum_at=100),
    )
    seen = Condition(
        tables=tables,
        aged=(Aged("a.old", 0.9, 1.8e8),),
        parents=(Parent("a.all", 3, 6400, None, False), Parent("a.many", 5000, 6400, 9.0, True)),
        holders=(REPORT,),
    )
    found = plan(seen, [Kind.FREEZE, Kind.VACUUM, Kind.ANALYZE])
    assert [str(one.name) for one in found.tasks] == ["a.old", "a.worse", "a.bad", "a.all"]
    assert found.tasks[0].sql == "VACUUM (FREEZE, TRUNCATE false) a.old"
    assert [one.name for one in found.skipped] == ["a.vain", "a.many"]
    assert "pid 812" in found.skipped[0].why


def test_no_run_does_more_than_its_worst() -> None:
    tables = tuple(Table(name=f"a.t{n}", dead=n + 1, vacuum_at=1) for n in range(60))
    found = plan(Condition(tables=tables), [Kind.VACUUM])
    assert (len(found.tasks), len(found.skipped)) == (50, 10)
    assert found.tasks[0].name == "a.t59"


def test_what_could_not_be_read_back_is_not_said_to_be_gone() -> None:
    finding = kept_finding(Carried(task(Kind.VACUUM), DONE), BEFORE, None, [], "db-1 does not answer")
    assert finding.verdict is Verdict.UNKNOWN
    assert finding.observed == "it could not be read back: db-1 does not answer"
