"""Who watches the watchman: each instance of `nvcops serve` leaves a beat, and the others see who fell silent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Beat
from nvcops.core.records import Desk, Reading

# --- Facts ---

BEATS_MAX = 100


def beats(reading: Reading) -> list[Beat]:
    """The newest sign of life of each instance that did not say good-bye."""
    return reading.find(Beat, limit=BEATS_MAX)


# --- Rules ---

FORGOTTEN_AFTER = dt.timedelta(days=7)


def silent(found: Sequence[Beat], manifest: Manifest, at: dt.datetime) -> list[Beat]:
    """The instances that have been silent for longer than [watch] peer_silent_after.

    >>> from types import SimpleNamespace as Named
    >>> from nvcops.core.units import Seconds
    >>> noon = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    >>> bank = Named(watch=Named(peer_silent_after=Seconds(30)))
    >>> beat = Beat(id="ops-1", host="ops-1", last=noon)
    >>> [len(silent([beat], bank, noon + dt.timedelta(seconds=s))) for s in (30, 31)]
    [0, 1]
    """
    after = dt.timedelta(seconds=manifest.watch.peer_silent_after)
    return [beat for beat in found if at - beat.last > after]


# --- Procedures ---


def beat(desk: Desk, *, instance: str, host: str, at: dt.datetime) -> None:
    """Leave a sign of life. `instance` is the same after a restart, so that a crash that was mended is forgotten.

    A beat of FORGOTTEN_AFTER and older is removed: somebody had that long to see that it fell silent.
    """
    desk.put(Beat(id=instance, host=host, last=at))
    old = desk.find(Beat, last__lt=at - FORGOTTEN_AFTER, limit=BEATS_MAX)
    if old:
        desk.remove(Beat, [one.id for one in old])


def leave(desk: Desk, *, instance: str) -> None:
    """Stop in an orderly way: nobody waits for the next beat."""
    desk.remove(Beat, [instance])
