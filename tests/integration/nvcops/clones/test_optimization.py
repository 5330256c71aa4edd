"""From signs to a change and back, whole: a planted cost is found, its gain measured, changed, watched."""

from __future__ import annotations

import datetime as dt
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
from nvcops.core.target import Target
from nvcops.core.units import Seconds
from nvcops.core.workload import Statement, Workload
from nvcops.database.optimization import proposals, regression
from nvcops.database.optimization.altering import upkeep_of
from nvcops.database.optimization.regression import counted

BY_KEY = "SELECT * FROM post.parcel WHERE id = $1"
VALUE = "SELECT setting FROM pg_settings WHERE name = 'random_page_cost'"


@dataclass
class Asked:
    """One look-up in the last week, and in the last day what the server counted."""

    target: Target

    def between(self, start: dt.datetime, end: dt.datetime) -> Workload:
        told: tuple[Statement, ...] = (Statement(id=1, text=BY_KEY, calls=1000, total_s=100.0),)
        if end - start < dt.timedelta(days=2):
            assert self.target.database
            found = counted(self.target.database)
            told = tuple(Statement(id=n, text="", calls=one.calls, total_s=one.seconds) for n, one in found.items())
        return Workload(server="db-1", since=start, until=end, statements=told)

    def waits(self, start: dt.datetime, end: dt.datetime) -> Waits:
        raise AssertionError(start, end)


@contextmanager
def looked_up(world: RestoreWorld) -> Iterator[None]:
    """A customer who looks rows up all the time."""
    over = threading.Event()

    def customer() -> None:
        while not over.wait(0.005):
            world.world.execute("SELECT * FROM post.parcel WHERE id = 17")

    thread = threading.Thread(target=customer)
    thread.start()
    try:
        threading.Event().wait(1.0)
        yield
    finally:
        over.set()
        thread.join(30)


@pytest.fixture(scope="module")
def costly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestoreWorld]:
    """A server that believes that an index costs a fortune."""
    with statistics_world(tmp_path_factory.mktemp("optimization")) as world:
        world.world.execute("ALTER SYSTEM SET random_page_cost = 1000000")
        world.world.execute("SELECT pg_reload_conf()")
        yield world


def optimized(world: RestoreWorld, run: str, *, apply: bool) -> ActingRun:
    world.received()
    acting = ActingRun(id=run)
    target = connect(world.manifest)
    procedure = find("db-optimization")
    procedure.function(acting, replace(target, statements=Asked(target)), apply=apply)
    return acting


def test_what_gains_is_told_changed_when_approved_and_taken_back_when_it_harms(
    costly: RestoreWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regression, "_LOOK_S", 1.0)
    only = proposals._planner
    monkeypatch.setattr(
        "nvcops.database.optimization.db_optimization.proposals",
        lambda signs: only({one.name: one for one in signs.settings if one.name == "random_page_cost"}),
    )
    told = optimized(costly, "optimize@1", apply=False)
    gains = told.of("optimization.gain")
    assert [line.subject for line in gains] == ["random_page_cost = 1.1"], told.findings
    assert costly.world.execute(VALUE) == [("1e+06",)]
    assert costly.left() == []

    entry = upkeep_of(costly.manifest)
    monkeypatch.setattr(
        "nvcops.database.optimization.altering.upkeep_of", lambda _: replaced(entry, watch_after=Seconds(6))
    )
    with looked_up(costly):
        made = optimized(costly, "optimize@2", apply=True)
    assert [one.partition(":")[0] for one in made.approved] == ["change"]
    assert [line.verdict for line in made.of("optimization.changed")] == [Verdict.OK], made.findings
    assert made.of("optimization.changed")[0].observed == "in force, was 1e+06"
    assert costly.world.execute(VALUE) == [("1.1",)]

    costly.world.execute("ALTER SYSTEM SET random_page_cost = 1000000")
    costly.world.execute("SELECT pg_reload_conf()")
    back = optimized(costly, "optimize@3", apply=True)
    assert [line.verdict for line in back.of("optimization.reverted")] == [Verdict.WARNING], back.findings
    assert "often enough" in back.of("optimization.watched")[0].observed, "nobody asked anything meanwhile"
    assert costly.world.execute(VALUE) == [("1e+06",)]
