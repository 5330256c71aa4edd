"""What pgBackRest 2.45 answered for a cluster of PostgreSQL 15, recorded, and what of it is believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nvcops.adapters.backup import pgbackrest_read as read
from nvcops.core.backups import Kind, lsn_bytes
from nvcops.core.errors import Refused, Unreachable

HERE = Path(__file__).parent
INFO = (HERE / "pgbackrest-info.json").read_bytes()
ARCHIVE = (HERE / "pgbackrest-archive.json").read_bytes()


def test_a_backup_becomes_an_entry_with_its_place_in_the_log_and_its_parent() -> None:
    full, second, third = read.entries(read.stanza(INFO, "main"), "nvc-bank")
    assert (full.kind, second.kind, third.kind) == (Kind.FULL, Kind.INCREMENTAL, Kind.INCREMENTAL)
    assert full.id == "20261122-161148F"
    assert full.database is not None
    assert full.database.major == 15
    assert full.database.timeline == 1
    assert full.database.system_identifier == "7711029262435270210"
    assert (full.database.start_lsn, full.database.stop_lsn) == ("0/3000028", "0/3000100")
    assert full.database.parent == ""
    assert second.database is not None
    assert second.database.parent == full.id
    assert third.database is not None
    assert third.database.parent == second.id
    assert lsn_bytes(third.database.stop_lsn) > lsn_bytes(second.database.stop_lsn)
    assert second.stored_bytes == 5220214
    assert second.raw_bytes == 36647530
    assert third.note == "asked for as abc"


def test_the_archive_is_listed_without_what_is_no_log() -> None:
    found = list(read.segments(ARCHIVE, read.stanza(INFO, "main")))
    assert [segment.name for segment in found] == [f"{1:08X}{0:08X}{number:08X}" for number in range(1, 15)]
    assert {segment.system_identifier for segment in found} == {"7711029262435270210"}
    fourth = found[3]
    assert fourth.key.startswith("archive/main/15-1/0000000100000000/000000010000000000000004-")
    assert read.digest_in_name(fourth.key) == "f3e44459904de59f7857e2482cfee4ed971253a2"
    assert fourth.sha256 == "f3e44459904de59f7857e2482cfee4ed"
    assert not fourth.partial


def test_two_files_by_one_name_a_history_and_a_partial_segment_are_all_listed() -> None:
    file = {"type": "file", "size": 9, "time": 1}
    listing = {
        "15-1/00000002.history": file,
        f"15-1/0000000100000000/000000010000000000000004-{20 * 'aa'}.gz": file,
        f"15-1/0000000100000000/000000010000000000000004-{20 * 'bb'}.gz": file,
        f"15-1/0000000100000000/000000010000000000000005.partial-{20 * 'cc'}.gz": file,
        "15-1/0000000100000000": {"type": "path"},
    }
    found = list(read.segments(json.dumps(listing).encode(), read.stanza(INFO, "main")))
    assert [(segment.name[-8:], segment.sha256[:2], segment.partial) for segment in found] == [
        ("00000004", "aa", False),
        ("00000004", "bb", False),
        ("00000005", "cc", True),
        (".history"[-8:], "", False),
    ]


def test_a_repository_that_is_gone_is_not_an_empty_one() -> None:
    """`info` ends with 0 over a missing repository: the status inside says it."""
    gone = json.dumps(
        [{"name": "main", "backup": [], "db": [], "status": {"code": 1, "message": "missing stanza path"}}]
    )
    with pytest.raises(Unreachable, match="missing stanza path"):
        read.stanza(gone.encode(), "main")
    with pytest.raises(Unreachable, match="no such stanza"):
        read.stanza(INFO, "other")
    empty = gone.replace('"code": 1', '"code": 2')
    assert read.entries(read.stanza(empty.encode(), "main"), "p") == []


def test_what_cannot_be_read_is_refused_in_a_sentence() -> None:
    with pytest.raises(Refused, match="info answered what nvcops cannot read"):
        read.stanza(b"[{", "main")
    with pytest.raises(Refused, match="repo-ls answered what nvcops cannot read"):
        list(read.segments(b"nothing", read.stanza(INFO, "main")))


def test_the_files_of_a_manifest_have_their_digests() -> None:
    manifest = (
        '[backup:target]\npg_data={"path":"/data","type":"path"}\n\n[target:file]\n'
        'pg_data/base/1/112={"checksum":"98","reference":"F","repo-size":57,"size":8192,"timestamp":1}\n'
        'pg_data/base/1/empty={"size":0,"timestamp":1}\n'
        'pg_tblspc/16384/PG_15_202209061/5/16385={"checksum":"77","size":8192}\n\n'
        '[target:file:default]\nmode="0600"\n'
    )
    assert list(read.manifest_files(manifest)) == [
        read.File("base/1/112", 8192, "98", None),
        read.File("base/1/empty", 0, "", 0),
        read.File("pg_tblspc/16384/PG_15_202209061/5/16385", 8192, "77", 8192),
    ]
