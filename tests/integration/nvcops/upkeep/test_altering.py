"""A setting is changed on a live server and stays; one that makes a statement slower is taken back by itself."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from upkeep_world import ROLE, UpkeepWorld

from nvcops.adapters.postgres import PostgresServer
from nvcops.core.checks import Finding, Verdict
from nvcops.core.workload import Statement, Workload
from nvcops.database import regression
from nvcops.database.altering import change
from nvcops.database.proposals import Churned, Proposal, Setting, Signs, of, proposals
from nvcops.database.regression import counted

SETTING = Setting("random_page_cost", "4", "", "user")
LOOK_UP = "SELECT filler FROM bank.big WHERE id = %s"


@dataclass
class Straight:
    """A run that does every step when it is asked, and remembers what was done."""

    started: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    titles: list[str] = field(default_factory=list)

    def read(self, fact: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return fact(*args, **kwargs)

    def step(self, title: str, act: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.titles.append(title)
        return act(*args, **kwargs)


@dataclass
class Live:
    """A database with a table whose rows are looked up all the time, and what nvcops sees of it."""

    world: UpkeepWorld
    target: Any

    def changed(self, proposal: Proposal) -> tuple[Straight, dict[str, Finding]]:
        run = Straight()
        found = change(run, self.target, [proposal])  # type: ignore[arg-type]
        return run, {line.check: line for line in found}

    def value(self) -> str:
        return str(self.world.world.value("SELECT setting FROM pg_settings WHERE name = 'random_page_cost'"))


@contextmanager
def looked_up(world: UpkeepWorld) -> Iterator[None]:
    """A customer who looks rows up, one after the other, until the block ends."""
    over = threading.Event()

    def customer() -> None:
        number = 0
        with world.world.connect() as session:
            while not over.wait(0.005):
                number = (number + 7919) % 200_000
                session.execute(LOOK_UP, [number], prepare=False)

    thread = threading.Thread(target=customer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


@pytest.fixture
def live(kept: UpkeepWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(regression, "_LOOK_S", 1.0)
    monkeypatch.setattr(regression, "_SLOWER", 10.0)  # what is planted is hundreds of times slower, whatever else runs
    world = kept.world
    world.execute(
        "CREATE EXTENSION IF NOT EXISTS pg_stat_statements",
        "CREATE SCHEMA IF NOT EXISTS bank AUTHORIZATION bank",
        f"GRANT ALTER SYSTEM ON PARAMETER random_page_cost TO {ROLE}",
        f"GRANT EXECUTE ON FUNCTION pg_reload_conf() TO {ROLE}",
    )
    kept.table("bank.big", 200_000)
    manifest = kept.manifest(tmp_path, 'watch_after = "7 s"')
    assert manifest.database
    database = PostgresServer.of(manifest.database, manifest.database.primary)

    def between(start: dt.datetime, end: dt.datetime) -> Workload:
        known = tuple(
            Statement(id=number, text="", calls=one.calls, total_s=one.seconds)
            for number, one in counted(database).items()
        )
        return Workload(server="db-1", since=start, until=end, statements=known)

    statements = SimpleNamespace(between=between)
    target = SimpleNamespace(manifest=manifest, database=database, upkeep=kept.upkeep, statements=statements)
    with looked_up(kept):
        threading.Event().wait(1.5)  # so that what is usual is known
        yield Live(kept, target)
    world.execute("ALTER SYSTEM RESET random_page_cost", "SELECT pg_reload_conf()", "DROP TABLE bank.big")


def test_a_setting_that_hurts_nobody_is_in_force_after_the_watch(live: Live) -> None:
    run, found = live.changed(of(SETTING, "1.1", "its value is one of rotating disks"))
    assert found["optimization.changed"].verdict is Verdict.OK, found
    assert found["optimization.watched"].verdict is Verdict.OK
    assert live.value() == "1.1"
    assert not [title for title in run.titles if "back" in title]


def test_a_setting_that_makes_a_statement_slower_is_taken_back(live: Live) -> None:
    run, found = live.changed(of(SETTING, "100000000", "planted"))
    assert found["optimization.reverted"].observed == "4 again", found
    assert "takes" in found["optimization.watched"].observed
    assert live.value() == "4"
    assert run.titles[-2:] == [
        "take random_page_cost = 100000000 back",
        "have the server read what was before",
    ]


def test_when_nobody_can_look_it_is_taken_back_too(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    live.world.world.execute("DROP EXTENSION pg_stat_statements")
    monkeypatch.setattr(live.target.statements, "between", lambda *_: None)
    monkeypatch.setattr("nvcops.database.altering.usual", lambda *_: {})
    _, found = live.changed(of(SETTING, "1.1", "its value is one of rotating disks"))
    assert found["optimization.watched"].verdict is Verdict.UNKNOWN
    assert "not installed" in found["optimization.watched"].observed
    assert live.value() == "4"


def test_what_may_not_be_changed_is_told(live: Live) -> None:
    live.world.world.execute(f"REVOKE ALTER SYSTEM ON PARAMETER random_page_cost FROM {ROLE}")
    _, found = live.changed(of(SETTING, "1.1", "its value is one of rotating disks"))
    assert found["optimization.changed"].verdict is Verdict.WARNING
    assert "permission denied" in found["optimization.changed"].observed
    assert live.value() == "4"


def test_an_option_of_a_table_is_set_and_read_back(live: Live) -> None:
    churned = Churned(schema="bank", table="big", live=1e5, dead=2e4)
    _, found = live.changed(proposals(Signs(churned=(churned,)))[0])
    assert found["optimization.changed"].verdict is Verdict.OK, found
    assert live.world.names("SELECT unnest(reloptions) FROM pg_class WHERE oid = 'bank.big'::regclass ORDER BY 1") == [
        "autovacuum_enabled=off",
        "autovacuum_vacuum_scale_factor=0.02",
    ]
