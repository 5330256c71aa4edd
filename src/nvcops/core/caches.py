"""The socket of a cache: a Valkey or Redis server that others live by. Names of keys may be secrets: none is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from nvcops.core.units import Seconds


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen below one pattern. Of the measured keys: their bytes, and how many `lasting` ones never expire.

    `whole`: all keys of the cache were looked at; else these are the ones that there was time for.
    """

    pattern: str
    keys: int = 0
    measured: int = 0
    measured_bytes: int = 0
    lasting: int = 0
    whole: bool = True

    @property
    def counted(self) -> str:
        """How many, for a person.

        >>> Held(pattern="a:*", keys=1200).counted, Held(pattern="a:*", keys=1200, whole=False).counted
        ('1,200', 'at least 1,200')
        """
        return f"{self.keys:,}" if self.whole else f"at least {self.keys:,}"

    @property
    def bytes(self) -> float:
        """Bytes of all of them, as far as the measured ones tell."""
        return self.keys * self.measured_bytes / self.measured if self.measured else 0.0


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key: `name` as far as it may be told, its type, bytes, and LFU's counter of its uses (0 to 255)."""

    name: str
    kind: str
    bytes: int
    frequency: int | None = None


class Keyspace(msgspec.Struct, frozen=True, kw_only=True):
    """A walk through the keys: `scanned` of `keys`; the pattern "" counts those below none.

    `largest` and `hottest` are the first of the measured ones; `hottest` is None where no frequencies are counted.
    """

    keys: int
    scanned: int
    held: tuple[Held, ...]
    largest: tuple[Key, ...] = ()
    hottest: tuple[Key, ...] | None = None


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a sweep: where it goes on (0: it is through), how many keys were looked at and removed."""

    cursor: int
    scanned: int
    removed: int


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How a sweep goes: keys looked at in a second, and when it waits and gives up.

    It waits while the p99 of a service is above `slowdown` times what it was before, or the database is asked more than
    `queries` times as often; it gives up when it waited `patience` in one go, and after `deadline`.
    """

    rate: int = 5_000
    slowdown: float = 2.0
    queries: float = 1.5
    patience: Seconds = Seconds(30)
    deadline: Seconds = Seconds(1800)


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a sweep: `stopped` says why it gave up. `queries` are the database's transactions a second."""

    removed: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0
    stopped: str = ""
    p99_before_s: float | None = None
    p99_worst_s: float | None = None
    queries_before: float | None = None
    queries_worst: float | None = None


class Cache(Protocol):
    """A Valkey or Redis server.

    Raises:
        TargetError: nothing is known.
    """

    @property
    def name(self) -> str: ...

    def info(self) -> Mapping[str, Any]:
        """The fields of `INFO everything`."""
        ...

    def keyspace(self, patterns: Sequence[str], *, keys_max: int, deadline_s: float) -> Keyspace:
        """Walk through the keys by SCAN, and measure a sample of them, at most so many and so long."""
        ...

    def sweep(self, pattern: str, cursor: int, *, keys_max: int, seconds: float, spared: Sequence[str] = ()) -> Swept:
        """Remove keys by SCAN and UNLINK, at most so many, spread over those seconds; from the cursor on.

        What fits one of the `spared` patterns too stays.
        """
        ...


class Sweeper(Protocol):
    """What cleans the cache while customers are served."""

    def sweep(self, pattern: str, pace: Pace, *, spared: Sequence[str] = ()) -> Sweep:
        """Remove every key of a pattern, at a pace that hurts nobody. Begun again it goes on with what is left.

        What fits one of the `spared` patterns too stays.

        Raises:
            TargetError: the cache does not answer.
        """
        ...
