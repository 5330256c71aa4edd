"""Drafts of the reports that regulators ask for: filled from what is known, and saying what is missing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.errors import UsageError
from nvcops.core.incidents import Clock, Event, Incident, IncidentAlert
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk, Reading
from nvcops.core.units import Seconds
from nvcops.incidents import correlation, timeline
from nvcops.incidents.clocks import RULES, clocks_of
from nvcops.incidents.impact import Impact
from nvcops.incidents.messages import moment
from nvcops.incidents.timeline import text_of

# --- Facts ---


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a draft is filled from. `said` is what people said of a field, by its name."""

    incident: Incident
    alerts: tuple[IncidentAlert, ...]
    clocks: tuple[Clock, ...]
    said: dict[str, str]
    impact: Impact | None = None


def known(reading: Reading, number: int, impact: Impact | None = None) -> Known:
    """Read all of it."""
    events = reading.find(Event, incident=number, kind="fact", order="time")
    return Known(
        incident=timeline.the(reading, number),
        alerts=tuple(correlation.linked(reading, number)),
        clocks=tuple(clocks_of(reading, number)),
        said={str(event.data["field"]): event.text for event in events},
        impact=impact,
    )


# --- Rules ---

Filled = Callable[[Known, Manifest], str]


class Field(msgspec.Struct, frozen=True):
    """One field of a report: its name, what it asks, and what fills it; None: only a person can say."""

    name: str
    asks: str
    fill: Filled | None = None


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A report as far as it can be written, as Markdown, and the fields that are missing."""

    rule: str
    title: str
    text: str
    missing: tuple[str, ...]


def _at(time: dt.datetime | None, manifest: Manifest) -> str:
    return moment(time, ZoneInfo(manifest.platform.time_zone)) if time else ""


def _clock(*rules: str) -> Filled:
    def fill(known: Known, manifest: Manifest) -> str:
        return next((_at(clock.began, manifest) for clock in known.clocks if clock.rule in rules), "")

    return fill


def _what(known: Known, _manifest: Manifest) -> str:
    reasons = "; ".join(f"{reason.rule}: {reason.seen}" for reason in known.incident.reasons[:5])
    return f"{known.incident.title}. Severity {known.incident.severity}" + (f" ({reasons})" if reasons else "")


def _found(known: Known, manifest: Manifest) -> str:
    who = "our own monitoring" if known.incident.source != "person" else "a person's report"
    later = Seconds((known.incident.detected - known.incident.began).total_seconds())
    names = ", ".join(sorted({alert.name for alert in known.alerts})[:5])
    return f"{who}, {_at(known.incident.detected, manifest)}, {later} after its first sign" + (
        f": {names}" if names else ""
    )


def _measures(known: Known, manifest: Manifest) -> str:
    parts = []
    if known.incident.acknowledged:
        parts.append(f"responders at work from {_at(known.incident.acknowledged, manifest)}")
    if known.incident.mitigated:
        parts.append(f"effect ended {_at(known.incident.mitigated, manifest)}")
    if known.incident.resolution:
        parts.append(known.incident.resolution)
    return "; ".join(parts)


def _cost(known: Known, _manifest: Manifest) -> str:
    if known.impact is None:
        return ""
    figures = [f"{figure.title}: {figure.text}" for figure in known.impact.figures if figure.value is not None]
    return f"{known.impact.minutes:.0f} minutes; " + "; ".join(figures) if figures else ""


def _cause(known: Known, _manifest: Manifest) -> str:
    likely = [one for one in known.incident.suggestions if not one.procedure]
    return f"likely, not confirmed: {likely[0].title} ({likely[0].evidence})" if likely else ""


def _contact(known: Known, manifest: Manifest) -> str:
    name = known.incident.roles.get("incident commander") or known.incident.acknowledged_by
    person = manifest.person(name)
    officer = next((entry for entry in manifest.contacts if "compliance" in entry.name), None)
    said = [person.full_name] if person else []
    return ", ".join([*said, *([f"{officer.title} {officer.phone or officer.email}".strip()] if officer else [])])


_INSTITUTION = Field("institution", "Institution", lambda _known, manifest: manifest.platform.title)
_CONTACT = Field("contact", "Point of contact", _contact)
_REFERENCE = Field(
    "reference", "Our reference", lambda known, manifest: f"{manifest.platform.name}/{known.incident.number}"
)
_DESCRIPTION = Field("description", "What happened", _what)
_BEGAN = Field("began", "When it occurred", lambda known, manifest: _at(known.incident.began, manifest))
_DETECTED = Field("detected", "How and when it was detected", _found)
_SERVICES = Field("services", "Services affected", lambda known, _manifest: ", ".join(known.incident.services))
_MEASURES = Field("measures", "Measures taken or planned", _measures)
_COST = Field("impact", "Clients and transactions affected", _cost)
_END = Field(
    "recovered", "When services were restored", lambda known, manifest: _at(known.incident.mitigated, manifest)
)
_MAJOR = (
    Field(
        "criteria",
        "Which criteria make it major (clients, reputation, duration, spread, data, critical services, costs)",
    ),
    Field("member-states", "Member States affected"),
)
FORMS: Mapping[str, tuple[Field, ...]] = {
    "us-36h": (
        _INSTITUTION,
        _CONTACT,
        Field("determined", "When it was determined to be a notification incident", _clock("us-36h")),
        _DESCRIPTION,
        _SERVICES,
        _BEGAN,
        _COST,
        _MEASURES,
    ),
    "gdpr-72h": (
        _INSTITUTION,
        Field("dpo", "Data protection officer, or another contact point"),
        Field("aware", "When we became aware of it", _clock("gdpr-72h")),
        _DESCRIPTION,
        Field("subjects", "Categories and approximate number of data subjects"),
        Field("records", "Categories and approximate number of data records"),
        Field("consequences", "Likely consequences"),
        _MEASURES,
        Field("informed", "Whether the data subjects are informed, and how"),
    ),
    "dora-initial": (
        _INSTITUTION,
        _REFERENCE,
        _CONTACT,
        _DETECTED,
        Field("classified", "When it was classified as major", _clock("dora-4h")),
        _DESCRIPTION,
        *_MAJOR,
        Field("origin", "Whether it came from a third party, and which"),
        Field("continuity", "Whether the business continuity plan was activated"),
    ),
    "dora-72h": (
        _REFERENCE,
        _BEGAN,
        _END,
        _COST,
        _SERVICES,
        Field("type", "Type of incident, threats and techniques"),
        _MEASURES,
        Field("recurring", "Whether it has happened before"),
    ),
    "dora-1month": (
        _REFERENCE,
        Field("root-cause", "Root cause"),
        Field("resolved", "When it was resolved", lambda known, manifest: _at(known.incident.resolved, manifest)),
        _COST,
        Field("resolution", "How it was resolved", lambda known, _manifest: known.incident.resolution),
        Field("prevention", "What keeps it from happening again"),
        Field("costs", "Gross costs, losses and recoveries"),
    ),
}
FORMS = {**FORMS, "dora-4h": FORMS["dora-initial"], "dora-24h": FORMS["dora-initial"]}


def draft(rule: str, known: Known, manifest: Manifest) -> Draft:
    """A report's draft: what a person said first, then what the records show; the rest is listed as missing.

    Raises:
        UsageError: there is no such report.
    """
    if rule not in RULES:
        raise UsageError(f"there is no report {rule!r}", hint=f"there: {', '.join(RULES)}")
    title = f"{RULES[rule].title}: incident {known.incident.number}"
    lines, missing = [f"# DRAFT. {title}", ""], []
    for field in FORMS[rule]:
        value = known.said.get(field.name) or (field.fill(known, manifest) if field.fill else "")
        if not value:
            missing.append(field.name)
        guess = _cause(known, manifest) if field.name == "root-cause" else ""
        lines.append(f"**{field.asks}:** {value or ' '.join(filter(None, ('MISSING', guess)))}")
        lines.append("")
    lines.append(
        f"Missing: {', '.join(missing)}." if missing else "Nothing is missing; a person reads it before it is sent."
    )
    return Draft(rule=rule, title=title, text="\n".join(lines) + "\n", missing=tuple(missing))


def fields_of(rules: Sequence[str]) -> list[str]:
    """The names of all fields of some reports."""
    return list(dict.fromkeys(field.name for rule in rules for field in FORMS[rule]))


# --- Procedures ---


def state(desk: Desk, number: int, *, manifest: Manifest, field: str, text: str, person: str, at: dt.datetime) -> None:
    """A person says what only people know; it fills the field of every report. What was said last counts.

    Raises:
        UsageError: no report has such a field.
    """
    timeline.the(desk, number)
    text = text_of(text, f"the field {field}")
    names = fields_of(list(FORMS))
    if field not in names:
        raise UsageError(f"no report has a field {field!r}", hint=f"there: {', '.join(names)}")
    cause = f"{field}/{timeline.digest(person, text, at.isoformat())}"
    data = {"field": field}
    timeline.enter(desk, number, "fact", text, manifest=manifest, at=at, person=person, cause=cause, data=data)
