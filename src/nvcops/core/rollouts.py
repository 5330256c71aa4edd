"""A rollout: the steps of its strategy, where it stands, and the sockets by which slots and their weights are changed.

A *slot* is a place in which one release runs: the service's instances are its main slots; the spare slots run a canary,
or keep the release before warm. Traffic goes to the slots by their weights.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec


class Phase(StrEnum):
    """Where a rollout stands. What is not ended is either gone on with or rolled back: never left."""

    PREFLIGHT = "preflight"
    MIGRATING = "migrating"
    REHEARSING = "rehearsing"  # the rollback, on the spare slots
    PROGRESSING = "progressing"  # the strategy's steps
    PROMOTING = "promoting"  # the main slots get it, one by one
    ROLLING_BACK = "rolling back"
    HEALTHY = "healthy"  # done: it has all traffic, the release before stays warm for the rollback window
    ROLLED_BACK = "rolled back"
    REFUSED = "refused"  # nothing was changed

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in (Phase.HEALTHY, Phase.ROLLED_BACK, Phase.REFUSED)


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment or a rollback. `id` is its run's. `old` and `new` are digests; `old` is empty the first time.

    `step` is the strategy's step that it is at; `rollback_s` how long the rehearsed rollback took. `wish` is what a
    person asked of it meanwhile: "abort" or "promote".
    """

    id: str
    service: str
    new: str
    version: str
    old: str = ""
    old_version: str = ""
    strategy: str = ""
    phase: Phase = Phase.PREFLIGHT
    step: int = 0
    weight: int = 0  # percent of the traffic that goes to the new release
    began: dt.datetime
    ended: dt.datetime | None = None
    warm_until: dt.datetime | None = None
    rollback_s: float | None = None
    why: str = ""
    wish: str = ""
    change: int | None = None
    by: str = ""


class Occupied(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a slot: `digest` is of the release that is to run there (empty: none), `running` whether it does."""

    slot: str
    digest: str = ""
    running: bool = False


class Slots(Protocol):
    """The places in which releases run: folders of this host or of others, and the programs that start them.

    Every call may be repeated; it raises TargetError when nothing is known, Refused when the host said no.
    """

    def lay(self, slot: str, digest: str) -> None:
        """Bring the artifact to the slot's host, verify its digest there, unpack it; at once where it is already."""

    def laid(self, slot: str) -> Sequence[str]:
        """The digests of the releases that are whole on the slot's host."""

    def look(self, slot: str) -> Occupied:
        """What is in it."""

    def put(self, slot: str, digest: str) -> None:
        """Stop what runs, point the slot at another release in one step, start it. Nothing when it runs already."""

    def stop(self, slot: str) -> None:
        """Stop what runs there; it stays stopped."""

    def migrate(self, digest: str, *, contract: bool) -> None:
        """Apply the release's pending migrations: those that expand the schema, or those that contract it too."""

    def self_test(self, slot: str, digest: str) -> str:
        """Have the release do its real work once in a slot, past the balancer; what it said. Refused: it failed."""

    def forget(self, slot: str, digest: str) -> int:
        """Remove a release from the slot's host, unless it is in a slot there; the bytes that it freed."""


class Balanced(msgspec.Struct, frozen=True, kw_only=True):
    """A slot as its load balancer sees it: `requests` and `failed` are counted since the balancer began.

    `failed`: answers 5xx, and requests that got none; None: nobody knows, which is not 0. `weight` 0: it gets no new
    request. `healthy`: its checks pass. `sessions` is what it has at the moment.
    """

    slot: str
    weight: int
    healthy: bool
    sessions: int | None
    requests: int | None
    failed: int | None


class Balancer(Protocol):
    """What splits the traffic: HAProxy's runtime socket, or an AWS listener with two target groups."""

    def look(self) -> Sequence[Balanced]:
        """All slots of the service; one that it does not know is missing."""

    def share(self, weights: Mapping[str, int]) -> None:
        """Set weights (0 to 256) of slots, all at once or, where that cannot be, the rising ones first; reads back.

        A slot with weight 0 finishes what it began. The weights outlive a restart of the balancer.

        Raises:
            Refused: it did not take them.
        """

    def drain(self, slot: str, deadline_s: float) -> bool:
        """Give a slot no new requests, and wait until it has none; whether that came in time."""


class Looks(Protocol):
    """Where the looks of a rollout's analyses are kept: lines that are only appended to, durable when it returns.

    Raises:
        StateError: from every method: they cannot be read or written.
    """

    def lines(self, rollout: str, step: int) -> Sequence[bytes]:
        """What is kept of a step's analysis, the oldest first; what a crash cut off is not there."""

    def append(self, rollout: str, step: int, line: bytes) -> None:
        """Keep one line more; it holds no line break."""

    def forget(self, keep: Collection[str]) -> int:
        """Remove what is kept of all rollouts but these; of how many it was."""
