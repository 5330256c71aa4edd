"""What is said when the records cannot be opened, read or written; and that nothing is lost by it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from records_examples import alert
from records_places import in_a_file, on_a_server

from nvclab.parts import postgres
from nvcops.adapters.records import open_records, places
from nvcops.core.alerts import Alert
from nvcops.core.errors import NvcopsError, StateError
from nvcops.core.manifest import Manifest
from nvcops.core.records import Records


def file_of(folder: Path) -> Path:
    return folder / "state" / "records.sqlite"


def count(records: Records) -> int:
    with records.reading() as reading:
        return reading.count(Alert)


def test_a_full_disk_loses_nothing_that_was_written(tmp_path: Path) -> None:
    records = open_records(in_a_file(tmp_path))
    try:
        with records.changing() as desk:
            desk.put(alert(1))
        with records._connections.plain() as connection:  # SQLite's own limit, which says what a full disk says
            (pages,) = connection.connection.execute("PRAGMA page_count").fetchone()
            connection.connection.execute(f"PRAGMA max_page_count = {pages}")
        full = pytest.raises(StateError, match=r"records.sqlite cannot be written: .* is full")
        with full as raised, records.changing() as desk:
            desk.put(*(alert(n) for n in range(2, 2_000)))
        assert "disk's space" in raised.value.hint
        assert count(records) == 1
        with records.changing() as desk:  # it was given a new connection, as if there were room again
            desk.put(*(alert(n) for n in range(2, 2_000)))
        assert count(records) == 1_999
    finally:
        records.close()


def test_a_file_that_another_holds_is_waited_for_and_then_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_BUSY_S_MAX", 0.3)
    records = open_records(in_a_file(tmp_path))
    holder = sqlite3.connect(file_of(tmp_path), isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match="cannot be written: database is locked"), records.changing():
            pass
        assert count(records) == 0
        holder.execute("COMMIT")
        with records.changing() as desk:
            desk.put(alert(1))
    finally:
        holder.close()
        records.close()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda file: file.write_bytes(b"this is no database, and was never one " * 200), "not a database"),
        (lambda file: (file.unlink(), file.mkdir()), "unable to open"),
        (lambda file: file.write_bytes(file.read_bytes()[:5_000]), "malformed"),
    ],
    ids=["other", "folder", "cut"],
)
def test_a_file_that_is_none(tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    open_records(in_a_file(tmp_path)).close()
    spoil(file_of(tmp_path))
    with pytest.raises(StateError, match=says) as raised:
        open_records(in_a_file(tmp_path))
    assert str(file_of(tmp_path)) in raised.value.sentence
    assert raised.value.hint


def test_a_state_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StateError, match="cannot be opened"):
        open_records(in_a_file(tmp_path))


READ_ONLY = """
import os, sys
from pathlib import Path
sys.path.insert(0, {here!r})
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
from records_places import in_a_file
from nvcops.adapters.records import open_records
from nvcops.core.errors import StateError
try:
    open_records(in_a_file(Path({folder!r})))
except StateError as error:
    print(error.sentence)
"""


def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o555)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o001 == 0 and os.access(folder, os.W_OK):
            folder.chmod(folder.stat().st_mode | 0o011)
    program = READ_ONLY.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "records.sqlite cannot be opened: permission denied" in said.stdout, said


def test_records_of_another_release(tmp_path: Path) -> None:
    open_records(in_a_file(tmp_path)).close()
    connection = sqlite3.connect(file_of(tmp_path))
    connection.execute(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('records', '9999_from_the_future', '2030-01-01')"
    )
    connection.commit()
    connection.close()
    with pytest.raises(StateError, match="written by another release: it knows 9999_from_the_future"):
        open_records(in_a_file(tmp_path))


def test_many_open_new_records_at_once(tmp_path: Path, server: postgres.Postgres) -> None:
    for manifest in (in_a_file(tmp_path), on_a_server(tmp_path, server)):
        problems: list[Exception] = []

        def one(manifest: Manifest = manifest, problems: list[Exception] = problems) -> None:
            try:
                open_records(manifest).close()
            except NvcopsError as error:
                problems.append(error)

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []


def test_a_server_that_says_no(tmp_path: Path, server: postgres.Postgres) -> None:
    manifest = on_a_server(tmp_path, server)
    (tmp_path / "password").write_text("wrong")
    with pytest.raises(StateError, match=r"the database t_\d+ on 127.0.0.1:\d+ cannot be .*password authentication"):
        open_records(manifest)
    (tmp_path / "password").write_text(server.password)
    absent = msgspec.structs.replace(manifest, records=msgspec.structs.replace(manifest.records, name="absent"))
    with pytest.raises(StateError, match='database "absent" does not exist'):
        open_records(absent)
    with server.connect(manifest.records.name) as connection:
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'reader-of-records'")
    (tmp_path / "password").write_text("reader-of-records")
    reader = msgspec.structs.replace(manifest, records=msgspec.structs.replace(manifest.records, user="reader"))
    try:
        with pytest.raises(StateError, match="permission denied for schema public"):
            open_records(reader)
    finally:
        with server.connect() as connection:
            connection.execute("DROP ROLE reader")


def test_a_server_without_a_name_that_it_can_prove(tmp_path: Path, server: postgres.Postgres) -> None:
    manifest = on_a_server(tmp_path, server)
    (tmp_path / "ca.pem").write_text("")
    strict = msgspec.structs.replace(manifest.records, ca_file=tmp_path / "ca.pem")
    with pytest.raises(StateError, match="cannot be"):
        open_records(msgspec.structs.replace(manifest, records=strict))


def test_sessions_that_were_ended_are_replaced(tmp_path: Path, server: postgres.Postgres) -> None:
    manifest = on_a_server(tmp_path, server)
    records = open_records(manifest)
    try:
        with records.changing() as desk:
            desk.put(alert(1))
        assert count(records) == 1
        end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nvcops records'"

        def in_the_middle(act: Callable[[], object]) -> None:
            with server.connect() as connection:
                connection.execute(end_all)
            time.sleep(0.2)
            act()

        in_the_middle(lambda: None)
        with records.changing() as desk:
            desk.put(alert(2))
        assert count(records) == 2
        with pytest.raises(StateError, match="cannot be written"), records.changing() as desk:
            in_the_middle(lambda: desk.put(alert(3)))
        assert count(records) == 2
    finally:
        records.close()


def test_a_server_that_went_silent_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres.temporary() as own:
        records = open_records(on_a_server(tmp_path, own))
        from nvcops.adapters.records.postgresql import base

        monkeypatch.setattr(base, "SILENT_S_MAX", 1.0)
        monkeypatch.setattr(places, "_CONNECT_S_MAX", 2)
        try:
            assert count(records) == 0
            own.signal_all(signal.SIGSTOP)
            begun = time.monotonic()
            try:
                with pytest.raises(StateError, match="cannot be"), records.changing():
                    pass
            finally:
                own.signal_all(signal.SIGCONT)
            assert time.monotonic() - begun < 20
            with records.changing() as desk:
                desk.put(alert(1))
        finally:
            records.close()


def test_the_migrations_say_what_the_records_are() -> None:
    from nvcops.adapters.records.setup import configure

    configure()
    from django.apps import apps
    from django.db.migrations.autodetector import MigrationAutodetector
    from django.db.migrations.loader import MigrationLoader
    from django.db.migrations.state import ProjectState

    loader = MigrationLoader(None)
    changes = MigrationAutodetector(loader.project_state(), ProjectState.from_apps(apps)).changes(loader.graph)
    missing = [str(operation) for migration in changes.get("records", ()) for operation in migration.operations]
    assert not missing, "write the migration: python -m nvcops.adapters.records NAME"
