from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from changes_house import House, build


@pytest.fixture
def house(tmp_path: Path) -> House:
    return build(tmp_path)
