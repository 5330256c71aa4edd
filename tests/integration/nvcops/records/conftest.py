"""The same tests on a file and on a server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from records_places import in_a_file, on_a_server

from nvclab.parts import postgres
from nvcops.adapters.records import open_records
from nvcops.core.manifest import Manifest
from nvcops.core.records import Records

Opened = Callable[[], Records]


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Postgres]:
    with postgres.temporary() as running:
        yield running


@pytest.fixture(params=["file", "server"])
def manifest(request: pytest.FixtureRequest, tmp_path: Path) -> Manifest:
    if request.param == "file":
        return in_a_file(tmp_path)
    return on_a_server(tmp_path, request.getfixturevalue("server"))


@pytest.fixture
def opened(manifest: Manifest) -> Iterator[Opened]:
    """Open the records, as often as it is called; all of them are closed in the end."""
    with ExitStack() as stack:

        def once() -> Records:
            records = open_records(manifest)
            stack.callback(records.close)
            return records

        yield once


@pytest.fixture
def records(opened: Opened) -> Records:
    return opened()
