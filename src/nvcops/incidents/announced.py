"""Drills are announced before they begin, so that what they bring about is known as a drill from its first moment."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from nvcops.core.alerts import Alert
from nvcops.core.incidents import Event
from nvcops.core.records import Desk, Reading

DRILL = "drill"  # the label of an alert that is a drill's, and the source of such an incident
_LOOKED_AT = 20


def announce_drill(desk: Desk, run: str, at: dt.datetime, until: dt.datetime, person: str) -> bool:
    """Say that a drill begins now and is over at `until`; once per run."""
    text = f"a drill until {until:%H:%M:%S %Z}"
    data = {"until": until.astimezone(dt.UTC).isoformat()}
    return desk.add(Event(id=f"drill/{run}", incident=0, time=at, kind="drill", person=person, text=text, data=data))


def end_drill(desk: Desk, run: str, at: dt.datetime) -> None:
    """Say that it is over."""
    event = desk.get(Event, f"drill/{run}")
    if event is not None:
        over = {"until": min(at.astimezone(dt.UTC).isoformat(), str(event.data["until"]))}
        desk.put(
            Event(
                id=event.id, incident=0, time=event.time, kind="drill", person=event.person, text=event.text, data=over
            )
        )


def drill_announced(reading: Reading, at: dt.datetime) -> bool:
    """Whether a drill is going on."""
    found = reading.find(Event, incident=0, kind="drill", order="-time", limit=_LOOKED_AT)
    return any(event.time <= at < dt.datetime.fromisoformat(str(event.data["until"])) for event in found)


def of_a_drill(reading: Reading, alerts: Iterable[Alert], at: dt.datetime) -> bool:
    """Whether a drill brought alerts about: they say so, or one that breaks something is going on."""
    return any(alert.labels.get(DRILL) == "true" for alert in alerts) or drill_announced(reading, at)
