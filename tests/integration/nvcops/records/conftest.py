"""The same tests on a file and on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from nvclab.parts import postgres
from nvcops.adapters.records import open_records
from nvcops.core.manifest import EvidenceEntry, Manifest, Platform
from nvcops.core.manifest.operations import RecordsEntry
from nvcops.core.records import Records

Opened = Callable[[], Records]


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Postgres]:
    with postgres.temporary() as running:
        yield running


def in_a_file(folder: Path) -> Manifest:
    return Manifest(
        platform=Platform(name="t", title="T", state=folder / "state"), evidence=EvidenceEntry(origin="t.example.com/o")
    )


def on_a_server(folder: Path, server: postgres.Postgres) -> Manifest:
    """A database of its own, named after the folder."""
    name = f"t_{abs(hash(folder))}"
    with server.connect() as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(server.password)
    entry = RecordsEntry(host="127.0.0.1", port=server.port, name=name, user="postgres", password_file=password)
    return Manifest(
        platform=Platform(name="t", title="T", state=folder / "state"),
        evidence=EvidenceEntry(origin="t.example.com/o"),
        records=entry,
    )


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


@pytest.fixture
def file_records(tmp_path: Path) -> Iterator[Records]:
    records = open_records(in_a_file(tmp_path))
    yield records
    with suppress(Exception):
        records.close()
