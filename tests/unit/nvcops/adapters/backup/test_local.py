"""A folder as a store: whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvcops.adapters.backup.local import LocalStore
from nvcops.core.errors import LockHeld, NotFoundError, StateError, Unreachable, UsageError


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "repository")


def keys(store: LocalStore) -> list[str]:
    return [file.key for file in store.list("")]


def test_what_is_put_is_there_and_listed_in_the_order_of_keys(store: LocalStore) -> None:
    for key in ("b/2", "a.b", "a/z/1", "a/b", "b/1"):
        assert store.put(key, [b"one ", b"two"]) == 7
    assert keys(store) == ["a.b", "a/b", "a/z/1", "b/1", "b/2"]
    assert [file.key for file in store.list("a")] == ["a.b", "a/b", "a/z/1"]
    assert [file.key for file in store.list("a/")] == ["a/b", "a/z/1"]
    assert store.read("a/b") == b"one two"
    with store.open("b/1") as stream:
        assert stream.read(3) == b"one"
    assert [file.bytes for file in store.list("b/")] == [7, 7]


def test_an_object_is_replaced_whole_and_an_exclusive_one_never(store: LocalStore) -> None:
    store.put("k", [b"old"])
    store.put("k", [b"new"])
    assert store.read("k") == b"new"
    with pytest.raises(LockHeld, match="there is a k already"):
        store.put("k", [b"newer"], exclusive=True)
    assert store.read("k") == b"new"


def test_of_two_that_create_at_once_one_wins(store: LocalStore) -> None:
    def slowly() -> Iterator[bytes]:
        yield b"first"
        store.put("k", [b"second"], exclusive=True)

    with pytest.raises(LockHeld):
        store.put("k", slowly(), exclusive=True)
    assert store.read("k") == b"second"
    assert not list((store.folder / ".partial").iterdir())


def test_what_fails_in_the_middle_leaves_nothing(store: LocalStore) -> None:
    def full() -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StateError, match=r"disk of .* is full"):
        store.put("k", full())
    assert keys(store) == []
    assert not list((store.folder / ".partial").iterdir())


def test_a_folder_that_is_not_there_yet_is_empty_and_one_that_cannot_be_is_out_of_reach(tmp_path: Path) -> None:
    assert keys(LocalStore(tmp_path / "new")) == []
    away = LocalStore(tmp_path / "unmounted" / "repository")
    with pytest.raises(Unreachable, match="there is no folder"):
        keys(away)
    with pytest.raises(Unreachable):
        away.put("k", [b""])
    with pytest.raises(Unreachable):
        away.read("k")


def test_what_is_not_there_is_said_so(store: LocalStore) -> None:
    store.put("k", [b"x"])
    with pytest.raises(NotFoundError, match="there is no other"):
        store.read("other")
    with pytest.raises(NotFoundError), store.open("other"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_says_so(store: LocalStore) -> None:
    store.put("k", [b"x"])
    store.folder.chmod(0o500)
    try:
        with pytest.raises(StateError, match="cannot be written"):
            store.put("other", [b"x"])
    finally:
        store.folder.chmod(0o700)


def test_a_file_where_a_folder_should_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises((StateError, Unreachable)):
        LocalStore(tmp_path / "file").put("k", [b"x"])


def test_delete_takes_empty_folders_along_and_nothing_else(store: LocalStore) -> None:
    for key in ("a/b/1", "a/b/2", "a/c"):
        store.put(key, [b"x"])
    store.delete(["a/b/1", "a/b/2", "a/nothing"])
    assert keys(store) == ["a/c"]
    assert not (store.folder / "a" / "b").exists()
    assert store.folder.exists()


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a//b", "a/../b", ".hidden", "a/.partial", "", "a/", "x" * 600])
def test_a_key_cannot_lead_outside(store: LocalStore, key: str) -> None:
    for call in (lambda: store.put(key, [b"x"]), lambda: store.read(key), lambda: store.delete([key])):
        with pytest.raises(UsageError):
            call()


def test_sweep_takes_what_the_dead_left_and_leaves_the_living(store: LocalStore) -> None:
    def writing() -> Iterator[bytes]:
        yield b"x"
        assert store.sweep() == 1  # the dead one's, not this one's
        yield b"y"

    store.put("first", [b"x"])
    (store.folder / ".partial" / "123-dead").write_bytes(b"half")
    store.put("k", writing())
    assert store.read("k") == b"xy"
    assert (store.free() or 0) > 0
