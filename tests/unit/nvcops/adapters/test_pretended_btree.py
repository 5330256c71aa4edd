"""The file of a pretended index: whose pages are valid, and that takes no room."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from nvcops.adapters.clones.btree import PAGE, Keys, Shape, is_deduplicated, pretend, shape
from nvcops.core.errors import StateError

META = struct.pack("<IIIIII", 0x053162, 4, 0, 0, 0, 0)


def empty(folder: Path) -> Path:
    file = folder / "16384"
    page = bytearray(PAGE)
    page[24 : 24 + len(META)] = META
    page[64] = 1
    file.write_bytes(page)
    return file


def test_a_tall_and_large_one_is_a_chain_of_pages_and_holes(tmp_path: Path) -> None:
    file = empty(tmp_path)
    assert is_deduplicated(file)
    pretend(file, Shape(300_000, 2), checksums=True, give=lambda path: path)
    more = tmp_path / "16384.1"
    assert (file.stat().st_size + more.stat().st_size) == 262_144 * PAGE
    assert (tmp_path / "16384.2").stat().st_size == (300_000 - 262_144) * PAGE
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) < 1 << 20

    data = file.read_bytes()[: 4 * PAGE]
    assert struct.unpack_from("<IIII", data, 32) == (1, 2, 1, 2)
    for number, level in ((1, 2), (2, 1), (3, 0)):
        page = data[number * PAGE : (number + 1) * PAGE]
        assert struct.unpack_from("<I", page, PAGE - 8)[0] == level
        assert struct.unpack_from("<H", page, 8)[0] != 0, "it has a checksum"


def test_what_is_no_empty_btree_is_left_alone(tmp_path: Path) -> None:
    for content in (b"", bytes(PAGE), b"x" * PAGE):
        file = tmp_path / "other"
        file.write_bytes(content)
        with pytest.raises(StateError):
            pretend(file, Shape(10, 1), checksums=False, give=lambda path: path)
        assert file.read_bytes() == content
    whole = empty(tmp_path)
    pretend(whole, Shape(10, 1), checksums=False, give=lambda path: path)
    with pytest.raises(StateError, match="empty"):
        pretend(whole, Shape(10, 1), checksums=False, give=lambda path: path)


def test_more_rows_and_wider_keys_never_make_it_smaller() -> None:
    sizes = [shape([Keys(rows, 8, rows)], deduplicated=True).pages for rows in (0, 1, 100, 10_000, 1e6, 1e8)]
    assert sizes == sorted(sizes)
    widths = [shape([Keys(1e6, width, 1e6)], deduplicated=True).pages for width in (8, 16, 64, 512)]
    assert widths == sorted(widths)
    groups = [shape([Keys(1e6, 16, count)], deduplicated=True).pages for count in (1, 1e3, 1e5, 1e6)]
    assert groups == sorted(groups)
    assert shape([Keys(1e6, 16, 10)], deduplicated=False) == shape([Keys(1e6, 16, 1e6)], deduplicated=True)
