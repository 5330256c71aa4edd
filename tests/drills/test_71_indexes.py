"""Planted indexes: useless and duplicate ones go, missing ones come, one that hurts is taken back; kills everywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/indexes"))
sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/restore"))

from acting import ActingRun, run_procedure
from index_world import PLANTED, IndexWorld, index_world

KILLED = Path(__file__).parents[1] / "integration/nvcops/restore/killed.py"
pytestmark = pytest.mark.drill
KILLS_MIN = 30


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexWorld]:
    with index_world(tmp_path_factory.mktemp("planted"), "50 s") as made:
        yield made


def made(there: Iterable[str]) -> set[int]:
    """The tables that have an index which begins with what was wanted."""
    return {n for n in range(PLANTED) if any(name.startswith(f"nvcops_t{n}_wanted") for name in there)}


@pytest.mark.sample
def test_planted_indexes_come_and_go_and_what_hurts_is_taken_back(world: IndexWorld) -> None:
    world.skew()
    world.ask(30)
    before = world.indexes()
    rehearsed = run_procedure("optimize-indexes", world.of, ActingRun(dry=True), apply=True, remove_unused=True)
    assert world.indexes() == before
    assert rehearsed.approved == []
    assert "would be searched" in rehearsed.of("indexes.workload")[0].observed
    assert len(rehearsed.of("indexes.spared")) >= 2 * PLANTED
    with world.asked():
        run = run_procedure("optimize-indexes", world.of, ActingRun(), apply=True, remove_unused=True)
    there = world.indexes()
    assert all(there.values()), there
    said = "\n".join(f"{line.check} {line.subject}: {line.observed}" for line in run.findings)
    assert made(there) == set(range(PLANTED)), said
    for n in range(PLANTED):
        assert f"t{n}_idle" not in there
        assert len({f"t{n}_known", f"t{n}_known_again"} & there.keys()) == 1
    assert len(run.approved) == 1
    assert any("partner" in line.subject for line in run.of("indexes.reverted")), said
    assert not any("partner" in name for name in there if name.startswith("nvcops_")), there
    assert "CREATE INDEX CONCURRENTLY" in run.of("indexes.removed")[0].observed
    assert world.of.left() == []


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[IndexWorld]:
    with index_world(tmp_path, "1 s") as made:
        yield made


@pytest.mark.timeout(1500)
def test_killed_everywhere_it_leaves_nothing_half_done(fresh: IndexWorld) -> None:
    fresh.ask(30, skewed=False)
    options = json.dumps({"apply": True, "remove_unused": True})
    argv = [
        sys.executable,
        str(KILLED),
        str(fresh.of.folder),
        "optimize-indexes",
        options,
        "k@1",
    ]
    kills = 0
    for step in range(1, 100):
        ended = False
        for when in ("0.05", "after"):
            done = subprocess.run(
                argv,
                capture_output=True,
                text=True,
                timeout=300,
                env={**os.environ, "KILL": f"{step}:{when}"},
                check=False,
            )
            if done.returncode == 0:
                ended = True
                break
            assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
            kills += 1
        if ended:
            break
    assert kills >= KILLS_MIN
    there = fresh.indexes()
    assert all(there.values()), there
    assert made(there) == set(range(PLANTED))
    assert not any(name.endswith("_idle") for name in there)
    assert fresh.of.left() == []
