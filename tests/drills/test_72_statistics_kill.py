"""kill -9 of nvcops anywhere in an update of the statistics: resumed it ends well; given up, nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/restore"))
sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/clones"))

from restore_world import RestoreWorld
from statistics_world import statistics_world

KILLED = Path(__file__).parents[1] / "integration/nvcops/restore/killed.py"
pytestmark = pytest.mark.drill
TOGETHER = (
    "SELECT count(l.word) FROM post.parcel p JOIN post.label l ON l.id = p.label"
    " WHERE city = %s AND zip = %s AND area = %s"
)
NAME = "update-db-stats"
# The workload is read, the copy made, plans compared, the copy thrown away; what stands is read, changed, analysed, and
# read again.
STEPS = 8
WITHIN = [(2, "0.1"), (2, "0.4"), (2, "0.8"), (3, "0.1"), (3, "0.3"), (3, "0.6"), (3, "1.2"), (4, "0.01"), (6, "0.02")]
SAMPLE = {(6, "after")}
POINTS = [
    pytest.param(step, when, marks=pytest.mark.sample if (step, when) in SAMPLE else ())
    for step, when in [*WITHIN, *((step, when) for step in range(1, STEPS + 1) for when in ("before", "after"))]
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestoreWorld]:
    with statistics_world(tmp_path_factory.mktemp("killed")) as made:
        made.world.execute("SELECT pg_stat_statements_reset()")
        made.world.execute("CREATE ROLE post_app IN ROLE pg_read_all_data")
        made.world.execute("GRANT USAGE ON SCHEMA post TO post_app")
        with made.world.server.connect() as session:
            session.execute("SET ROLE post_app")  # what nvcops asks itself is no workload
            for number in range(40):
                session.execute(TOGETHER.encode(), (number, number + 1000, number + 2000))
        yield made


def go(world: RestoreWorld, run: str, kill: str = "") -> dict[str, object]:
    """Go on with a run until it ends or is killed; empty: it was killed."""
    argv = [sys.executable, str(KILLED), str(world.folder), NAME, '{"apply": true}', run]
    environment = {**os.environ, **({"KILL": kill} if kill else {})}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=400, env=environment, check=False)
    if kill and done.returncode == -signal.SIGKILL:
        return {}
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def left(world: RestoreWorld) -> list[str]:
    """Copies, notes of copies, and what runs in their folders."""
    state = world.folder / "state"
    names = [path.name for folder in ("scratch", "clones/works") for path in sorted(state.glob(f"{folder}/*"))]
    for process in Path("/proc").glob("[0-9]*/cwd"):
        try:
            names += [str(process)] if str(state / "scratch") in str(process.readlink()) else []
        except (FileNotFoundError, PermissionError):
            continue
    return names


def forget(world: RestoreWorld) -> None:
    """The statistics as they were before, and in the repository's log."""
    for (name,) in world.world.execute("SELECT stxname FROM pg_statistic_ext"):
        world.world.execute(f'DROP STATISTICS post."{name}"')
    world.world.execute("ANALYZE post.parcel")
    world.received()


@pytest.mark.parametrize(("step", "when"), POINTS)
def test_a_run_that_is_killed_goes_on_to_its_end(world: RestoreWorld, step: int, when: str) -> None:
    forget(world)
    run = f"update@{step}-{when}"
    killed = go(world, run, f"{step}:{when}") == {}
    assert killed or when not in ("before", "after")
    assert go(world, run)["wrong"] == []
    assert world.world.execute(
        "SELECT count(*) FROM pg_statistic_ext e JOIN pg_statistic_ext_data d ON d.stxoid = e.oid"
    ) == [(1,)]
    assert left(world) == []


@pytest.mark.parametrize(
    ("step", "when"), [(2, "0.3"), pytest.param(3, "0.4", marks=pytest.mark.sample), (6, "before")]
)
def test_what_a_run_that_was_given_up_left_goes_with_the_next(world: RestoreWorld, step: int, when: str) -> None:
    forget(world)
    go(world, f"given-up@{step}", f"{step}:{when}")
    deadline = time.monotonic() + 30  # a server whose parent was killed ends by itself
    while any(name.startswith("/proc") for name in left(world)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert go(world, f"next@{step}")["wrong"] == []
    assert left(world) == []
