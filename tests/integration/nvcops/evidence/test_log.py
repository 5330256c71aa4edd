"""The log on a real disk: order, ids, proofs, tiles, witness, export."""

from __future__ import annotations

import datetime as dt
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nvcops.adapters.evidence.export import verify_file
from nvcops.adapters.evidence.log import EvidenceLog, open_log
from nvcops.core.errors import EvidenceError, NotFoundError, StateError, UsageError
from nvcops.core.evidence import Entry, Redactor
from nvcops.core.evidence.checkpoint import open_checkpoint, split_notes, verify_proof
from nvcops.core.evidence.entry import encode
from nvcops.core.evidence.tiles import HASH_BYTES, unbundle_entries
from nvcops.core.evidence.verify_evidence import leaf_hash

MakeEntry = Callable[..., Entry]


def test_entries_have_indices_in_order(log: EvidenceLog, entry: MakeEntry) -> None:
    assert log.append([entry(0), entry(1)]) == [0, 1]
    assert log.append([entry(2)]) == [2]
    assert log.append([]) == []
    assert log.size() == 3
    assert [(index, found.id) for index, found in log.entries(1, 3)] == [(1, "e1"), (2, "e2")]
    assert log.find("e1") == (1, entry(1))
    with pytest.raises(NotFoundError, match="no entry 'e9'"):
        log.find("e9")


def test_appending_again_is_harmless(log: EvidenceLog, reopen: Callable[[], EvidenceLog], entry: MakeEntry) -> None:
    assert log.append([entry(0), entry(1), entry(0)]) == [0, 1, 0]
    with reopen() as other:
        assert other.append([entry(1), entry(2)]) == [1, 2]
    assert log.append([entry(2), entry(3), entry(0)]) == [2, 3, 0]
    assert log.size() == 4


def test_an_id_is_never_given_another_content(log: EvidenceLog, entry: MakeEntry) -> None:
    log.append([entry(0)])
    for batch in ([entry(1), entry(0, other=True)], [entry(1), entry(1, other=True)]):
        with pytest.raises(EvidenceError, match="another entry by the id"):
            log.append(batch)
    assert log.size() == 1
    assert log.append([entry(1)]) == [1]


def test_a_malformed_entry_or_a_secret_records_nothing(tmp_path: Path, entry: MakeEntry) -> None:
    with open_log(tmp_path, origin="o", redactor=Redactor(["correct horse"])) as log:
        with pytest.raises(UsageError):
            log.append([entry(0), msgspec.structs.replace(entry(1), kind="?")])
        with pytest.raises(EvidenceError, match="holds a secret"):
            log.append([entry(0), entry(1, output="password: correct horse")])
        with pytest.raises(UsageError, match="more than 10,000"):
            log.append([entry(0)] * 10_001)
        assert log.size() == 0


def test_one_bad_request_does_not_spoil_those_who_share_its_transaction(log: EvidenceLog, entry: MakeEntry) -> None:
    answers: dict[int, object] = {}

    def append(number: int) -> None:
        try:
            answers[number] = log.append([entry(number % 40, other=number >= 40)])
        except EvidenceError as error:
            answers[number] = error

    threads = [threading.Thread(target=append, args=(number,)) for number in range(80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 80
    assert log.size() == 40
    for number in range(40):  # of each id exactly one of two contents got in, the other was refused
        pair = [answers[number], answers[number + 40]]
        assert sum(isinstance(answer, EvidenceError) for answer in pair) == 1, pair
    assert not log.audit().problems


def test_every_entry_is_proved(log: EvidenceLog, entry: MakeEntry, now: dt.datetime) -> None:
    log.append([entry(number) for number in range(300)])
    note = log.checkpoint(now)
    assert open_checkpoint(note, log.vkey).size == 300
    for index in (0, 1, 254, 255, 256, 299):
        assert verify_proof(log.prove(index), log.vkey) == (index, encode(entry(index)))
    assert verify_proof(log.prove("e17"), log.vkey)[0] == 17
    log.append([entry(300)])
    with pytest.raises(NotFoundError, match="no checkpoint covers"):
        log.prove(300)
    with pytest.raises(NotFoundError, match="no entry 301"):
        log.prove(301)


def test_the_same_tree_is_signed_once(log: EvidenceLog, entry: MakeEntry, now: dt.datetime) -> None:
    with pytest.raises(NotFoundError, match="empty"):
        log.checkpoint(now)
    log.append([entry(0)])
    note = log.checkpoint(now)
    assert log.checkpoint(now + dt.timedelta(hours=1)) == note
    log.append([entry(1)])
    assert log.checkpoint(now) != note
    assert split_notes(log.witness.path.read_text())[0] == [note, log.last_checkpoint().note]


def test_tiles_are_served_as_the_specification_says(log: EvidenceLog, entry: MakeEntry, now: dt.datetime) -> None:
    items = [entry(number) for number in range(600)]
    log.append(items[:513])
    log.checkpoint(now)
    log.append(items[513:])
    data = [encode(item) for item in items]
    assert log.resource("tile/0/001") == b"".join(map(leaf_hash, data[256:512]))
    assert log.resource("tile/0/002.p/1") == leaf_hash(data[512])
    assert unbundle_entries(log.resource("tile/entries/002.p/1")) == data[512:513]
    assert unbundle_entries(log.resource("tile/entries/000")) == data[:256]
    assert len(log.resource("tile/1/000.p/2")) == 2 * HASH_BYTES
    assert log.resource("checkpoint").decode() == log.last_checkpoint().note
    for missing in ("tile/0/002", "tile/0/003", "tile/1/000", "tile/entries/009"):
        with pytest.raises(NotFoundError, match="has no tile"):
            log.resource(missing)
    with pytest.raises(EvidenceError, match="not a path"):
        log.resource("../../etc/passwd")


def test_a_part_is_found_by_run_and_by_time(log: EvidenceLog, entry: MakeEntry, now: dt.datetime) -> None:
    log.append([entry(number, run="a" if number in (2, 5) else "b") for number in range(10)])
    assert log.span(run="a") == (2, 6)
    second = dt.timedelta(seconds=1)
    assert log.span(since=now + 3 * second, until=now + 7 * second) == (3, 7)
    assert log.span(run="a", since=now + 3 * second) == (5, 6)
    assert log.span() == (0, 10)
    with pytest.raises(NotFoundError, match="no evidence"):
        log.span(run="c")


def test_an_export_verifies_and_needs_a_checkpoint(
    log: EvidenceLog, entry: MakeEntry, now: dt.datetime, tmp_path: Path
) -> None:
    path = tmp_path / "bundle"
    log.append([entry(number) for number in range(400)])
    with pytest.raises(NotFoundError, match="no checkpoint covers"):
        log.export(0, 400, path)
    assert not path.exists()
    log.checkpoint(now)
    for start, stop in ((0, 400), (255, 257), (399, 400)):
        log.export(start, stop, path)
        assert all(line.holds for line in verify_file(path, log.vkey))
    for start, stop in ((0, 401), (-1, 3), (3, 3), (5, 4)):
        with pytest.raises(UsageError, match="not a range"):
            log.export(start, stop, path)
    with pytest.raises(StateError, match="cannot be used"):
        log.export(0, 1, tmp_path / "no" / "such" / "folder")
    with pytest.raises(StateError, match="cannot be used"):
        verify_file(tmp_path / "missing")


def test_personal_data_is_committed_to_disclosed_and_erased(
    log: EvidenceLog, entry: MakeEntry, now: dt.datetime, tmp_path: Path
) -> None:
    salts = log.salts
    ann = salts.conceal("ann@bank.example", subject="customer-1")
    bob = salts.conceal("bob@bank.example", subject="customer-2")
    assert ann != salts.conceal("ann@bank.example", subject="customer-1")
    log.append([entry(0, mail=ann), entry(1, mail=bob)])
    log.checkpoint(now)
    log.export(0, 2, tmp_path / "bundle", disclose=[ann])
    assert all(line.holds for line in verify_file(tmp_path / "bundle", log.vkey))
    assert b"ann@bank.example" in (tmp_path / "bundle").read_bytes()
    assert b"bob@bank.example" not in (tmp_path / "bundle").read_bytes()
    assert salts.erase("customer-1") == 2
    with pytest.raises(NotFoundError, match="nothing is kept behind"):
        log.export(0, 2, tmp_path / "bundle", disclose=[ann])
    assert salts.disclose([bob])[0].value == "bob@bank.example"
    everything = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert b"ann@bank.example" not in everything
    assert not log.audit().problems


def test_the_files_are_their_owners_only(log: EvidenceLog, entry: MakeEntry, now: dt.datetime) -> None:
    log.append([entry(0)])
    log.checkpoint(now)
    log.spool.keep([encode(entry(1))])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in log.folder.rglob("*")}
    assert {name for name, mode in modes.items() if mode & 0o077} == set()
    assert stat.S_IMODE(log.folder.stat().st_mode) == 0o700
    assert modes["log.key"] == 0o600


def test_a_checkpoint_whose_witness_was_away_is_given_to_it_later(
    log: EvidenceLog, entry: MakeEntry, now: dt.datetime
) -> None:
    log.append([entry(0)])
    first = log.checkpoint(now)
    folder = log.witness.path.parent
    folder.rename(folder.with_name("unmounted"))
    log.append([entry(1)])
    with pytest.raises(StateError, match="witness folder"):
        log.checkpoint(now)
    assert any("witness folder" in problem.sentence for problem in log.audit().problems)
    folder.with_name("unmounted").rename(folder)
    second = log.checkpoint(now)
    assert split_notes(log.witness.path.read_text())[0] == [first, second]
    assert not log.audit().problems


@pytest.mark.parametrize("cut", [1, 40, 107, 150, 300])
def test_a_witness_whose_last_write_was_cut_is_completed(
    log: EvidenceLog, entry: MakeEntry, now: dt.datetime, cut: int
) -> None:
    log.append([entry(0)])
    log.checkpoint(now)
    log.append([entry(1)])
    log.checkpoint(now)
    whole = log.witness.path.read_text()
    with log.store.transaction(1) as db:  # the crash came before the log knew that the witness has it
        db.execute("UPDATE checkpoint SET witness = '' WHERE size = 2")
    log.witness.path.write_bytes(whole.encode()[:-cut])
    assert not log.audit().problems
    log.checkpoint(now)
    assert log.witness.path.read_text() == whole


def test_a_new_witness_gets_all_checkpoints(
    log: EvidenceLog, entry: MakeEntry, now: dt.datetime, tmp_path: Path
) -> None:
    for number in range(3):
        log.append([entry(number)])
        log.checkpoint(now)
    (tmp_path / "new").mkdir()
    with open_log(tmp_path / "state", origin=log.origin, witness=tmp_path / "new" / "witness") as moved:
        moved.checkpoint(now)
        assert moved.witness.path.read_text() == log.witness.path.read_text()
        assert not moved.audit().problems
