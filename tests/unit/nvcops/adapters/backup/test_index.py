"""What lies where in a backup."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from nvcops.adapters.backup.index import (
    File,
    Index,
    Pack,
    Range,
    index_key,
    read_file,
    read_index,
    sealed_index,
    unseal_parts,
)
from nvcops.adapters.backup.local import LocalStore
from nvcops.adapters.backup.pack import Damaged, Sealing, seal
from nvcops.core.errors import NotFoundError

ID = "20261122T000000Z-F"
PLAIN = Sealing()
INDEX = Index(
    ID,
    (File("a", 0o600, 5), File("base/1/2", 0o600, 10), File("empty", 0o600, 0)),
    (("base", 0o700), ("base/1", 0o700)),
    (
        Pack("backups/x/000001.pack", 9, (Range(0, 0, 5), Range(1, 0, 4))),
        Pack("backups/x/000002.pack", 6, (Range(1, 4, 6),)),
    ),
)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    kept = LocalStore(tmp_path / "repository")
    kept.put("backups/x/000001.pack", seal([b"aaaaabbbb"], PLAIN))
    kept.put("backups/x/000002.pack", seal([b"cccccc"], PLAIN))
    return kept


def put(store: LocalStore, index: Index) -> None:
    store.put(index_key(ID), sealed_index(index, PLAIN))


def test_an_index_is_read_back_and_leads_to_every_file(store: LocalStore) -> None:
    put(store, INDEX)
    index = read_index(store, PLAIN, ID)
    assert index == INDEX
    assert index.raw_bytes == 15
    contents = [b"".join(read_file(store, PLAIN, index, file.path)) for file in index.files]
    assert contents == [b"aaaaa", b"bbbbcccccc", b""]
    with pytest.raises(NotFoundError, match="no file b"):
        list(read_file(store, PLAIN, index, "b"))


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "another"},
        {"files": (File("../a", 0o600, 5), *INDEX.files[1:])},
        {"files": (File("/etc/passwd", 0o600, 5), *INDEX.files[1:])},
        {"folders": (("../up", 0o700),)},
        {"files": (File("a", 0o600, 6), *INDEX.files[1:])},
        {"packs": INDEX.packs[:1]},
        {"packs": INDEX.packs[::-1]},
        {"packs": (*INDEX.packs, Pack("p", 1, (Range(7, 0, 1),)))},
    ],
)
def test_an_index_that_would_lead_astray_is_refused(store: LocalStore, changed: dict[str, object]) -> None:
    put(store, msgspec.structs.replace(INDEX, **changed))
    with pytest.raises(Damaged):
        read_index(store, PLAIN, ID)


def test_what_is_no_index_is_refused(store: LocalStore) -> None:
    store.put(index_key(ID), seal([b"[]"], PLAIN))
    with pytest.raises(Damaged, match="is none"):
        read_index(store, PLAIN, ID)
    with pytest.raises(NotFoundError):
        read_index(store, PLAIN, "20261122T000001Z-F")


@pytest.mark.parametrize("raw", [b"aaaaabbb", b"aaaaabbbbX", b""])
def test_a_pack_of_another_size_is_refused(raw: bytes) -> None:
    with pytest.raises(Damaged, match=r"more than|less than"):
        list(unseal_parts([raw] if raw else [], INDEX.packs[0]))
