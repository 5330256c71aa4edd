"""kill -9 of nvcops at every step of a failover test: it is taken up, and whatever was broken is put right."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/cluster"))

from cluster_world import World, wait_for, world

STEPS = 8  # of a test that breaks a host; test_a_whole_run_has_so_many_steps knows
ENDED = re.compile(r"^ *(\d+)  (concluded|failed|waiting)")
GAP = "failover.gap"
pytestmark = [pytest.mark.drill, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def pair() -> Iterator[World]:
    with world() as made, made.serving():
        yield made


def killed_after(pair: World, step: int, seconds: float) -> None:
    """Begin a failover test, and kill its process so long after a step has ended."""
    argv = pair.nvcops("run", "test-failover", "--kind", "crash", "--no-wait")
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            ended = ENDED.match(line)
            if ended and int(ended[1]) >= step:
                time.sleep(seconds)
                break
        process.kill()
        process.wait(60)


def newest(pair: World) -> dict[str, Any]:
    listed: Any = pair.answer("runs", "--procedure", "test-failover")
    return pair.answer("show", listed[0]["id"])


def test_a_whole_run_has_so_many_steps(pair: World) -> None:
    pair.whole()
    record = pair.answer("run", "test-failover", "--kind", "crash")
    assert len(record["steps"]) == STEPS


@pytest.mark.parametrize("step", range(1, STEPS))
def test_what_was_left_is_put_right(pair: World, step: int) -> None:
    before = pair.whole()
    known = {run["id"] for run in pair.answer("runs", "--procedure", "test-failover")}
    killed_after(pair, step, random.Random(step).uniform(0.0, 1.5))
    record = wait_for(lambda: over(newest(pair)), "somebody takes the run up", 400)
    assert record["id"] not in known
    wrong = [line for line in record["findings"] if line["verdict"] != 0 and line["check"] != GAP]
    assert not wrong, wrong
    after = pair.whole()
    assert after.primary != before.primary
    assert {server.name for server in after.servers} == {server.name for server in before.servers}


def over(record: dict[str, Any]) -> dict[str, Any] | None:
    return record if record["state"] in ("concluded", "failed", "cancelled", "waiting") else None
