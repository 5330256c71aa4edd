"""The monthly review of incidents, and the daily look at what was promised after them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.incidents import ActionItem, Clock, Event, Incident, IncidentState
from nvcops.core.manifest import Bound, Manifest
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Seconds
from nvcops.incidents import actions, clocks, figures, timeline
from nvcops.incidents.deadlines import postmortem_due
from nvcops.incidents.figures import Month
from nvcops.incidents.leading import needs_postmortem
from nvcops.incidents.traces import records_of

_BACK = dt.timedelta(days=100)
_MONTHS = 3
_DRILL_EVERY = Bound(warning=Seconds(40 * 86400), critical=Seconds(75 * 86400))

# --- Facts ---


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """What is not done yet: action items, regulators' clocks, post-mortems and incidents that are open."""

    items: tuple[ActionItem, ...]
    clocks: tuple[Clock, ...]
    postmortems: tuple[Incident, ...]
    open: tuple[Incident, ...]


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """The incidents of the last months, and when the last drill was."""

    incidents: tuple[Incident, ...]
    drilled: dt.datetime | None


@conduct(deadline="1 min", idempotent=True)
def owed(target: Target) -> Owed:
    """Read what was promised after incidents and is not done."""
    with records_of(target).reading() as reading:
        resolved = reading.find(Incident, state=IncidentState.RESOLVED, order="number", limit=500)
        missing = [
            one
            for one in resolved
            if needs_postmortem(reading, one) and not reading.count(Event, incident=one.number, kind="postmortem")
        ]
        return Owed(
            items=tuple(actions.open_items(reading)),
            clocks=tuple(clocks.running(reading)),
            postmortems=tuple(missing),
            open=tuple(timeline.active(reading)),
        )


@conduct(deadline="1 min", idempotent=True)
def past(target: Target, now: dt.datetime) -> Past:
    """Read the incidents of the last months."""
    with records_of(target).reading() as reading:
        found = figures.since(reading, now - _BACK)
        drills = reading.find(Incident, source="drill", order="-detected", limit=1)
    return Past(incidents=tuple(found), drilled=drills[0].detected if drills else None)


# --- Rules ---

FIGURES = Check("incident.figures", "Incidents of a month", "")
MTTA = Check("incident.mtta", "Mean time to acknowledge", "who was paged, and when? `nvcops oncall who`")
CLOCK = Check("incident.clock", "Regulator's deadline", "`nvcops incidents` shows the draft, and what it lacks")
POSTMORTEM = Check("incident.postmortem", "Post-mortem", "`nvcops postmortem N` writes one to be completed")
OPEN = Check("incident.open", "Open incident", "`nvcops incidents`")
DRILL = Check("incident.drill", "Last incident drill", "`nvcops run incident-drill`")


def month_findings(months: Sequence[Month], manifest: Manifest) -> list[Finding]:
    """The figures of the last months, and whether acknowledgement was in time on average in each."""
    lines = [FIGURES.finding(Verdict.OK, month.text, subject=month.month) for month in months[-2 * _MONTHS :]]
    within = manifest.alerts.acknowledge.critical
    bound = Bound(warning=Seconds(within * 0.8), critical=within)
    real = [month for month in months if not month.drills][-_MONTHS:]
    lines += [MTTA.at_most(Seconds(one.mtta_s), bound, subject=one.month) for one in real if one.mtta_s is not None]
    return lines or [FIGURES.finding(Verdict.OK, "no incident in the last months")]


def drill_finding(drilled: dt.datetime | None, now: dt.datetime) -> Finding:
    """How long ago the last drill was.

    >>> now = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    >>> [drill_finding(now - dt.timedelta(days=days), now).verdict.name for days in (30, 40, 75)]
    ['OK', 'WARNING', 'CRITICAL']
    """
    if drilled is None:
        return DRILL.finding(Verdict.WARNING, "there was none")
    return DRILL.at_most(Seconds(max((now - drilled).total_seconds(), 0.0)), _DRILL_EVERY)


def owed_findings(owed: Owed, manifest: Manifest, now: dt.datetime) -> list[Finding]:
    """What is overdue, what soon will be, and what is open."""
    zone = ZoneInfo(manifest.platform.time_zone)
    lines = actions.item_findings(owed.items, now.astimezone(zone).date())
    for clock in owed.clocks:
        half = clock.began + (clock.due - clock.began) / 2
        verdict = Verdict.CRITICAL if now >= clock.due else Verdict.WARNING if now >= half else Verdict.OK
        lines.append(
            CLOCK.finding(verdict, clocks.in_words(clock, now, manifest), subject=f"incident {clock.incident}")
        )
    for one in owed.postmortems:
        due = postmortem_due(one, manifest)
        late = due is not None and now >= due
        said = f"{one.title}: due {due:%Y-%m-%d}" if due else one.title
        verdict = Verdict.CRITICAL if late else Verdict.WARNING
        lines.append(POSTMORTEM.finding(verdict, said, subject=f"incident {one.number}"))
    for one in owed.open:
        said = f"{one.severity} {one.state}: {one.title}"
        verdict = Verdict.CRITICAL if one.severity.value in ("P0", "P1") else Verdict.WARNING
        lines.append(OPEN.finding(verdict, said, subject=f"incident {one.number}"))
    return lines


# --- Procedures ---


@procedure("incident-review", when="fourth Mon 10:00", needs=("oncall",))
def incident_review(run: Run, target: Target) -> None:
    """Review the incidents of the month: how quickly they were detected, acknowledged, mitigated and resolved.

    And what is still owed after them: action items, post-mortems, regulators' deadlines, drills.
    """
    manifest = target.manifest
    before = run.read(past, target, run.started)
    months = figures.monthly(before.incidents, ZoneInfo(manifest.platform.time_zone))
    left = run.read(owed, target)
    lines = [*month_findings(months, manifest), drill_finding(before.drilled, run.started)]
    run.conclude([*lines, *owed_findings(left, manifest, run.started)])


@procedure("incident-follow-up", when="weekdays 08:45", needs=("oncall",))
def incident_follow_up(run: Run, target: Target) -> None:
    """Look at what is owed after incidents: open action items, post-mortems, and regulators' deadlines."""
    run.conclude(owed_findings(run.read(owed, target), target.manifest, run.started))
