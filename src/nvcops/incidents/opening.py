"""How an incident opens, grows and is seen to be over: from what alerts say, or because somebody says so.

What its people do in it stands in `leading`; both are one door, this module.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence

from nvcops.core.alerts import Category, Notice
from nvcops.core.errors import UsageError
from nvcops.core.incidents import Incident, IncidentAlert, IncidentState, Severity, Signal
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk
from nvcops.incidents import clocks, correlation, messages, timeline
from nvcops.incidents.announced import DRILL, of_a_drill
from nvcops.incidents.cause import from_alerts
from nvcops.incidents.correlation import parts
from nvcops.incidents.leading import (
    acknowledge,
    assign,
    close,
    investigate,
    mitigate,
    note,
    override,
    page_people,
    personal_data,
    resolve,
    tell_pages,
)
from nvcops.incidents.severity import Sign, again, alert_source, infer, reason_of, signal_of, signs_of, worse
from nvcops.incidents.timeline import text_of

__all__ = [
    "acknowledge",
    "assign",
    "close",
    "infer_again",
    "investigate",
    "mitigate",
    "note",
    "of_notice",
    "open_by_hand",
    "override",
    "parts",
    "personal_data",
    "resolve",
]

_LINES_MAX = 20  # lines of the timeline that one notice writes; more alerts are one line
_SECURITY = {Signal.BREACH, Signal.SECURITY}

# --- Rules ---


def title_of(alerts: Sequence[IncidentAlert], signs: Sequence[Sign]) -> str:
    """What an incident is called: the summary of the alert whose sign is the worst, the earliest of several."""
    order, grades = list(Severity), {sign.source: reason_of(sign).severity for sign in signs}
    worst = min(alerts, key=lambda alert: (order.index(grades[alert_source(alert.fingerprint)]), alert.starts))
    return (worst.summary or worst.name)[:200]


def in_words(alerts: Iterable[IncidentAlert]) -> list[str]:
    """A line for each alert; one for all of them where there are too many to read."""
    lines = [f"{alert.name}: {alert.summary}" if alert.summary != alert.name else alert.name for alert in alerts]
    if len(lines) <= _LINES_MAX:
        return lines
    return [*lines[: _LINES_MAX - 1], f"and {len(lines) - _LINES_MAX + 1:,} more"]


# --- Procedures ---


def of_notice(desk: Desk, notice: Notice, *, manifest: Manifest, at: dt.datetime) -> Incident | None:
    """What a notice means for incidents: opens one, joins or updates one, or notes that one's alerts are over.

    The notice is of one incident at most: one of the `parts` of what a group says.
    None: its alerts are no incident (at most P3, and nothing is going on that they belong to).
    """
    found = correlation.belongs(desk, notice)
    if found is None:
        return _opened(desk, notice, manifest=manifest, at=at)
    incident = found.incident
    changed = correlation.link(desk, incident.number, notice)
    if incident.state not in timeline.ACTIVE:
        _say(desk, incident, changed, manifest=manifest, at=at)
        return incident
    if found.why:
        many = len(notice.firing)
        text = f"{many:,} alert{' joins' if many == 1 else 's join'}: {found.why}"
        cause = timeline.digest(notice.group.key, at.isoformat())
        timeline.enter(desk, incident.number, "joined", text, manifest=manifest, at=at, cause=cause)
    _say(desk, incident, changed, manifest=manifest, at=at)
    return _updated(desk, incident, changed, manifest=manifest, at=at)


def _opened(desk: Desk, notice: Notice, *, manifest: Manifest, at: dt.datetime) -> Incident | None:
    number = desk.next_number(Incident)
    rows = [correlation.row_of(number, alert) for alert in notice.firing]
    signs = signs_of(rows, manifest)
    severity, reasons = infer(signs)
    if not rows or severity is Severity.P3:
        return None
    incident = Incident(
        number=number,
        title=title_of(rows, signs),
        state=IncidentState.DETECTED,
        severity=severity,
        inferred=severity,
        reasons=reasons,
        source=DRILL if of_a_drill(desk, notice.firing, at) else "alerts",
        services=correlation.services_of(notice.firing),
        security=any(signal_of(alert.labels, manifest) in _SECURITY for alert in notice.firing),
        personal_data=any(alert.labels.get("personal_data") == "true" for alert in notice.firing),
        began=min([at, *(alert.starts for alert in notice.firing)]),
        detected=min([at, *(alert.noticed for alert in notice.firing)]),
        suggestions=from_alerts(rows, manifest),
    )
    desk.put(incident)
    changed = correlation.link(desk, number, notice)
    _enter_opening(desk, incident, manifest=manifest, at=at, person="")
    _say(desk, incident, changed, manifest=manifest, at=at)
    messages.inform(desk, incident, manifest=manifest, at=at)
    return incident


def _enter_opening(desk: Desk, incident: Incident, *, manifest: Manifest, at: dt.datetime, person: str) -> None:
    said = [f"{reason.severity}: {reason.rule}: {reason.seen}" for reason in incident.reasons[:_LINES_MAX]]
    text = "; ".join([f"{incident.severity} {incident.title}", *said])
    data = {
        "severity": incident.severity,
        "source": incident.source,
        "reasons": [
            {"rule": reason.rule, "severity": reason.severity, "from": reason.source} for reason in incident.reasons
        ][:_LINES_MAX],
        "began": incident.began.isoformat(),
        "detected": incident.detected.isoformat(),
    }
    timeline.enter(desk, incident.number, "opened", text, manifest=manifest, at=at, person=person, data=data)


def _say(desk: Desk, incident: Incident, changed: correlation.Linked, *, manifest: Manifest, at: dt.datetime) -> None:
    """The lines about alerts that began and ended."""
    for kind, alerts in (("alert", changed.began), ("alert-over", changed.ended)):
        for number, line in enumerate(in_words(alerts)):
            cause = timeline.digest(*(alert.key for alert in alerts), str(number))
            timeline.enter(desk, incident.number, kind, line, manifest=manifest, at=at, cause=cause, evident=False)


def _updated(
    desk: Desk, incident: Incident, changed: correlation.Linked, *, manifest: Manifest, at: dt.datetime
) -> Incident:
    """The incident after its alerts changed: severity, services, and whether anything is left of it."""
    firing = changed.firing
    services = {alert.labels["service"] for alert in firing if alert.labels.get("service")}
    new = tuple(sorted({*incident.services, *services}))
    if new != incident.services:
        incident = timeline.change(desk, incident, services=new)
    if not correlation.going_on(changed.alerts):
        return _quiet(desk, incident, changed.alerts, manifest=manifest, at=at)
    if incident.state is IncidentState.MITIGATED and changed.began:
        back = IncidentState.INVESTIGATING if incident.acknowledged else IncidentState.DETECTED
        cause = timeline.digest(*(alert.key for alert in changed.began))
        text = "it is back: alerts fire again"
        timeline.enter(desk, incident.number, "back", text, manifest=manifest, at=at, cause=cause)
        incident = timeline.change(desk, incident, state=back, mitigated=None)
    looked_at = {alert_source(alert.fingerprint) for alert in changed.alerts}
    looked_at |= {f"service:{service}" for service in incident.services}
    signs = signs_of(firing, manifest)
    return infer_again(desk, incident.number, signs, looked_at, manifest=manifest, at=at)


def _quiet(
    desk: Desk, incident: Incident, alerts: Sequence[IncidentAlert], *, manifest: Manifest, at: dt.datetime
) -> Incident:
    """Nothing fires any more: its effect is over, which is not yet its resolution. Its severity stays what it was."""
    if incident.state is IncidentState.MITIGATED or not alerts:
        return incident
    ended = max(alert.ends for alert in alerts if alert.ends)
    cause = f"{ended:%Y%m%dT%H%M%S.%f}"
    left = "every alert is over" if all(alert.ends for alert in alerts) else "only the budgets' slow alerts still fire"
    text = f"{left}; a person says what resolved it"
    timeline.enter(desk, incident.number, "mitigated", text, manifest=manifest, at=at, cause=cause)
    return timeline.change(desk, incident, state=IncidentState.MITIGATED, mitigated=min(ended, at))


def infer_again(
    desk: Desk,
    number: int,
    signs: Sequence[Sign],
    looked_at: Collection[str],
    *,
    manifest: Manifest,
    at: dt.datetime,
) -> Incident:
    """Infer the severity again from the signs that there are now; `looked_at` are the sources that were looked at.

    A milder severity says which reasons are over. What a person said holds, and the line says that data say otherwise.
    """
    incident = timeline.the(desk, number)
    inferred = again(incident.reasons, signs, looked_at)
    if (inferred.severity, inferred.reasons) == (incident.inferred, incident.reasons):
        return incident
    before = incident
    held = bool(incident.overridden_by)
    severity = incident.severity if held else inferred.severity
    incident = timeline.change(desk, incident, severity=severity, inferred=inferred.severity, reasons=inferred.reasons)
    if inferred.severity is before.inferred:
        return incident
    worst = inferred.reasons[0] if inferred.reasons else None
    why = f"{worst.rule}: {worst.seen}" if worst else "nothing is left of it"
    if worse(before.inferred, inferred.severity):
        gone = "; ".join(f"{reason.rule} ({reason.source})" for reason in inferred.over) or why
        why = f"over: {gone}"
    text = f"data say {inferred.severity} after {before.inferred}: {why}"
    text += f"; {incident.overridden_by} said {severity}, which holds" if held else ""
    data = {"from": before.inferred, "to": inferred.severity, "holds": severity}
    cause = f"{inferred.severity}/{at:%Y%m%dT%H%M%S.%f}"
    timeline.enter(desk, number, "severity", text, manifest=manifest, at=at, cause=cause, data=data)
    tell_pages(desk, incident, text, manifest=manifest, at=at)
    if worse(severity, before.severity):
        messages.inform(desk, incident, manifest=manifest, at=at)
    return incident


_PAGE_AS = {
    Severity.P0: Category.CRITICAL,
    Severity.P1: Category.HIGH,
    Severity.P2: Category.MEDIUM,
    Severity.P3: Category.LOW,
}


def open_by_hand(  # noqa: PLR0913 - what a person says of an incident
    desk: Desk,
    *,
    manifest: Manifest,
    title: str,
    person: str,
    at: dt.datetime,
    severity: Severity = Severity.P2,
    reason: str = "",
    services: Sequence[str] = (),
    began: dt.datetime | None = None,
    security: bool = False,
    personal: bool = False,
    source: str = "person",
) -> Incident:
    """Open an incident because a person says so, and page who is on call.

    Raises:
        UsageError: it has no title, a service is unknown, or it began in the future.
    """
    title = text_of(title, "an incident's title", most=200)
    known = {service.name for service in manifest.services}
    if unknown := sorted(set(services) - known):
        raise UsageError(f"there is no service {unknown[0]!r}", hint=f"there: {', '.join(sorted(known)) or 'none'}")
    if began and began > at:
        raise UsageError(f"it began at {began:%Y-%m-%d %H:%M %Z}, which is yet to come", hint="leave it out: now")
    incident = Incident(
        number=desk.next_number(Incident),
        title=title,
        state=IncidentState.DETECTED,
        severity=severity,
        inferred=Severity.P3,
        overridden_by=person,
        override_reason=reason or "said when it was opened",
        source=source,
        services=tuple(sorted(set(services))),
        security=security,
        personal_data=personal,
        began=began or at,
        detected=at,
    )
    desk.put(incident)
    _enter_opening(desk, incident, manifest=manifest, at=at, person=person)
    if personal:
        number, why = incident.number, reason or title
        clocks.aware_of_personal_data(desk, number, manifest=manifest, person=person, at=at, reason=why[:500])
    page_people(desk, incident, _PAGE_AS[severity], manifest=manifest, at=at)
    messages.inform(desk, incident, manifest=manifest, at=at)
    return incident
