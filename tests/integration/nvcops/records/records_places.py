"""Platforms that keep their records in a file, and on a server."""

from __future__ import annotations

from pathlib import Path

from nvclab.parts import postgres
from nvcops.core.manifest import EvidenceEntry, Manifest, Platform
from nvcops.core.manifest.operations import RecordsEntry


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
