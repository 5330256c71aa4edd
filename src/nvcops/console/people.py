"""Incidents and on-call over HTTP: what `nvcops incidents`, `ack`, `assign`, `note`, `resolve` and `oncall who` do."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router, Status
from pydantic import AwareDatetime

from nvcops.console.deciding import Because, ByWhom, Words, decided, of_incident, plain
from nvcops.console.served import served
from nvcops.core import schedule
from nvcops.core.incidents import ActionItem, Clock, Incident, IncidentAlert, IncidentState, Role, Severity
from nvcops.incidents import leading, messages, opening, timeline
from nvcops.oncall import ical
from nvcops.oncall.rotation import on_call, standing_overrides

router = Router(tags=["incidents"])
_LINES_MAX = 1_000


class Resolution(Words):
    """What resolved it, and why it is over although alerts still fire."""

    despite: str = ""


class Update(Words):
    """How it stands; `public` puts it on the status page too."""

    public: bool = False


class Assignment(ByWhom):
    """A role for somebody."""

    role: Role
    to: str


class Overriding(Because):
    """A severity in place of the inferred one, and why."""

    severity: Severity


class Declaration(ByWhom):
    """An incident that a person opens."""

    title: str
    severity: Severity = Severity.P2
    reason: str = ""
    services: tuple[str, ...] = ()
    began: AwareDatetime | None = None
    security: bool = False
    personal_data: bool = False


@router.get("/v1/incidents")
def incidents(request: HttpRequest, *, over: bool = False, limit: int = 100) -> Any:
    """The incidents, the newest first; with `over` also those that are."""
    gone = (IncidentState.RESOLVED, IncidentState.CLOSED)
    where = {} if over else {"state__in": [state for state in IncidentState if state not in gone]}
    with served().records.reading() as reading:
        return plain(reading.find(Incident, order="-number", limit=min(max(limit, 1), _LINES_MAX), **where))


@router.get("/v1/incidents/{number}")
def incident(request: HttpRequest, number: int) -> Any:
    """One incident with its alerts, timeline, action items and deadlines."""
    with served().records.reading() as reading:
        return {
            "incident": plain(timeline.the(reading, number)),
            "alerts": plain(reading.find(IncidentAlert, incident=number, limit=_LINES_MAX)),
            "timeline": plain(timeline.events(reading, number)),
            "actions": plain(reading.find(ActionItem, incident=number, limit=_LINES_MAX)),
            "clocks": plain(reading.find(Clock, incident=number, limit=_LINES_MAX)),
        }


@router.post("/v1/incidents", response={201: Any})
def declare(request: HttpRequest, said: Declaration) -> Status[Any]:
    """Open an incident by hand, and page who is on call."""
    opened = decided(
        said.person,
        "incident",
        "declare",
        lambda desk, platform, at: opening.open_by_hand(
            desk,
            manifest=platform.manifest,
            title=said.title,
            person=said.person,
            at=at,
            severity=said.severity,
            reason=said.reason,
            services=said.services,
            began=said.began,
            security=said.security,
            personal=said.personal_data,
        ),
    )
    return Status(201, opened)


@router.post("/v1/incidents/{number}/ack")
def ack(request: HttpRequest, number: int, said: ByWhom) -> Any:
    """Somebody is on it."""
    return of_incident(number, "acknowledge", leading.acknowledge, said.person)


@router.post("/v1/incidents/{number}/assign")
def assign(request: HttpRequest, number: int, said: Assignment) -> Any:
    """A role of the emergency response team is somebody's."""
    return of_incident(number, "assign", leading.assign, said.person, role=said.role, to=said.to)


@router.post("/v1/incidents/{number}/note")
def note(request: HttpRequest, number: int, said: Words) -> Any:
    """A line of the timeline in somebody's words."""
    return of_incident(number, "note", leading.note, said.person, text=said.text)


@router.post("/v1/incidents/{number}/severity")
def severity(request: HttpRequest, number: int, said: Overriding) -> Any:
    """A person's severity in place of the inferred one."""
    return of_incident(number, "severity", leading.override, said.person, severity=said.severity, reason=said.reason)


@router.post("/v1/incidents/{number}/investigate")
def investigate(request: HttpRequest, number: int, said: ByWhom) -> Any:
    """The investigation begins."""
    return of_incident(number, "investigate", leading.investigate, said.person)


@router.post("/v1/incidents/{number}/personal-data")
def personal_data(request: HttpRequest, number: int, said: Because) -> Any:
    """Personal data are touched: the regulators' clocks for that begin."""
    return of_incident(number, "personal-data", leading.personal_data, said.person, reason=said.reason)


@router.post("/v1/incidents/{number}/update")
def update(request: HttpRequest, number: int, said: Update) -> Any:
    """Tell the stakeholders how it stands, in somebody's words."""
    return of_incident(number, "update", messages.update, said.person, text=said.text, public=said.public)


@router.post("/v1/incidents/{number}/mitigate")
def mitigate(request: HttpRequest, number: int, said: Words) -> Any:
    """Customers are no longer touched."""
    return of_incident(number, "mitigate", leading.mitigate, said.person, text=said.text)


@router.post("/v1/incidents/{number}/resolve")
def resolve(request: HttpRequest, number: int, said: Resolution) -> Any:
    """It is over."""
    return of_incident(number, "resolve", leading.resolve, said.person, text=said.text, despite=said.despite)


@router.post("/v1/incidents/{number}/close")
def close(request: HttpRequest, number: int, said: ByWhom) -> Any:
    """Nothing is left to do."""
    return of_incident(number, "close", leading.close, said.person)


@router.get("/v1/oncall.ics", openapi_extra={"responses": {"200": {"content": {"text/calendar": {}}}}})
def calendar(request: HttpRequest, rotation: str = "", person: str = "") -> HttpResponse:
    """The shifts as a calendar to subscribe to: of a rotation, a person, or all."""
    at, platform = schedule.now(), served()
    with platform.records.reading() as reading:
        overrides = standing_overrides(reading, at)
    data = ical.feed(platform.manifest, overrides, at=at, rotation=rotation, person=person)
    return HttpResponse(data, content_type="text/calendar; charset=utf-8")


@router.get("/v1/oncall")
def who(request: HttpRequest) -> Any:
    """Who is on call now, by rotation."""
    at, platform = schedule.now(), served()
    with platform.records.reading() as reading:
        return plain(on_call(platform.manifest, standing_overrides(reading, at), at))
