"""A server that must prove its name: the right authority lets us in, another one does not."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvclab.certificates import Authority
from nvclab.parts import postgres
from nvclab.parts.account import give
from nvclab.parts.postgres import Postgres
from nvcops.adapters.backup.repository import Source
from nvcops.adapters.postgres import PostgresServer
from nvcops.adapters.records import open_records
from nvcops.core.errors import StateError, TargetError
from nvcops.core.manifest import DatabaseEntry, EvidenceEntry, Manifest, Platform, Server
from nvcops.core.manifest.operations import RecordsEntry


def authority(folder: Path) -> Authority:
    folder.mkdir()
    made = Authority(folder)
    made.prepare(dt.datetime.now(dt.UTC))
    return made


@pytest.fixture(scope="module")
def encrypted() -> Iterator[tuple[Postgres, Path, Path]]:
    with tempfile.TemporaryDirectory(prefix="nvcops-tls-") as folder, postgres.temporary() as server:
        ours, another = authority(Path(folder, "ours")), authority(Path(folder, "another"))
        for name in ("server.crt", "server.key"):  # one file holds both
            path = server.data / name
            path.touch(mode=0o600)
            path.write_bytes(ours.server_file.read_bytes())
            give(path)
        server.reload(ssl="on")
        yield server, ours.certificate_file, another.certificate_file


def asked(server: Postgres, ca_file: Path | None, host: str = "127.0.0.1") -> str:
    door = PostgresServer(
        name="db-1",
        host=host,
        port=server.port,
        database="postgres",
        user="postgres",
        deadline_s=5,
        password=server.password,
        ca_file=ca_file,
    )
    rows = door.rows("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl")
    return str(rows[0]["version"]) if rows else ""


def test_a_server_that_proves_its_name_is_spoken_to_in_secret(encrypted: tuple[Postgres, Path, Path]) -> None:
    server, ours, _ = encrypted
    assert asked(server, ours).startswith("TLS")


def test_backups_ask_the_same_of_it(encrypted: tuple[Postgres, Path, Path]) -> None:
    server, ours, another = encrypted

    def asked_for_a_backup(ca_file: Path) -> list[tuple[object, ...]]:
        primary = Server(name="db-1", host="127.0.0.1")
        entry = DatabaseEntry(port=server.port, name="postgres", user="nvcops", primary=primary, ca_file=ca_file)
        return Source(database=entry, user="postgres", password=server.password).rows("SELECT 1")

    assert asked_for_a_backup(ours) == [(1,)]
    with pytest.raises(TargetError, match="certificate verify failed"):
        asked_for_a_backup(another)


def test_so_do_the_records(encrypted: tuple[Postgres, Path, Path], tmp_path: Path) -> None:
    server, ours, another = encrypted
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(server.password)

    def kept_on(host: str, ca_file: Path) -> Manifest:
        return Manifest(
            platform=Platform(name="t", title="T", state=tmp_path),
            evidence=EvidenceEntry(origin="t.example.com/o"),
            records=RecordsEntry(
                host=host, port=server.port, name="postgres", user="postgres", password_file=password, ca_file=ca_file
            ),
        )

    open_records(kept_on("127.0.0.1", ours)).close()
    for host, ca_file in (("127.0.0.1", another), ("127.0.0.2", ours)):
        with pytest.raises(StateError, match=r"cannot be read: .*(certificate verify failed|does not match|refused)"):
            open_records(kept_on(host, ca_file))


def test_a_server_of_another_authority_is_refused(encrypted: tuple[Postgres, Path, Path]) -> None:
    server, _, another = encrypted
    with pytest.raises(TargetError, match="certificate verify failed"):
        asked(server, another)


def test_a_server_without_encryption_is_refused_where_it_must_prove_its_name(tmp_path: Path) -> None:
    with postgres.temporary() as server, pytest.raises(TargetError, match="SSL"):
        asked(server, authority(tmp_path / "ours").certificate_file)
