from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from clone_world import RUN, CloneWorld, clone_world

from nvcops.core.clones import Copy


@pytest.fixture(scope="session")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloneWorld]:
    """A backed up server with a copy of the run RUN, which stays as it is."""
    with clone_world(tmp_path_factory.mktemp("cloned")) as world:
        world.clones.make(RUN)
        yield world


@pytest.fixture(scope="session")
def copy(cloned: CloneWorld) -> Iterator[Copy]:
    """That copy, its server running; what a test changes in it, it changes back."""
    with cloned.clones.opened(RUN) as copy:
        yield copy
