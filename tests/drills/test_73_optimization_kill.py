"""kill -9 of nvcops anywhere while a setting is changed, watched and taken back: nothing stays that nobody accepted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/restore"))
sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/clones"))

from restore_world import RestoreWorld
from statistics_world import statistics_world

from nvcops.adapters.target import connect
from nvcops.database.optimization.unaccepted import given_up

KILLED = Path(__file__).parents[1] / "integration/nvcops/restore/killed.py"
pytestmark = pytest.mark.drill
NAME = "db-optimization"
KILLS_MIN = 12
BY_KEY = "SELECT label FROM post.parcel WHERE id = %s"
COSTLY = "SELECT setting FROM pg_settings WHERE name = 'random_page_cost'"
ASKED = ("unaccepted", "signs", "copied", "measured", "discarded")  # the steps before anything is changed


@dataclass
class Planted:
    """A server that believes an index costs a fortune; `measured` are the journal's steps up to the approval."""

    world: RestoreWorld
    measured: list[str]

    def begin(self, run: str) -> None:
        """A run that has been approved, and has changed nothing; the server as it was."""
        self.reset()
        (self.world.folder / f"journal-{run}").write_text(json.dumps(self.measured))

    def reset(self) -> None:
        for row in self.world.world.execute("SELECT name FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'"):
            self.world.world.execute(f"ALTER SYSTEM RESET {row[0]}")
        self.world.world.execute("ALTER SYSTEM SET random_page_cost = 1000000")
        for table in ("inbox", "parcel"):
            self.world.world.execute(f"ALTER TABLE post.{table} RESET (fillfactor, autovacuum_vacuum_scale_factor)")
        self.world.world.execute("SELECT pg_reload_conf()")
        self.read_by_server()

    def changed(self) -> list[str]:
        """What is not as it was before the run."""
        rows = self.world.world.execute(
            "SELECT name || '=' || setting FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'"
            " AND NOT (name = 'random_page_cost' AND setting IN ('1000000', '1e+06'))"
            " UNION ALL SELECT c.relname || ': ' || o FROM pg_class c, unnest(c.reloptions) o"
            " WHERE relnamespace = 'post'::regnamespace AND o NOT LIKE 'autovacuum_enabled%'"
        )
        return [row[0] for row in rows]

    def read_by_server(self) -> None:
        """Wait until the server runs with what its file says."""
        for _ in range(100):
            costs = self.world.world.execute(COSTLY)[0][0]
            if (costs == "1e+06") == (not any("random_page_cost" in one for one in self.changed())):
                return
            threading.Event().wait(0.1)
        raise AssertionError("the server does not read its configuration")

    def pending(self) -> list[Any]:
        file = self.world.folder / "state" / "upkeep" / "pending.json"
        return json.loads(file.read_text()) if file.exists() else []


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    with statistics_world(tmp_path_factory.mktemp("optimization-kill")) as world:
        toml = world.folder / "platform.toml"
        toml.write_text(toml.read_text().replace("[database.upkeep]", '[database.upkeep]\nwatch_after = "4 s"'))
        world.world.execute("SELECT pg_stat_statements_reset()")
        world.world.execute("CREATE ROLE post_app IN ROLE pg_read_all_data")
        world.world.execute("GRANT USAGE ON SCHEMA post TO post_app")
        made = Planted(world, [])
        made.reset()
        with asking(world):
            threading.Event().wait(2.0)
        world.received()
        go(world, "measured", apply=False)
        made.measured = json.loads((world.folder / "journal-measured").read_text())[: len(ASKED)]
        yield made


@contextmanager
def asking(world: RestoreWorld) -> Iterator[None]:
    """A customer who looks rows up all the time."""
    over = threading.Event()

    def customer() -> None:
        with world.world.server.connect() as session:
            session.execute("SET ROLE post_app")  # what nvcops asks itself is no workload
            while not over.wait(0.005):
                session.execute(BY_KEY.encode(), (17,))

    thread = threading.Thread(target=customer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


def go(world: RestoreWorld, run: str, kill: str = "", *, apply: bool = True) -> dict[str, Any]:
    """Go on with a run until it ends or is killed; empty: it was killed."""
    argv = [sys.executable, str(KILLED), str(world.folder), NAME, json.dumps({"apply": apply}), run]
    environment = {**os.environ, **({"KILL": kill} if kill else {})}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=400, env=environment, check=False)
    if kill and done.returncode == -signal.SIGKILL:
        return {}
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def points(planted: Planted, *, accepted: bool) -> int:
    """How many steps a run has from here when nobody kills it; it ends as is expected."""
    run = f"whole-{accepted}"
    planted.begin(run)
    with asking(planted.world) if accepted else nullcontext():
        ended = go(planted.world, run)
    planted.read_by_server()
    assert bool(planted.changed()) == accepted, (ended, planted.changed())
    assert planted.pending() == []
    return int(ended["steps"])


def killed_everywhere(planted: Planted, *, accepted: bool, whens: list[str]) -> int:
    """Kill it at each of its steps; resumed it ends as if nothing had been, given up nothing is left."""
    kills, last = 0, points(planted, accepted=accepted)
    with asking(planted.world) if accepted else nullcontext():
        for step in range(len(ASKED) + 1, last + 1):
            for when in whens:
                for resumed in (True, False):
                    run = f"run-{accepted}-{step}-{when}-{resumed}"
                    planted.begin(run)
                    kills += go(planted.world, run, f"{step}:{when}") == {}
                    if resumed:
                        go(planted.world, run)
                        stays = accepted
                    else:
                        stays = accepted and not planted.pending() and bool(planted.changed())
                        said = given_up(connect(planted.world.manifest), run)
                        assert all(one.endswith("is taken back") for one in said), (run, said)
                    planted.read_by_server()
                    assert bool(planted.changed()) == stays, (run, planted.changed())
                    assert planted.pending() == [], run
                    assert planted.world.left() == [], run
    return kills


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("accepted", [True, False])
def test_killed_at_any_step_no_change_stays_that_nobody_accepted(planted: Planted, accepted: bool) -> None:
    kills = killed_everywhere(planted, accepted=accepted, whens=["before", "after", "0.02"])
    print(f"killed {kills} times, accepted={accepted}")
    assert kills >= KILLS_MIN


@pytest.mark.sample
def test_what_was_being_watched_when_its_run_was_killed_goes_with_the_next_run(planted: Planted) -> None:
    planted.begin("given-up@1")
    steps = points(planted, accepted=False)
    planted.begin("given-up@1")
    watched = next(n for n in range(len(ASKED) + 1, steps) if not killed_in_force(planted, n))
    assert planted.changed()
    assert planted.pending()
    planted.world.received()
    said = go(planted.world, f"next@{watched}", apply=False)
    assert "optimization.unaccepted" in said["wrong"]
    assert planted.changed() == []
    assert planted.pending() == []
    assert planted.world.left() == []


def killed_in_force(planted: Planted, step: int) -> bool:
    """Kill the run before a step; False as soon as what it changes is in force."""
    go(planted.world, "given-up@1", f"{step}:before")
    return not planted.changed()


@pytest.mark.parametrize(("step", "when"), [(3, "0.4"), (4, "0.5"), (4, "2.0"), (5, "0.01"), (5, "after")])
def test_killed_while_it_measures_no_copy_is_left(planted: Planted, step: int, when: str) -> None:
    planted.reset()
    planted.world.received()
    run = f"copy-{step}-{when}"
    with asking(planted.world):
        go(planted.world, run, f"{step}:{when}")
        go(planted.world, run)
    assert planted.world.left() == []
    assert planted.pending() == []
