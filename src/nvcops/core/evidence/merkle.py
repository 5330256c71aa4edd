"""Proofs over the tree of RFC 6962: that an entry is in it, and that one tree is the beginning of another.

A tree is known here by a function from a range of leaves to that range's hash, so that it may live in tiles.
"""

from __future__ import annotations

from collections.abc import Callable

from nvcops.core.errors import EvidenceError
from nvcops.core.evidence.verify_evidence import node_hash

RangeHash = Callable[[int, int], bytes]


def split(size: int) -> int:
    """The width of the left subtree: the largest power of two below the size.

    >>> [split(size) for size in (2, 3, 4, 5, 8, 9)]
    [1, 2, 2, 4, 4, 8]
    """
    return 1 << (size - 1).bit_length() - 1


def inclusion_path(hashes: RangeHash, index: int, size: int) -> list[bytes]:
    """The audit path of RFC 6962, section 2.1.1: from the leaf's sibling up to the root's child."""
    path, start, stop = [], 0, size
    while stop - start > 1:
        middle = start + split(stop - start)
        if index < middle:
            path.append(hashes(middle, stop))
            stop = middle
        else:
            path.append(hashes(start, middle))
            start = middle
    return path[::-1]


def consistency_path(hashes: RangeHash, old: int, new: int) -> list[bytes]:
    """The consistency proof of RFC 6962, section 2.1.2, between the trees of `old` and `new` leaves."""
    path: list[bytes] = []
    start, stop, whole = 0, new, True
    while old != stop:
        middle = start + split(stop - start)
        if old <= middle:
            path.append(hashes(middle, stop))
            stop = middle
        else:
            path.append(hashes(start, middle))
            start, whole = middle, False
    if not whole:
        path.append(hashes(start, stop))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: list[bytes], root: bytes) -> None:
    """Follow an inclusion proof (RFC 9162, section 2.1.3.2).

    Raises:
        EvidenceError: it does not lead to the root.
    """
    at, last, digest = index, size - 1, leaf
    for node in path:
        if last == 0:
            break
        if at & 1 or at == last:
            digest = node_hash(node, digest)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            digest = node_hash(digest, node)
        at, last = at >> 1, last >> 1
    used_up = last == 0 and len(path) == _path_length(index, size)
    if not 0 <= index < size or not used_up or digest != root:
        raise EvidenceError(f"the proof does not show entry {index} in the tree of {size}")


def _path_length(index: int, size: int) -> int:
    """How many hashes an audit path has: one per level below, and one per step along the right edge."""
    inner = (index ^ (size - 1)).bit_length()
    return inner + (index >> inner).bit_count()


def verify_consistency(old: int, new: int, path: list[bytes], old_root: bytes, new_root: bytes) -> None:
    """Follow a consistency proof (RFC 9162, section 2.1.4.2).

    Raises:
        EvidenceError: the old tree is not the beginning of the new one.
    """
    wrong = EvidenceError(f"the tree of {old} is not the beginning of the tree of {new}")
    if not 0 < old <= new or (old == new and (path or old_root != new_root)):
        raise wrong
    if old == new:
        return
    nodes = [old_root, *path] if old & (old - 1) == 0 else path
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    if not nodes:
        raise wrong
    first = second = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            raise wrong
        if at & 1 or at == last:
            first, second = node_hash(node, first), node_hash(node, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, node)
        at, last = at >> 1, last >> 1
    if last != 0 or first != old_root or second != new_root:
        raise wrong
