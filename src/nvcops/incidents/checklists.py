"""The checklists of the runbook's five phases: ticked by people, or seen done by what stands in the records."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from nvcops.core.errors import UsageError
from nvcops.core.incidents import ActionItem, Event, Incident, IncidentState, Severity, Tick
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk, Reading
from nvcops.incidents import timeline
from nvcops.incidents.leading import in_time, needs_postmortem
from nvcops.incidents.severity import worse

Standing = Literal["open", "done", "late", "not needed"]

# --- Facts ---

# Phases and lines as the runbook has them, in its order.
PHASES: Mapping[str, tuple[str, ...]] = {
    "1. Detection and Alert": ("Check system status", "Review recent deployments", "Check monitoring dashboards"),
    "2. Initial Response": (
        "Acknowledge alert within 5 minutes",
        "Assess severity and impact",
        "Notify stakeholders if P0/P1",
        "Begin investigation",
    ),
    "3. Investigation": ("Check application logs", "Database performance", "Infrastructure metrics"),
    "4. Resolution": ("Implement fix or workaround", "Verify resolution", "Update stakeholders", "Document resolution"),
    "5. Post-Incident": (
        "Conduct post-mortem (P0/P1)",
        "Update runbooks",
        "Implement preventive measures",
        "Update monitoring",
    ),
}
# How a line is done, for those who look at the list.
HOW = {
    "Check system status": "scripts/system_status.sh",
    "Review recent deployments": "nvcops run investigate-incident: commits of the hour before, releases, changes",
    "Check application logs": "the service's log; nvcops run investigate-incident counts its loud lines",
    "Database performance": "scripts/db_diagnostics.py, scripts/db_performance_check.py",
}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a checklist and how it stands; `by` whom, or by what it was seen done; `late`: done, but too late."""

    phase: str
    item: str
    standing: Standing
    by: str = ""
    time: dt.datetime | None = None
    note: str = ""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the records of one incident."""

    incident: Incident
    events: Sequence[Event]
    ticks: Mapping[str, Tick]
    actions: Sequence[ActionItem]
    severe: bool
    postmortem: bool

    def first(self, *kinds: str) -> Event | None:
        """The first line of a kind."""
        return next((event for event in self.events if event.kind in kinds), None)


def seen(reading: Reading, number: int) -> Seen:
    """Read what a checklist is decided by."""
    incident = timeline.the(reading, number)
    ticks = {tick.key: tick for tick in reading.find(Tick, incident=number)}
    return Seen(
        incident=incident,
        events=timeline.events(reading, number),
        ticks=ticks,
        actions=reading.find(ActionItem, incident=number, order="created"),
        severe=not worse(Severity.P1, incident.severity),
        postmortem=needs_postmortem(reading, incident),
    )


# --- Rules ---

Done = tuple[str, dt.datetime | None] | None


def _looked(what: Seen, procedure: str) -> Done:
    """A linked run of a procedure that began after the incident was noticed."""
    for link in what.incident.links:
        if link["kind"] == "run" and link["id"].startswith(f"{procedure}@"):
            time = dt.datetime.fromisoformat(link["time"])
            if time >= what.incident.detected:
                return f"run {link['id']}", time
    for event in what.events:
        if event.kind == "run" and event.data.get("procedure") == procedure:
            return f"run {event.data.get('run', '')}", event.time
    return None


def _event(*kinds: str) -> Callable[[Seen], Done]:
    def look(what: Seen) -> Done:
        event = what.first(*kinds)
        return (event.person or "seen in the timeline", event.time) if event else None

    return look


def _measure(name: str) -> Callable[[Seen], Done]:
    """All action items of a measure, of which there is one at least, are closed."""

    def look(what: Seen) -> Done:
        items = [item for item in what.actions if item.measure == name]
        if not items or any(item.closed is None for item in items):
            return None
        return ", ".join(sorted({item.closed_by for item in items})), max(item.closed for item in items if item.closed)

    return look


def _assessed(what: Seen) -> Done:
    if what.incident.overridden_by:
        return what.incident.overridden_by, what.incident.detected
    return ("inferred, with its reasons", what.incident.detected) if what.incident.reasons else None


def _verified(what: Seen) -> Done:
    """Resolved while none of its alerts fired."""
    event = what.first("resolved")
    return ("no alert of it fires", event.time) if event and event.data.get("verified") else None


def _informed(what: Seen) -> Done:
    event = next((event for event in what.events if event.kind == "message" and event.id.endswith("/over")), None)
    return ("told that it is over", event.time) if event else None


_SEEN_BY: Mapping[str, Callable[[Seen], Done]] = {
    "Check system status": lambda what: _looked(what, "system-status"),
    "Review recent deployments": _event("looked"),
    "Acknowledge alert within 5 minutes": _event("acknowledged"),
    "Assess severity and impact": _assessed,
    "Notify stakeholders if P0/P1": _event("message"),
    "Begin investigation": _event("investigating"),
    "Check application logs": _event("looked"),
    "Database performance": lambda what: _looked(what, "db-diagnostics") or _looked(what, "db-performance-check"),
    "Implement fix or workaround": _event("mitigated", "resolved"),
    "Verify resolution": _verified,
    "Update stakeholders": _informed,
    "Document resolution": _event("resolved"),
    "Conduct post-mortem (P0/P1)": _event("postmortem"),
    "Update runbooks": _measure("runbooks"),
    "Implement preventive measures": _measure("prevention"),
    "Update monitoring": _measure("monitoring"),
}


def _not_needed(item: str, what: Seen) -> str:
    if item == "Notify stakeholders if P0/P1" and not what.severe:
        return f"it is {what.incident.severity}"
    if item == "Conduct post-mortem (P0/P1)" and not what.postmortem:
        return "it never was P0 or P1" if what.incident.source != "drill" else "a drill"
    return ""


def line(phase: str, item: str, what: Seen, manifest: Manifest) -> Line:
    """How one line stands: a person's tick first, then what the records show."""
    incident = what.incident
    tick = what.ticks.get(f"{incident.number}/{phase}/{item}")
    if tick:
        return Line(phase=phase, item=item, standing="done", by=tick.by, time=tick.time, note=tick.note)
    look = _SEEN_BY.get(item)
    done = look(what) if look else None
    if done is None:
        why = _not_needed(item, what)
        return Line(phase=phase, item=item, standing="not needed" if why else "open", note=why or HOW.get(item, ""))
    by, time = done
    if item.startswith("Acknowledge") and incident.acknowledged:
        said = in_time(incident.acknowledged, incident.detected, manifest.alerts.acknowledge.critical)
        standing: Standing = "late" if "later" in said else "done"
        return Line(phase=phase, item=item, standing=standing, by=by, time=time, note=said)
    return Line(phase=phase, item=item, standing="done", by=by, time=time)


def checklist(what: Seen, manifest: Manifest) -> list[Line]:
    """All lines of the five phases, in the runbook's order."""
    return [line(phase, item, what, manifest) for phase, items in PHASES.items() for item in items]


def phase_of(incident: Incident) -> str:
    """The phase in which an incident is.

    >>> from types import SimpleNamespace as Seen
    >>> phase_of(Seen(state=IncidentState.RESPONDING)), phase_of(Seen(state=IncidentState.MITIGATED))
    ('2. Initial Response', '4. Resolution')
    """
    names = list(PHASES)
    index = {
        IncidentState.DETECTED: 0,
        IncidentState.RESPONDING: 1,
        IncidentState.INVESTIGATING: 2,
        IncidentState.MITIGATED: 3,
        IncidentState.RESOLVED: 4,
        IncidentState.CLOSED: 4,
    }
    return names[index[incident.state]]


# --- Procedures ---


def tick(
    desk: Desk,
    number: int,
    *,
    manifest: Manifest,
    item: str,
    person: str,
    at: dt.datetime,
    note: str = "",
) -> Tick:
    """A person says that a line is done; the first who says so stands there.

    Raises:
        UsageError: the runbook has no such line.
    """
    timeline.the(desk, number)
    phase = next((phase for phase, items in PHASES.items() if item in items), "")
    if not phase:
        lines = "; ".join(each for items in PHASES.values() for each in items)
        raise UsageError(f"the runbook's checklists have no line {item!r}", hint=lines)
    made = Tick(
        key=f"{number}/{phase}/{item}",
        incident=number,
        phase=phase,
        item=item,
        by=person,
        time=at,
        note=note.strip()[:500],
    )
    if desk.add(made):
        cause = timeline.digest(phase, item)
        data = {"phase": phase, "item": item}
        timeline.enter(desk, number, "check", item, manifest=manifest, at=at, person=person, cause=cause, data=data)
    return desk.get(Tick, made.key) or made
