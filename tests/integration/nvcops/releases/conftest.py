from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers here are also modules of a child that is killed

from release_world import World, world


@pytest.fixture
def lab(tmp_path: Path) -> World:
    return world(tmp_path)
