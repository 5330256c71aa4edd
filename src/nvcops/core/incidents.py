"""What an incident is: severity and its reasons, roles, timeline, checklist, deadlines, action items. Pure."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any

import msgspec


class Severity(StrEnum):
    """The runbook's severity levels; each has its time within which the response begins ([incidents.respond])."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


SIGNAL = "signal"  # the label by which an alert says what it is a sign of


class Signal(StrEnum):
    """What an alert, or a figure, is a sign of: the runbook's words for its severities."""

    OUTAGE = "outage"  # of a whole service
    PARTIAL_OUTAGE = "partial-outage"
    PAYMENTS = "payments"
    CORRUPTION = "corruption"
    BREACH = "breach"
    SIGN_IN = "sign-in"
    PERFORMANCE = "performance"
    ERRORS = "errors"
    COMPLIANCE = "compliance"
    SECURITY = "security"  # a minor concern
    REDUNDANCY = "redundancy"  # a part is gone that another stands in for
    FEATURE = "feature"  # something that is not critical
    REQUEST = "request"  # minor, cosmetic, a question


class IncidentState(StrEnum):
    """The phases of the runbook's incident response; CLOSED: its post-mortem, where one is due, is published."""

    DETECTED = "detected"
    RESPONDING = "responding"  # acknowledged
    INVESTIGATING = "investigating"
    MITIGATED = "mitigated"
    RESOLVED = "resolved"
    CLOSED = "closed"


class Role(StrEnum):
    """The emergency response team."""

    COMMANDER = "incident commander"
    TECHNICAL = "technical lead"
    COMMUNICATIONS = "communications lead"
    BUSINESS = "business lead"


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a severity was inferred: the rule, what was seen, and where."""

    rule: str
    severity: Severity
    seen: str
    source: str


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """A likely cause, or a procedure to start, and from what it follows. `weight` orders them, 0 to 1."""

    title: str
    procedure: str = ""
    evidence: str
    weight: float


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One incident. `began` is the first sign of the fault, `detected` when we noticed; both are read from the alerts.

    `severity` is what holds: a person's (`overridden_by`, `override_reason`), else the inferred one.
    """

    number: int
    title: str
    state: IncidentState
    severity: Severity
    inferred: Severity
    reasons: tuple[Reason, ...] = ()
    overridden_by: str = ""
    override_reason: str = ""
    source: str  # alerts, person, drill
    services: tuple[str, ...] = ()
    security: bool = False
    personal_data: bool = False
    began: dt.datetime
    detected: dt.datetime
    acknowledged: dt.datetime | None = None
    acknowledged_by: str = ""
    mitigated: dt.datetime | None = None
    resolved: dt.datetime | None = None
    closed: dt.datetime | None = None
    resolution: str = ""
    roles: dict[str, str] = {}
    suggestions: tuple[Suggestion, ...] = ()
    links: tuple[dict[str, str], ...] = ()  # {"kind": run | change | deployment | commit | log, "id", "text", "time"}


class IncidentAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that belongs to an incident: `key` is `number/fingerprint/starts`.

    `value` is the figure that it is about (the annotation `value`), as it was last said.
    """

    key: str
    incident: int
    fingerprint: str
    name: str
    category: str
    labels: dict[str, str]
    summary: str
    value: float | None = None
    starts: dt.datetime
    ends: dt.datetime | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a timeline. `id` is made of what caused it, so that the same cause writes it once."""

    id: str
    incident: int
    time: dt.datetime
    kind: str  # opened, alert, severity, page, acknowledged, role, note, check, message, run, resolved ...
    person: str = ""
    text: str
    data: dict[str, Any] = {}


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a phase's checklist that somebody ticked, or that was seen done: `key` is `number/phase/item`."""

    key: str
    incident: int
    phase: str
    item: str
    by: str
    time: dt.datetime
    note: str = ""


class ActionItem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that must change after an incident. It closes by a green run or somebody's attestation.

    `measure` is the line of the post-incident checklist that it serves: runbooks, prevention or monitoring.
    """

    id: str
    incident: int
    text: str
    owner: str
    due: dt.date
    created: dt.datetime
    measure: str = "prevention"
    procedure: str = ""  # the green run of which closes it
    closed: dt.datetime | None = None
    closed_by: str = ""  # a run's id, or a person
    note: str = ""


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """A regulator's deadline that runs: `key` is `number/rule`.

    `met` is when the report was sent, `reference` what the regulator calls it.
    """

    key: str
    incident: int
    rule: str
    title: str
    began: dt.datetime
    due: dt.datetime
    met: dt.datetime | None = None
    met_by: str = ""
    reference: str = ""
    warned: dt.datetime | None = None
