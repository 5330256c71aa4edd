"""What happened in an incident, line by line: written once per cause, with its evidence, in the same transaction."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.evidence import Entry
from nvcops.core.evidence.entry import utc
from nvcops.core.incidents import Event, Incident, IncidentState
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk, Reading
from nvcops.core.texts import legible

TEXT_MAX = 4_000
EVENTS_MAX = 5_000
POSTMORTEM_TEXT = "postmortem-text"  # kept with the incident, and no line of its timeline
ACTIVE = (IncidentState.DETECTED, IncidentState.RESPONDING, IncidentState.INVESTIGATING, IncidentState.MITIGATED)
_ACTIVE_MAX = 500

# --- Facts ---


def the(reading: Reading, number: int) -> Incident:
    """An incident by its number.

    Raises:
        NotFoundError: there is none.
    """
    incident = reading.get(Incident, number)
    if incident is None:
        raise NotFoundError(f"there is no incident {number}", hint="`nvcops incidents` lists them")
    return incident


def active(reading: Reading) -> list[Incident]:
    """The incidents that are not over, the oldest first."""
    return reading.find(Incident, state__in=list(ACTIVE), order="number", limit=_ACTIVE_MAX)


def events(reading: Reading, number: int) -> list[Event]:
    """An incident's timeline, the oldest line first; of one moment what opened it."""
    found = reading.find(Event, incident=number, order="time", limit=EVENTS_MAX)
    lines = [event for event in found if event.kind != POSTMORTEM_TEXT]
    return sorted(lines, key=lambda event: (event.time, event.kind != "opened"))


# --- Rules ---


def text_of(written: str, what: str, *, most: int = TEXT_MAX) -> str:
    """What a person wrote, without the blanks around it.

    >>> text_of("  the pool was full ", "a note")
    'the pool was full'

    Raises:
        UsageError: nothing was written, or too much.
    """
    text = legible(written).strip()
    if not text:
        raise UsageError(f"{what} says nothing", hint="one sentence is enough")
    if len(text) > most:
        raise UsageError(f"{what} has {len(text):,} characters", hint=f"at most {most:,}; attach the rest elsewhere")
    return text


def digest(*parts: str) -> str:
    """Twelve hex digits of a cause.

    >>> digest("a", "b") == digest("a", "b"), digest("a", "b") == digest("ab")
    (True, False)
    """
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:12]


def entry_of(event: Event, platform: str) -> Entry:
    """The evidence of a line: without its text, which may name things that belong to the incident's people only."""
    said = {"incident": event.incident, "text_sha256": hashlib.sha256(event.text.encode()).hexdigest()}
    return Entry(
        id=f"incident/{event.id}/{event.time:%Y%m%dT%H%M%S.%fZ}",
        time=utc(event.time),
        kind=f"incident.{event.kind}",
        platform=platform,
        actor=event.person,
        subject=f"incident/{event.incident}",
        body={**said, **event.data},
    )


# --- Procedures ---


def enter(  # noqa: PLR0913 - a line has many columns
    desk: Desk,
    number: int,
    kind: str,
    text: str,
    *,
    manifest: Manifest,
    at: dt.datetime,
    person: str = "",
    cause: str = "",
    data: Mapping[str, Any] | None = None,
    evident: bool = True,
) -> bool:
    """Write a line once per cause (the kind alone where none is named); whether it was written now.

    `evident` lines are decisions, and leave an entry in the evidence with their `data`.
    """
    event = Event(
        id=f"{number}/{kind}/{cause}" if cause else f"{number}/{kind}",
        incident=number,
        time=at.astimezone(dt.UTC),
        kind=kind,
        person=person,
        text=legible(text),
        data=dict(data or {}),
    )
    if not desk.add(event):
        return False
    if evident:
        desk.note(entry_of(event, manifest.platform.name))
    return True


def change(desk: Desk, incident: Incident, **fields: Any) -> Incident:
    """Write an incident with some fields changed."""
    changed = msgspec.structs.replace(incident, **fields)
    desk.put(changed)
    return changed
