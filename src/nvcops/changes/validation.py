"""A change is successful when the objectives held after it: watched for the stated time, then said; no data is no pass.

After the change, each objective of what it touches is compared with what it allows and with how it was before. What got
worse, by more than chance, ends the change as failed, and so does an incident that began under it. Where nothing was
counted the change stays open, until there are figures or a person says how it went.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence

import msgspec

from nvcops.alerts.indicators import share_of
from nvcops.alerts.readings import Readings
from nvcops.changes import duties, lifecycle
from nvcops.changes.executing import Ended, conclude
from nvcops.changes.requesting import needs_review
from nvcops.core import schedule
from nvcops.core.changes import Change, ChangeCategory, ChangeState
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NvcopsError, UsageError
from nvcops.core.incidents import Incident, Severity
from nvcops.core.manifest import Manifest, ObjectiveEntry
from nvcops.core.procedures import procedure
from nvcops.core.records import Desk, Reading, Records
from nvcops.core.runs import Run, RunRecord, RunState, conduct
from nvcops.core.slo import NOTHING, Events, burn_rate
from nvcops.core.target import Target
from nvcops.incidents import timeline

_NEXT = "nvcops changes show NUMBER, then nvcops changes close"
VALIDATED = Check("changes.validated", "Objectives after a change", _NEXT)
STANDING = Check("changes.standing", "Changes that are carried out", _NEXT)
CONSENT = Check("changes.consent", "Emergencies approved and reviewed", "nvcops changes approve, nvcops changes review")
NONE = Check("changes.open", "Open changes", "")
_CHANCE = 0.01  # of calling something worse that is as it was
_BEFORE_MIN = dt.timedelta(minutes=30)
_INCIDENTS_MAX = 1_000
_GRAVE = (Severity.P0, Severity.P1, Severity.P2)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """An objective before and after a change; `why` nothing is known."""

    objective: str
    target: float
    before: Events = NOTHING
    after: Events = NOTHING
    events_min: int = 1
    why: str = ""


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """A change that is open: its run's state, its objectives, the incidents that began under it, and what is due."""

    change: Change
    at: dt.datetime
    run: RunState | None = None
    verdict: Verdict | None = None
    error: str = ""
    held: tuple[Held, ...] = ()
    incidents: tuple[int, ...] = ()


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a change; `state` None: it stays as it is."""

    state: ChangeState | None
    verdict: Verdict
    why: str


# --- Rules ---


def judge(watched: Watched) -> Judged:
    """What becomes of a change that is being carried out, or whose objectives are watched."""
    if watched.change.state is ChangeState.EXECUTING:
        return _of_run(watched)
    return _of_objectives(watched)


def _of_run(watched: Watched) -> Judged:
    """A run that ended without saying how the change did: it says so by its own end."""
    if watched.run is None:
        return Judged(state=None, verdict=Verdict.UNKNOWN, why=f"how its run does is not known: {watched.error}")
    if not watched.run.ended:
        return Judged(state=None, verdict=Verdict.OK, why=f"its run is {watched.run}")
    good = watched.run is RunState.CONCLUDED and watched.verdict in (Verdict.OK, Verdict.WARNING)
    said = watched.error or (f"verdict {watched.verdict.name}" if watched.verdict is not None else "no verdict")
    if good:
        return Judged(state=ChangeState.VALIDATING, verdict=Verdict.OK, why="its run concluded")
    return Judged(state=ChangeState.FAILED, verdict=Verdict.WARNING, why=f"its run was {watched.run}: {said}")


def _of_objectives(watched: Watched) -> Judged:
    """Failed as soon as something is worse by more than chance; successful when the time is over and all is known."""
    if watched.incidents:
        numbers = ", ".join(map(str, watched.incidents))
        return Judged(state=ChangeState.FAILED, verdict=Verdict.CRITICAL, why=f"incident {numbers} began under it")
    worse = [said for held in watched.held if (said := worsened(held))]
    if worse:
        return Judged(state=ChangeState.FAILED, verdict=Verdict.CRITICAL, why="; ".join(worse))
    until = watched.change.validate_until
    if until is not None and watched.at < until:
        return Judged(state=None, verdict=Verdict.OK, why=f"watched until {until:%Y-%m-%d %H:%M:%S %Z}")
    unknown = [f"{held.objective}: {why}" for held in watched.held if (why := unseen(held))]
    if unknown or not watched.held:
        why = "; ".join(unknown) or "it touches nothing that has an objective"
        return Judged(state=None, verdict=Verdict.UNKNOWN, why=f"nobody knows how it did: {why}")
    return Judged(state=ChangeState.SUCCESSFUL, verdict=Verdict.OK, why="; ".join(map(told, watched.held)))


def unseen(held: Held) -> str:
    """Why nothing can be said of an objective; empty where it can."""
    if held.why:
        return held.why
    if held.after.total < held.events_min:
        return f"{held.after.total:.0f} events were counted, {held.events_min} are needed"
    return ""


def worsened(held: Held) -> str:
    """How an objective got worse than it was and than it allows, by more than chance; empty where it did not.

    >>> good, bad = Events(10_000, 5), Events(10_000, 60)
    >>> worsened(Held(objective="errors", target=0.999, before=good, after=bad))
    'errors: 60 of 10000 were bad after it, 5 of 10000 before; 6 times what is allowed'
    >>> worsened(Held(objective="errors", target=0.999, before=bad, after=bad))
    ''
    >>> worsened(Held(objective="errors", target=0.999, before=good, after=Events(1_000, 3)))  # that may be chance
    ''
    """
    rate = burn_rate(held.target, held.after)
    if unseen(held) or rate is None or rate <= 1:
        return ""
    usual = max(1 - held.target, held.before.bad_share or 0.0)
    if tail(held.after.bad, held.after.total, usual) >= _CHANCE:
        return ""
    after, before = held.after, held.before
    return (
        f"{held.objective}: {after.bad:.0f} of {after.total:.0f} were bad after it, {before.bad:.0f} of"
        f" {before.total:.0f} before; {rate:.3g} times what is allowed"
    )


def told(held: Held) -> str:
    """An objective in a sentence."""
    rate = burn_rate(held.target, held.after)
    return f"{held.objective}: burn rate {rate:.2g} after it" if rate is not None else f"{held.objective}: nothing"


def tail(bad: float, total: float, share: float) -> float:
    """How likely so many bad ones or more are, of so many, when each is bad with that chance (binomial).

    >>> round(tail(3, 10, 0.1), 4), tail(0, 10, 0.1), round(tail(10, 10, 0.5), 6), tail(1, 10, 0.0)
    (0.0702, 1.0, 0.000977, 0.0)
    """
    count, least = round(total), min(math.ceil(bad), round(total))
    if least <= 0 or share >= 1:
        return 1.0
    if share <= 0:
        return 0.0
    term = math.exp(
        math.lgamma(count + 1)
        - math.lgamma(least + 1)
        - math.lgamma(count - least + 1)
        + least * math.log(share)
        + (count - least) * math.log1p(-share)
    )
    odds, summed = share / (1 - share), 0.0
    for number in range(least, count + 1):
        summed += term
        term *= (count - number) / (number + 1) * odds
        if term < summed * 1e-12:
            break
    return min(summed, 1.0)


def consent_findings(changes: Sequence[Change], at: dt.datetime) -> list[Finding]:
    """The emergencies that nobody approved, and what nobody has looked back at."""
    found = []
    for change in changes:
        late = change.consent_until is not None and at >= change.consent_until
        if change.category is ChangeCategory.EMERGENCY and change.began and not change.approved_by:
            verdict = Verdict.CRITICAL if late else Verdict.WARNING
            until = f" until {change.consent_until:%Y-%m-%d %H:%M %Z}" if change.consent_until else ""
            said = f"carried out by {change.executor} and approved by nobody{until}"
            found.append(CONSENT.finding(verdict, said, subject=change.name))
        elif needs_review(change):
            found.append(
                CONSENT.finding(Verdict.WARNING, f"{change.title}: nobody reviewed it yet", subject=change.name)
            )
    return found


def finding_of(watched: Watched, judged: Judged) -> Finding:
    """A line of the report."""
    check = STANDING if watched.change.state is ChangeState.EXECUTING else VALIDATED
    became = f"{judged.state}: " if judged.state else ""
    return check.finding(judged.verdict, f"{became}{judged.why}", subject=watched.change.name)


# --- Facts ---


@conduct(deadline="2 min", idempotent=True)
def open_changes(target: Target) -> list[Watched]:
    """Look at the changes that are being carried out or watched, at their runs, objectives and incidents."""
    with _records(target).reading() as reading:
        states = [ChangeState.EXECUTING, ChangeState.VALIDATING]
        found = reading.find(Change, state__in=states, order="number", limit=lifecycle.OPEN_MAX)
        at = schedule.now()
        begun = {change.number: incidents_of(reading, change, at) for change in found}
    return [_watched(target, change, at, begun[change.number]) for change in found]


@conduct(deadline="1 min", idempotent=True)
def special(target: Target) -> list[Change]:
    """Look for emergencies, and for changes for which the glass was broken."""
    with _records(target).reading() as reading:
        newest = reading.find(Change, order="-number", limit=lifecycle.OPEN_MAX)
    return [change for change in newest if change.category is ChangeCategory.EMERGENCY or change.break_glass]


def incidents_of(reading: Reading, change: Change, at: dt.datetime) -> tuple[int, ...]:
    """The grave incidents that began after a change did, before its validation ends, on a service that it touches."""
    if change.began is None:
        return ()
    found = reading.find(Incident, detected__gte=change.began, limit=_INCIDENTS_MAX)
    end = min(change.validate_until or at, at)
    return tuple(
        incident.number
        for incident in found
        if incident.source != "drill"
        and incident.severity in _GRAVE
        and change.began <= incident.began <= end
        and (not incident.services or not change.services or set(incident.services) & set(change.services))
    )


def _watched(target: Target, change: Change, at: dt.datetime, incidents: tuple[int, ...]) -> Watched:
    run, why = _run_of(target, change)
    held = _held(target, change, at) if change.state is ChangeState.VALIDATING else ()
    return Watched(
        change=change,
        at=at,
        run=run.state if run else None,
        verdict=run.verdict if run else None,
        error=run.error if run else why,
        held=held,
        incidents=incidents,
    )


def _run_of(target: Target, change: Change) -> tuple[RunRecord | None, str]:
    """The run that carries a change out; why it is not known."""
    if target.runs is None or not change.runs:
        return None, "no run is known"
    try:
        return target.runs.run(change.runs[-1]), ""
    except NvcopsError as error:
        return None, error.sentence


def _held(target: Target, change: Change, at: dt.datetime) -> tuple[Held, ...]:
    """Each objective of what the change touches, as long before it as it is watched after it."""
    done = change.done or at
    end = min(at, change.validate_until or at)
    began = change.began or done
    before = began - max(end - done, _BEFORE_MIN)
    manifest, services = target.manifest, {*change.services, *change.dependants}
    meant = [one for one in manifest.slos if one.service in services]
    readings = Readings(target.metrics, at)
    return tuple(_of_objective(readings, manifest, one, ((before, began), (done, end))) for one in meant)


def _of_objective(
    readings: Readings,
    manifest: Manifest,
    objective: ObjectiveEntry,
    windows: tuple[tuple[dt.datetime, dt.datetime], tuple[dt.datetime, dt.datetime]],
) -> Held:
    service = next(one for one in manifest.services if one.name == objective.service)
    known = {"objective": objective.name, "target": float(objective.target), "events_min": objective.events_min}
    try:
        share = share_of(objective, service)
        before, after = (readings.events(share, *window) for window in windows)
    except (NvcopsError, ValueError) as error:
        return msgspec.convert({**known, "why": str(error)}, Held)
    if after is None:
        return msgspec.convert({**known, "why": "its series are not there"}, Held)
    held = msgspec.convert(known, Held)
    return msgspec.structs.replace(held, before=before or NOTHING, after=after)


def _records(target: Target) -> Records:
    if target.records is None:
        raise UsageError("no records of changes are kept", hint="[records] of platform.toml")
    return target.records


# --- Procedures ---


@conduct(deadline="1 min", idempotent=True)
def ended(target: Target, number: int, state: ChangeState, why: str, incidents: list[int]) -> ChangeState:
    """Write what became of a change; the state in which it is then."""
    at = schedule.now()
    with _records(target).changing() as desk:
        change = lifecycle.the(desk, number)
        if change.state not in (ChangeState.EXECUTING, ChangeState.VALIDATING):
            return change.state
        if incidents:
            change = msgspec.structs.replace(change, incident=incidents[0])
            _link(desk, target, change, incidents, at)
        if change.state is ChangeState.EXECUTING:
            how = Ended.DONE if state is ChangeState.VALIDATING else Ended.FAILED
            return conclude(desk, target, change, how, why, at=at).state
        return _closed(desk, target, change, state, why, at).state


def _closed(desk: Desk, target: Target, change: Change, state: ChangeState, why: str, at: dt.datetime) -> Change:
    outcome = why[: lifecycle.TEXT_MAX]
    change = msgspec.structs.replace(change, state=state, ended=at, outcome=outcome)
    kind = state.value.replace(" ", "-")
    return lifecycle.enter(
        desk, change, kind, manifest=target.manifest, actor=duties.NOBODY, at=at, outcome=outcome, by_hand=False
    )


def _link(desk: Desk, target: Target, change: Change, incidents: Sequence[int], at: dt.datetime) -> None:
    """Let each incident's timeline say under which change it began."""
    for number in incidents:
        incident = timeline.the(desk, number)
        if any(link.get("kind") == "change" and link.get("id") == change.name for link in incident.links):
            continue
        link = {"kind": "change", "id": change.name, "text": change.title, "time": f"{change.began:%Y-%m-%dT%H:%M:%SZ}"}
        timeline.change(desk, incident, links=(*incident.links, link))
        text = f"it began under {change.name}: {change.title}"
        timeline.enter(desk, number, "change", text, manifest=target.manifest, at=at, cause=change.name)


@procedure("change-validation", when="every 5 min")
def change_validation(run: Run, target: Target) -> None:
    """Watch the objectives after each change for its stated time, and close it as successful or failed.

    A change whose run ended without a word is closed by how that run ended. Incidents that began under a change are
    linked with it. Where nothing was counted nobody knows how it did: that is said, and a person closes it. Emergencies
    that nobody approved or reviewed are said too.
    """
    lines: list[Finding] = []
    for watched in run.read(open_changes, target):
        judged = judge(watched)
        if judged.state is not None:
            title = f"{watched.change.name} is {judged.state}"
            incidents = list(watched.incidents)
            run.step(title, ended, target, watched.change.number, judged.state, judged.why, incidents)
        lines.append(finding_of(watched, judged))
    lines += consent_findings(run.read(special, target), run.started)
    run.conclude(lines or [NONE.finding(Verdict.OK, "no change is being carried out or watched")])
