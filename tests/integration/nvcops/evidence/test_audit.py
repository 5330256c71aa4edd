"""The tamper matrix: whatever is done to the files, the audit says so and names the first bad index."""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops.adapters.evidence.audit import AuditReport
from nvcops.adapters.evidence.log import EvidenceLog
from nvcops.core.errors import EvidenceError
from nvcops.core.evidence import Entry
from nvcops.core.evidence.checkpoint import sign_checkpoint
from nvcops.core.evidence.entry import encode
from nvcops.core.evidence.tiles import grow
from nvcops.core.evidence.verify_evidence import leaf_hash

MakeEntry = Callable[..., Entry]
Reopen = Callable[[], EvidenceLog]
SIZE, HEADS = 700, (100, 300, 600)


@pytest.fixture
def whole(reopen: Reopen, entry: MakeEntry, now: dt.datetime, tmp_path: Path) -> Path:
    """A closed log of 700 entries with checkpoints over 100, 300 and 600 of them; its SQLite file."""
    with reopen() as log:
        size = 0
        for head in (*HEADS, SIZE):
            log.append([entry(number) for number in range(size, head)])
            size = head
            if head in HEADS:
                log.checkpoint(now)
        assert log.audit() == AuditReport(SIZE, 0, log.audit().root, 3, (), ())
    return tmp_path / "state" / "evidence" / "log.sqlite"


def change(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


WITHOUT_UNIQUE_IDS = [
    "CREATE TABLE other (idx INTEGER PRIMARY KEY, id TEXT, time_us INTEGER, run TEXT, data BLOB)",
    "INSERT INTO other SELECT * FROM entry",
    "DROP TABLE entry",
    "ALTER TABLE other RENAME TO entry",
]
TWIN = """
    UPDATE entry SET (id, time_us, run, data) = (SELECT id, time_us, run, data FROM entry WHERE idx = 7) WHERE idx = 650
"""
CHANGED = "UPDATE entry SET data = CAST(replace(CAST(data AS TEXT), '{0}', '{1}') AS BLOB) WHERE idx = {0}"
MOVED = "UPDATE entry SET idx = {1} WHERE idx = {0}"
MOVED_UP = [MOVED.format(number, number - 1) for number in range(58, SIZE)]

MATRIX = {
    "an entry is changed": ([CHANGED.format(57, 75)], 57),
    "an entry behind the last checkpoint is changed": (["UPDATE entry SET run = 'r2' WHERE idx = 690"], 690),
    "an entry is filed under another id": (["UPDATE entry SET id = 'x' WHERE idx = 57"], 57),
    "an entry is filed under another time": (["UPDATE entry SET time_us = 0 WHERE idx = 57"], 57),
    "an entry is no entry": (["UPDATE entry SET data = x'00' WHERE idx = 57"], 57),
    "the first entry is deleted": (["DELETE FROM entry WHERE idx = 0"], 0),
    "an entry is deleted": (["DELETE FROM entry WHERE idx = 57"], 57),
    "an entry is deleted and the rest moved up": (
        ["DELETE FROM entry WHERE idx = 57", *MOVED_UP],
        57,
    ),
    "two entries are exchanged": ([MOVED.format(*pair) for pair in ((57, -1), (400, 57), (-1, 400))], 57),
    "there is a gap at the end": (["UPDATE entry SET idx = 900 WHERE idx = 699"], 699),
    "the tail is cut": (["DELETE FROM entry WHERE idx >= 500"], 500),
    "the tail behind the last checkpoint is cut": (["DELETE FROM entry WHERE idx >= 650"], 650),
    "all entries are deleted": (["DELETE FROM entry"], 0),
    "an id stands twice": ([*WITHOUT_UNIQUE_IDS, TWIN], 650),
    "a tile is flipped": (["UPDATE tile SET hashes = zeroblob(length(hashes)) WHERE level = 0 AND number = 1"], 256),
    "an upper tile is flipped": (["UPDATE tile SET hashes = zeroblob(64) WHERE level = 1"], 0),
    "a partial tile is shorter": (["UPDATE tile SET hashes = substr(hashes, 1, 32 * 100) WHERE number = 2"], 612),
    "a tile is deleted": (["DELETE FROM tile WHERE level = 0 AND number = 1"], 256),
    "a tile is invented": (["INSERT INTO tile VALUES (0, 9, zeroblob(32))"], SIZE),
    "a checkpoint is removed": (["DELETE FROM checkpoint WHERE size = 300"], 100),
    "the last checkpoint is removed": (["DELETE FROM checkpoint WHERE size = 600"], 300),
    "all checkpoints are removed": (["DELETE FROM checkpoint"], 0),
    "a checkpoint is edited": (["UPDATE checkpoint SET note = replace(note, '300', '301') WHERE size = 300"], 100),
    "a checkpoint is filed under another size": (["UPDATE checkpoint SET size = 299 WHERE size = 300"], 100),
    "a checkpoint is exchanged for an older one": (
        ["UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 100) WHERE size = 300"],
        100,
    ),
}


@pytest.mark.parametrize("name", MATRIX)
def test_tampering_with_the_store_is_found(whole: Path, reopen: Reopen, name: str) -> None:
    statements, first_bad = MATRIX[name]
    change(whole, *statements)
    with reopen() as log:
        report = log.audit()
        assert (report.exit_code, report.first_bad) == (2, first_bad), report.problems


def forge(path: Path, entries: list[bytes]) -> None:
    """Somebody who may write all of the store, and knows how the tree is made, replaces the entries and all tiles."""
    tiles = grow(lambda _level, _number: b"", 0, [leaf_hash(data) for data in entries])
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT time_us, run, data FROM entry ORDER BY idx").fetchall()
        db.execute("DELETE FROM entry")
        db.execute("DELETE FROM tile")
        for index, data in enumerate(entries):
            row = next((row for row in rows if row[2] == data), rows[index])
            identity = data.split(b'"id":"')[1].split(b'"')[0].decode()
            db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", (index, identity, row[0], row[1], data))
        db.executemany("INSERT INTO tile VALUES (?, ?, ?)", [(*key, hashes) for key, hashes in tiles.items()])
    db.close()


@pytest.mark.parametrize(
    ("at", "first_bad"), [(57, 0), (99, 0), (100, 100), (250, 100), (300, 300), (599, 300)], ids=str
)
def test_a_forged_tree_does_not_lead_to_the_signed_roots(
    whole: Path, reopen: Reopen, entry: MakeEntry, at: int, first_bad: int
) -> None:
    """With everything else forged to fit, the first bad entry lies between the last good checkpoint and the next."""
    entries = [encode(entry(number)) for number in range(SIZE)]
    entries[at] = encode(entry(at, note="forged"))
    forge(whole, entries)
    with reopen() as log:
        report = log.audit()
        assert report.exit_code == 2
        assert report.first_bad == first_bad
        assert [problem.check for problem in report.problems] == ["root"]


def test_an_older_copy_that_was_put_back_is_found(
    reopen: Reopen, entry: MakeEntry, now: dt.datetime, tmp_path: Path
) -> None:
    state, copy = tmp_path / "state", tmp_path / "copy"
    with reopen() as log:
        log.append([entry(number) for number in range(50)])
        log.checkpoint(now)
    shutil.copytree(state, copy)
    with reopen() as log:
        log.append([entry(number) for number in range(50, 80)])
        log.checkpoint(now)
    shutil.rmtree(state)
    shutil.copytree(copy, state)
    with reopen() as log:
        assert (log.audit().exit_code, log.audit().first_bad) == (2, 50)
        with pytest.raises(EvidenceError, match="do not go on from"):
            log.checkpoint(now)
        log.append([entry(number, other=True) for number in range(50, 200)])  # and the work went on from there
        assert (log.audit().exit_code, log.audit().first_bad) == (2, 50)
        with pytest.raises(EvidenceError, match="do not go on from"):
            log.checkpoint(now)
        assert len(log.store.checkpoints()) == 1


@pytest.mark.usefixtures("whole")
def test_a_witness_that_lost_checkpoints_is_found(reopen: Reopen, now: dt.datetime) -> None:
    with reopen() as log:
        text = log.witness.path.read_text()
        for content in ("", text[: len(text) // 2], text.replace("\n300\n", "\n301\n"), text + text):
            log.witness.path.write_text(content)
            assert log.audit().exit_code == 2, content
            with pytest.raises(EvidenceError, match="witness"):
                log.checkpoint(now)
        log.witness.path.write_text(text)
        assert log.audit().exit_code == 0


@pytest.mark.usefixtures("whole")
def test_a_checkpoint_by_another_key_is_found(reopen: Reopen) -> None:
    with reopen() as log:
        root = log.last_checkpoint().root
        note = sign_checkpoint(log.origin, 600, root, Ed25519PrivateKey.generate(), time=1)
        with log.store.transaction(1) as db:
            db.execute("UPDATE checkpoint SET note = ? WHERE size = 600", (note,))
        report = log.audit()
        assert (report.exit_code, report.first_bad) == (2, 300)
        assert "not signed by" in report.problems[0].sentence


@pytest.mark.parametrize("since", [1, 255, 256, 600, 700, 10_000])
def test_a_later_audit_reads_what_is_new(whole: Path, reopen: Reopen, since: int) -> None:
    with reopen() as log:
        full, later = log.audit(), log.audit(since=since)
        assert later.problems == ()
        assert later.root == full.root
        assert later.start == min(since, SIZE) // 256 * 256
    change(whole, CHANGED.format(699, 996))
    with reopen() as log:
        assert (log.audit(since=since).exit_code, log.audit(since=since).first_bad) == (2, 699)


def test_a_damaged_page_is_found_and_the_rest_is_looked_at(whole: Path, reopen: Reopen) -> None:
    data = bytearray(whole.read_bytes())
    page = 4096
    for at in range(20 * page, 40 * page):
        data[at] = 0xFF
    whole.write_bytes(data)
    with reopen() as log:
        report = log.audit()
        assert report.exit_code == 2
        assert any(problem.check == "store" for problem in report.problems)
