"""The keys of a Valkey or Redis server: walked through by SCAN, measured in a sample, removed by UNLINK.

A server does one thing at a time: each of these commands is short, and none asks for all keys at once.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import valkey

from nvcops.core.caches import Held, Key, Keyspace, Swept

_BATCH = 500  # keys of one SCAN; of one UNLINK a tenth of a second's share, where that is less
_MEASURED_EVERY = 10  # of the keys, once there are many
_MEASURED_ALL = 1_000
_FIRST = 10
_SAMPLES = 5  # elements of a collection that MEMORY USAGE looks at


@dataclass
class _Below:
    pattern: str
    keys: int = 0
    measured: int = 0
    measured_bytes: int = 0
    lasting: int = 0

    def held(self, *, whole: bool) -> Held:
        return Held(
            pattern=self.pattern,
            keys=self.keys,
            measured=self.measured,
            measured_bytes=self.measured_bytes,
            lasting=self.lasting,
            whole=whole,
        )


@dataclass
class _Walk:
    """What was seen so far. A key counts for the first pattern that fits."""

    client: valkey.Valkey
    below: dict[str, _Below]
    counts_frequencies: bool
    scanned: int = 0
    largest: list[Key] = field(default_factory=list)
    hottest: list[Key] = field(default_factory=list)

    def look_at(self, names: Sequence[bytes]) -> None:
        """Count a batch, and measure some of it in one conversation."""
        chosen = []
        for name in names:
            pattern = next((p for p in self.below if p and fits(name, p)), "")
            self.below[pattern].keys += 1
            self.scanned += 1
            if self.scanned <= _MEASURED_ALL or self.scanned % _MEASURED_EVERY == 0:
                chosen.append((name, pattern))
        if chosen:
            self._measure(chosen)

    def _measure(self, chosen: Sequence[tuple[bytes, str]]) -> None:
        asked = self.client.pipeline(transaction=False)
        for name, _ in chosen:
            asked.memory_usage(name, samples=_SAMPLES)
            asked.pttl(name)
            asked.type(name)
            if self.counts_frequencies:
                asked.object("FREQ", name)
        each = 4 if self.counts_frequencies else 3
        answers = cast("list[Any]", asked.execute(raise_on_error=False))  # type: ignore[no-untyped-call]
        for place, (name, pattern) in enumerate(chosen):
            size, expiry, kind, *frequency = answers[place * each : (place + 1) * each]
            if not isinstance(size, int):
                continue  # it went away meanwhile
            self._enter(self.below[pattern], Key(
                name=told(name, pattern),
                kind=kind.decode() if isinstance(kind, bytes) else str(kind),
                bytes=size,
                frequency=frequency[0] if frequency and isinstance(frequency[0], int) else None,
            ), lasting=expiry == -1)  # fmt: skip

    def _enter(self, below: _Below, key: Key, *, lasting: bool) -> None:
        below.measured += 1
        below.measured_bytes += key.bytes
        below.lasting += lasting
        self.largest = sorted([*self.largest, key], key=lambda k: -k.bytes)[:_FIRST]
        if key.frequency is not None:
            self.hottest = sorted([*self.hottest, key], key=lambda k: -(k.frequency or 0))[:_FIRST]


def told(name: bytes, pattern: str) -> str:
    """A key's name as far as it may be told: what stands before the pattern's first wildcard, and its length.

    >>> told(b"session:0a9f", "session:*"), told(b"0a9f", "")
    ('session:... (12 letters)', '... (4 letters)')
    """
    fixed = pattern.partition("*")[0].partition("?")[0].partition("[")[0]
    return f"{fixed}... ({len(name)} letters)"


def fits(name: bytes, pattern: str) -> bool:
    r"""Whether the server's MATCH finds a key, byte by byte: `*`, `?`, `[a-c]`, `[^a]`, and a backslash before any.

    >>> [fits(b"a:x", pattern) for pattern in ("a:*", "a:?", "[^b]:x", r"a:\*", "b*")]
    [True, True, True, False, False]
    """
    return _matcher(pattern).fullmatch(name) is not None


_PIECES = re.compile(rb"\\(?P<plain>.)|\[(?P<none>\^?)(?P<among>(?:\\.|[^]\\])+)]|(?P<one>.)", re.DOTALL)


@functools.lru_cache(maxsize=256)
def _matcher(pattern: str) -> re.Pattern[bytes]:
    def piece(found: re.Match[bytes]) -> bytes:
        if among := found["among"]:
            return b"[" + found["none"] + re.sub(rb"[\[^&~|]", rb"\\\g<0>", among) + b"]"
        any_of = {b"*": b".*", b"?": b"."}
        return any_of.get(found["one"] or b"") or re.escape(found["plain"] or found["one"])

    return re.compile(_PIECES.sub(piece, pattern.encode()), re.DOTALL)


def walk(client: valkey.Valkey, patterns: Sequence[str], *, keys_max: int, deadline_s: float) -> Keyspace:
    """See core.caches.Cache.keyspace."""
    ends = time.monotonic() + deadline_s
    policy = cast("dict[str, Any]", client.info("memory")).get("maxmemory_policy", "")
    seen = _Walk(client, {pattern: _Below(pattern) for pattern in (*patterns, "")}, "lfu" in str(policy))
    cursor, whole = 0, False
    while not whole and seen.scanned < keys_max and time.monotonic() < ends:
        cursor, names = cast("tuple[int, list[bytes]]", client.scan(cursor, count=_BATCH))
        seen.look_at(names)
        whole = cursor == 0
    return Keyspace(
        keys=cast("int", client.dbsize()),
        scanned=seen.scanned,
        held=tuple(below.held(whole=whole) for below in seen.below.values()),
        largest=tuple(seen.largest),
        hottest=tuple(seen.hottest) if seen.counts_frequencies else None,
    )


def sweep(
    client: valkey.Valkey, pattern: str, cursor: int, *, keys_max: int, seconds: float, spared: Sequence[str] = ()
) -> Swept:
    """See core.caches.Cache.sweep."""
    began = time.monotonic()
    scanned = removed = 0
    batch = max(1, min(_BATCH, keys_max // 10))
    while True:
        cursor, names = cast("tuple[int, list[bytes]]", client.scan(cursor, match=pattern, count=batch))
        scanned += batch
        if ours := [name for name in names if not any(fits(name, other) for other in spared)]:
            removed += cast("int", client.unlink(*ours))
        due = began + seconds * min(1.0, scanned / keys_max)
        time.sleep(max(0.0, due - time.monotonic()))
        if cursor == 0 or scanned >= keys_max:
            return Swept(cursor=cursor, scanned=scanned, removed=removed)
