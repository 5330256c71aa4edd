from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from incident_world import example

from desk import MemoryDesk
from nvcops.core.manifest import Manifest


@pytest.fixture
def manifest() -> Manifest:
    return example()


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()
