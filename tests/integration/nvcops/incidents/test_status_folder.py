"""The status page's folder, while it is read."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from nvcops.adapters.status_page import publish
from nvcops.core.errors import StateError


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "www" / "status"
    files = {"index.html": b"<p>1</p>", "feed.json": b"{}"}
    assert publish(folder, files) == ["index.html", "feed.json"]
    before = (folder / "feed.json").stat().st_ino
    assert publish(folder, files | {"index.html": b"<p>2</p>"}) == ["index.html"]
    assert (folder / "feed.json").stat().st_ino == before
    assert sorted(path.name for path in folder.iterdir()) == ["feed.json", "index.html"]
    assert (folder / "index.html").stat().st_mode & 0o777 == 0o644


def test_a_reader_never_sees_half_a_page(tmp_path: Path) -> None:
    pages = [bytes([65 + number]) * 200_000 for number in range(2)]
    publish(tmp_path, {"index.html": pages[0]})
    stop, torn = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            seen = (tmp_path / "index.html").read_bytes()
            if seen not in pages:
                torn.append(len(seen))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for turn in range(60):
            publish(tmp_path, {"index.html": pages[turn % 2]})
    finally:
        stop.set()
        reader.join(30)
    assert not torn


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StateError, match="cannot be written") as refused:
        publish(tmp_path / "file" / "status", {"index.html": b""})
    assert "status_page" in refused.value.hint
    with pytest.raises(StateError, match="has 9,000,000 bytes"):
        publish(tmp_path, {"index.html": b"x" * 9_000_000})
