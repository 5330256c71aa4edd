from __future__ import annotations

from pathlib import Path

import pytest

from nvclab.customers import acknowledgements
from nvclab.customers.acknowledgements import Acknowledgement, Book, read


def entry(number: int) -> Acknowledgement:
    return Acknowledgement(1.5, f"key-{number}", "00", 1, "settled", str(number), 201)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    book = Book(tmp_path / "book.jsonl")
    book.write([entry(1), entry(2)])
    book.close()
    again = Book(tmp_path / "book.jsonl")
    again.write([entry(3)])
    again.close()
    assert list(read(tmp_path / "book.jsonl")) == [entry(1), entry(2), entry(3)]


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "book.jsonl"
    book = Book(path)
    book.write([entry(1), entry(2)])
    book.close()
    path.write_bytes(path.read_bytes()[:-20])
    assert list(read(path)) == [entry(1)]


def test_an_outgrown_book_is_put_aside_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledgements, "_BYTES_MAX", 200)
    book = Book(tmp_path / "book.jsonl")
    for number in range(4):
        book.write([entry(number)])
    book.close()
    kept = [*read(tmp_path / "book.jsonl.1"), *read(tmp_path / "book.jsonl")]
    assert kept[-1] == entry(3)
    assert len(kept) >= 2
