"""A b-tree that is tall, large and empty: how the planner is made to see an index that nobody built.

The planner asks an index for two things that do not stand in the catalogue: how many pages its file has, and the height
that its first page tells. Both are written here: the first page, one page of each level, and a file that is as long as
the real one would be, most of it holes. Whoever looks into it finds a valid tree without rows.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from nvcops.core.errors import StateError

PAGE = 8192
_SEGMENT_PAGES = 131072
_HEADER = struct.Struct(
    "<QHHHHHHI"
)  # LSN, checksum, flags, lower, upper, special, size and version, oldest xid to prune
_OPAQUE = struct.Struct("<IIIHH")  # left and right neighbour, level, flags, cycle
_META = struct.Struct("<IIIIII")  # magic, version, root, its level, quick root, its level
_META_AT, _SAFE_AT = 24, 64
_MAGIC = 0x053162
_LEAF, _ROOT = 1, 2
_NO_KEY = 0x2000 | 8  # a tuple of eight bytes that points down and has no key: less than everything
_LAYOUT_VERSION = 0x2004
_POINTER = 4
_ROOM = PAGE - 24 - 16
_LEAF_FULL = _ROOM - PAGE * 10 // 100
_INNER_SHARE = 0.70
_POSTING_MAX = PAGE * 10 // 100 - _POINTER
_TID = 6


class Shape(msgspec.Struct, frozen=True):
    """How large a b-tree is: its pages, and the level of its root."""

    pages: int
    height: int


class Keys(msgspec.Struct, frozen=True):
    """Rows of an index whose keys are alike: their bytes (aligned), and how many different ones there are."""

    rows: float
    width: int
    groups: float


def shape(kinds: Sequence[Keys], *, deduplicated: bool) -> Shape:
    """The b-tree of such rows, freshly built.

    A leaf is filled to 90 %, an inner page to 70 %. Equal keys stand once in front of their rows' places, six bytes
    each, until such a list has reached a tenth of a page.

    >>> shape([Keys(1_000_000, 8, 1_000_000)], deduplicated=True)  # of an int4 or int8: 21 MiB
    Shape(pages=2740, height=2)
    >>> shape([Keys(1_000_000, 8, 100)], deduplicated=True).pages < 900
    True
    >>> shape([Keys(0, 8, 0)], deduplicated=True)
    Shape(pages=1, height=0)
    """
    leaves = math.ceil(sum(_leaf_bytes(kind, deduplicated=deduplicated) for kind in kinds) / _LEAF_FULL)
    widest = max(kind.width for kind in kinds)
    fanout = max(2, int(_ROOM * _INNER_SHARE / (8 + widest + _POINTER)))
    pages, level, height = leaves, leaves, 0
    while level > 1:
        level = math.ceil(level / fanout)
        pages, height = pages + level, height + 1
    return Shape(pages + 1, height)


def _leaf_bytes(kind: Keys, *, deduplicated: bool) -> float:
    tuple_bytes = 8 + kind.width
    each = kind.rows / max(kind.groups, 1.0)
    if not deduplicated or each <= 1:
        return kind.rows * (tuple_bytes + _POINTER)
    at_most = max(1, (_POSTING_MAX - tuple_bytes) // _TID)
    lists, rest = divmod(each, at_most)
    bytes_of_group = lists * (_posting(tuple_bytes, at_most) + _POINTER)
    bytes_of_group += _posting(tuple_bytes, rest) + _POINTER if rest >= 1 else rest * (tuple_bytes + _POINTER)
    return kind.groups * bytes_of_group


def _posting(tuple_bytes: int, places: float) -> float:
    return tuple_bytes if places <= 1 else tuple_bytes + places * _TID + 4  # up to the next multiple of 8


def is_deduplicated(file: Path) -> bool:
    """Whether equal keys are kept once in an index of these columns: its first page says so."""
    with file.open("rb") as handle:
        first = handle.read(PAGE)
    if len(first) < PAGE or _META.unpack_from(first, _META_AT)[0] != _MAGIC:
        raise StateError(f"{file} does not begin as a b-tree does")
    return bool(first[_SAFE_AT])


def pretend(file: Path, wanted: Shape, *, checksums: bool, give: Callable[[Path], Path]) -> None:
    """Make the file of a freshly built, empty b-tree as large and as tall as wanted.

    `give` makes a file the server's own.

    Raises:
        StateError: it is no b-tree of the kind that we know.
    """
    with file.open("r+b") as handle:
        first = bytearray(handle.read(PAGE))
        magic, version, root, *_ = _META.unpack_from(first, _META_AT) if len(first) == PAGE else (0, 0, 1)
        if magic != _MAGIC or root:
            raise StateError(f"{file} is not the file of an empty b-tree")
        if wanted.pages > wanted.height + 1:
            level = wanted.height
            _META.pack_into(first, _META_AT, magic, version, 1, level, 1, level)
            pages = [first, *(bytearray(_inner(number, level)) for number in range(1, level + 2))]
            handle.seek(0)
            for number, page in enumerate(pages):
                handle.write(_summed(page, number) if checksums else page)
    _stretch(file, wanted.pages, give)


def _inner(number: int, height: int) -> bytes:
    """The `number`th page: the only one of its level, pointing at the next; the last is a leaf without rows."""
    level = height - number + 1
    page = bytearray(PAGE)
    flags = (_LEAF if level == 0 else 0) | (_ROOT if number == 1 else 0)
    lower, upper = 24, PAGE - _OPAQUE.size
    if level:
        lower, upper = lower + _POINTER, upper - 8
        struct.pack_into("<I", page, 24, upper | 1 << 15 | 8 << 17)
        struct.pack_into("<HHHH", page, upper, 0, number + 1, 0, _NO_KEY)
    _HEADER.pack_into(page, 0, 0, 0, 0, lower, upper, PAGE - _OPAQUE.size, _LAYOUT_VERSION, 0)
    _OPAQUE.pack_into(page, PAGE - _OPAQUE.size, 0, 0, level, flags, 0)
    return bytes(page)


def _stretch(file: Path, pages: int, give: Callable[[Path], Path]) -> None:
    """Let the relation's files be that long; they are split into segments of 1 GiB."""
    for number in range(-(-pages // _SEGMENT_PAGES)):
        segment = file if number == 0 else file.with_name(f"{file.name}.{number}")
        if number:
            segment.touch(mode=0o600)
            give(segment)
        os.truncate(segment, min(pages - number * _SEGMENT_PAGES, _SEGMENT_PAGES) * PAGE)


_PRIME = 16777619
_BASIS = (
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
)  # fmt: skip


def _summed(page: bytearray, number: int) -> bytes:
    """The page with its checksum: FNV-1a in 32 lanes, as PostgreSQL sums its pages."""
    struct.pack_into("<H", page, 8, 0)
    sums = list(_BASIS)
    words = struct.unpack(f"<{PAGE // 4}I", page) + (0,) * (2 * len(sums))
    for place, word in enumerate(words):
        lane = place % len(sums)
        mixed = sums[lane] ^ word
        sums[lane] = (mixed * _PRIME & 0xFFFFFFFF) ^ (mixed >> 17)
    whole = number
    for each in sums:
        whole ^= each
    struct.pack_into("<H", page, 8, whole % 65535 + 1)
    return bytes(page)
