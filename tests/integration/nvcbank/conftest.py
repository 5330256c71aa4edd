from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the world is shared with the drills

import bank_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bank_world.World]:
    with bank_world.world(tmp_path_factory.mktemp("bank")) as started:
        yield started


@pytest.fixture
def database(world: bank_world.World) -> str:
    return world.database()


@pytest.fixture
def owner(world: bank_world.World, database: str) -> Iterator[psycopg.Connection]:
    with world.connect(database, "owner") as connection:
        yield connection


@pytest.fixture
def service(world: bank_world.World, database: str) -> Iterator[psycopg.Connection]:
    with world.connect(database, "service") as connection:
        yield connection


@pytest.fixture
def bank(world: bank_world.World, database: str) -> Iterator[bank_world.Bank]:
    with world.bank(database) as running:
        yield running
