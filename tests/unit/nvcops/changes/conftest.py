from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from changes_world import World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A platform in memory whose clock the test moves."""
    made = World()
    monkeypatch.setattr("nvcops.core.schedule.now", lambda: made.at)
    return made
