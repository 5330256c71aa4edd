"""kill -9 of nvcops at every step of a restore in place and of a drill: resumed or rolled back, nothing left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/restore"))

from restore_world import FULL, RestoreWorld, restore_world

RESTORE = Path(__file__).parents[1] / "integration/nvcops/restore"
pytestmark = pytest.mark.drill
STEPS = 14  # of a restore in place; test_the_drill_reaches_the_end knows
SAMPLE = {(4, "after"), (8, "after"), (8, "before")}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestoreWorld]:
    with restore_world(tmp_path_factory.mktemp("killed")) as made, made.world.receiving():
        made.world.backups.back_up(FULL, full=True)
        made.pay("a", "b")
        yield made


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestoreWorld]:
    """A pair of its own: the other one's standby does not follow through restores in place."""
    with restore_world(tmp_path_factory.mktemp("drilled"), pair=True) as made, made.world.receiving():
        made.world.backups.back_up(FULL, full=True)
        made.pay("a", "b")
        yield made


def go(world: RestoreWorld, procedure: str, run: str, kill: str = "", **options: Any) -> dict[str, Any]:
    """Go on with a run until it ends or is killed."""
    argv = [sys.executable, str(RESTORE / "killed.py"), str(world.folder), procedure, json.dumps(options), run]
    environment = {**os.environ, **({"KILL": kill} if kill else {})}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200, env=environment, check=False)
    if kill and done.returncode == -signal.SIGKILL:
        return {}
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def keys(world: RestoreWorld) -> list[str]:
    return [key for (key,) in world.world.execute("SELECT DISTINCT transfer FROM entry ORDER BY 1")]


def check_nothing_is_left(world: RestoreWorld) -> None:
    deadline = time.monotonic() + 30  # a server whose parent was killed ends by itself
    while world.left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert world.left() == []
    if world.standby:
        with world.standby.connect() as session:
            assert session.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("not paused",)


EVERYWHERE = [
    pytest.param(step, when, marks=pytest.mark.sample if (step, when) in SAMPLE else ())
    for step in range(1, STEPS + 1)
    for when in ("before", "after")
]


@pytest.mark.parametrize(("step", "when"), EVERYWHERE)
def test_a_restore_in_place_that_is_killed_goes_on(world: RestoreWorld, step: int, when: str) -> None:
    server, run = world.world.server, f"go-on@{step}-{when}"
    to = world.end()
    world.pay(f"later-{step}-{when}", tell=False)
    before = keys(world)
    world.received()
    server.stop()
    try:
        go(world, "restore-database", run, f"{step}:{when}", in_place=True, to=to)
        answer = go(world, "restore-database", run, in_place=True, to=to)
    finally:
        server.start()
    assert set(answer["wrong"]) <= {"restore.served"}, "the drill starts the server itself"
    assert keys(world) == [key for key in before if key != f"later-{step}-{when}"]
    world.restores.release(run)
    check_nothing_is_left(world)


@pytest.mark.parametrize(("step", "when"), EVERYWHERE)
def test_a_restore_in_place_that_is_killed_and_given_up_is_rolled_back(
    world: RestoreWorld, step: int, when: str
) -> None:
    server, run = world.world.server, f"give-up@{step}-{when}"
    world.received()
    before = keys(world)
    server.stop()
    try:
        go(world, "restore-database", run, f"{step}:{when}", in_place=True)
        world.restores.tidy("another@1")
    finally:
        server.start()
    assert keys(world) == before
    for old in world.restores.old_data():
        world.restores.release(old.run)
    check_nothing_is_left(world)


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.sample), *range(1, 8)])
def test_a_drill_that_is_killed_anywhere_goes_on_or_is_tidied_up(following: RestoreWorld, seed: int) -> None:
    world = following
    chance = random.Random(seed)
    run = f"drill@{seed}"
    for _ in range(3):
        kill = f"{chance.randint(3, 10)}:{chance.choice(['before', 'after', '0.05', '0.3'])}"
        print(f"killed at {kill}")
        go(world, "test-backup-restore", run, kill)
    if chance.random() < 0.5:
        world.restores.tidy("another@1")
    else:
        answer = go(world, "test-backup-restore", run)
        assert set(answer["wrong"]) <= {"restore.loss", "restore.acknowledged"}
    check_nothing_is_left(world)


def test_the_drill_reaches_the_end(world: RestoreWorld) -> None:
    server = world.world.server
    world.received()
    server.stop()
    try:
        answer = go(world, "restore-database", "end@1", in_place=True)
    finally:
        server.start()
    world.restores.release("end@1")
    assert answer["steps"] == STEPS
