"""Incidents and on-call over HTTP: what `nvcops incidents`, `ack`, `assign`, `note`, `resolve` and `oncall who` do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema, Status

from nvcops.console.served import Served, served
from nvcops.core import schedule
from nvcops.core.incidents import ActionItem, Clock, Incident, IncidentAlert, IncidentState, Role, Severity
from nvcops.core.records import Desk
from nvcops.incidents import checklists, leading, opening, postmortem, timeline
from nvcops.oncall import ical
from nvcops.oncall.rotation import on_call, standing_overrides

router = Router(tags=["incidents"])
_LINES_MAX = 1_000


class ByWhom(Schema):
    """Who decides: a name of the roster."""

    person: str


class Words(ByWhom):
    """A text in somebody's words."""

    text: str


class Resolution(Words):
    """What resolved it, and why it is over although alerts still fire."""

    despite: str = ""


class Assignment(ByWhom):
    """A role for somebody."""

    role: Role
    to: str


class Overriding(ByWhom):
    """A severity in place of the inferred one, and why."""

    severity: Severity
    reason: str


class Declaration(ByWhom):
    """An incident that a person opens."""

    title: str
    severity: Severity = Severity.P2
    reason: str = ""
    services: tuple[str, ...] = ()
    security: bool = False
    personal_data: bool = False


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def _decided(
    person: str, about: str, act: str, decide: Callable[[Desk, Served, dt.datetime], Incident]
) -> dict[str, Any]:
    """Decide something in a transaction, with its evidence; answers the incident as it is then."""
    platform, done = served(), []

    def change(desk: Desk) -> None:
        platform.note(desk, person, about, act)
        done.append(decide(desk, platform, schedule.now()))

    platform.change(change)
    answer: dict[str, Any] = _plain(done[-1])
    return answer


def _led(number: int, name: str, act: Callable[..., Incident], person: str, **words: Any) -> dict[str, Any]:
    """One of the acts by which a person leads an incident."""
    return _decided(
        person,
        f"incident/{number}",
        name,
        lambda desk, platform, at: act(desk, number, manifest=platform.manifest, person=person, at=at, **words),
    )


@router.get("/v1/incidents")
def incidents(request: HttpRequest, *, over: bool = False, limit: int = 100) -> Any:
    """The incidents, the newest first; with `over` also those that are."""
    gone = (IncidentState.RESOLVED, IncidentState.CLOSED)
    where = {} if over else {"state__in": [state for state in IncidentState if state not in gone]}
    with served().records.reading() as reading:
        return _plain(reading.find(Incident, order="-number", limit=min(max(limit, 1), _LINES_MAX), **where))


@router.get("/v1/incidents/{number}")
def incident(request: HttpRequest, number: int) -> Any:
    """One incident with its alerts, timeline, action items and deadlines."""
    with served().records.reading() as reading:
        return {
            "incident": _plain(timeline.the(reading, number)),
            "alerts": _plain(reading.find(IncidentAlert, incident=number, limit=_LINES_MAX)),
            "timeline": _plain(timeline.events(reading, number)),
            "actions": _plain(reading.find(ActionItem, incident=number, limit=_LINES_MAX)),
            "clocks": _plain(reading.find(Clock, incident=number, limit=_LINES_MAX)),
        }


@router.post("/v1/incidents", response={201: Any})
def declare(request: HttpRequest, said: Declaration) -> Status[Any]:
    """Open an incident by hand, and page who is on call."""
    opened = _decided(
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
            security=said.security,
            personal=said.personal_data,
        ),
    )
    return Status(201, opened)


@router.post("/v1/incidents/{number}/ack")
def ack(request: HttpRequest, number: int, said: ByWhom) -> Any:
    """Somebody is on it."""
    return _led(number, "acknowledge", leading.acknowledge, said.person)


@router.post("/v1/incidents/{number}/assign")
def assign(request: HttpRequest, number: int, said: Assignment) -> Any:
    """A role of the emergency response team is somebody's."""
    return _led(number, "assign", leading.assign, said.person, role=said.role, to=said.to)


@router.post("/v1/incidents/{number}/note")
def note(request: HttpRequest, number: int, said: Words) -> Any:
    """A line of the timeline in somebody's words."""
    return _led(number, "note", leading.note, said.person, text=said.text)


@router.post("/v1/incidents/{number}/severity")
def severity(request: HttpRequest, number: int, said: Overriding) -> Any:
    """A person's severity in place of the inferred one."""
    return _led(number, "severity", leading.override, said.person, severity=said.severity, reason=said.reason)


@router.post("/v1/incidents/{number}/mitigate")
def mitigate(request: HttpRequest, number: int, said: Words) -> Any:
    """Customers are no longer touched."""
    return _led(number, "mitigate", leading.mitigate, said.person, text=said.text)


@router.post("/v1/incidents/{number}/resolve")
def resolve(request: HttpRequest, number: int, said: Resolution) -> Any:
    """It is over."""
    return _led(number, "resolve", leading.resolve, said.person, text=said.text, despite=said.despite)


@router.post("/v1/incidents/{number}/close")
def close(request: HttpRequest, number: int, said: ByWhom) -> Any:
    """Nothing is left to do."""
    return _led(number, "close", leading.close, said.person)


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
        return _plain(on_call(platform.manifest, standing_overrides(reading, at), at))


@router.get("/v1/incidents/{number}/checklist")
def checklist(request: HttpRequest, number: int) -> Any:
    """The five phases of the response: what is done, and by whom."""
    with served().records.reading() as reading:
        return _plain(checklists.checklist(checklists.seen(reading, number), served().manifest))


@router.get("/v1/incidents/{number}/postmortem")
def read_postmortem(request: HttpRequest, number: int) -> Any:
    """The post-mortem that was published; before that, the one that the records give."""
    at, platform = schedule.now(), served()
    with platform.records.reading() as reading:
        published = postmortem.published(reading, number)
        story = postmortem.story(reading, number, manifest=platform.manifest)
    text = published or postmortem.write(story, platform.manifest, at)
    return {"incident": number, "published": bool(published), "text": text}


@router.post("/v1/incidents/{number}/postmortem")
def publish_postmortem(request: HttpRequest, number: int, said: Words) -> Any:
    """Publish the completed post-mortem, as Markdown."""

    def publish(desk: Desk, platform: Served, at: dt.datetime) -> Incident:
        postmortem.publish(desk, number, manifest=platform.manifest, text=said.text, person=said.person, at=at)
        return timeline.the(desk, number)

    return _decided(said.person, f"incident/{number}", "postmortem", publish)
