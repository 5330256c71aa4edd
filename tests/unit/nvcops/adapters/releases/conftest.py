from __future__ import annotations

from pathlib import Path

import pytest

from release_world import World, world


@pytest.fixture
def lab(tmp_path: Path) -> World:
    return world(tmp_path)
