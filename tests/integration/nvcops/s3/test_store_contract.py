"""What every store promises, asked of each: a folder, and a bucket."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import S3Server

from nvcops.adapters.backup.local import LocalStore
from nvcops.adapters.backup.s3 import S3Store
from nvcops.adapters.backup.store import Store
from nvcops.core.errors import LockHeld, NotFoundError, UsageError


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        yield LocalStore(tmp_path / "repository")
        return
    server: S3Server = request.getfixturevalue("server")
    bucket = request.getfixturevalue("bucket")
    opened = S3Store(bucket, "banks/nvc", server.url, "us-east-1")
    yield opened
    opened.close()


def keys(store: Store, prefix: str = "") -> list[str]:
    return [file.key for file in store.list(prefix)]


def streamed(store: Store, key: str, size: int = 70_000) -> bytes:
    data = bytearray()
    with store.open(key) as stream:
        while chunk := stream.read(size):
            data += chunk
    return bytes(data)


@pytest.mark.parametrize("size", [0, 1, 16 << 20, (16 << 20) + 1, (37 << 20) + 11])
def test_what_was_put_is_read_back(store: Store, size: int) -> None:
    data = os.urandom(size)
    chunks = [data[start : start + 1_000_003] for start in range(0, size, 1_000_003)]
    assert store.put("backups/a/000001.pack", iter(chunks)) == size
    assert streamed(store, "backups/a/000001.pack") == data
    assert store.read("backups/a/000001.pack") == data
    (listed,) = store.list("backups/")
    assert (listed.key, listed.bytes) == ("backups/a/000001.pack", size)
    assert listed.modified.tzinfo is not None


def test_putting_again_replaces(store: Store) -> None:
    store.put("index", [b"old", b"er"])
    store.put("index", [b"new"])
    assert store.read("index") == b"new"


def test_exclusive_keeps_the_first(store: Store) -> None:
    store.put("catalogue/00000001.json", [b"first"], exclusive=True)
    with pytest.raises(LockHeld, match=r"there is a catalogue/00000001\.json already"):
        store.put("catalogue/00000001.json", [b"second"], exclusive=True)
    assert store.read("catalogue/00000001.json") == b"first"


def test_exclusive_of_many_parts_keeps_the_first(store: Store) -> None:
    store.put("wal/big", [bytes(17 << 20)], exclusive=True)
    with pytest.raises(LockHeld):
        store.put("wal/big", [os.urandom(17 << 20)], exclusive=True)
    assert store.read("wal/big") == bytes(17 << 20)
    assert keys(store) == ["wal/big"]


def test_of_many_who_want_to_be_the_first_one_is(store: Store) -> None:
    won: list[int] = []
    lost: list[int] = []

    def try_it(number: int) -> None:
        try:
            store.put("locks/one", [b"%d" % number], exclusive=True)
            won.append(number)
        except LockHeld:
            lost.append(number)

    writers = [threading.Thread(target=try_it, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert (len(won), len(lost)) == (1, 7)
    assert store.read("locks/one") == b"%d" % won[0]


def test_listing_is_by_key_and_by_prefix(store: Store) -> None:
    for key in ("b/2", "a/10", "a/9", "b/1/x", "c", "a-z"):
        store.put(key, [b"."])
    assert keys(store) == sorted(("b/2", "a/10", "a/9", "b/1/x", "c", "a-z"))
    assert keys(store, "a/") == ["a/10", "a/9"]
    assert keys(store, "a") == ["a-z", "a/10", "a/9"]
    assert keys(store, "nothing/") == []


def test_a_listing_has_no_end_at_a_page(store: Store) -> None:
    names = [f"wal/{number:06d}" for number in range(1100)]
    for name in names:
        store.put(name, [b""])
    assert keys(store) == names
    store.delete(names[1:])
    assert keys(store) == names[:1]


def test_an_empty_store_lists_nothing(store: Store) -> None:
    assert keys(store) == []


def test_deleting_what_is_not_there_is_fine(store: Store) -> None:
    store.put("a", [b"."])
    store.delete(["a", "b"])
    store.delete(["a"])
    store.delete([])
    assert keys(store) == []


def test_what_is_not_there_is_not_found(store: Store) -> None:
    store.put("a", [b"."])
    with pytest.raises(NotFoundError, match=f"there is no a/b in {store.name}"):
        store.read("a/b")
    with pytest.raises(NotFoundError), store.open("b"):
        pass


def test_a_key_leads_nowhere_else(store: Store) -> None:
    for key in ("../a", "/a", "a//b", ".hidden", "", "a b"):
        with pytest.raises(UsageError):
            store.put(key, [b"."])
        with pytest.raises(UsageError):
            store.read(key)


@pytest.mark.parametrize("size", [100, 20 << 20])
def test_a_source_that_fails_leaves_nothing(store: Store, size: int) -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(size)
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="the source broke"):
        store.put("backups/half", chunks())
    assert keys(store) == []
    with pytest.raises(NotFoundError):
        store.read("backups/half")


def test_a_small_object_is_small(store: Store) -> None:
    store.put("big", (bytes(1 << 20) for _ in range(65)))
    with pytest.raises(Exception, match=r"big in .* is larger than 64 MiB"):
        store.read("big")


def test_space_is_known_or_said_to_be_unknown(store: Store) -> None:
    left = store.free()
    assert left is None if isinstance(store, S3Store) else left is not None and left > 0


def test_nothing_is_swept_that_lives(store: Store) -> None:
    store.put("a", [b"."])
    assert store.sweep() == 0
    assert keys(store) == ["a"]
