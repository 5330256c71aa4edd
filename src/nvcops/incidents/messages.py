"""What stakeholders are told, from templates, and when: at once, every so often by severity, and when it is over."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.incidents import Event, Incident
from nvcops.core.manifest import Informed, Manifest
from nvcops.core.records import Desk, Reading
from nvcops.core.units import Seconds
from nvcops.incidents import timeline
from nvcops.incidents.timeline import enter, text_of
from nvcops.oncall import paging

# --- Facts ---


class Due(msgspec.Struct, frozen=True):
    """A message to one group of [[incidents.informed]]: the `slot`-th, 0 at detection; the next is due at `next`."""

    index: int
    slot: int
    to: tuple[str, ...]
    next: dt.datetime


def told_before(reading: Reading, number: int) -> list[str]:
    """Who was told of an incident, in the order in which they first were."""
    events = reading.find(Event, incident=number, kind="message", order="time")
    return list(dict.fromkeys(str(name) for event in events for name in event.data.get("to", [])))


def last_update(reading: Reading, number: int) -> str:
    """What a person last said to stakeholders; empty: nothing yet."""
    found = reading.find(Event, incident=number, kind="update", order="-time", limit=1)
    return found[0].text if found else ""


# --- Rules ---

_SUBJECTS = {
    "opened": "{drill}{severity} incident {number}: {title}",
    "goes on": "{drill}{severity} incident {number} goes on: {title}",
    "over": "{drill}Incident {number} is over: {title}",
}
_BODIES = {
    "opened": """{platform}: we have a {severity} incident.
What: {title}
Affected: {services}
Since: {began}, noticed {detected}
State: {state}{leads}
{why}{update}Next message: {next}""",
    "goes on": """{platform}: the {severity} incident goes on.
What: {title}
Affected: {services}
Since: {began} ({lasts})
State: {state}{leads}
{update}Next message: {next}""",
    "over": """{platform}: the incident is over.
What: {title}
Affected: {services}
From: {began} to {mitigated} ({lasts})
Resolution: {resolution}""",
}


def due(incident: Incident, informed: Sequence[Informed], at: dt.datetime) -> list[Due]:
    """Which message each group of stakeholders must have by now; what was slept over is not made up for.

    >>> noon = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    >>> from nvcops.core.incidents import IncidentState, Severity
    >>> one = Incident(number=1, title="t", state=IncidentState.DETECTED, severity=Severity.P1, inferred=Severity.P1,
    ...     source="alerts", began=noon, detected=noon)
    >>> table = [Informed(severities=(Severity.P0, Severity.P1), contacts=("cto",), every=Seconds(1800))]
    >>> [due(one, table, noon + dt.timedelta(minutes=minutes))[0].slot for minutes in (0, 29, 30, 95)]
    [0, 0, 1, 3]
    """
    found = []
    for index, group in enumerate(informed):
        every = dt.timedelta(seconds=max(group.every, 60.0))
        if incident.severity in group.severities and incident.state in timeline.ACTIVE:
            slot = max(0, (at - incident.detected) // every)
            names = tuple(dict.fromkeys((*group.people, *group.contacts)))
            found.append(Due(index, slot, names, incident.detected + (slot + 1) * every))
    return found


def written(kind: str, incident: Incident, manifest: Manifest, at: dt.datetime, **said: str) -> tuple[str, str]:
    """Subject and body of a message of a kind."""
    zone = ZoneInfo(manifest.platform.time_zone)
    titles = {service.name: service.name for service in manifest.services}
    roles = "".join(f"\n{role.capitalize()}: {_name(name, manifest)}" for role, name in sorted(incident.roles.items()))
    words = {
        "drill": "[DRILL] " if incident.source == "drill" else "",
        "platform": manifest.platform.title,
        "severity": incident.severity.value,
        "number": str(incident.number),
        "title": incident.title,
        "services": ", ".join(titles.get(name, name) for name in incident.services) or "not known yet",
        "began": moment(incident.began, zone),
        "detected": moment(incident.detected, zone),
        "mitigated": moment(incident.mitigated or at, zone),
        "lasts": str(Seconds(((incident.mitigated or at) - incident.began).total_seconds())),
        "state": incident.state.value,
        "leads": roles,
        "why": f"Why {incident.severity}: {_why(incident)}\n",
        "resolution": incident.resolution or "see the post-mortem",
        "update": "",
        "next": "",
    } | said
    return _SUBJECTS[kind].format(**words), _BODIES[kind].format(**words)


def _why(incident: Incident) -> str:
    if incident.overridden_by:
        return f"{incident.overridden_by} said so: {incident.override_reason}"
    return "; ".join(f"{reason.rule} ({reason.seen})" for reason in incident.reasons[:3]) or "somebody said so"


def _name(name: str, manifest: Manifest) -> str:
    person = manifest.person(name)
    contact = next((entry.title for entry in manifest.contacts if entry.name == name), name)
    return person.full_name if person else contact


def moment(time: dt.datetime, zone: ZoneInfo) -> str:
    """A moment as people of the platform's zone write it.

    >>> moment(dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC), ZoneInfo("America/New_York"))
    '2026-07-01 08:00 EDT'
    """
    return f"{time.astimezone(zone):%Y-%m-%d %H:%M %Z}"


def of_a_page(incident: Incident) -> str:
    """What somebody reads who is woken."""
    services = f"\nAffected: {', '.join(incident.services)}" if incident.services else ""
    start = next((suggestion for suggestion in incident.suggestions if suggestion.procedure), None)
    begin = f"\nStart with: nvcops run {start.procedure} ({start.evidence})" if start else ""
    drill = "[DRILL] " if incident.source == "drill" else ""
    why = f"\nWhy {incident.severity}: {_why(incident)}"
    return f"{drill}{incident.severity} incident {incident.number}: {incident.title}{services}{why}{begin}"


# --- Procedures ---


def inform(desk: Desk, incident: Incident, *, manifest: Manifest, at: dt.datetime) -> dt.datetime | None:
    """Tell stakeholders what they must know by now, each once per slot; when the next message is due."""
    zone = ZoneInfo(manifest.platform.time_zone)
    messages = due(incident, manifest.incidents.informed, at)
    for message in messages:
        known = desk.count(Event, incident=incident.number, kind="message") > 0
        cause, text = f"{message.index}/{message.slot}", f"told {', '.join(message.to)}"
        data = {"to": list(message.to), "slot": message.slot, "severity": incident.severity.value}
        if enter(desk, incident.number, "message", text, manifest=manifest, at=at, cause=cause, data=data):
            said = last_update(desk, incident.number)
            subject, body = written(
                "goes on" if known and message.slot else "opened",
                incident,
                manifest,
                at,
                next=moment(message.next, zone),
                update=f"{said}\n" if said else "",
            )
            _send(desk, incident, message.to, subject, body, cause, manifest=manifest, at=at)
    return min((message.next for message in messages), default=None)


def update(
    desk: Desk,
    number: int,
    *,
    manifest: Manifest,
    text: str,
    person: str,
    at: dt.datetime,
    public: bool = False,
) -> Incident:
    """Tell stakeholders something at once in a person's words; `public` puts it on the status page too."""
    incident = timeline.the(desk, number)
    text = text_of(text, "an update")
    cause = timeline.digest(person, text, at.isoformat())
    data = {"public": public}
    enter(desk, number, "update", text, manifest=manifest, at=at, person=person, cause=cause, data=data)
    groups = due(incident, manifest.incidents.informed, at)
    names = list(dict.fromkeys([*told_before(desk, number), *(name for group in groups for name in group.to)]))
    if names:
        zone = ZoneInfo(manifest.platform.time_zone)
        following = moment(min(group.next for group in groups), zone) if groups else "when it is over"
        subject, body = written("goes on", incident, manifest, at, update=f"{text}\n", next=following)
        _send(desk, incident, names, subject, body, f"update/{cause}", manifest=manifest, at=at)
    return incident


def say_over(desk: Desk, incident: Incident, *, manifest: Manifest, at: dt.datetime) -> None:
    """Tell all who were told of an incident that it is over."""
    names = told_before(desk, incident.number)
    if not names:
        return
    text, data = f"told {', '.join(names)} that it is over", {"to": names}
    if enter(desk, incident.number, "message", text, manifest=manifest, at=at, cause="over", data=data):
        subject, body = written("over", incident, manifest, at)
        _send(desk, incident, names, subject, body, "over", manifest=manifest, at=at)


def _send(  # noqa: PLR0913 - a message has many parts
    desk: Desk,
    incident: Incident,
    names: Sequence[str],
    subject: str,
    body: str,
    cause: str,
    *,
    manifest: Manifest,
    at: dt.datetime,
) -> None:
    for name in names:
        paging.tell(
            desk,
            manifest=manifest,
            to=name,
            subject=subject,
            body=body,
            purpose="status",
            cause=f"incident/{incident.number}/{cause}",
            at=at,
            incident=incident.number,
        )
