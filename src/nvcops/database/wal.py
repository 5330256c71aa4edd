"""What the primary reads and writes: blocks from its cache and from outside."""

from __future__ import annotations

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding
from nvcops.core.manifest import Limits, Manifest
from nvcops.core.units import Count, Ratio
from nvcops.database.topics import Answers, many, unknown, unread

ASKED = queries.load("nvcops.database", "wal.sql")

# --- Facts ---


class Blocks(msgspec.Struct, frozen=True):
    """Blocks that were in memory, and that were read from outside."""

    hit: float = 0.0
    read: float = 0.0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why."""

    unread: dict[str, str] = {}
    blocks: Blocks = Blocks()


def parsed(answers: Answers) -> Seen:
    """The rows as types."""
    blocks = many(answers, "cache_hit", Blocks)
    return Seen(unread=unread(answers), blocks=blocks[0] if blocks else Blocks())


# --- Rules ---

CACHE_HIT = Check(
    "performance.cache_hit", "Cache hits", "raise shared_buffers, or find the statement that reads so much"
)
CHECKS = (CACHE_HIT,)
_BLOCKS_MIN = 1_000


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about what one primary reads and writes."""
    if "cache_hit" in seen.unread:
        return [unknown(CACHE_HIT, seen.unread["cache_hit"], subject=name)]
    return [cache_hit_finding(seen.blocks.hit, seen.blocks.read, manifest.limits)]


def cache_hit_finding(hit: float, read: float, limits: Limits) -> Finding:
    """The share of blocks that were in memory.

    >>> [cache_hit_finding(hit, 5_000 - hit, Limits()).verdict.name for hit in (4_750, 4_749, 4_000, 3_999)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    >>> cache_hit_finding(10, 0, Limits()).verdict.name
    'UNKNOWN'
    """
    if hit + read < _BLOCKS_MIN:
        return CACHE_HIT.unknown(f"{Count(hit + read)} blocks prove nothing")
    return CACHE_HIT.at_least(Ratio(round(hit / (hit + read), 6)), limits.cache_hit)
