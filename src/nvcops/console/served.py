"""What the door's views work with: which platform is served in this request, and by what."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from nvcops.alerts.said import Said
from nvcops.core import schedule
from nvcops.core.errors import NotAllowed
from nvcops.core.evidence import Entry, utc
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk, Records
from nvcops.core.target import Series

API_ACTOR = "api"


@dataclass(frozen=True, slots=True)
class Served:
    """One platform behind the door: its records, who takes alerts in (how many were too many), who decides.

    `trouble` says why no page can be recorded now; empty: they can.
    """

    manifest: Manifest
    records: Records
    series: Series
    take: Callable[[list[Said]], int]
    change: Callable[[Callable[[Desk], object]], None]
    token: str = ""
    trouble: Callable[[], str] = str

    def note(self, desk: Desk, person: str, about: str, act: str) -> None:
        """That somebody who has the token said that a person decided: who it was is their word, not a signature."""
        if self.manifest.person(person) is None:
            raise NotAllowed(f"{person!r} is nobody in the roster", hint="[[people]] of platform.toml is the roster")
        at = schedule.now()
        desk.note(
            Entry(
                id=f"api/{about}/{act}/{int(at.timestamp() * 1e6)}",
                time=utc(at),
                kind="api.decision",
                platform=self.manifest.platform.name,
                actor=API_ACTOR,
                subject=about,
                body={"act": act, "person": person},
            )
        )


_CURRENT: ContextVar[Served] = ContextVar("served")


def served() -> Served:
    """What this request is about."""
    return _CURRENT.get()


def serve_now(platform: Served) -> None:
    """From now on this request, and what it starts, is about that platform."""
    _CURRENT.set(platform)
