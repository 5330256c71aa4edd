"""Planted: statistics that are too old, too coarse, blind for columns that go together; and a healthy database."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replaced

sys.path.insert(0, str(Path(__file__).parents[1] / "restore"))

from acting import ActingRun
from restore_world import RestoreWorld
from statistics_world import statistics_world

from nvcops.adapters.target import connect
from nvcops.core.checks import Verdict
from nvcops.core.procedures import find
from nvcops.core.statements import Waits
from nvcops.core.upkeep import Outcome
from nvcops.core.workload import Statement, Workload
from nvcops.database.statistics.mending import Fix
from nvcops.database.statistics.update_db_stats import _made, stands

TOGETHER = (
    "SELECT count(l.word) FROM post.parcel p JOIN post.label l ON l.id = p.label"
    " WHERE p.city = $1 AND p.zip = $2 AND p.area = $3"
)
COARSE = "SELECT count(l.word) FROM post.box b JOIN post.label l ON l.id = b.label WHERE b.size > $1 AND b.size < $2"
OLD = "SELECT count(note) FROM post.inbox WHERE state = $1"
HEALTHY = (
    "SELECT * FROM post.parcel WHERE id = $1",
    "SELECT count(*) FROM post.scan WHERE parcel = $1",
    "SELECT zip, count(*) FROM post.parcel GROUP BY zip",
    "SELECT * FROM post.scan ORDER BY at LIMIT $1",
)


@dataclass
class Asked:
    """What the database was asked, as a test says."""

    texts: tuple[Statement, ...]

    def between(self, start: dt.datetime, end: dt.datetime) -> Workload:
        return Workload(server="db-1", since=start, until=end, statements=self.texts)

    def waits(self, start: dt.datetime, end: dt.datetime) -> Waits:
        raise AssertionError(start, end)


def statement(number: int, text: str, *arguments: tuple[str, ...]) -> Statement:
    return Statement(id=number, text=text, calls=100, total_s=100.0 - number, arguments=arguments)


def updated(world: RestoreWorld, *statements: Statement, run: str = "update@1", **options: bool) -> ActingRun:
    world.received()
    acting = ActingRun(id=run)
    procedure = find("update-db-stats")
    target = replace(connect(world.manifest), statements=Asked(statements))
    procedure.function(acting, target, **procedure.arguments(options))
    return acting


def planned(world: RestoreWorld, text: str) -> str:
    return "\n".join(row[0] for row in world.world.execute(f"EXPLAIN {text}"))


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestoreWorld]:
    with statistics_world(tmp_path_factory.mktemp("statistics")) as world:
        yield world


# ANALYZE draws its rows at random: once in twenty times a coarse histogram happens to be right.
@pytest.mark.drill
def test_each_cause_is_found_and_mended_by_the_least_that_does_it(wrong: RestoreWorld) -> None:
    workload = [
        statement(1, TOGETHER),
        statement(2, COARSE, ("4900000", "5200000")),
        statement(3, OLD, ("'new'",)),
        *(statement(number, text) for number, text in enumerate(HEALTHY, 4)),
    ]
    told = updated(wrong, *workload)
    assert told.approved == []
    by_subject = {finding.subject: finding for finding in told.findings if finding.subject}
    assert set(by_subject) == {"post.parcel (area, city, zip)", "post.box (size)", "post.inbox (state)"}, told.findings

    together, coarse, old = (
        by_subject[f"post.{name}"] for name in ("parcel (area, city, zip)", "box (size)", "inbox (state)")
    )
    assert together.verdict is Verdict.WARNING
    assert "go together" in together.observed
    assert "statistics (dependencies)" in together.observed
    assert "->" in together.observed, "the changed plan and its time"
    assert coarse.verdict is Verdict.WARNING
    assert "statistics target 1000" in coarse.observed
    assert old.verdict is Verdict.OK, "what autovacuum does anyway needs no approval"
    assert "too old" in old.observed
    assert "analyse post.inbox" in told.steps
    assert wrong.world.execute("SELECT count(*) FROM pg_statistic_ext") == [(0,)], "what stays waits for an approval"
    assert "Seq Scan" in planned(wrong, "SELECT count(note) FROM post.inbox WHERE state = 'new'")
    assert not (wrong.folder / "state" / "scratch").exists() or wrong.left() == []

    made = updated(wrong, *workload, run="update@2", apply=True)
    assert [each.partition(":")[0] for each in made.approved] == ["statistics"]
    assert made.wrong == [], made.findings
    assert {finding.subject for finding in made.findings if finding.subject} == set(by_subject) - {"post.inbox (state)"}
    rows = "SELECT attstattarget FROM pg_attribute WHERE attrelid = 'post.box'::regclass AND attname = 'size'"
    assert wrong.world.execute(rows) == [(1000,)]
    assert "Hash Join" in planned(wrong, TOGETHER.replace("$1", "7").replace("$2", "1007").replace("$3", "2007"))

    healthy = updated(wrong, *workload, run="update@3", apply=True)
    assert (healthy.wrong, healthy.approved, len(healthy.findings)) == ([], [], 1), healthy.findings
    assert "hold for 7 statements" in healthy.summary
    values = ("'new'", "1007", "4900000")
    assert not any(value in str(run.findings) + str(run.steps) for run in (told, made) for value in values)


def test_a_finer_target_that_somebody_set_since_the_backup_stays_and_all_columns_change_or_none(
    wrong: RestoreWorld,
) -> None:
    target = connect(wrong.manifest)
    assert target.upkeep
    fix = Fix(schema="post", table="box", columns=("size", "label"), target=500, former={"size": -1, "label": -1})
    rows = "SELECT attname, coalesce(attstattarget, -1) FROM pg_attribute WHERE attrelid = 'post.box'::regclass"
    before = dict(wrong.world.execute(rows))
    wrong.world.execute("ALTER TABLE post.box ALTER COLUMN size SET STATISTICS 5000")
    try:
        made = _made(ActingRun(), target, fix)  # type: ignore[arg-type]
        assert made.done
        assert made.done.outcome is Outcome.DONE, made
        assert stands(fix, made.before, made.after)
        assert dict(wrong.world.execute(rows)) | {"size": 5000, "label": 500} == dict(wrong.world.execute(rows))
        gone = _made(ActingRun(), target, replaced(fix, columns=("label", "gone"), target=900))  # type: ignore[arg-type]
        assert gone.done
        assert gone.done.outcome is Outcome.REFUSED
        assert dict(wrong.world.execute(rows))["label"] == 500
    finally:
        for name in ("size", "label"):
            wrong.world.execute(f"ALTER TABLE post.box ALTER COLUMN {name} SET STATISTICS {before[name]}")


def test_a_rehearsal_and_a_database_that_nobody_asks_touch_nothing(wrong: RestoreWorld) -> None:
    dry = ActingRun(dry=True)
    procedure = find("update-db-stats")
    asked = Asked((statement(1, HEALTHY[0]),))
    procedure.function(dry, replace(connect(wrong.manifest), statements=asked))
    assert [finding.verdict for finding in dry.findings] == [Verdict.OK]
    nothing = ActingRun()
    procedure.function(nothing, replace(connect(wrong.manifest), statements=Asked(())))
    assert [finding.verdict for finding in nothing.findings] == [Verdict.UNKNOWN]
    assert nothing.steps == []


def test_what_is_only_slow_to_say_is_unknown(wrong: RestoreWorld) -> None:
    unusable = updated(wrong, statement(1, "SELECT * FROM post.nowhere WHERE x = $1"), run="update@4")
    assert [finding.verdict for finding in unusable.findings] == [Verdict.UNKNOWN]
    assert wrong.left() == []
