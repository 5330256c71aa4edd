"""The tree against RFC 6962: the values that Certificate Transparency's own test suite publishes, and a naive tree."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.core.errors import EvidenceError
from nvcops.core.evidence.merkle import consistency_path, inclusion_path, verify_consistency, verify_inclusion
from nvcops.core.evidence.verify_evidence import Frontier, blocks, leaf_hash

LEAVES = [
    bytes.fromhex(leaf)
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SIZES = st.integers(1, 300)


def naive_root(leaves: list[bytes]) -> bytes:
    """Written down from the RFC's definition, nothing clever."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def entries(size: int) -> list[bytes]:
    return [str(number).encode() for number in range(size)]


def hashes(leaves: list[bytes]) -> Callable[[int, int], bytes]:
    return lambda start, stop: naive_root(leaves[start:stop])


def frontier(leaves: list[bytes]) -> Frontier:
    edge = Frontier()
    for leaf in leaves:
        edge.push(leaf_hash(leaf))
    return edge


@pytest.mark.parametrize("size", range(9))
def test_the_root_is_the_published_one(size: int) -> None:
    assert frontier(LEAVES[:size]).root().hex() == ROOTS[size] == naive_root(LEAVES[:size]).hex()


def test_the_audit_path_is_the_published_one() -> None:
    assert [node.hex() for node in inclusion_path(hashes(LEAVES), 0, 8)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]


@given(size=SIZES)
def test_the_frontier_has_the_root_at_every_size(size: int) -> None:
    assert frontier(entries(size)).root() == naive_root(entries(size))


@given(start=st.integers(0, 500), length=st.integers(0, 500), rest=st.integers(0, 500))
def test_blocks_cover_a_range_and_lead_to_the_root(start: int, length: int, rest: int) -> None:
    stop, size = start + length, start + length + rest
    edge, leaves = Frontier(), [leaf_hash(entry) for entry in entries(size)]
    for lower, upper in ((0, start), (start, stop), (stop, size)):
        for height in blocks(lower, upper):
            part = Frontier()
            for leaf in leaves[lower : lower + (1 << height)]:
                part.push(leaf)
            edge.push(part.root(), height)
            lower += 1 << height  # noqa: PLW2901 - walks through the range
        assert lower == upper
    assert edge.root() == naive_root(entries(size))


@given(data=st.data(), size=SIZES)
def test_every_entry_has_a_proof_and_only_for_itself(data: st.DataObject, size: int) -> None:
    leaves, index = entries(size), data.draw(st.integers(0, size - 1))
    root, path = naive_root(leaves), inclusion_path(hashes(leaves), index, size)
    verify_inclusion(leaf_hash(leaves[index]), index, size, path, root)
    other = data.draw(st.integers(0, size + 2).filter(lambda other: other != index))
    for wrong in (
        (leaf_hash(b"other"), index, size, path, root),
        (leaf_hash(leaves[index]), other, size, path, root),
        (leaf_hash(leaves[index]), index, size, [*path, root], root),
        (leaf_hash(leaves[index]), index, size, path, leaf_hash(b"root")),
        (leaf_hash(leaves[index]), -1, size, path, root),
    ):
        with pytest.raises(EvidenceError, match="does not show entry"):
            verify_inclusion(*wrong)
    if path:
        with pytest.raises(EvidenceError):
            verify_inclusion(leaf_hash(leaves[index]), index, size, path[:-1], root)


@settings(max_examples=200)
@given(data=st.data(), new=SIZES)
def test_a_tree_is_the_beginning_of_its_continuations_and_of_no_other(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(1, new))
    leaves = entries(new)
    path = consistency_path(hashes(leaves), old, new)
    old_root, new_root = naive_root(leaves[:old]), naive_root(leaves)
    verify_consistency(old, new, path, old_root, new_root)
    changed = [b"changed", *leaves[1:]]
    forged = consistency_path(hashes(changed), old, new)
    for wrong in (
        (old, new, path, naive_root(changed[:old]), new_root),
        (old, new, path, old_root, naive_root(changed)),
        (old, new, [*path, old_root], old_root, new_root),
        (old, new, forged, old_root, naive_root(changed)),
        (0, new, path, old_root, new_root),
        (new + 1, new, path, old_root, new_root),
    ):
        with pytest.raises(EvidenceError, match="is not the beginning"):
            verify_consistency(*wrong)
    if path:
        with pytest.raises(EvidenceError):
            verify_consistency(old, new, path[:-1], old_root, new_root)
