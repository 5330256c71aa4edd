"""Beside and after an incident, over HTTP: checklist, regulators' clocks and drafts, post-mortem, action items."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest
from ninja import Router, Status
from pydantic import AwareDatetime

from nvcops import wiring
from nvcops.console.deciding import Because, ByWhom, Words, decided, of_incident, plain
from nvcops.console.served import Served, served
from nvcops.core import schedule
from nvcops.core.errors import UsageError
from nvcops.core.incidents import ActionItem
from nvcops.core.records import Desk
from nvcops.incidents import actions, checklists, clocks, drafts, postmortem, timeline
from nvcops.incidents.impact import Impact

router = Router(tags=["after an incident"])


class Ticked(ByWhom):
    """A line of the checklist in the runbook's words, and what was seen."""

    item: str
    note: str = ""


class Fact(Words):
    """What only people know: it fills that field of every draft."""

    field: str


class Began(Because):
    """A regulator's clock, why it begins, and since when; without `since`: now."""

    rule: str
    since: AwareDatetime | None = None


class Sent(ByWhom):
    """What the regulator calls the report that was sent."""

    reference: str


class Promised(Words):
    """An action item: who does it until which day, and the procedure of which a green run closes it."""

    owner: str
    due: dt.date
    measure: str = "prevention"
    procedure: str = ""


class Done(ByWhom):
    """What closes an action item: a green run, or an attestation of how it was done."""

    run: str | None = None
    note: str | None = None


def _cost(number: int) -> Impact:
    """What it cost so far; read before any transaction begins, because the platform is asked."""
    with served().records.reading() as reading:
        incident = timeline.the(reading, number)
    return wiring.cost(served().manifest, incident)


# --- checklist ---


@router.get("/v1/incidents/{number}/checklist")
def checklist(request: HttpRequest, number: int) -> Any:
    """The five phases of the response: what is done, and by whom."""
    with served().records.reading() as reading:
        return plain(checklists.checklist(checklists.seen(reading, number), served().manifest))


@router.post("/v1/incidents/{number}/checklist")
def tick(request: HttpRequest, number: int, said: Ticked) -> Any:
    """A line of it is done."""
    return of_incident(number, "tick", checklists.tick, said.person, item=said.item, note=said.note)


# --- regulators ---


@router.get("/v1/incidents/{number}/clocks")
def list_clocks(request: HttpRequest, number: int) -> Any:
    """The regulators' clocks of an incident, the nearest deadline first."""
    with served().records.reading() as reading:
        timeline.the(reading, number)
        return plain(clocks.clocks_of(reading, number))


@router.post("/v1/incidents/{number}/clocks", response={201: Any})
def begin_clock(request: HttpRequest, number: int, said: Began) -> Status[Any]:
    """It was determined, classified, or known."""
    words = {"rule": said.rule, "reason": said.reason, "began": said.since}
    return Status(201, of_incident(number, "clock", clocks.begin, said.person, **words))


@router.post("/v1/incidents/{number}/clocks/{rule}/reported")
def meet_clock(request: HttpRequest, number: int, rule: str, said: Sent) -> Any:
    """A regulator's report was sent."""

    def meet(desk: Desk, platform: Served, at: dt.datetime) -> Any:
        key, manifest = f"{number}/{rule}", platform.manifest
        return clocks.meet(desk, key, manifest=manifest, reference=said.reference, person=said.person, at=at)

    return decided(said.person, f"incident/{number}", "reported", meet)


@router.post("/v1/incidents/{number}/clocks/{rule}/not-reportable")
def dismiss_clock(request: HttpRequest, number: int, rule: str, said: Because) -> Any:
    """It need not be reported, and why: its clock stops."""

    def dismiss(desk: Desk, platform: Served, at: dt.datetime) -> Any:
        key, manifest = f"{number}/{rule}", platform.manifest
        return clocks.dismiss(desk, key, manifest=manifest, reason=said.reason, person=said.person, at=at)

    return decided(said.person, f"incident/{number}", "not-reportable", dismiss)


@router.get("/v1/incidents/{number}/drafts/{report}")
def draft(request: HttpRequest, number: int, report: str) -> Any:
    """A regulator's report as far as it can be written, and what is missing."""
    cost, platform = _cost(number), served()
    with platform.records.reading() as reading:
        return plain(drafts.draft(report, drafts.known(reading, number, cost), platform.manifest))


@router.post("/v1/incidents/{number}/facts")
def state_fact(request: HttpRequest, number: int, said: Fact) -> Any:
    """Say what only people know."""
    of_incident(number, "fact", drafts.state, said.person, field=said.field, text=said.text)
    return {"field": said.field, "text": said.text}


# --- action items ---


@router.get("/v1/actions")
def open_actions(request: HttpRequest) -> Any:
    """The action items of all incidents that are not closed, the nearest due first."""
    with served().records.reading() as reading:
        return plain(actions.open_items(reading))


@router.get("/v1/incidents/{number}/actions")
def list_actions(request: HttpRequest, number: int) -> Any:
    """The action items of an incident."""
    with served().records.reading() as reading:
        timeline.the(reading, number)
        return plain(reading.find(ActionItem, incident=number, order="created"))


@router.post("/v1/incidents/{number}/actions", response={201: Any})
def add_action(request: HttpRequest, number: int, said: Promised) -> Status[Any]:
    """Write down what must change, with its owner and its date."""
    words = {"text": said.text, "owner": said.owner, "due": said.due}
    words |= {"measure": said.measure, "procedure": said.procedure}
    return Status(201, of_incident(number, "action", actions.add, said.person, **words))


@router.post("/v1/actions/{item}/done")
def close_action(request: HttpRequest, item: str, said: Done) -> Any:
    """Close an action item: by a green run, or by an attestation."""
    if (said.run is None) == (said.note is None):
        raise UsageError("an action item closes by a run or by an attestation", hint='"run" or "note", one of them')
    run = wiring.run_of(served().manifest, said.run) if said.run is not None else None

    def close(desk: Desk, platform: Served, at: dt.datetime) -> Any:
        manifest, person = platform.manifest, said.person
        if run is None:
            return actions.attest(desk, item, manifest=manifest, note=said.note or "", person=person, at=at)
        return actions.close_by_run(desk, item, run, manifest=manifest, person=person, at=at)

    return decided(said.person, f"incident/{item.partition('-')[0]}", "action-done", close)


# --- the post-mortem ---


@router.get("/v1/incidents/{number}/postmortem")
def read_postmortem(request: HttpRequest, number: int) -> Any:
    """The post-mortem that was published; before that, the one that the records give."""
    platform = served()
    with platform.records.reading() as reading:
        text = postmortem.published(reading, number)
    if text:
        return {"incident": number, "published": True, "text": text}
    cost = _cost(number)
    with platform.records.reading() as reading:
        story = postmortem.story(reading, number, manifest=platform.manifest, impact=cost)
    text = postmortem.write(story, platform.manifest, schedule.now())
    return {"incident": number, "published": False, "text": text}


@router.post("/v1/incidents/{number}/postmortem")
def publish_postmortem(request: HttpRequest, number: int, said: Words) -> Any:
    """Publish the completed post-mortem, as Markdown."""

    def publish(desk: Desk, platform: Served, at: dt.datetime) -> Any:
        postmortem.publish(desk, number, manifest=platform.manifest, text=said.text, person=said.person, at=at)
        return timeline.the(desk, number)

    return decided(said.person, f"incident/{number}", "postmortem", publish)
