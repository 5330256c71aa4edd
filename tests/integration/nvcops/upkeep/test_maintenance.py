"""Maintenance of a real database: what needs it, and only that, is kept, and what is said is what was read back."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any

import pytest
from upkeep_world import ROLE, UpkeepWorld, upkeep_on

sys.path.insert(0, str(Path(__file__).parents[1] / "restore"))

from acting import ActingRun

from nvcops.adapters.target import connect
from nvcops.adapters.upkeep.keeper import PostgresUpkeep
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import NotFoundError, Unreachable
from nvcops.core.procedures import find
from nvcops.core.upkeep import Done, Guard, Order

BOTH = pytest.mark.parametrize("kept", [17, 18], indirect=True)


def maintained(kept: UpkeepWorld, folder: Path, upkeep: str = "", *, dry: bool = False, **options: Any) -> ActingRun:
    run = ActingRun(dry=dry)
    procedure = find("db-maintenance")
    procedure.function(run, connect(kept.manifest(folder, upkeep)), **procedure.arguments(options))
    return run


def line(run: ActingRun, check: str, subject: str = "") -> Finding:
    found = [finding for finding in run.of(f"database.{check}") if subject in ("", finding.subject)]
    assert found, run.findings
    return found[0]


def dirty(kept: UpkeepWorld, name: str, share: int = 2) -> None:
    kept.world.execute(f"DELETE FROM {name} WHERE id % {share} = 0")  # noqa: S608 - ours
    kept.world.flushed()


@BOTH
def test_a_fresh_database_needs_nothing(kept: UpkeepWorld, tmp_path: Path) -> None:
    kept.table("calm", 5_000)
    run = maintained(kept, tmp_path, vacuum=True, analyze=True, freeze=True, reindex=True)
    assert run.steps == []
    assert line(run, "maintenance").observed.startswith("nothing needs it")
    lacking = line(run, "maintenance_rights")
    assert [finding.check for finding in run.wrong] == [lacking.check]  # no test may change this server's settings
    assert "GRANT ALTER SYSTEM ON PARAMETER" in lacking.next_step


@BOTH
def test_the_worst_table_comes_first_and_its_dead_rows_are_gone(kept: UpkeepWorld, tmp_path: Path) -> None:
    for name in ("calm", "bad", "worse"):
        kept.table(name, 20_000)
    dirty(kept, "bad", share=3)
    dirty(kept, "worse", share=2)
    kept.world.execute(
        "CREATE MATERIALIZED VIEW seen AS SELECT * FROM bad", "ALTER MATERIALIZED VIEW seen OWNER TO bank"
    )
    rehearsed = maintained(kept, tmp_path, dry=True)
    assert line(rehearsed, "maintenance", "public.worse").observed == "would vacuum public.worse (10,000 dead rows)"
    assert kept.world.value("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'worse'") == 10_000
    run = maintained(kept, tmp_path)
    ours = [step for step in run.steps if "public.seen" not in step]  # it was just filled: its statistics may be due
    assert [step.split(" (")[0] for step in ours[:2]] == ["vacuum public.worse", "vacuum public.bad"]
    assert not any("calm" in step for step in run.steps)
    assert "10,000 -> 0 dead rows, analysed" in line(run, "maintenance", "public.worse").observed
    assert line(run, "maintenance_left").observed == "nothing"
    assert "at most 0 s in a queue" in line(run, "maintenance_felt").observed
    assert not [step for step in maintained(kept, tmp_path).steps if "bad" in step or "worse" in step]


@BOTH
def test_who_holds_an_old_snapshot_is_said_and_nothing_is_vacuumed_in_vain(kept: UpkeepWorld, tmp_path: Path) -> None:
    kept.table("t", 20_000)
    reader = kept.world.connect(autocommit=False)
    reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT count(*) FROM t")
    dirty(kept, "t")
    run = maintained(kept, tmp_path)
    kept_line = line(run, "maintenance", "public.t")
    assert kept_line.verdict is Verdict.WARNING
    assert "its dead rows are there: 10,000 -> 10,000 dead rows" in kept_line.observed
    again = maintained(kept, tmp_path, freeze=True, vacuum=True)
    del again
    reader.rollback()


@BOTH
def test_partitioned_tables_are_analysed_with_their_partitions(kept: UpkeepWorld, tmp_path: Path) -> None:
    kept.world.execute(
        "CREATE TABLE parts (id bigint, at date) PARTITION BY RANGE (id)",
        *(f"CREATE TABLE part_{n} PARTITION OF parts FOR VALUES FROM ({n}000) TO ({n + 1}000)" for n in range(5)),
        "INSERT INTO parts SELECT n, now() FROM generate_series(0, 4999) n",
        "ALTER TABLE parts OWNER TO bank",
        *(f"ALTER TABLE part_{n} OWNER TO bank" for n in range(5)),
        "ANALYZE part_1",
    )
    run = maintained(kept, tmp_path, analyze=True)
    assert "analyze public.parts (it never was)" in run.steps
    assert kept.world.value("SELECT count(*) FROM pg_stats WHERE tablename = 'parts' AND inherited") == 2
    assert "analyze public.parts" not in " ".join(maintained(kept, tmp_path, analyze=True).steps)


@BOTH
def test_what_is_invalid_is_built_anew_and_what_was_left_is_removed(kept: UpkeepWorld, tmp_path: Path) -> None:
    kept.table('"my ""table"', 2_000)
    kept.world.execute(
        'CREATE INDEX "an index" ON "my ""table" (filler)',
        'CREATE INDEX left_ccnew ON "my ""table" (filler)',
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text IN ('\"an index\"', 'left_ccnew')",
    )
    assert len(kept.invalid()) == 2
    run = maintained(kept, tmp_path, reindex=True)
    assert run.steps == [
        "remove public.left_ccnew, which a stopped reindex left",
        'reindex public."an index" (no query may use it)',
    ]
    assert "valid again" in line(run, "maintenance", 'public."an index"').observed
    assert kept.invalid() == []
    assert kept.world.value("SELECT to_regclass('left_ccnew')") is None


@BOTH
def test_a_swollen_index_is_built_anew(kept: UpkeepWorld, tmp_path: Path) -> None:
    kept.table("t", 100_000)
    dirty(kept, "t", share=1)
    kept.world.execute("INSERT INTO t SELECT n, n, 'x' FROM generate_series(1, 1000) n", "VACUUM (ANALYZE) t")
    run = maintained(kept, tmp_path, "", reindex=True)
    assert not any("reindex" in step for step in run.steps)  # too small to matter, by [database.limits]
    small = '[database.limits]\nindex_bloat_min = "1 MiB"'
    run = maintained(kept, tmp_path, small, reindex=True)
    before, _, after = line(run, "maintenance", "public.t_id").observed.partition(" -> ")
    assert "MiB" in before
    assert "KiB" in after


def test_one_table_is_kept_whether_it_needs_it_or_not(kept: UpkeepWorld, tmp_path: Path) -> None:
    for name in ("calm", "other"):
        kept.table(name)
    run = maintained(kept, tmp_path, table="calm", vacuum=True, freeze=True, reindex=True, analyze=True)
    assert run.steps == [
        "freeze public.calm (asked for)",
        "reindex public.calm_id (asked for)",
        "reindex public.calm_owner (asked for)",
    ], run.findings
    assert [finding.check for finding in run.wrong] == ["database.maintenance_rights"]
    with pytest.raises(NotFoundError, match="no table 'nothing'"):
        maintained(kept, tmp_path, table="nothing")
    with pytest.raises(NotFoundError, match="no table"):
        maintained(kept, tmp_path, table='"; DROP TABLE calm; --')


def test_outside_the_window_nothing_is_done_unless_somebody_says_so(kept: UpkeepWorld, tmp_path: Path) -> None:
    kept.table("t", 20_000)
    dirty(kept, "t")
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=180)
    closed = f'window = "yearly {later:%m}-15 02:00"\nwindow_length = "1 min"'
    run = maintained(kept, tmp_path, closed)
    assert run.steps == []
    assert line(run, "maintenance_window").verdict is Verdict.UNKNOWN
    assert "next open at" in line(run, "maintenance_window").observed
    assert maintained(kept, tmp_path, closed, now=True).steps


def test_without_rights_it_says_which(kept: UpkeepWorld, tmp_path: Path) -> None:
    with upkeep_on(kept.world.server, kept.world.major, rights=False) as poor:
        poor.table("t", 20_000)
        dirty(poor, "t")
        run = maintained(poor, tmp_path)
        assert "permission denied" in line(run, "maintenance", "public.t").observed
        assert f'GRANT "bank" TO "{ROLE}"' in line(run, "maintenance_rights").next_step


def test_where_nothing_answers_nothing_is_claimed(kept: UpkeepWorld, tmp_path: Path) -> None:
    manifest = kept.manifest(tmp_path)
    (tmp_path / "keeper").write_text("wrong", encoding="ascii")
    run = ActingRun()
    procedure = find("db-maintenance")
    procedure.function(run, connect(manifest), **procedure.arguments({}))
    assert [finding.verdict for finding in run.findings] == [Verdict.UNKNOWN]
    assert "password authentication failed" in run.findings[0].observed


def test_when_the_server_is_lost_what_was_kept_before_is_told(
    kept: UpkeepWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bad", "worse"):
        kept.table(name, 20_000)
    dirty(kept, "bad", share=3)
    dirty(kept, "worse", share=2)
    carry_out, orders = PostgresUpkeep.carry_out, []

    def lost(self: PostgresUpkeep, order: Order, guard: Guard) -> Done:
        orders.append(order.title)
        if len(orders) > 1:
            raise Unreachable("db-1 was lost")
        return carry_out(self, order, guard)

    monkeypatch.setattr(PostgresUpkeep, "carry_out", lost)
    run = maintained(kept, tmp_path, vacuum=True)
    assert line(run, "maintenance", "public.worse").verdict is Verdict.OK
    assert "db-1 was lost" in line(run, "maintenance", "public.bad").observed
    assert len(orders) == 2
