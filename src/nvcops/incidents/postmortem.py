"""The post-mortem of an incident: written from its records, completed by people, published by one of them."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.errors import UsageError
from nvcops.core.incidents import ActionItem, Clock, Event, Incident
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk, Reading
from nvcops.core.units import Seconds
from nvcops.incidents import actions, checklists, timeline
from nvcops.incidents.actions import cell
from nvcops.incidents.clocks import clocks_of, in_words
from nvcops.incidents.impact import Impact
from nvcops.incidents.leading import in_time, refuse, worst_ever
from nvcops.incidents.messages import moment

TEXT_MAX = 200_000
TO_WRITE = "_To be written:_"
_EVENTS_SHOWN = 500

# --- Facts ---


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What a post-mortem is written from. `worst` is the worst severity that it ever had."""

    incident: Incident
    worst: str
    events: tuple[Event, ...]
    items: tuple[ActionItem, ...]
    clocks: tuple[Clock, ...]
    lines: tuple[checklists.Line, ...]
    impact: Impact | None = None


def story(reading: Reading, number: int, *, manifest: Manifest, impact: Impact | None = None) -> Story:
    """Read all of it."""
    incident = timeline.the(reading, number)
    return Story(
        incident=incident,
        worst=worst_ever(reading, incident),
        events=tuple(timeline.events(reading, number)),
        items=tuple(reading.find(ActionItem, incident=number, order="created")),
        clocks=tuple(clocks_of(reading, number)),
        lines=tuple(checklists.checklist(checklists.seen(reading, number), manifest)),
        impact=impact,
    )


# --- Rules ---

_SECTIONS = (
    ("What went well", "what kept it from being worse?"),
    ("What went badly", "what made it worse, or slower to end?"),
    ("Root cause", "the cause behind the cause; the suggestions below say where to look"),
)


def write(story: Story, manifest: Manifest, at: dt.datetime) -> str:
    """The post-mortem as Markdown; what people must add says so."""
    incident = story.incident
    parts = [
        f"# Post-mortem: incident {incident.number}, {cell(incident.title)}",
        _head(story, manifest, at),
        "## Impact\n" + _impact(story),
        "## Times\n" + _times(incident, manifest),
        "## Why this severity\n" + _reasons(story),
        "## Timeline\n" + _timeline(story.events, manifest),
        "## What was found around its beginning\n" + _causes(incident),
        *(f"## {title}\n{TO_WRITE} {question}" for title, question in _SECTIONS),
        "## Action items\n" + actions.table(story.items),
        "## Checklist\n" + _checklist(story.lines),
    ]
    if story.clocks:
        parts.append("## Regulators\n" + "\n".join(f"- {cell(in_words(one, at, manifest))}" for one in story.clocks))
    return "\n\n".join(parts) + "\n"


def _head(story: Story, manifest: Manifest, at: dt.datetime) -> str:
    incident, zone = story.incident, ZoneInfo(manifest.platform.time_zone)
    roles = ", ".join(f"{role}: {name}" for role, name in sorted(incident.roles.items())) or "none were assigned"
    services = ", ".join(incident.services) or "none named"
    return (
        f"{cell(manifest.platform.title)}. Severity {incident.severity}, at worst {story.worst}. Services: {services}. "
        f"State: {incident.state}. Roles: {cell(roles)}. Written {moment(at, zone)} from the records.\n\n"
        f"Resolution: {cell(incident.resolution) or TO_WRITE + ' what resolved it'}"
    )


def _impact(story: Story) -> str:
    if story.impact is None:
        return f"{TO_WRITE} the figures could not be read"
    rows = [f"| {cell(one.title)} | {cell(one.text)} | {cell(one.source)} |" for one in story.impact.figures]
    head = "| Figure | | From |\n|---|---|---|"
    minutes = f"| Minutes | {story.impact.minutes:.1f} | from its first sign until it was mitigated |"
    return "\n".join([head, minutes, *rows])


def _times(incident: Incident, manifest: Manifest) -> str:
    zone = ZoneInfo(manifest.platform.time_zone)
    rows = [
        ("Began", incident.began, "its first sign"),
        ("Detected", incident.detected, _after(incident.detected, incident.began, "it began")),
    ]
    if incident.acknowledged:
        within = manifest.alerts.acknowledge.critical
        said = f"{in_time(incident.acknowledged, incident.detected, within)}, by {incident.acknowledged_by}"
        rows.append(("Acknowledged", incident.acknowledged, said))
    for name, time in (("Mitigated", incident.mitigated), ("Resolved", incident.resolved)):
        if time:
            rows.append((name, time, _after(time, incident.detected, "it was detected")))
    lines = [f"| {name} | {moment(time, zone)} | {cell(said)} |" for name, time, said in rows]
    missing = [name for name in ("Acknowledged", "Mitigated", "Resolved") if name not in {row[0] for row in rows}]
    return "\n".join(["| | When | |", "|---|---|---|", *lines, *(f"| {name} | not yet | |" for name in missing)])


def _after(later: dt.datetime, earlier: dt.datetime, what: str) -> str:
    return f"{Seconds(max((later - earlier).total_seconds(), 0.0))} after {what}"


def _reasons(story: Story) -> str:
    incident = story.incident
    lines = [
        f"- {reason.severity}: {cell(reason.rule)}: {cell(reason.seen)} ({cell(reason.source)})"
        for reason in incident.reasons
    ]
    if incident.overridden_by:
        said = f"{incident.overridden_by} said {incident.severity}: {incident.override_reason}"
        said += f"; data say {incident.inferred}"
        lines.insert(0, f"- {cell(said)}")
    return "\n".join(lines) or "- none was inferred"


def _timeline(events: Sequence[Event], manifest: Manifest) -> str:
    zone = ZoneInfo(manifest.platform.time_zone)
    rows = []
    for event in events[:_EVENTS_SHOWN]:
        when = f"{event.time.astimezone(zone):%Y-%m-%d %H:%M:%S}"
        rows.append(f"| {when} | {event.kind} | {cell(event.person)} | {cell(event.text)} |")
    more = [f"| | | | and {len(events) - _EVENTS_SHOWN:,} more lines |"] if len(events) > _EVENTS_SHOWN else []
    return "\n".join(["| When | What | Who | |", "|---|---|---|---|", *rows, *more])


def _causes(incident: Incident) -> str:
    lines = [f"- {cell(one.title)} ({cell(one.evidence)})" for one in incident.suggestions]
    lines += [
        f"- {link['kind']} {cell(link['id'])}, {link['time'][:19]}: {cell(link['text'])}" for link in incident.links
    ]
    return "\n".join(lines) or "- nothing"


def _checklist(lines: Sequence[checklists.Line]) -> str:
    marks = {"done": "x", "late": "x", "not needed": "-", "open": " "}
    return "\n".join(
        f"- [{marks[line.standing]}] {line.phase}: {line.item}"
        + (f" ({cell(', '.join(filter(None, (line.by, line.note))))})" if line.by or line.note else "")
        for line in lines
    )


def unwritten(text: str) -> list[str]:
    r"""The sections that people have not written yet.

    >>> unwritten("## Root cause\n_To be written:_ why?\n\n## Action items\nnone")
    ['Root cause']
    """
    found, section = [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line[3:]
        if TO_WRITE in line:
            found.append(section or "the head")
    return list(dict.fromkeys(found))


# --- Procedures ---


def publish(desk: Desk, number: int, *, manifest: Manifest, text: str, person: str, at: dt.datetime) -> str:
    """A person publishes the completed post-mortem; its SHA-256, which stands in the evidence. The last one counts.

    Raises:
        UsageError: the incident is not resolved, or a section is not written.
    """
    incident = timeline.the(desk, number)
    refuse(incident, "closed")
    text = timeline.text_of(text, "the post-mortem", most=TEXT_MAX)
    if sections := unwritten(text):
        raise UsageError(f"not written yet: {', '.join(sections)}", hint=f"replace what begins with {TO_WRITE}")
    digest = hashlib.sha256(text.encode()).hexdigest()
    data = {"sha256": digest, "bytes": len(text.encode())}
    desk.put(
        Event(
            id=f"{number}/{timeline.POSTMORTEM_TEXT}",
            incident=number,
            time=at,
            kind=timeline.POSTMORTEM_TEXT,
            person=person,
            text=text,
            data=data,
        )
    )
    said = f"the post-mortem is published ({digest[:12]})"
    timeline.enter(
        desk, number, "postmortem", said, manifest=manifest, at=at, person=person, cause=digest[:12], data=data
    )
    return digest


def published(reading: Reading, number: int) -> str:
    """The text that was published last; empty: none."""
    event = reading.get(Event, f"{number}/{timeline.POSTMORTEM_TEXT}")
    return event.text if event else ""
