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
from msgspec import convert
from upkeep_world import ROLE, UpkeepWorld

from nvcops.adapters.postgres import PostgresServer
from nvcops.adapters.upkeep import PostgresUpkeep
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import StepFailed, TargetError, Unreachable
from nvcops.core.upkeep import Done, Guard, Order, Outcome
from nvcops.core.workload import Statement, Workload
from nvcops.database.optimization import regression
from nvcops.database.optimization.altering import alter, change, in_force, reload
from nvcops.database.optimization.proposals import Churned, Proposal, Setting, Signs, of, proposals
from nvcops.database.optimization.regression import Slower, Watched, counted, watched
from nvcops.database.optimization.unaccepted import clean, given_up

SETTING = Setting("random_page_cost", "4", "", "user")
LOOK_UP = "SELECT filler FROM bank.big WHERE id = %s"


@dataclass
class Straight:
    """A run that does every step when it is asked, and remembers what was done."""

    id: str = "db-optimization@1"
    started: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    titles: list[str] = field(default_factory=list)

    def read(self, fact: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return fact(*args, **kwargs)

    def step(self, title: str, act: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.titles.append(title)
        try:
            return act(*args, **kwargs)
        except TargetError as error:
            raise StepFailed(f"{title}: {error.sentence}") from error


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
    assert live.world.upkeep.pending() == []
    assert not [title for title in run.titles if "back" in title]


def test_a_setting_that_makes_a_statement_slower_is_taken_back(live: Live) -> None:
    run, found = live.changed(of(SETTING, "100000000", "planted"))
    assert found["optimization.reverted"].observed == "4 again", found
    assert "takes" in found["optimization.watched"].observed
    assert live.value() == "4"
    assert run.titles[-3:] == [
        "take random_page_cost = 100000000 back",
        "have the server read what was before",
        "note that it is taken back",
    ]
    assert live.world.upkeep.pending() == []


def test_when_nobody_can_look_it_is_taken_back_too(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    live.world.world.execute("DROP EXTENSION pg_stat_statements")
    monkeypatch.setattr(live.target.statements, "between", lambda *_: None)
    monkeypatch.setattr("nvcops.database.optimization.altering.usual", lambda *_: {})
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


def test_a_table_is_known_by_its_schema_and_its_name_not_by_both_with_a_dot(live: Live) -> None:
    world = live.world.world
    world.execute(
        'CREATE SCHEMA "bank.big" AUTHORIZATION bank',
        'CREATE TABLE "bank.big".t ()',
        'CREATE TABLE bank."big.t" () WITH (autovacuum_vacuum_scale_factor = 0.02)',
        'ALTER TABLE "bank.big".t OWNER TO bank',
    )
    try:
        proposal = proposals(Signs(churned=(Churned(schema="bank.big", table="t", live=1e5, dead=2e4),)))[0]
        _, found = live.changed(proposal)
        assert found["optimization.changed"].verdict is Verdict.OK, found
        options = "SELECT count(*) FROM pg_class WHERE relname = 't' AND reloptions IS NOT NULL"
        assert world.value(options) == 1
    finally:
        world.execute('DROP SCHEMA "bank.big" CASCADE', 'DROP TABLE bank."big.t"')


def test_what_somebody_changed_since_it_was_measured_is_left_as_it_is(live: Live) -> None:
    live.world.world.execute("ALTER SYSTEM SET random_page_cost = 3", "SELECT pg_reload_conf()")
    threading.Event().wait(0.5)
    run, found = live.changed(of(SETTING, "1.1", "its value is one of rotating disks"))
    assert "somebody has changed it" in found["optimization.changed"].observed
    assert (live.value(), run.titles) == ("3", [])


def test_what_the_server_does_not_read_is_taken_back_at_once(live: Live) -> None:
    world = live.world.world
    world.execute(f"REVOKE EXECUTE ON FUNCTION pg_reload_conf() FROM {ROLE}")
    _, found = live.changed(of(SETTING, "1.1", "its value is one of rotating disks"))
    assert "configuration was not read" in found["optimization.watched"].observed, found
    assert found["optimization.reverted"].observed == "4 again"
    world.execute("SELECT pg_reload_conf()")
    threading.Event().wait(0.5)
    assert live.value() == "4", "nothing waits in the file for the next start"


def test_a_value_that_the_database_has_of_its_own_is_in_the_way(live: Live) -> None:
    world = live.world.world
    name = world.value("SELECT quote_ident(current_database())")
    world.execute(f"ALTER DATABASE {name} SET random_page_cost = 4")
    try:
        _, found = live.changed(of(SETTING, "1.1", "its value is one of rotating disks"))
        assert "does not run with random_page_cost" in found["optimization.watched"].observed
        assert found["optimization.reverted"].verdict is Verdict.WARNING
        assert world.value("SELECT count(*) FROM pg_file_settings WHERE name = 'random_page_cost'") == 0
    finally:
        world.execute(f"ALTER DATABASE {name} RESET random_page_cost")


def test_roles_that_have_a_value_of_their_own_are_told(live: Live) -> None:
    world = live.world.world
    world.execute("ALTER ROLE bank SET random_page_cost = 4")
    try:
        _, found = live.changed(of(SETTING, "1.1", "its value is one of rotating disks"))
        assert found["optimization.changed"].verdict is Verdict.WARNING
        assert "not for bank" in found["optimization.changed"].observed
    finally:
        world.execute("ALTER ROLE bank RESET random_page_cost")


def test_when_the_server_is_lost_in_the_middle_what_was_changed_is_taken_back(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out = PostgresUpkeep.carry_out

    def lost(self: PostgresUpkeep, order: Order, guard: Guard) -> Done:
        if order.title == "set bank.big":
            raise Unreachable("db-1 was lost")
        return carry_out(self, order, guard)

    monkeypatch.setattr(PostgresUpkeep, "carry_out", lost)
    table = proposals(Signs(churned=(Churned(schema="bank", table="big", live=1e5, dead=2e4),)))[0]
    run = Straight()
    found = change(run, live.target, [of(SETTING, "1.1", "slow disks"), table])  # type: ignore[arg-type]
    reverted = {line.subject: line.observed for line in found if line.check == "optimization.reverted"}
    assert reverted == {
        "random_page_cost = 1.1": "4 again",
        "bank.big = autovacuum_vacuum_scale_factor=0.02": "autovacuum_vacuum_scale_factor as the server's again",
    }
    assert live.value() == "4"


def test_a_setting_is_taken_back_on_the_server_on_which_it_was_set_and_on_no_other(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = live.target.upkeep.name
    servers = live.target.upkeep.servers
    monkeypatch.setattr(live.target.upkeep, "servers", {**servers, "db-2": servers[first]})

    def moved(*_: object) -> Watched:
        monkeypatch.setattr(live.target.upkeep, "primary", "db-2")
        return Watched(seconds=1, statements=1, slower=(Slower(1, 0.1, 0.2, 20),))

    monkeypatch.setattr("nvcops.database.optimization.altering.watched", moved)
    run, found = live.changed(of(SETTING, "1.1", "planted"))
    line = found["optimization.reverted"]
    assert line.verdict is Verdict.CRITICAL
    assert f'`ALTER SYSTEM RESET "random_page_cost"` on {first}' in line.observed
    assert "db-2 is primary now" in line.observed
    assert [one.server for one in live.world.upkeep.pending()] == [first], "the next run tries again"
    assert run.titles[-2].startswith("take random_page_cost")


@pytest.mark.parametrize("name", ["wal_compression", "jit", "max_parallel_workers_per_gather", "work_mem"])
def test_a_proposed_value_is_what_the_server_says_when_it_runs_with_it(live: Live, name: str) -> None:
    kinds = "SELECT name, setting AS value, coalesce(unit, '') AS unit, context FROM pg_settings WHERE name = %(name)s"
    rows = live.target.database.rows(kinds, {"name": name})
    rows[0]["value"] = "on" if name == "jit" else rows[0]["value"]
    found = proposals(Signs(settings=tuple(convert(rows, list[Setting])), temp_bytes=1.0))
    assert found
    for one in found:
        with live.world.world.connect() as session:
            session.execute("SELECT set_config(%s, %s, false)", [name, one.settings[name]])
            row = session.execute("SELECT setting FROM pg_settings WHERE name = %s", [name]).fetchone()
            assert row == (one.settings[name],)


def test_when_statements_are_forgotten_all_the_time_a_slower_one_is_found_all_the_same(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regression, "_SLOWER_S", 0.0)
    over = threading.Event()

    def forgetful() -> None:
        while not over.wait(0.7):
            live.world.world.execute("SELECT pg_stat_statements_reset()")

    thread = threading.Thread(target=forgetful)
    thread.start()
    try:
        before = dict.fromkeys(counted(live.target.database), 1e-7)
        seen = watched(live.target, before, 12.0)
    finally:
        over.set()
        thread.join(30)
    assert [one for one in seen.slower if one.calls >= 20], seen


def test_a_night_without_customers_proves_nothing_and_all_is_taken_back(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvcops.database.optimization.altering.usual", lambda *_: {})
    _, found = live.changed(of(SETTING, "1.1", "its value is one of rotating disks"))
    assert found["optimization.watched"].verdict is Verdict.UNKNOWN
    assert "often enough" in found["optimization.watched"].observed
    assert live.value() == "4"


def test_what_was_being_watched_is_taken_back_by_who_gives_the_run_up(live: Live) -> None:
    run, setting = Straight(), of(SETTING, "1.1", "its value is one of rotating disks")
    assert alter(live.target, setting, live.target.upkeep.name, run.id).outcome is Outcome.DONE
    assert reload(live.target).outcome is Outcome.DONE
    assert in_force(live.target, [setting], True).values["random_page_cost"] == "1.1"
    assert given_up(live.target, "another@1") == []
    assert given_up(live.target, run.id) == ["random_page_cost = 1.1 is taken back"]
    assert (live.value(), live.world.upkeep.pending()) == ("4", [])


def test_what_cannot_be_taken_back_is_said_and_tried_again_by_the_next_run(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = of(SETTING, "1.1", "its value is one of rotating disks")
    alter(live.target, setting, live.target.upkeep.name, "first@1")
    reload(live.target)
    with monkeypatch.context() as lost:
        lost.setattr(PostgresUpkeep, "carry_out", lambda *_: (_ for _ in ()).throw(Unreachable("db-1 was lost")))
        (said,) = given_up(live.target, "first@1")
    assert said == "random_page_cost = 1.1 may still be in force: db-1 was lost; the next db-optimization takes it back"
    run = Straight(id="second@1")
    (line,) = clean(run, live.target)  # type: ignore[arg-type]
    assert line.observed == "first@1 ended before it was accepted: it is taken back"
    assert run.titles == ["take back random_page_cost = 1.1, which nobody accepted"]
    assert (live.value(), live.world.upkeep.pending()) == ("4", [])
    assert clean(Straight(id="third@1"), live.target) == []  # type: ignore[arg-type]


def test_what_the_server_refused_is_nothing_to_take_back(live: Live) -> None:
    live.world.world.execute(f"REVOKE ALTER SYSTEM ON PARAMETER random_page_cost FROM {ROLE}")
    done = alter(live.target, of(SETTING, "1.1", "slow disks"), live.target.upkeep.name, "refused@1")
    assert (done.outcome, live.world.upkeep.pending()) == (Outcome.REFUSED, [])
