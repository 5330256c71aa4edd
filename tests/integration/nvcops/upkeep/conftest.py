from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from upkeep_world import UpkeepWorld, served, upkeep_on

from nvclab.parts.postgres import Postgres


@pytest.fixture(scope="package")
def upkeep_17() -> Iterator[Postgres]:
    with served(17) as server:
        yield server


@pytest.fixture(scope="package")
def upkeep_18() -> Iterator[Postgres]:
    with served(18) as server:
        yield server


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> Iterator[UpkeepWorld]:
    """A fresh database on PostgreSQL 17; `@pytest.mark.parametrize("kept", [17, 18], indirect=True)` for both."""
    major = getattr(request, "param", 17)
    with upkeep_on(request.getfixturevalue(f"upkeep_{major}"), major) as world:
        yield world
