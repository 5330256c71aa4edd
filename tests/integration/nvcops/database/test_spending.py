"""What the database was asked, kept and judged on a real server: history, plans, and what may not be read."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
from database_world import NAME, World

from nvcops.adapters.statements.history import StatementHistory
from nvcops.adapters.statements.sampler import Sampler
from nvcops.adapters.statements.store import StatementStore
from nvcops.core.errors import Refused
from nvcops.core.manifest import Objectives, ServiceEntry
from nvcops.core.manifest.tables import Series
from nvcops.core.target import Increase, LogEvent, Target
from nvcops.database.diagnostics.spending import spending, spending_findings

BANK = ServiceEntry(name="bank", url="http://127.0.0.1:1", series=Series(requests="r", latency="l"))
BOTH = pytest.mark.parametrize("world", [17, 18], indirect=True)
DAY = dt.timedelta(days=1)


class Kept:
    """A history in a folder of its own, written by a sampler as `nvcops serve` runs it."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.store = StatementStore(folder / "statements.sqlite")
        self.history = StatementHistory(self.store, world.socket())
        self.sampler = Sampler([world.socket()], self.store, every_s=0.2)
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.sampler.run, args=(self._stop,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def calls(self, words: str) -> float:
        """How often statements with these words were called, as the history has it."""
        now = dt.datetime.now(dt.UTC)
        found = self.store.between(now - DAY, now + DAY, NAME)
        return sum(one.calls for one in found.statements if words in one.text) if found else 0.0


@pytest.fixture
def kept(world: World, tmp_path: Path) -> Kept:
    world.execute("CREATE SCHEMA bank", "CREATE TABLE bank.entry (id int, note text)")
    world.execute("INSERT INTO bank.entry SELECT n, 'x' FROM generate_series(1, 20000) n", "ANALYZE bank.entry")
    return Kept(world, tmp_path)


def target_of(kept: Kept, **logs: Any) -> Target:
    metrics = SimpleNamespace(increases=lambda *_: [Increase({"route": "/"}, 100.0)])
    manifest = SimpleNamespace(services=(BANK,), slos=(), objectives=Objectives(), database=None)
    if logs:
        manifest.database = SimpleNamespace(primary=SimpleNamespace(name=NAME))
    parts = {
        "statements": kept.history,
        "metrics": metrics,
        "logs": SimpleNamespace(**(logs or {"sources": []})),
        "manifest": manifest,
    }
    return cast("Target", SimpleNamespace(**parts))


def asked(world: World, times: int) -> None:
    for _ in range(times):
        world.execute("SELECT count(*) FROM bank.entry WHERE note = 'dana'")


@BOTH
def test_what_is_asked_while_serving_is_known_afterwards(kept: Kept) -> None:
    asked(kept.world, 3)
    with kept:
        kept.world.wait_until(lambda: _read_once(kept), "it was read once")
        asked(kept.world, 7)
        kept.world.wait_until(lambda: kept.calls("bank.entry WHERE") == 7, "seven calls are known")
        kept.world.execute("SELECT pg_stat_statements_reset()")
        asked(kept.world, 4)
        kept.world.wait_until(lambda: kept.calls("bank.entry WHERE") >= 11, "a reset is bridged")
    assert kept.calls("bank.entry WHERE") == 11
    with Kept(kept.world, kept.store._path.parent) as again:
        asked(again.world, 2)
        again.world.wait_until(lambda: again.calls("bank.entry WHERE") == 13, "another life goes on where one ended")


def _read_once(kept: Kept) -> bool:
    now = dt.datetime.now(dt.UTC)
    return kept.store.known(now - DAY, now + DAY) is not None


def test_what_sessions_wait_for_is_sampled_each_second(kept: Kept) -> None:
    holder = kept.world.connect(autocommit=False)
    holder.execute("LOCK TABLE bank.entry")
    waiter = kept.world.connect(application_name="bank-1")
    thread = threading.Thread(target=waiter.execute, args=("SELECT count(*) FROM bank.entry",))
    thread.start()

    def locked(end: dt.datetime) -> float:
        waits = kept.history.waits(end - DAY, end + DAY)
        return sum(one.seconds for one in waits.waited if (one.title, one.application) == ("Lock: relation", "bank-1"))

    try:
        with kept:
            kept.world.wait_until(lambda: locked(dt.datetime.now(dt.UTC)) >= 1.0, "a second of waiting is known")
        found = kept.history.sample(1.5)
    finally:
        holder.rollback()
        thread.join(10)
    assert any(one.title == "Lock: relation" for one in found.waited)
    assert found.observed_s >= 1.5
    seen = kept.history.waits(dt.datetime.now(dt.UTC) - DAY, dt.datetime.now(dt.UTC))
    assert seen.observed_s >= locked(dt.datetime.now(dt.UTC)) - 0.001


def test_a_sampler_says_that_nobody_answers(kept: Kept) -> None:
    gone = kept.world.socket(database="nowhere")
    with pytest.raises(Refused, match="nowhere"):
        Sampler([gone], kept.store).run(threading.Event())


@BOTH
def test_without_a_history_it_is_what_the_server_has_counted(kept: Kept) -> None:
    asked(kept.world, 5)
    kept.world.execute("GRANT SELECT ON bank.entry TO nvcops", "GRANT USAGE ON SCHEMA bank TO nvcops")
    now = dt.datetime.now(dt.UTC)
    seen = spending(target_of(kept), now - DAY, now, 0.0)
    assert seen.before is None
    lines = spending_findings(seen, 20)
    (line,) = [line for line in lines if line.check == "performance.spent" and "bank.entry WHERE" in line.observed]
    assert "5 calls" in line.observed
    assert "dana" not in line.observed
    shares = [line for line in lines if line.check == "performance.objective"]
    assert "of the 200 ms that an answer may take" in shares[0].observed
    planned = kept.history.plan("SELECT count(*) FROM bank.entry WHERE note = $1")
    assert (planned.server, planned.explained["Plan"]["Node Type"]) == (NAME, "Aggregate")


def test_a_plan_that_may_not_be_had_says_why(kept: Kept) -> None:
    with pytest.raises(Refused, match="permission denied"):
        kept.history.plan("SELECT count(*) FROM bank.entry")
    with pytest.raises(Refused, match="not one whole statement"):
        kept.history.plan("SELECT 1; SELECT pg_sleep(10)")
    for _ in range(3):
        asked(kept.world, 1)
    now = dt.datetime.now(dt.UTC)
    seen = spending(target_of(kept), now - DAY, now, 0.0)
    assert any("permission denied" in line.observed for line in spending_findings(seen, 3))


def test_a_plan_off_the_log_shows_where_the_estimate_is_wrong(kept: Kept) -> None:
    asked(kept.world, 5)
    now = dt.datetime.now(dt.UTC)
    costly = kept.history.between(now - DAY, now).statements[0].id
    scan = '{"Node Type": "Seq Scan", "Relation Name": "entry", "Plan Rows": 1, "Actual Rows": 20000,'
    plan = f'{{"Query Text": "secret", "Plan": {scan} "Filter": "(note = \'dana\')"}}}}'
    fields = {"query_id": costly, "message": f"duration: 12.1 ms  plan:\n{plan}"}
    event = LogEvent(now, NAME, "postgresql.log", fields)
    seen = spending(target_of(kept, sources=[NAME], events=lambda *_: iter([event])), now - DAY, now, 0.0)
    line = spending_findings(seen, 1)[0]
    assert "[auto_explain: Seq Scan on entry; reads all of entry (about 20,000 rows)" in line.observed
    assert "expected 1 rows of Seq Scan on entry, and 20,000 came" in line.observed
    assert "dana" not in line.observed
    assert "secret" not in line.observed


def test_without_the_extension_it_says_what_helps(world: World, tmp_path: Path) -> None:
    world.execute("DROP EXTENSION pg_stat_statements")
    kept = Kept(world, tmp_path)
    now = dt.datetime.now(dt.UTC)
    lines = spending_findings(spending(target_of(kept), now - DAY, now, 0.0), 5)
    assert (lines[0].check, lines[0].verdict.name) == ("performance.spent", "UNKNOWN")
    assert "CREATE EXTENSION pg_stat_statements" in lines[0].next_step
    with kept:
        world.wait_until(
            lambda: kept.history.waits(now - DAY, now + DAY).observed_s > 0, "waits are sampled all the same"
        )


_FUNCTIONS = (
    """CREATE FUNCTION bank.noted(what text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS
    'DECLARE n bigint; BEGIN SELECT count(*) INTO n FROM bank.entry WHERE note = $1; RETURN n; END'""",
    """CREATE FUNCTION bank.numbered(what int) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS
    'DECLARE found text; BEGIN SELECT note INTO found FROM bank.entry WHERE id = what; RETURN found; END'""",
    "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA bank FROM public",
    "GRANT SELECT ON bank.entry TO nvcops",
    "GRANT USAGE ON SCHEMA bank TO nvcops",
)


@BOTH
def test_what_functions_ask_inside_is_told_with_its_plan_where_it_is_counted(kept: Kept) -> None:
    world = kept.world
    world.execute(*_FUNCTIONS)

    def told() -> tuple[list[str], list[str]]:
        with world.connect() as session:
            for _ in range(20):
                session.execute("SELECT bank.noted('dana')")
                session.execute("SELECT bank.numbered(17)")
        now = dt.datetime.now(dt.UTC)
        lines = spending_findings(spending(target_of(kept), now - DAY, now, 0.0), 20)
        assert not any("dana" in line.observed for line in lines)
        named = [(line.check, line.observed) for line in lines]
        return [words for check, words in named if check == "performance.inside"], [
            words for check, words in named if check == "performance.spent" and "SELECT bank.n" in words
        ]

    (hidden,), _ = told()
    assert "of the time is in calls of functions; what they ask inside is not counted" in hidden
    assert "pg_stat_statements.track = 'all'" in hidden

    world.execute(f"ALTER DATABASE \"{world.database}\" SET pg_stat_statements.track = 'all'")
    inside, calls = told()
    (noted,) = [words for words in inside if "count(*)" in words]
    assert "20 calls" in noted
    assert "reads all of entry (about 20,000 rows)" in noted, "its plan, though nobody may call the function"
    (numbered,) = [words for words in inside if "count(*)" not in words]
    assert "a function's own variables have no plan outside of it" in numbered
    assert all("it would show the call alone, see 'Inside of functions'" in words for words in calls)
