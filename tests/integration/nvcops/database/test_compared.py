"""The same conditions, judged by check_postgres and check_pgactivity: they agree, or it is said why they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from checked import checked
from database_world import World
from plugins import said_by_check_pgactivity, said_by_check_postgres

from nvcops.core.checks import Verdict
from nvcops.core.manifest.base import Bound
from nvcops.core.units import Bytes, Ratio


@dataclass(frozen=True)
class Same:
    """A condition that we and another one know: how theirs is asked, and what both say before and after."""

    name: str
    planted: tuple[str, ...]
    check: str
    pgactivity: tuple[str, ...] = ()
    postgres: tuple[str, ...] = ()
    limits: dict[str, Any] = field(default_factory=dict)
    act: Callable[[World], None] | None = None
    healthy: bool = True  # whether they can be asked before: not of a database without indexes, nor after other tests


def _half_built(world: World) -> None:
    world.execute("CREATE TABLE half (id int)", "INSERT INTO half VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        world.execute("CREATE UNIQUE INDEX CONCURRENTLY half_id ON half (id)")


def _rolled_back(world: World) -> None:
    world.execute("BEGIN; SELECT FROM pg_am; ROLLBACK;" * 1200)
    world.flushed()


AIRY = (
    "CREATE TABLE wide (id int)",
    "INSERT INTO wide SELECT generate_series(1, 300000)",
    "CREATE INDEX airy ON wide (id)",
    "DELETE FROM wide WHERE id % 20 <> 0",
    "VACUUM ANALYZE wide",
)
AGREED = (
    Same("an invalid index", (), "performance.invalid_indexes", ("invalid_indexes",), act=_half_built),
    Same("an unlogged table", ("CREATE UNLOGGED TABLE cache (id int)",), "database.unlogged", ("table_unlogged",)),
    Same(
        "a trigger that is off",
        (
            "CREATE TABLE t (id int)",
            "CREATE TRIGGER same BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "ALTER TABLE t DISABLE TRIGGER same",
        ),
        "database.disabled_triggers",
        postgres=("disabled_triggers",),
    ),
    Same(
        "a b-tree that is mostly air",
        AIRY,
        "database.index_bloat",
        ("btree_bloat", "-w", "50%,1MB", "-c", "99%,100MB"),
        limits={"index_bloat_min": Bytes(1 << 20)},
        healthy=False,
    ),
    Same(
        "transactions that come to nothing",
        (),
        "database.rollbacks",
        postgres=("commitratio", "--warning=90%", "--critical=60%"),
        act=_rolled_back,
    ),
    Same(
        "WAL that somebody keeps",
        (
            "SELECT pg_create_physical_replication_slot('kept', true)",
            *("SELECT pg_logical_emit_message(true, 'a', 'b')", "SELECT pg_switch_wal()") * 6,
        ),
        "database.wal_size",
        postgres=("wal_files", "--warning=5", "--critical=50"),
        limits={"wal_size": Bound(warning=Ratio(0.15), critical=Ratio(4))},
        healthy=False,
    ),
)


def _theirs(world: World, same: Same, state: Path) -> dict[str, tuple[Verdict, str]]:
    said = {}
    if same.pgactivity:
        said["check_pgactivity"] = said_by_check_pgactivity(world, *same.pgactivity, state=state)
    if same.postgres:
        said["check_postgres"] = said_by_check_postgres(world, *same.postgres)
    return said


@pytest.mark.parametrize("same", AGREED, ids=lambda same: same.name)
def test_they_agree(world: World, same: Same, tmp_path: Path) -> None:
    state = tmp_path / "pgactivity.data"
    if same.healthy:
        assert checked(world, same.limits).of(same.check).verdict is Verdict.OK
        before = _theirs(world, same, state)
        assert all(verdict is Verdict.OK for verdict, _ in before.values()), before
    world.execute(*same.planted)
    if same.act:
        same.act(world)
    ours = checked(world, same.limits).of(same.check)
    assert ours.verdict in (Verdict.WARNING, Verdict.CRITICAL)
    for name, (verdict, said) in _theirs(world, same, state).items():
        assert verdict in (Verdict.WARNING, Verdict.CRITICAL), f"{name}: {said}"


def test_they_are_wrong_after_a_mass_delete_without_analyze(world: World, tmp_path: Path) -> None:
    """Nine rows of ten are gone, and the statistics are those of before: an estimate from them sees a full table.

    We ask what the server counts as dead, and measure where the estimate is stale.
    """
    world.execute(
        "CREATE TABLE wide (id int, filler text)",
        "INSERT INTO wide SELECT n, repeat('x', 100) FROM generate_series(1, 120000) n",
        "VACUUM ANALYZE wide",
        "DELETE FROM wide WHERE id % 10 <> 0",
    )
    world.flushed()
    theirs, said = said_by_check_postgres(
        world, "bloat", "--warning=1 MB and 200%", "--critical=1 GB", "--include=wide"
    )
    assert theirs is Verdict.OK, said
    theirs, said = said_by_check_pgactivity(
        world, "table_bloat", "-w", "50%,1MB", "-c", "99%,1GB", state=tmp_path / "pgactivity.data"
    )
    assert theirs is Verdict.OK, said
    ours = [line for line in checked(world).wrong() if line.subject == "public.wide"]
    assert ours, "the table is named"


def test_check_postgres_takes_an_estimate_of_no_pages_for_no_bloat(world: World) -> None:
    """It finds that the index should have no pages at all, and that 825 are therefore 0 times too many."""
    world.execute(*AIRY)
    theirs, said = said_by_check_postgres(
        world, "bloat", "--warning=1 MB and 200%", "--critical=1 GB", "--include=airy"
    )
    assert theirs is Verdict.OK, said
    assert "shouldbe:0 (0.0X)" in said
    line = checked(world, {"index_bloat_min": Bytes(1 << 20)}).of("database.index_bloat")
    assert (line.verdict, line.subject) == (Verdict.CRITICAL, "public.airy")


def test_they_call_a_setting_right_that_they_saw_wrong_the_first_time(world: World, tmp_path: Path) -> None:
    """check_pgactivity compares with what it saw when it was first asked; we compare with what a person wrote."""
    state = tmp_path / "pgactivity.data"
    world.configure(work_mem="64kB")
    first, said = said_by_check_pgactivity(world, "settings", state=state)
    assert first is Verdict.OK, said
    line = checked(world, settings={"work_mem": "16MB"}).of("database.settings_drift")
    assert (line.verdict, line.observed) == (Verdict.WARNING, "work_mem is 64kB, not 16MB")
