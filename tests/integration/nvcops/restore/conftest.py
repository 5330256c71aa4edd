from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from restore_world import FULL, INCREMENTAL, RestoreWorld, restore_world

from nvcops.core.backups import RestoreTarget


@dataclass
class Told:
    """A server that was backed up twice and written to in between, and the points in its life."""

    world: RestoreWorld
    time: RestoreTarget
    lsn: RestoreTarget


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Transfers a and b, a point, c, an incremental backup, d; all received. It is only read by tests."""
    with restore_world(tmp_path_factory.mktemp("told"), encrypted=True) as world, world.world.receiving():
        world.world.backups.back_up(FULL, full=True)
        world.pay("a", "b")
        time, lsn = RestoreTarget(time=world.clock()), RestoreTarget(lsn=world.end())
        world.pay("c")
        world.world.backups.back_up(INCREMENTAL, full=False)
        world.pay("d")
        world.received()
        yield Told(world, time, lsn)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RestoreWorld]:
    """A server of one's own, with one backup and transfers a and b after it; it may be broken."""
    with restore_world(tmp_path) as world, world.world.receiving():
        world.world.backups.back_up(FULL, full=True)
        world.pay("a", "b")
        world.received()
        yield world
