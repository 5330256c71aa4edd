"""A repository in a bucket: the same as in a folder."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from s3_server import S3Server

from nvcops.adapters.backup.files import fetch_files, keep
from nvcops.adapters.backup.files_index import Source
from nvcops.adapters.backup.removal import remove
from nvcops.adapters.backup.repository import Repository, open_repository
from nvcops.core.backups import Entry, Kind
from nvcops.core.errors import LockHeld
from nvcops.core.manifest import parse

TEXT = """
[platform]
name = "ship"
title = "Ship"
state = "state"
[database]
name = "ship"
user = "ship"
primary = {{ name = "db-1", host = "127.0.0.1" }}
[backups]
repository = "s3://{bucket}/ship"
endpoint = "{url}"
region = "us-east-1"
[evidence]
origin = "ship.example.com/log"
"""


@pytest.fixture
def repository(server: S3Server, bucket: str, tmp_path: Path) -> Repository:
    return open_repository(parse(TEXT.format(bucket=bucket, url=server.url), tmp_path / "platform.toml"))


def draft(name: str, kind: Kind) -> Entry:
    now = dt.datetime.now(dt.UTC)
    return Entry(number=0, id=name, kind=kind, platform="ship", began=now, ended=now)


def test_files_are_kept_fetched_and_removed(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"one" * 100_000)
    keep(repository, draft("one-C", Kind.CONFIGURATION), [Source("one", tmp_path / "one")])
    (tmp_path / "two").write_bytes(b"two")
    both = [Source(name, tmp_path / name) for name in ("one", "two")]
    assert keep(repository, draft("two-C", Kind.CONFIGURATION), both).added_bytes == 3
    remove(repository, ["one-C"], [], draft=draft("gone-X", Kind.REMOVAL))
    fetch_files(repository, "two-C", tmp_path / "there")
    assert (tmp_path / "there/one").read_bytes() == b"one" * 100_000
    assert [entry.id for entry in repository.catalogue.entries()] == ["one-C", "two-C", "gone-X"]
    repository.store.close()  # type: ignore[attr-defined]


def test_two_at_once(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"one")
    with repository.lock("files"), pytest.raises(LockHeld):
        keep(repository, draft("one-C", Kind.CONFIGURATION), [Source("one", tmp_path / "one")])
    assert repository.catalogue.entries() == []
    repository.store.close()  # type: ignore[attr-defined]
