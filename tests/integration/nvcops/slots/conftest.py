from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from slots_world import World, world


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[World]:
    made = world(tmp_path / "shop")
    try:
        yield made
    finally:
        made.close()
