"""What people do in an incident: each act is allowed in some states only, and is a line with evidence and its effects.

detected ─ acknowledge ─> responding ─ investigate ─> investigating ─ mitigate ─> mitigated
                              └───────────────────────────┴────────── resolve ───────┴─> resolved ─ close ─> closed
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from nvcops.core.alerts import Category
from nvcops.core.errors import UsageError
from nvcops.core.incidents import Event, Incident, IncidentState, Role, Severity
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk, Reading
from nvcops.core.units import Seconds
from nvcops.incidents import clocks, messages, timeline
from nvcops.incidents.correlation import going_on, linked
from nvcops.incidents.people import somebody
from nvcops.incidents.severity import worse
from nvcops.incidents.timeline import enter, text_of
from nvcops.oncall import paging

_STATE = IncidentState

# --- Rules ---

_ALLOWED = {
    "acknowledged": (_STATE.DETECTED, _STATE.MITIGATED),
    "investigated": (_STATE.RESPONDING,),
    "mitigated": (_STATE.RESPONDING, _STATE.INVESTIGATING),
    "resolved": (_STATE.RESPONDING, _STATE.INVESTIGATING, _STATE.MITIGATED),
    "closed": (_STATE.RESOLVED,),
    "given a role": (*timeline.ACTIVE, _STATE.RESOLVED),
    "overridden": (*timeline.ACTIVE, _STATE.RESOLVED),
}
_FIRST = {
    _STATE.DETECTED: "acknowledge it first",
    _STATE.RESPONDING: "mitigate or resolve it first",
    _STATE.INVESTIGATING: "mitigate or resolve it first",
    _STATE.MITIGATED: "it is mitigated: resolve it",
    _STATE.RESOLVED: "it is resolved: close it",
    _STATE.CLOSED: "a closed incident stays closed; open another",
}


def refuse(incident: Incident, act: str) -> None:
    """Nothing where the act is allowed in the incident's state.

    Raises:
        UsageError: it is not; what comes first.
    """
    if incident.state not in _ALLOWED[act]:
        sentence = f"incident {incident.number} is {incident.state}, so it cannot be {act}"
        raise UsageError(sentence, hint=_FIRST[incident.state])


def in_time(acknowledged: dt.datetime, detected: dt.datetime, within: Seconds) -> str:
    """How long it took until somebody said that they are on it, and whether that was in time.

    >>> noon = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    >>> [in_time(noon + dt.timedelta(seconds=s), noon, Seconds(300)) for s in (300, 301)]
    ['after 5 min, in time', 'after 5.02 min, later than 5 min']
    """
    took = Seconds((acknowledged - detected).total_seconds())
    return f"after {took}, in time" if took <= within else f"after {took}, later than {within}"


def needs_postmortem(reading: Reading, incident: Incident) -> bool:
    """Whether the worst that it ever was is P0 or P1, and it was no drill."""
    return incident.source != "drill" and not worse(Severity.P1, worst_ever(reading, incident))


def worst_ever(reading: Reading, incident: Incident) -> Severity:
    """The worst severity that an incident ever had: its opening's, and that of every change of it."""
    said = [
        str(event.data.get("severity", "")) for event in reading.find(Event, incident=incident.number, kind="opened")
    ]
    for kind in ("severity", "overridden"):
        for event in reading.find(Event, incident=incident.number, kind=kind):
            said += [str(event.data.get("holds", "")), str(event.data.get("before", ""))]
    grades = [Severity(word) for word in said if word in set(Severity)]
    return min([*grades, incident.severity], key=list(Severity).index)


# --- Procedures ---


def about(number: int) -> str:
    """What its pages are about: this is all pages of an incident, its alerts' included."""
    return f"incident/{number}"


def page_people(desk: Desk, incident: Incident, category: Category, *, manifest: Manifest, at: dt.datetime) -> None:
    """Ask who is on call to acknowledge an incident that no alert pages of."""
    if not manifest.oncall.policies:
        text = "nobody is paged: platform.toml has no [[oncall.policies]]"
        enter(desk, incident.number, "page", text, manifest=manifest, at=at, cause="nobody")
        return
    paging.begin(
        desk,
        manifest=manifest,
        about=about(incident.number),
        policy=manifest.oncall.policies[0].name,
        category=category,
        summary=incident.title,
        body=messages.of_a_page(incident),
        at=at,
        incident=incident.number,
    )


def tell_pages(desk: Desk, incident: Incident, text: str, *, manifest: Manifest, at: dt.datetime) -> None:
    """Tell who was paged what changed."""
    body = f"incident {incident.number}: {text}"
    paging.update(desk, manifest=manifest, about=about(incident.number), body=body, at=at)


def acknowledge(desk: Desk, number: int, *, manifest: Manifest, person: str, at: dt.datetime) -> Incident:
    """Somebody is on it: its pages stop escalating, and so do those that began after it was first acknowledged.

    Raises:
        NotFoundError: the person is nobody of the roster, or of the management.
        UsageError: somebody else was quicker, or it is over.
    """
    incident = timeline.the(desk, number)
    if incident.acknowledged:
        if paging.acknowledge(desk, about=about(number), person=person, at=at, manifest=manifest):
            text, cause = f"{person} has what it was paged of again", f"again/{at:%Y%m%dT%H%M%S.%f}"
            enter(desk, number, "page", text, manifest=manifest, at=at, person=person, cause=cause)
            return incident
        sentence = (
            f"incident {number} was acknowledged by {incident.acknowledged_by} at {incident.acknowledged:%H:%M:%S %Z}"
        )
        raise UsageError(sentence, hint="`nvcops note` or `nvcops assign` say who does what")
    refuse(incident, "acknowledged")
    took = in_time(at, incident.detected, manifest.alerts.acknowledge.critical)
    data = {"seconds": round((at - incident.detected).total_seconds(), 3)}
    enter(desk, number, "acknowledged", f"acknowledged {took}", manifest=manifest, at=at, person=person, data=data)
    paging.acknowledge(desk, about=about(number), person=person, at=at, manifest=manifest)
    state = _STATE.RESPONDING if incident.state is _STATE.DETECTED else incident.state
    return timeline.change(desk, incident, state=state, acknowledged=at, acknowledged_by=person)


def assign(
    desk: Desk, number: int, *, manifest: Manifest, role: Role, to: str, person: str, at: dt.datetime
) -> Incident:
    """Give a role of the emergency response team to somebody, and tell them.

    Raises:
        UsageError: nobody is called that, or the incident is closed.
    """
    incident = timeline.the(desk, number)
    refuse(incident, "given a role")
    somebody(manifest, to)
    if incident.roles.get(role) == to:
        return incident
    cause = f"{role}/{at:%Y%m%dT%H%M%S.%f}".replace(" ", "-")
    data = {"role": role, "to": to}
    enter(desk, number, "role", f"{to} is {role}", manifest=manifest, at=at, person=person, cause=cause, data=data)
    paging.tell(
        desk,
        manifest=manifest,
        to=to,
        subject=f"You are {role} of incident {number}",
        body=messages.of_a_page(incident),
        purpose="update",
        cause=f"incident/{number}/role/{cause}",
        at=at,
        incident=number,
    )
    return timeline.change(desk, incident, roles=incident.roles | {role.value: to})


def note(desk: Desk, number: int, *, manifest: Manifest, text: str, person: str, at: dt.datetime) -> Incident:
    """A line in a person's own words; also after the incident is closed."""
    incident = timeline.the(desk, number)
    text = text_of(text, "a note")
    cause = timeline.digest(person, text, at.isoformat())
    enter(desk, number, "note", text, manifest=manifest, at=at, person=person, cause=cause)
    return incident


def override(
    desk: Desk, number: int, *, manifest: Manifest, severity: Severity, reason: str, person: str, at: dt.datetime
) -> Incident:
    """A person's severity holds from now on, whatever data say, until a person says another."""
    incident = timeline.the(desk, number)
    refuse(incident, "overridden")
    reason = text_of(reason, "the reason of a severity", most=500)
    text = f"{severity} after {incident.severity}, though data say {incident.inferred}: {reason}"
    data = {"holds": severity, "before": incident.severity, "inferred": incident.inferred}
    cause = f"{at:%Y%m%dT%H%M%S.%f}"
    enter(desk, number, "overridden", text, manifest=manifest, at=at, person=person, cause=cause, data=data)
    before = incident.severity
    incident = timeline.change(desk, incident, severity=severity, overridden_by=person, override_reason=reason)
    clocks.begin_by_itself(desk, incident, manifest=manifest, at=at)  # also of one that is resolved by now
    tell_pages(desk, incident, text, manifest=manifest, at=at)
    if worse(severity, before):
        messages.inform(desk, incident, manifest=manifest, at=at)
    return incident


def personal_data(
    desk: Desk, number: int, *, manifest: Manifest, reason: str, person: str, at: dt.datetime
) -> Incident:
    """Personal data are touched, as of now we are aware of it: the clock of who supervises them begins."""
    incident = timeline.the(desk, number)
    reason = text_of(reason, "the reason", most=500)
    text = f"personal data are touched: {reason}"
    enter(desk, number, "personal-data", text, manifest=manifest, at=at, person=person)
    clocks.aware_of_personal_data(desk, number, manifest=manifest, person=person, at=at, reason=reason)
    return timeline.change(desk, incident, personal_data=True)


def investigate(desk: Desk, number: int, *, manifest: Manifest, person: str, at: dt.datetime) -> Incident:
    """The investigation begins."""
    incident = timeline.the(desk, number)
    refuse(incident, "investigated")
    text = f"{person} looks for the cause"
    enter(desk, number, "investigating", text, manifest=manifest, at=at, person=person)
    return timeline.change(desk, incident, state=_STATE.INVESTIGATING)


def mitigate(desk: Desk, number: int, *, manifest: Manifest, text: str, person: str, at: dt.datetime) -> Incident:
    """Its effect on customers is over, by a fix or a workaround."""
    incident = timeline.the(desk, number)
    refuse(incident, "mitigated")
    text = text_of(text, "what mitigated it")
    cause = f"{at:%Y%m%dT%H%M%S.%f}"
    enter(desk, number, "mitigated", text, manifest=manifest, at=at, person=person, cause=cause)
    incident = timeline.change(desk, incident, state=_STATE.MITIGATED, mitigated=at)
    tell_pages(desk, incident, f"mitigated: {text}", manifest=manifest, at=at)
    return incident


def resolve(
    desk: Desk,
    number: int,
    *,
    manifest: Manifest,
    text: str,
    person: str,
    at: dt.datetime,
    despite: str = "",
) -> Incident:
    """It is over, and `text` documents what resolved it. What still fires must be explained by `despite`.

    Raises:
        UsageError: alerts of it still fire and nobody said why, or it was not acknowledged.
    """
    incident = timeline.the(desk, number)
    if not incident.acknowledged:
        sentence = f"nobody acknowledged incident {number}, so it cannot be resolved"
        raise UsageError(sentence, hint=_FIRST[_STATE.DETECTED])
    refuse(incident, "resolved")
    text = text_of(text, "the resolution")
    firing = going_on(linked(desk, number))
    if firing and not despite.strip():
        sentence = (
            f"{len(firing)} alerts of incident {number} still fire: {firing[0].name} {firing[0].summary}".rstrip()
        )
        raise UsageError(sentence, hint="it is not over; or say why it is, in spite of them")
    data: dict[str, Any] = {"still_firing": len(firing), "verified": not firing}
    said = f"{text}; in spite of {len(firing)} alerts that fire: {despite.strip()}" if firing else text
    enter(desk, number, "resolved", said, manifest=manifest, at=at, person=person, data=data)
    paging.resolve(desk, manifest=manifest, about=about(number), body=f"resolved by {person}: {text}", at=at)
    incident = timeline.change(
        desk,
        incident,
        state=_STATE.RESOLVED,
        resolved=at,
        mitigated=incident.mitigated or at,
        resolution=text,
    )
    messages.say_over(desk, incident, manifest=manifest, at=at)
    return incident


def close(desk: Desk, number: int, *, manifest: Manifest, person: str, at: dt.datetime) -> Incident:
    """Nothing is left to do in it; of P0 and P1 the post-mortem must be published.

    Raises:
        UsageError: it is not resolved, or its post-mortem is missing.
    """
    incident = timeline.the(desk, number)
    refuse(incident, "closed")
    if needs_postmortem(desk, incident) and not desk.count(Event, incident=number, kind="postmortem"):
        sentence = f"incident {number} was {worst_ever(desk, incident)}, and its post-mortem is not published"
        raise UsageError(sentence, hint=f"`nvcops postmortem {number}` writes one to be completed")
    enter(desk, number, "closed", "closed", manifest=manifest, at=at, person=person)
    return timeline.change(desk, incident, state=_STATE.CLOSED, closed=at)
