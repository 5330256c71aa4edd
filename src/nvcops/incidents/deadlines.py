"""What falls due in incidents while nobody does anything: messages, responses, warnings, post-mortems, action items."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from nvcops.core.incidents import ActionItem, Event, Incident, IncidentState, Severity
from nvcops.core.manifest import Manifest, Respond
from nvcops.core.records import Desk
from nvcops.core.schedule import moment_of
from nvcops.core.units import Seconds
from nvcops.incidents import actions, clocks, messages, timeline
from nvcops.incidents.leading import needs_postmortem, tell_pages
from nvcops.oncall import paging

_RESOLVED_MAX = 500

# --- Rules ---


def respond_within(severity: Severity, table: Respond) -> Seconds:
    """Within which time the response to a severity begins.

    >>> [str(respond_within(severity, Respond())) for severity in Severity]
    ['0 s', '1 h', '4 h', '1 d']
    """
    return {
        Severity.P0: table.p0,
        Severity.P1: table.p1,
        Severity.P2: table.p2,
        Severity.P3: table.p3,
    }[severity]


def response_due(incident: Incident, manifest: Manifest) -> dt.datetime:
    """When somebody must be on it: by its severity, but not before a critical alert's own time has passed."""
    within = max(respond_within(incident.severity, manifest.incidents.respond), manifest.alerts.acknowledge.critical)
    return incident.detected + dt.timedelta(seconds=within)


def postmortem_due(incident: Incident, manifest: Manifest) -> dt.datetime | None:
    """When its post-mortem must be published; None before it is resolved."""
    within = dt.timedelta(seconds=manifest.incidents.postmortem_within)
    return incident.resolved + within if incident.resolved else None


# --- Procedures ---


def advance(desk: Desk, *, manifest: Manifest, at: dt.datetime) -> dt.datetime | None:
    """Do what has fallen due in all incidents; when the next of it does. Each thing is said once."""
    due = [_of_active(desk, incident, manifest=manifest, at=at) for incident in timeline.active(desk)]
    due.append(clocks.warn(desk, manifest=manifest, at=at))
    due += [_of_resolved(desk, incident, manifest=manifest, at=at) for incident in _resolved(desk)]
    due += [_of_item(desk, item, manifest=manifest, at=at) for item in actions.open_items(desk)]
    return min((moment for moment in due if moment is not None and moment > at), default=None)


def _resolved(desk: Desk) -> list[Incident]:
    return desk.find(Incident, state=IncidentState.RESOLVED, order="number", limit=_RESOLVED_MAX)


def _of_active(desk: Desk, incident: Incident, *, manifest: Manifest, at: dt.datetime) -> dt.datetime | None:
    clocks.begin_by_itself(desk, incident, manifest=manifest, at=at)
    following = messages.inform(desk, incident, manifest=manifest, at=at)
    late = response_due(incident, manifest)
    if incident.acknowledged:
        return following
    if at >= late:
        within = Seconds((late - incident.detected).total_seconds())
        text = f"nobody acknowledged it within {within}"
        if timeline.enter(desk, incident.number, "response-late", text, manifest=manifest, at=at):
            tell_pages(desk, incident, text, manifest=manifest, at=at)
        return following
    return min(late, following) if following else late


def _of_resolved(desk: Desk, incident: Incident, *, manifest: Manifest, at: dt.datetime) -> dt.datetime | None:
    due = postmortem_due(incident, manifest)
    if due is None or at < due:
        return due
    if not needs_postmortem(desk, incident) or desk.count(Event, incident=incident.number, kind="postmortem"):
        return None
    text = f"its post-mortem was due {due:%Y-%m-%d %H:%M %Z}"
    if timeline.enter(desk, incident.number, "postmortem-late", text, manifest=manifest, at=at):
        _tell_leaders(desk, incident, text, "postmortem-late", manifest=manifest, at=at)
    return None


def _of_item(desk: Desk, item: ActionItem, *, manifest: Manifest, at: dt.datetime) -> dt.datetime | None:
    """Its owner is told on the day after it was due."""
    zone = ZoneInfo(manifest.platform.time_zone)
    late = moment_of(item.due + dt.timedelta(days=1), dt.time.min, zone)
    if at < late:
        return late
    text = f"action item {item.id} was due {item.due}: {item.text}"
    if timeline.enter(desk, item.incident, "action-item-late", text, manifest=manifest, at=at, cause=item.id):
        paging.tell(
            desk,
            manifest=manifest,
            to=item.owner,
            subject=f"Action item {item.id} is overdue",
            body=text,
            purpose="update",
            cause=f"incident/{item.incident}/action-late/{item.id}",
            at=at,
            incident=item.incident,
        )
    return None


def _tell_leaders(
    desk: Desk, incident: Incident, text: str, cause: str, *, manifest: Manifest, at: dt.datetime
) -> None:
    for name in clocks.audience(incident, manifest):
        paging.tell(
            desk,
            manifest=manifest,
            to=name,
            subject=f"Incident {incident.number}: {text}",
            body=f"{incident.title}\n{text}",
            purpose="update",
            cause=f"incident/{incident.number}/{cause}",
            at=at,
            incident=incident.number,
        )
