"""The tree as C2SP tlog-tiles lays it out: tiles of up to 256 hashes, eight levels of the tree high."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from nvcops.core.errors import EvidenceError
from nvcops.core.evidence.merkle import split
from nvcops.core.evidence.verify_evidence import blocks, node_hash

WIDTH = 256
HASH_BYTES = 32
LEVELS_MAX = 8  # 256**8 entries are more than an index of 63 bits can count

Key = tuple[int, int]
ReadTile = Callable[[int, int], bytes]
_PATH = re.compile(r"tile/(entries|\d|[1-5]\d|6[0-3])/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?")


def tile_path(level: int | None, number: int, width: int = WIDTH) -> str:
    """Where a tile (level None: a bundle of entries) is served.

    >>> tile_path(0, 1234067), tile_path(1, 0, 17), tile_path(None, 5)
    ('tile/0/x001/x234/067', 'tile/1/000.p/17', 'tile/entries/005')
    """
    parts = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        parts.insert(0, f"x{number % 1000:03d}")
    suffix = "" if width == WIDTH else f".p/{width}"
    return f"tile/{'entries' if level is None else level}/{'/'.join(parts)}{suffix}"


def parse_path(path: str) -> tuple[int | None, int, int]:
    """Level (None: entries), number and width of a tile's path.

    Raises:
        EvidenceError: it is no such path.

    >>> parse_path("tile/0/x001/x234/067.p/3")
    (0, 1234067, 3)
    """
    found = _PATH.fullmatch(path)
    width = int(found[3] or WIDTH) if found else 0
    if not found or width > WIDTH or (found[3] and width == WIDTH):
        raise EvidenceError(f"{path[:80]!r} is not a path of tlog-tiles")
    level = None if found[1] == "entries" else int(found[1])
    number = int(found[2].replace("x", "").replace("/", ""))
    if tile_path(level, number, width) != path:
        raise EvidenceError(f"{path[:80]!r} is not the one spelling of a path of tlog-tiles")
    return level, number, width


def widths(size: int) -> dict[Key, int]:
    """The last tile of each level of a tree, with the number of its hashes, as (level, number) -> width."""
    found = {}
    for level in range(LEVELS_MAX):
        count = size // WIDTH**level
        if count == 0:
            break
        found[level, (count - 1) // WIDTH] = (count - 1) % WIDTH + 1
    return found


def grow(read: ReadTile, size: int, leaves: Sequence[bytes]) -> dict[Key, bytes]:
    """The tiles that change when leaves are appended to a tree of `size`; `read` gives a tile's present hashes.

    Raises:
        EvidenceError: the last tile is not as wide as the size says.
    """
    changed: dict[Key, bytes] = {}
    level, fresh = 0, list(leaves)
    while fresh:
        number, width = divmod(size // WIDTH**level, WIDTH)
        tile = bytearray(read(level, number) if width else b"")
        if len(tile) != width * HASH_BYTES:
            raise EvidenceError(
                f"the tile {tile_path(level, number)} does not fit a log of {size} entries (first bad index {size})",
                hint="`nvcops evidence audit` says more",
            )
        upward: list[bytes] = []
        for digest in fresh:
            tile += digest
            if len(tile) == WIDTH * HASH_BYTES:
                changed[level, number] = bytes(tile)
                upward.append(subtree(tile))
                number, tile = number + 1, bytearray()
        if tile:
            changed[level, number] = bytes(tile)
        level, fresh = level + 1, upward
    return changed


def subtree(hashes: bytes | bytearray) -> bytes:
    """The root over 2**n concatenated hashes."""
    row = [bytes(hashes[at : at + HASH_BYTES]) for at in range(0, len(hashes), HASH_BYTES)]
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


class TiledTree:
    """A tree that is read from its tiles."""

    def __init__(self, read: ReadTile) -> None:
        self._read = read

    def range_hash(self, start: int, stop: int) -> bytes:
        """The RFC 6962 hash of the leaves from start to stop, where start is where a subtree begins.

        Raises:
            EvidenceError: a tile is missing or too short.
        """
        width = stop - start
        if width & (width - 1) == 0:
            return self._perfect(start, width.bit_length() - 1)
        middle = start + split(width)
        return node_hash(self.range_hash(start, middle), self.range_hash(middle, stop))

    def edge(self, start: int, stop: int) -> list[bytes]:
        """The widest perfect subtrees that cover the leaves from start to stop."""
        found = []
        for height in blocks(start, stop):
            found.append(self._perfect(start, height))
            start += 1 << height
        return found

    def _perfect(self, start: int, height: int) -> bytes:
        """The subtree of 2**height leaves: a run of hashes in one tile, at the level below its height."""
        level = height // 8
        first = start >> 8 * level
        count = 1 << height % 8
        number, offset = divmod(first, WIDTH)
        found = self._read(level, number)[offset * HASH_BYTES : (offset + count) * HASH_BYTES]
        if len(found) != count * HASH_BYTES:
            raise EvidenceError(
                f"the tile {tile_path(level, number)} is missing or too short (first bad index {start})"
            )
        return subtree(found)


def bundle_entries(entries: Sequence[bytes]) -> bytes:
    """An entry bundle of tlog-tiles: each entry behind its length in two bytes."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unbundle_entries(data: bytes) -> list[bytes]:
    """The entries of an entry bundle.

    Raises:
        EvidenceError: it is cut off.
    """
    entries: list[bytes] = []
    while data:
        stop = 2 + int.from_bytes(data[:2], "big")
        if len(data) < stop:
            raise EvidenceError(f"an entry bundle is cut off after {len(entries)} entries")
        entries.append(data[2:stop])
        data = data[stop:]
    return entries
