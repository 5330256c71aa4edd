from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gates_world import Bank, build_bank


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """The real bank's release, and a second one with a migration more; nobody changes them."""
    return build_bank(tmp_path_factory.mktemp("bank"))
