from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from database_world import World, served, world_on

from nvclab.parts.postgres import Postgres


@pytest.fixture(scope="session")
def server_17() -> Iterator[Postgres]:
    with served(17) as server:
        yield server


@pytest.fixture(scope="session")
def server_18() -> Iterator[Postgres]:
    with served(18) as server:
        yield server


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A fresh database on PostgreSQL 17; `@pytest.mark.parametrize("world", [17, 18], indirect=True)` for both."""
    major = getattr(request, "param", 17)
    with world_on(request.getfixturevalue(f"server_{major}"), major) as world:
        yield world
