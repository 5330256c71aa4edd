"""Base backups of a real server."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import backup_world
from backup_world import FULL, INCREMENTAL, World, unpack

from nvcops.adapters.backup.native import sweep
from nvcops.core.backups import Kind, lsn_bytes
from nvcops.core.errors import LockHeld, NvcopsError, Refused, StateError, TargetError


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with backup_world.world(tmp_path, encrypted=True) as started:
        yield started


def keys(world: World) -> list[str]:
    return [file.key for file in world.repository.store.list("")]


def test_a_full_and_an_incremental_backup_are_what_postgresql_verifies(world: World) -> None:
    full = world.backups.back_up(FULL, full=False)
    world.execute("CREATE TABLE t AS SELECT generate_series(1, 50000) AS a")
    incremental = world.backups.back_up(INCREMENTAL, full=False)

    assert (full.kind, full.note) == (Kind.FULL, "full, because there is none before it")
    assert (incremental.kind, incremental.note) == (Kind.INCREMENTAL, "")
    assert full.database is not None
    assert incremental.database is not None
    assert incremental.database.parent == FULL
    assert lsn_bytes(full.database.start_lsn) < lsn_bytes(full.database.stop_lsn)
    assert lsn_bytes(full.database.stop_lsn) <= lsn_bytes(incremental.database.start_lsn)
    assert incremental.raw_bytes < full.raw_bytes / 2
    tools = world.repository.tools(full.database.major)
    for number in (FULL, INCREMENTAL):
        unpack(world.repository, number, world.folder / number)
        done = tools.run("pg_verifybackup", "--no-parse-wal", str(world.folder / number), deadline_s=60)
        assert done.code == 0, done.said
    assert world.backups.catalogue() == [full, incremental]
    assert world.backups.room().used >= full.stored_bytes + incremental.stored_bytes
    stored = {file.key: file.bytes for file in world.repository.store.list("backups/")}
    assert stored == {each.key: each.bytes for entry in (full, incremental) for each in entry.objects}


def test_a_backup_that_is_there_is_answered_and_not_taken_again(world: World) -> None:
    first = world.backups.back_up(FULL, full=True)
    before = keys(world)
    assert world.backups.back_up(FULL, full=True) == first
    assert keys(world) == before


def test_two_backups_at_once_are_one_and_a_sentence(world: World) -> None:
    with world.repository.lock("backup"), pytest.raises(LockHeld, match=r"backup of .* is held by process \d+"):
        world.backups.back_up(FULL, full=True)
    assert keys(world) == []


def test_a_damaged_page_fails_the_backup_and_leaves_nothing(world: World) -> None:
    world.execute("CREATE TABLE broken AS SELECT generate_series(1, 5000) AS a")
    world.execute("CHECKPOINT")
    ((path,),) = world.execute("SELECT pg_relation_filepath('broken')")
    file = world.server.data / path
    data = bytearray(file.read_bytes())
    data[5000:5016] = bytes(16 * [0x5A])
    file.write_bytes(data)
    with pytest.raises(TargetError, match="checksum"):
        world.backups.back_up(FULL, full=True)
    assert keys(world) == []
    assert world.execute("SELECT count(*) FROM pg_replication_slots") == [(0,)]


def test_what_a_killed_attempt_left_is_swept_by_the_next(world: World) -> None:
    store = world.repository.store
    store.put("backups/20261121T180000Z-F/000001.pack", [b"half"])
    partial = world.folder / "repository" / ".partial" / "99999-dead"
    partial.write_bytes(b"half of a pack")
    assert sweep(world.repository) == ["20261121T180000Z-F"]
    assert not partial.exists()
    world.backups.back_up(FULL, full=True)
    assert {key.split("/")[1] for key in keys(world) if key.startswith("backups/")} == {FULL}


def test_what_cannot_be_built_upon_is_followed_by_a_full_backup(world: World) -> None:
    """A damaged parent, or one of a former key, must not keep every backup from being taken until a full one is due."""
    full = world.backups.back_up(FULL, full=True)
    index = world.folder / "repository" / full.objects[-1].key
    whole = index.read_bytes()
    index.write_bytes(whole[:-20])
    second = world.backups.back_up(INCREMENTAL, full=False)
    assert (second.kind, second.id) == (Kind.FULL, "20261122T060000Z-F")
    assert second.note.startswith(f"full, because {FULL} cannot be read: ")
    (world.folder / "key").write_text(base64.b64encode(bytes(32)).decode())
    world.repository = backup_world.repository_of(world.server, world.folder, more=f'key_file = "{world.folder}/key"')
    third = world.backups.back_up("20261122T120000Z-I", full=False)
    assert (third.kind, third.note) == (Kind.FULL, f"full, because {second.id} is encrypted with another key")


def test_another_cluster_is_refused(world: World, tmp_path: Path) -> None:
    world.backups.back_up(FULL, full=True)
    other = tmp_path / "other"
    other.mkdir()
    with backup_world.world(other) as stranger:
        more = f'key_file = "{tmp_path}/key"'
        repository = backup_world.repository_of(stranger.server, tmp_path, more=more)
        with pytest.raises(Refused, match="system identifier"):
            backup_world.NativeBackups(repository).back_up(INCREMENTAL, full=False)


def test_a_server_that_does_not_answer_is_said_so(world: World) -> None:
    world.server.stop()
    with pytest.raises(TargetError, match="no primary answers"):
        world.backups.back_up(FULL, full=True)


def test_tablespaces_are_refused_and_a_wrong_id_is(world: World) -> None:
    with pytest.raises(StateError, match="no id of a database backup"):
        world.backups.back_up("newest", full=True)
    with world.server.connect() as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute("CREATE TABLESPACE elsewhere LOCATION ''")
    with pytest.raises(Refused, match="tablespaces"):
        world.backups.back_up(FULL, full=True)


def test_a_repository_that_takes_nothing_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0
    write = os.write

    def full_disk(handle: int, data: memoryview) -> int:
        nonlocal written
        written += len(data)
        if written > 1 << 20:
            raise OSError(28, "No space left on device")
        return write(handle, data)

    with monkeypatch.context() as patched:
        patched.setattr("nvcops.adapters.backup.local.os.write", full_disk)
        with pytest.raises(NvcopsError, match="is full"):
            world.backups.back_up(FULL, full=True)
    assert keys(world) == []
    assert list((world.folder / "repository" / ".partial").iterdir()) == []
