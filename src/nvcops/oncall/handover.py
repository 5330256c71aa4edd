"""What whoever takes over must know: what was, what is open, and who is on call until when."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence

import msgspec

from nvcops.core.alerts import Silence
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.incidents import Incident, IncidentState
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Page
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.oncall.paging import tell
from nvcops.oncall.reach import records_of
from nvcops.oncall.rotation import Shift, on_call, standing_overrides
from nvcops.oncall.texts import moment

# --- Facts ---

_LOOKED_BACK = dt.timedelta(days=7)
_LISTED_MAX = 200
_OVER = (IncidentState.RESOLVED, IncidentState.CLOSED)


class Week(msgspec.Struct, frozen=True, kw_only=True):
    """The shifts that run, and what the last seven days left behind."""

    shifts: tuple[Shift, ...] = ()
    pages: tuple[Page, ...] = ()
    incidents: tuple[Incident, ...] = ()
    silences: tuple[Silence, ...] = ()


@conduct(deadline="1 min", idempotent=True)
def week(target: Target, now: dt.datetime) -> Week:
    """Shifts, pages of the last week, incidents that are open, silences that hold."""
    with records_of(target).reading() as reading:
        overrides = standing_overrides(reading, now)
        return Week(
            shifts=tuple(on_call(target.manifest, overrides, now).values()),
            pages=tuple(reading.find(Page, opened__gt=now - _LOOKED_BACK, order="opened")),
            incidents=tuple(
                reading.find(
                    Incident,
                    state__in=[state for state in IncidentState if state not in _OVER],
                    order="number",
                    limit=_LISTED_MAX,
                )
            ),
            silences=tuple(reading.find(Silence, ends__gt=now, order="ends", limit=_LISTED_MAX)),
        )


# --- Rules ---

ON_CALL = Check("oncall.now", "On call", "`nvcops oncall who`")
PAGES = Check("oncall.pages", "Pages of the last week", "`nvcops incidents`; acknowledge what is open")
OPEN = Check("oncall.incidents", "Open incidents", "`nvcops incidents`; the commander hands them over in person")
SILENCED = Check("oncall.silences", "Silences", "")


def handover_findings(manifest: Manifest, seen: Week, at: dt.datetime) -> list[Finding]:
    """Who has what until when, what woke whom, what is still open, and what is silenced."""
    zone = manifest.platform.time_zone
    lines = [
        ON_CALL.finding(Verdict.OK, f"{shift.person} until {moment(shift.ends, zone)}", subject=shift.rotation)
        for shift in seen.shifts
    ]
    lines = lines or [ON_CALL.finding(Verdict.CRITICAL, "nobody")]
    lines.append(_pages(seen.pages))
    lines += [
        OPEN.finding(
            Verdict.WARNING,
            f"{one.title}: {one.state} since {moment(one.detected, zone)}, {one.acknowledged_by or 'nobody'} has it",
            subject=f"{one.severity} #{one.number}",
        )
        for one in seen.incidents
    ] or [OPEN.finding(Verdict.OK, "none")]
    held = [silence for silence in seen.silences if silence.starts <= at]
    lines += [
        SILENCED.finding(
            Verdict.OK,
            f"until {moment(one.ends, zone)} by {one.author}: {one.reason}",
            subject=", ".join(str(matcher) for matcher in one.matchers),
        )
        for one in held
    ]
    return lines


def _pages(pages: Sequence[Page]) -> Finding:
    if not pages:
        return PAGES.finding(Verdict.OK, "none")
    by_category = Counter(page.category.value for page in pages)
    said = ", ".join(f"{count} {category}" for category, count in by_category.items())
    late = sum(1 for page in pages if page.step > 0 or page.round > 0)
    observed = f"{said}; {late} of {len(pages)} escalated"
    unanswered = [page.summary for page in pages if not page.acknowledged and not page.resolved]
    if unanswered:
        return PAGES.finding(Verdict.WARNING, f"{observed}; not acknowledged: {'; '.join(unanswered[:5])}")
    return PAGES.finding(Verdict.OK, observed)


# --- Procedures ---


@procedure("oncall-handover", when="Mon 09:05", lock="handover", needs=["oncall"])
def oncall_handover(run: Run, target: Target) -> None:
    """Tell those who take over what is open, what was, what is silenced, and until when they are on call."""
    seen = run.read(week, target, run.started)
    findings = handover_findings(target.manifest, seen, run.started)
    people = sorted({shift.person for shift in seen.shifts})
    if people:
        lines = [": ".join(filter(None, (line.title, line.subject, line.observed))) for line in findings]
        title = f"hand over to {', '.join(people)}"
        run.step(title, hand_over, target, run.id, people, "\n".join(lines), run.started)
    run.conclude(findings)


@conduct(deadline="1 min", idempotent=True, attempts=3)
def hand_over(target: Target, cause: str, people: list[str], report: str, now: dt.datetime) -> int:
    """Write the report to each of them; how many can be told."""
    with records_of(target).changing() as desk:
        told = [
            tell(
                desk,
                manifest=target.manifest,
                to=name,
                subject=f"On call for {target.manifest.platform.title}: hand-over",
                body=report,
                purpose="handover",
                cause=cause,
                at=now,
            )
            for name in people
        ]
    return sum(told)
