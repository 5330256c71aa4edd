"""Evidence while the log cannot be written: kept on disk, folded in once, and never silently dropped."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nvcops.adapters.evidence.log import EvidenceLog
from nvcops.adapters.evidence.spool import Spool
from nvcops.core.errors import EvidenceError, StateError
from nvcops.core.evidence import SPOOLED, Entry
from nvcops.core.evidence.entry import encode

MakeEntry = Callable[..., Entry]
Reopen = Callable[[], EvidenceLog]


@contextlib.contextmanager
def locked(log: EvidenceLog) -> Iterator[None]:
    """Somebody else keeps the store locked, and we do not wait long."""
    log._sequencer._patience_s = 0.02
    other = sqlite3.connect(log.store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def ids(log: EvidenceLog) -> list[str]:
    return [entry.id for _, entry in log.entries()]


def spool_file(log: EvidenceLog) -> Path:
    (path,) = log.spool.waiting()
    return path


def test_entries_wait_while_the_store_is_locked(log: EvidenceLog, entry: MakeEntry) -> None:
    log.append([entry(0)])
    with locked(log):
        assert log.append([entry(1), entry(2)]) == [SPOOLED, SPOOLED]
        assert log.append([entry(3)]) == [SPOOLED]
        assert ids(log) == ["e0"]
        assert log.audit().exit_code == 0
        assert "1 spool files wait" in log.audit().notes[0]
    assert log.append([entry(4)]) == [4]
    assert ids(log) == ["e0", "e1", "e2", "e3", "e4"]
    assert log.spool.waiting() == []
    assert log.append([entry(2)]) == [2]
    assert not log.audit().problems


def test_another_process_folds_them_in(log: EvidenceLog, reopen: Reopen, entry: MakeEntry) -> None:
    with locked(log):
        log.append([entry(0), entry(1)])
    with reopen() as other:
        assert other.append([entry(2)]) == [2]
        assert ids(other) == ["e0", "e1", "e2"]
    with locked(log):
        assert log.append([entry(3)]) == [SPOOLED]
    assert log.fold() == 0
    assert ids(log)[3:] == ["e3"]


def test_a_spool_elsewhere_is_folded_in_with_nothing_dropped(
    log: EvidenceLog, entry: MakeEntry, tmp_path: Path
) -> None:
    """For the time when not even the log's own folder can be used."""
    elsewhere = Spool(tmp_path / "elsewhere" / "spool")
    elsewhere.keep([encode(entry(0)), encode(entry(1)), encode(entry(2))])
    (path,) = elsewhere.waiting()
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":9') + b"unfinished")
    assert log.fold(elsewhere.folder) == 0
    assert ids(log) == ["e0", "e2"]
    assert elsewhere.waiting() == elsewhere.quarantined() == []
    assert {kept.suffix for kept in log.spool.quarantined()} == {".damaged", ".unfinished"}
    assert log.audit().exit_code == 2


def test_folding_twice_folds_once(log: EvidenceLog, entry: MakeEntry, tmp_path: Path) -> None:
    """A crash between the commit and the removal of the file leaves the file."""
    with locked(log):
        log.append([entry(0), entry(1)])
    path = spool_file(log)
    shutil.copy(path, tmp_path / "copy")
    log.append([entry(2)])
    shutil.copy(tmp_path / "copy", path)
    log.append([entry(3)])
    assert ids(log) == ["e0", "e1", "e2", "e3"]
    assert log.spool.waiting() == log.spool.quarantined() == []


def test_a_clash_that_can_be_seen_is_refused_at_once(log: EvidenceLog, entry: MakeEntry) -> None:
    log.append([entry(0)])
    with locked(log), pytest.raises(EvidenceError, match="another entry by the id"):
        log.append([entry(0, other=True)])
    assert log.spool.waiting() == []


def test_a_clash_that_shows_at_folding_is_kept_and_reported(log: EvidenceLog, reopen: Reopen, entry: MakeEntry) -> None:
    with reopen() as other, locked(log), locked_too(other):
        assert log.append([entry(0)]) == [SPOOLED]
        assert other.append([entry(0, other=True), entry(1)]) == [SPOOLED, SPOOLED]
    log.fold()
    assert sorted(ids(log)) == ["e0", "e1"]
    report = log.audit()
    assert report.exit_code == 2
    assert "acknowledged entries that are not in the log (conflicting)" in report.problems[0].sentence
    (kept,) = log.spool.quarantined()
    assert kept.read_bytes().strip() in (encode(entry(0)), encode(entry(0, other=True)))


@contextlib.contextmanager
def locked_too(log: EvidenceLog) -> Iterator[None]:
    """The other process does not wait long either."""
    log._sequencer._patience_s = 0.02
    yield


def test_a_write_that_was_cut_is_noted_wherever_it_was_cut(log: EvidenceLog, reopen: Reopen, entry: MakeEntry) -> None:
    with locked(log):
        log.append([entry(0)])
        whole = spool_file(log).stat().st_size
        log.append([entry(1)])
    data, path = spool_file(log).read_bytes(), spool_file(log)
    for cut in range(whole + 1, len(data), 7):
        path.write_bytes(data[:cut])
        with reopen() as other:
            other.fold()
            assert ids(other) == ["e0"]
            report = other.audit()
            assert report.problems == ()
            assert "cut before it was acknowledged" in report.notes[0]
            (kept,) = other.spool.quarantined()
            assert kept.read_bytes() == data[whole:cut]


@pytest.mark.parametrize("at", [0, 5, 16, 17, 60])
def test_a_damaged_line_is_reported_and_the_others_are_folded(log: EvidenceLog, entry: MakeEntry, at: int) -> None:
    with locked(log):
        log.append([entry(0), entry(1)])
    data, path = bytearray(spool_file(log).read_bytes()), spool_file(log)
    data[at] ^= 1
    path.write_bytes(data)
    log.fold()
    assert ids(log) == ["e1"]
    assert log.audit().exit_code == 2
    (kept,) = log.spool.quarantined()
    assert kept.suffix == ".damaged"
    assert data.startswith(kept.read_bytes())


def test_a_file_whose_writer_is_at_it_is_folded_later(log: EvidenceLog, entry: MakeEntry) -> None:
    with locked(log):
        log.append([entry(0)])
    with spool_file(log).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert log.append([entry(1)]) == [0]
        assert log.fold() == 1
    assert log.fold() == 0
    assert ids(log) == ["e1", "e0"]


def test_a_store_whose_tree_does_not_fit_gets_nothing_more(log: EvidenceLog, entry: MakeEntry) -> None:
    log.append([entry(0), entry(1)])
    with log.store.transaction(1) as db:
        db.execute("DELETE FROM entry WHERE idx = 1")
    assert log.append([entry(2)]) == [SPOOLED]
    assert ids(log) == ["e0"]
    assert log.audit().first_bad == 1


def test_when_not_even_the_spool_can_be_written_nothing_is_acknowledged(log: EvidenceLog, entry: MakeEntry) -> None:
    shutil.rmtree(log.spool.folder)
    with locked(log), pytest.raises(StateError, match="neither in the log nor in"):
        log.append([entry(0)])
    log.spool.folder.mkdir()
    assert log.append([entry(0)]) == [0]
