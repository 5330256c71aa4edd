"""Incident drills: a real fault in a lab, a harmless alert in production; and a score of what came of it.

Everything that a drill brings about is known as a drill from its first moment: it was announced to the records before,
or, of the harmless one, its only alert says so.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

import msgspec

from nvcops.changes import carrying
from nvcops.core.changes import ChangeKind
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NvcopsError, StepFailed, UsageError
from nvcops.core.incidents import Incident, Severity
from nvcops.core.manifest import Bound, Manifest
from nvcops.core.oncall import Message
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Seconds
from nvcops.incidents import announced, timeline
from nvcops.incidents.severity import worse
from nvcops.incidents.traces import records_of

SYNTHETIC, STOP = "synthetic", "stop"
KINDS = (SYNTHETIC, STOP, "crash", "freeze", "partition", "postmaster")
_ANNOUNCED = dt.timedelta(minutes=45)
_DETECTED_S, _CONTAINED_S = 180.0, 900.0
_SLACK_S = 30.0
_LOOK_S = 0.25
_PAGES = ("page", "escalation")

# --- Facts ---


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a drill may begin: what goes on, and what is missing for it."""

    going_on: tuple[str, ...] = ()
    trouble: str = ""


class Began(msgspec.Struct, frozen=True):
    """When the fault was there; None: a rehearsal."""

    time: dt.datetime | None = None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the response came; None: not within its time. `paged` is when the first page was sent."""

    number: int = 0
    severity: str = ""
    detected: dt.datetime | None = None
    paged: dt.datetime | None = None
    acknowledged: dt.datetime | None = None
    acknowledged_by: str = ""
    contained: dt.datetime | None = None
    trouble: str = ""


def ready(target: Target, kind: str, part: str) -> Ready:
    """Look whether anything serious goes on, and whether the drill can be carried out."""
    try:
        with records_of(target).reading() as reading:
            going = [one for one in timeline.active(reading) if worse(one.severity, Severity.P2)]
    except NvcopsError as error:
        return Ready(trouble=error.sentence)
    titles = tuple(f"{one.severity} incident {one.number}: {one.title}" for one in going)
    return Ready(going_on=titles, trouble=_missing(target, kind, part))


def _missing(target: Target, kind: str, part: str) -> str:
    control = target.manifest.control
    if kind == SYNTHETIC:
        return "" if target.alarm else "nothing takes alerts in here"
    if not part:
        return f"which part? {kind} is done to one: --part NAME"
    needed = {"stop": (control.stop, control.start)}.get(kind, (control.break_host, control.mend_host))
    return "" if all(needed) else f"[control] does not say how to do {kind}, and how to undo it"


@conduct(deadline="5 min", idempotent=True)
def detection(target: Target, began: dt.datetime) -> Progress:
    """Wait until the fault is an incident, and somebody was sent a page."""

    def look() -> Progress:
        return _progress(target, began, 0)

    return _until(look, lambda seen: seen.paged is not None, _DETECTED_S)


@conduct(deadline="20 min", idempotent=True)
def acknowledgement(target: Target, began: dt.datetime, number: int) -> Progress:
    """Wait until somebody acknowledges it, as long as the alert's category gives them."""
    within = target.manifest.alerts.acknowledge.critical
    return _until(
        lambda: _progress(target, began, number),
        lambda seen: seen.acknowledged is not None,
        min(within + _SLACK_S, 900),
    )


@conduct(deadline="20 min", idempotent=True)
def containment(target: Target, began: dt.datetime, number: int) -> Progress:
    """Wait until its effect is over."""
    return _until(lambda: _progress(target, began, number), lambda seen: seen.contained is not None, _CONTAINED_S)


def _until(look: Callable[[], Progress], enough: Callable[[Progress], bool], within_s: float) -> Progress:
    end = time.monotonic() + within_s
    seen = look()
    while not enough(seen) and not seen.trouble and time.monotonic() < end:
        time.sleep(_LOOK_S)
        seen = look()
    return seen


def _progress(target: Target, began: dt.datetime, number: int) -> Progress:
    """The drill's incident as it stands: of that number, else the first opened as a drill since it began."""
    try:
        with records_of(target).reading() as reading:
            if number:
                found = [timeline.the(reading, number)]
            else:
                found = reading.find(Incident, source=announced.DRILL, detected__gte=began, order="number", limit=1)
            if not found:
                return Progress()
            mine = found[0]
            messages = reading.find(Message, incident=mine.number, purpose__in=list(_PAGES), limit=100)
            sent = [message.sent for message in messages if message.sent]
    except NvcopsError as error:
        return Progress(trouble=error.sentence)
    return Progress(
        number=mine.number,
        severity=mine.severity.value,
        detected=mine.detected,
        paged=min(sent, default=None),
        acknowledged=mine.acknowledged,
        acknowledged_by=mine.acknowledged_by,
        contained=mine.mitigated,
    )


# --- Rules ---

READY = Check("drill.ready", "Drill", "the lines say what must be put right first")
DETECTED = Check("drill.detected", "Detected", "does `nvcops serve` run? which probe should have seen it?")
PAGED = Check("drill.paged", "First page sent", "`nvcops oncall who`; the outbox says what failed")
ACKNOWLEDGED = Check("drill.acknowledged", "Acknowledged", "is the roster right? can everybody be reached?")
CONTAINED = Check("drill.contained", "Contained", "which step of the runbook took so long?")
MENDED = Check("drill.mended", "Fault undone", "undo it by hand: [control] says how")
_DETECTION = Bound(warning=Seconds(30), critical=Seconds(300))
_PAGE = Bound(warning=Seconds(60), critical=Seconds(300))
_CONTAINMENT = Bound(warning=Seconds(3600), critical=Seconds(4 * 3600))


def score(began: dt.datetime, seen: Progress, manifest: Manifest) -> list[Finding]:
    """How quickly each thing happened, counted from the fault; acknowledgement from the detection, as everywhere."""
    subject = f"incident {seen.number}" if seen.number else ""
    if seen.trouble:
        return [check.unknown(seen.trouble) for check in (DETECTED, PAGED, ACKNOWLEDGED, CONTAINED)]
    within = manifest.alerts.acknowledge.critical
    acknowledge = Bound(warning=Seconds(within * 0.8), critical=within)
    return [
        _scored(DETECTED, began, seen.detected, _DETECTION, subject, "nobody noticed it"),
        _scored(PAGED, began, seen.paged, _PAGE, subject, "nobody was sent a page"),
        _scored(ACKNOWLEDGED, seen.detected, seen.acknowledged, acknowledge, subject, "nobody acknowledged it"),
        _scored(CONTAINED, began, seen.contained, _CONTAINMENT, subject, "its effect did not end"),
    ]


def _scored(
    check: Check, start: dt.datetime | None, end: dt.datetime | None, bound: Bound[Seconds], subject: str, never: str
) -> Finding:
    if start is None or end is None:
        return check.finding(Verdict.CRITICAL, never, subject=subject, limit=f"< {bound.critical}")
    return check.at_most(Seconds(max((end - start).total_seconds(), 0.0)), bound, subject=subject)


def words(kind: str, part: str) -> str:
    """What an approver reads."""
    if kind == SYNTHETIC:
        return "A drill: one harmless alert is said; who is on call is paged; no part of the platform is touched"
    return f"A drill: {kind} of {part}; it is undone at its end. Customers may feel it"


# --- Procedures ---


@conduct(deadline="30 s", idempotent=True, attempts=3)
def announce(target: Target, run: str, person: str) -> None:
    """Say to the records that what comes now is a drill."""
    now = target.host.now()
    with records_of(target).changing() as desk:
        announced.announce_drill(desk, run, now, now + _ANNOUNCED, person)


@conduct(deadline="2 min", idempotent=True)
def inject(target: Target, kind: str, part: str, run: str) -> Began:
    """Do what the drill is about."""
    began = target.host.now()
    if kind == SYNTHETIC:
        _say(target, run, over=False)
    elif kind == STOP:
        target.control.stop(part)
    else:
        target.control.break_host(kind, part)
    return Began(began)


@conduct(deadline="3 min", idempotent=True, attempts=2)
def mend(target: Target, kind: str, part: str, run: str) -> None:
    """Undo it."""
    if kind == SYNTHETIC:
        _say(target, run, over=True)
    elif kind == STOP:
        target.control.start(part)
    else:
        target.control.mend_host(part)


def _say(target: Target, run: str, *, over: bool) -> None:
    if target.alarm is None:
        raise NvcopsError("nothing takes alerts in here", hint="run it where `nvcops serve` keeps its state")
    labels = {"alertname": "IncidentDrill", "category": "critical", "drill": "true", "run": run}
    target.alarm.say(labels, {"summary": "This is a drill: acknowledge it, then look at its checklist"}, over=over)


@conduct(deadline="1 min", idempotent=True, attempts=3)
def enter_figures(target: Target, run: str, began: dt.datetime, seen: Progress) -> None:
    """Write the drill's figures into its incident and the evidence, and say that the drill is over."""
    now = target.host.now()
    times = {"detected": seen.detected, "paged": seen.paged, "contained": seen.contained}
    seconds = {name: round((time - began).total_seconds(), 3) for name, time in times.items() if time}
    if seen.acknowledged and seen.detected:
        seconds["acknowledged"] = round((seen.acknowledged - seen.detected).total_seconds(), 3)
    with records_of(target).changing() as desk:
        announced.end_drill(desk, run, now)
        if not seen.number:
            return
        text = ", ".join(f"{name} after {Seconds(value)}" for name, value in seconds.items()) or "nothing was seen"
        data = {"run": run, "seconds": seconds}
        cause = timeline.digest(run)
        timeline.enter(desk, seen.number, "drill", text, manifest=target.manifest, at=now, cause=cause, data=data)
        incident = timeline.the(desk, seen.number)
        if incident.began > began:  # the fault is older than its first sign
            timeline.change(desk, incident, began=began)


@procedure("incident-drill", when="third Mon 14:00", lock="restore", approval=True, maintenance=True, needs=("oncall",))
def incident_drill(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, kind: str = SYNTHETIC, part: str = ""
) -> None:
    """Drill an incident: bring a fault about, and score detection, page, acknowledgement and containment.

    In production one harmless alert is said, after a second person approved it; in a lab a part is really stopped or
    its host broken. It is not begun while a P0 or P1 goes on, it is undone whatever happens, and its figures are
    counted apart from real ones.

    Args:
        kind: what is done: synthetic, stop, crash, freeze, partition or postmaster
        part: to which part of platform.toml, unless synthetic
    """
    if kind not in KINDS:
        raise UsageError(f"there is no drill of the kind {kind!r}", hint=f"one of: {', '.join(KINDS)}")
    before = run.read(ready, target, kind, part)
    if before.trouble or before.going_on:
        run.conclude([READY.unknown(f"not begun: {before.trouble or '; '.join(before.going_on)}")])
        return
    change = carrying.Carried(0)
    if target.manifest.incidents.change_for_drills:
        wish = carrying.Wish(kind=ChangeKind.MAINTENANCE, title=words(kind, part), asks=True)
        change = carrying.under(run, target, wish, "drill")
    if kind != SYNTHETIC:  # its one alert says itself that it is a drill's; what is real meanwhile stays real
        run.step("announce the drill", announce, target, run.id, change.approved)
    done, troubles = _carried_out(run, target, kind, part)
    carrying.done(run, target, change.number, carrying.ended_by(troubles))
    if done is None:
        run.conclude(troubles or [READY.finding(Verdict.OK, words(kind, part))], summary="nothing was done")
        return
    began, seen = done
    run.step("enter the figures", enter_figures, target, run.id, began, seen)
    run.conclude([*score(began, seen, target.manifest), *troubles])


def _carried_out(
    run: Run, target: Target, kind: str, part: str
) -> tuple[tuple[dt.datetime, Progress] | None, list[Finding]]:
    """Bring the fault about, see it through, and undo it; None: nothing was done. And what could not be undone."""
    troubles: list[Finding] = []
    what = f"{kind} of {part}" if part else "say a harmless alert"
    seen, began = Progress(), None
    try:
        injected = run.step(what, inject, target, kind, part, run.id)
        began = injected.time if injected else None
    except StepFailed as error:
        troubles.append(READY.finding(Verdict.CRITICAL, error.sentence, subject=part))
    if began is not None:
        seen = run.read(detection, target, began)
        if seen.number:
            seen = run.read(acknowledgement, target, began, seen.number)
    try:
        run.step(f"undo it: {what}", mend, target, kind, part, run.id)
    except StepFailed as error:
        troubles.append(MENDED.finding(Verdict.CRITICAL, error.sentence, subject=part))
    if began is None:
        return None, troubles
    return (began, run.read(containment, target, began, seen.number) if seen.number else seen), troubles
