"""The catalogue's chain."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
from pathlib import Path

import pytest

from nvcops.adapters.backup.catalogue import Catalogue, key_of
from nvcops.adapters.backup.local import LocalStore
from nvcops.core.backups import Entry, Kind
from nvcops.core.errors import EvidenceError, NotFoundError

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(LocalStore(tmp_path / "repository"))


def draft(number: int) -> Entry:
    return Entry(number=0, id=f"entry-{number}", kind=Kind.POINT, platform="bank", began=NOW, ended=NOW)


def file(catalogue: Catalogue, number: int) -> Path:
    return Path(catalogue.store.name) / key_of(number)


def test_entries_are_numbered_and_chained(catalogue: Catalogue) -> None:
    assert catalogue.entries() == []
    assert catalogue.head() == (0, "")
    entered = [catalogue.append(draft(number)) for number in range(5)]
    assert [entry.number for entry in entered] == [1, 2, 3, 4, 5]
    assert catalogue.entries() == entered
    stored = [file(catalogue, number).read_bytes() for number in range(1, 6)]
    assert [entry.previous for entry in entered] == ["", *(hashlib.sha256(each).hexdigest() for each in stored[:-1])]
    assert catalogue.head() == (5, hashlib.sha256(stored[-1]).hexdigest())
    assert catalogue.find("entry-3") == entered[3]
    with pytest.raises(NotFoundError, match="nothing"):
        catalogue.find("nothing")


def test_many_writers_make_one_chain(catalogue: Catalogue) -> None:
    def write(number: int) -> None:
        catalogue.append(draft(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.id for entry in catalogue.entries()) == [f"entry-{number}" for number in range(6)]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_edited_entry_is_named(catalogue: Catalogue, number: int) -> None:
    for each in range(4):
        catalogue.append(draft(each))
    path = file(catalogue, number)
    path.write_bytes(path.read_bytes().replace(b"bank", b"bonk"))
    with pytest.raises(EvidenceError, match=rf"entry {number} .*edited"):
        catalogue.entries()


def test_the_newest_is_vouched_for_by_the_head_that_somebody_kept(catalogue: Catalogue) -> None:
    for each in range(2):
        catalogue.append(draft(each))
    kept = catalogue.head()
    path = file(catalogue, 2)
    path.write_bytes(path.read_bytes().replace(b"bank", b"bonk"))
    assert catalogue.head() != kept


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe"])
def test_what_is_no_entry_is_named(catalogue: Catalogue, content: bytes) -> None:
    for each in range(3):
        catalogue.append(draft(each))
    file(catalogue, 2).write_bytes(content)
    with pytest.raises(EvidenceError, match=r"entry 2 .*is no entry"):
        catalogue.entries()


def test_a_missing_entry_is_named(catalogue: Catalogue) -> None:
    for each in range(3):
        catalogue.append(draft(each))
    file(catalogue, 2).unlink()
    with pytest.raises(EvidenceError, match=r"entry 2 .*missing"):
        catalogue.entries()
