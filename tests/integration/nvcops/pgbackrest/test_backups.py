"""pgBackRest as the engine: what it keeps is listed, taken, restored, removed."""

from __future__ import annotations

import datetime as dt
import fcntl
import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from nvclab.parts.account import give
from nvclab.parts.postgres import Postgres
from nvcops.adapters.backup.pgbackrest_base import restore
from nvcops.adapters.backup.restores import open_restores
from nvcops.core.backups import Entry, Kind, RestoreTarget, lsn_bytes
from nvcops.core.errors import EvidenceError, LockHeld, NvcopsError, StateError, Unreachable
from nvcops.core.restores import Purpose

from .conftest import Platform, owned, server_at


def until(true: Callable[[], bool], deadline_s: float = 30.0) -> None:
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


def one(server: Postgres, question: str) -> Any:
    with server.connect() as session:
        row = session.execute(question).fetchone()
    assert row is not None
    return row[0]


def test_its_backups_stand_in_the_catalogue_under_its_labels(platform: Platform, taken: list[Entry]) -> None:
    full, incremental = taken
    listed = [entry for entry in platform.backups.catalogue() if entry.kind.of_database]
    assert listed == taken
    assert (full.kind, incremental.kind) == (Kind.FULL, Kind.INCREMENTAL)
    assert incremental.database is not None
    assert full.database is not None
    assert incremental.database.parent == full.id
    assert full.database.major == 15
    assert full.stored_bytes > 1 << 20


def test_a_backup_that_was_asked_for_twice_is_taken_once(platform: Platform, taken: list[Entry]) -> None:
    again = platform.backups.back_up("20261122T110000Z-I", full=False)
    assert again == taken[1]


def test_the_receiver_is_what_the_server_and_the_archive_say(platform: Platform, taken: list[Entry]) -> None:
    assert taken
    name = platform.write()
    until(lambda: any(segment.name == name for segment in platform.backups.segments()))
    state = platform.backups.receiver()
    assert state.running, state.trouble
    assert state.lag_bytes < 16 << 20
    assert lsn_bytes(state.received_lsn) <= lsn_bytes(state.server_lsn)
    server, archive = platform.server, platform.repository / "archive" / "main"
    archive.rename(archive.with_name("away"))
    try:
        with server.connect() as session:
            session.execute("INSERT INTO payment VALUES (1, 'x')")
            session.execute("SELECT pg_switch_wal()")
        until(lambda: bool(one(server, "SELECT failed_count > 0 FROM pg_stat_archiver")))
        with pytest.raises(Unreachable):
            platform.backups.receiver()
    finally:
        shutil.rmtree(archive, ignore_errors=True)
        archive.with_name("away").rename(archive)
    until(lambda: platform.backups.receiver().running)


def test_the_room_counts_both_repositories(platform: Platform, taken: list[Entry]) -> None:
    room = platform.backups.room()
    assert room.used > sum(entry.stored_bytes for entry in taken)
    assert room.free is not None


def test_a_restore_lays_data_that_start_and_hold_every_row(platform: Platform, taken: list[Entry]) -> None:
    """The log is fetched by its own restore_command up to the end of the archive."""
    name = platform.write(rows=7)
    until(lambda: any(segment.name == name for segment in platform.backups.segments()))
    folder = owned(platform.folder / "copy")
    copy = server_at(platform.folder, "copy", {"archive_mode": "off"})
    try:
        restore(platform.backups.program, taken[1].id, folder, RestoreTarget())
        copy.start()
        until(lambda: not one(copy, "SELECT pg_is_in_recovery()"))
        question = "SELECT (count(*), sum(hashtext(key)))::text FROM payment"
        assert one(copy, question) == one(platform.server, question)
    finally:
        copy.stop()
        shutil.rmtree(folder)


def test_a_drill_restores_and_verifies_it_like_any_other(platform: Platform, taken: list[Entry]) -> None:
    restores = open_restores(platform.manifest)
    name = platform.write(rows=11)
    until(lambda: any(segment.name == name for segment in platform.backups.segments()))
    plan = restores.plan("drill-1", "newest", RestoreTarget(), purpose=Purpose.DRILL, into=None)
    assert plan.backup == taken[1].id
    assert plan.chain == (taken[0].id, taken[1].id)
    try:
        assert restores.unpack(plan).bytes > 1 << 20
        replayed = restores.replay(plan)
        assert replayed.timeline == 2
        seen = restores.verify(plan)
        (book,) = [book for book in seen.books if book.table.endswith("payment")]
        assert book.rows == one(platform.server, "SELECT count(*) FROM payment")
        assert not seen.pages.broken
        assert seen.pages.things
    finally:
        restores.discard(plan)
    assert not plan.work.exists()


def test_a_restore_from_a_flipped_file_or_segment_ends_in_a_sentence(platform: Platform, taken: list[Entry]) -> None:
    assert taken[1].database is not None
    restores = open_restores(platform.manifest)
    segment = platform.segment(taken[1].database.first_segment)
    whole = segment.read_bytes()
    raw = bytearray(zstandard.ZstdDecompressor().stream_reader(whole).read())
    raw[-1] ^= 0xFF
    plan = restores.plan("drill-2", "newest", RestoreTarget(), purpose=Purpose.DRILL, into=None)
    try:
        restores.unpack(plan)
        segment.write_bytes(zstandard.compress(bytes(raw)))
        with pytest.raises(EvidenceError, match="is not what its name says"):
            restores.replay(plan)
    finally:
        segment.write_bytes(whole)
        restores.discard(plan)
    file = platform.repository / "backup" / "main" / taken[0].id / "backup.manifest"
    kept = file.with_name("kept")
    file.rename(kept)
    try:
        with pytest.raises(StateError, match="cannot be restored"):
            restores.plan("drill-3", taken[0].id, RestoreTarget(), purpose=Purpose.DRILL, into=None)
    finally:
        kept.rename(file)


def test_retention_removes_by_its_own_program_and_enters_that(platform: Platform, taken: list[Entry]) -> None:
    extra = platform.backups.back_up("20261122T130000Z-I", full=False)
    now = dt.datetime.now(dt.UTC)
    draft = Entry(number=0, id="R-X", kind=Kind.REMOVAL, platform="fifteen", began=now, ended=now, of=(extra.id,))
    entered = platform.backups.remove([extra.id], [], draft=draft)
    assert entered.of == (extra.id,)
    assert [entry.id for entry in platform.backups.catalogue() if entry.kind.of_database] == [e.id for e in taken]


def test_two_backups_at_once_are_one(platform: Platform, taken: list[Entry]) -> None:
    """Its own lock: the second is told so, and nothing of it is left."""
    assert taken
    lock = platform.folder / "lock" / "main-backup.lock"
    with lock.open("a") as held:
        give(lock)  # it may be the first who uses it
        fcntl.flock(held, fcntl.LOCK_EX)
        before = platform.backups.catalogue()
        with pytest.raises(NvcopsError) as caught:
            platform.backups.back_up("20261122T120000Z-F", full=True)
    assert isinstance(caught.value, LockHeld)
    assert platform.backups.catalogue() == before
