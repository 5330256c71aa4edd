"""The layout of C2SP tlog-tiles, with the examples that the specification gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.core.errors import EvidenceError
from nvcops.core.evidence.merkle import inclusion_path, verify_inclusion
from nvcops.core.evidence.tiles import (
    HASH_BYTES,
    ReadTile,
    TiledTree,
    bundle_entries,
    grow,
    parse_path,
    tile_path,
    unbundle_entries,
    widths,
)
from nvcops.core.evidence.verify_evidence import Frontier, leaf_hash

Tiles = dict[tuple[int, int], bytes]


def leaves(size: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(size)]


def root(hashes: list[bytes]) -> bytes:
    edge = Frontier()
    for leaf in hashes:
        edge.push(leaf)
    return edge.root()


def reading(tiles: Tiles) -> ReadTile:
    return lambda level, number: tiles.get((level, number), b"")


def tiled(batches: list[int]) -> Tiles:
    """A tree that grew by batches."""
    tiles: Tiles = {}
    size, all_leaves = 0, leaves(sum(batches))
    for batch in batches:
        tiles.update(grow(reading(tiles), size, all_leaves[size : size + batch]))
        size += batch
    return tiles


def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    tiles = tiled([70_000])
    full = {key for key, hashes in tiles.items() if len(hashes) == 256 * HASH_BYTES}
    partial = {key: len(hashes) // HASH_BYTES for key, hashes in tiles.items() if key not in full}
    assert full == {(0, number) for number in range(273)} | {(1, 0)}
    assert partial == {(0, 273): 112, (1, 1): 17, (2, 0): 1}
    assert widths(70_000) == {(0, 273): 112, (1, 1): 17, (2, 0): 1}
    assert TiledTree(lambda level, number: tiles[level, number]).range_hash(0, 70_000) == root(leaves(70_000))


def test_a_tree_of_256_has_a_full_tile_and_one_hash_above() -> None:
    assert {key: len(hashes) // HASH_BYTES for key, hashes in tiled([256]).items()} == {(0, 0): 256, (1, 0): 1}


@settings(max_examples=30)
@given(st.lists(st.integers(0, 400), max_size=8))
def test_it_does_not_matter_in_which_batches_a_tree_grew(batches: list[int]) -> None:
    size = sum(batches)
    tiles = tiled(batches)
    assert tiles == (tiled([size]) if size else {})
    assert {key: len(tiles[key]) // HASH_BYTES for key in widths(size)} == widths(size)


@settings(max_examples=50)
@given(data=st.data(), size=st.integers(1, 1500))
def test_proofs_are_read_from_tiles(data: st.DataObject, size: int) -> None:
    tiles = tiled([size])
    tree = TiledTree(reading(tiles))
    index = data.draw(st.integers(0, size - 1))
    head = data.draw(st.integers(index + 1, size))
    path = inclusion_path(tree.range_hash, index, head)
    verify_inclusion(leaves(size)[index], index, head, path, root(leaves(head)))


def test_a_hole_in_the_tiles_is_named() -> None:
    tiles = tiled([300])
    del tiles[0, 0]
    tree = TiledTree(reading(tiles))
    with pytest.raises(EvidenceError, match=r"tile/0/000 is missing or too short \(first bad index 128\)"):
        inclusion_path(tree.range_hash, 0, 300)


def test_a_tile_that_does_not_fit_the_size_is_not_grown() -> None:
    with pytest.raises(EvidenceError, match="does not fit a log of 7 entries"):
        grow(lambda _level, _number: b"\0" * 32 * 6, 7, leaves(1))


@given(level=st.none() | st.integers(0, 63), number=st.integers(0, 10**12), width=st.integers(1, 256))
def test_every_path_is_read_back(level: int | None, number: int, width: int) -> None:
    assert parse_path(tile_path(level, number, width)) == (level, number, width)


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/1",
        "tile/00/001",
        "tile/64/000",
        "tile/0/x001",
        "tile/0/x000/001",
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/entries/000/",
        "tile/0/001/002",
        "../tile/0/000",
        "checkpoint",
        "",
    ],
)
def test_another_spelling_of_a_path_is_refused(path: str) -> None:
    with pytest.raises(EvidenceError, match="tlog-tiles"):
        parse_path(path)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_entry_bundles_are_read_back(items: list[bytes]) -> None:
    data = bundle_entries(items)
    assert unbundle_entries(data) == items
    if data:
        with pytest.raises(EvidenceError, match="cut off"):
            unbundle_entries(data[:-1])
