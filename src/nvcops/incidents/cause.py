"""The most likely cause of an incident, and the procedure to start with; every suggestion says from what it follows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.incidents import Event, Incident, IncidentAlert, Signal, Suggestion
from nvcops.core.manifest import Manifest
from nvcops.core.procedures import find, procedure
from nvcops.core.records import Reading
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Change, Target
from nvcops.core.units import Count, Seconds
from nvcops.incidents import timeline
from nvcops.incidents.severity import signal_of
from nvcops.incidents.traces import AFTER, BEFORE, Case, Traces, case, records_of, traces

# --- Rules ---

LIKELY = Check("incident.cause", "Likely cause", "")
START = Check("incident.start", "Start with", "")
UNREAD = Check("incident.unread", "Could not be read", "what is not looked at cannot be excluded")
_SUGGESTED_MAX = 12
_LINKS_MAX = 60
_ALERTS_MAX = 100
_AGAIN = "again"
_READY = "ready"
# The runbook's procedures for a sign, the best first; what this release does not have yet is left out.
_PROCEDURES = {
    Signal.OUTAGE: ("system-status", "disaster-recovery"),
    Signal.PARTIAL_OUTAGE: ("system-status", "db-diagnostics"),
    Signal.PAYMENTS: ("system-status", "db-diagnostics", "db-performance-check"),
    Signal.CORRUPTION: ("backup-verification", "restore-database", "test-backup-restore"),
    Signal.BREACH: ("security-events-summary", "access-audit"),
    Signal.SECURITY: ("security-events-summary",),
    Signal.SIGN_IN: ("security-events-summary", "system-status"),
    Signal.PERFORMANCE: ("db-diagnostics", "db-performance-check"),
    Signal.ERRORS: ("system-status", "db-diagnostics", "db-performance-check"),
    Signal.REDUNDANCY: ("system-status", "db-performance-check"),
    Signal.COMPLIANCE: ("morning-health-check",),
    Signal.FEATURE: ("system-status",),
    Signal.REQUEST: (),
}
_BY_LABEL = {
    ("kind", "sql"): ("db-diagnostics", "db-performance-check"),
    ("kind", "replication"): ("db-diagnostics", "db-performance-check"),
    ("kind", "tls"): ("check-certificates", "daily-health-check"),
    ("kind", "disk"): ("rotate-logs", "cleanup-temp-files", "daily-health-check"),
    ("limit", "disk_used"): ("rotate-logs", "cleanup-temp-files", "daily-health-check"),
    ("limit", "connections"): ("db-diagnostics", "db-performance-check"),
    ("limit", "replication_lag"): ("db-diagnostics", "db-performance-check"),
    ("limit", "certificate_days"): ("check-certificates", "daily-health-check"),
}


def known(names: Iterable[str]) -> list[str]:
    """Those of the procedures that the runbook has."""
    there = []
    for name in names:
        try:
            there.append(find(name).name)
        except NotFoundError:
            continue
    return there


def from_alerts(alerts: Sequence[IncidentAlert], manifest: Manifest) -> tuple[Suggestion, ...]:
    """What to start with by what fires, the weightiest first."""
    found: dict[str, Suggestion] = {}
    for alert in alerts[:_ALERTS_MAX]:
        for weight, name in _to_start(alert, manifest):
            said = f"the alert {alert.name} is a sign of {_WORDS[signal_of(alert.labels, manifest)]}"
            if name not in found or found[name].weight < weight:
                found[name] = Suggestion(title=find(name).summary, procedure=name, evidence=said, weight=weight)
    return ranked(found.values())


def _to_start(alert: IncidentAlert, manifest: Manifest) -> Iterator[tuple[float, str]]:
    """The procedures for an alert: what it names itself, what fits what it watches, what fits what it is a sign of."""
    signal = signal_of(alert.labels, manifest)
    watched = [names for (label, value), names in _BY_LABEL.items() if alert.labels.get(label) == value]
    for weight, names in ((0.6, (alert.labels.get("runbook", ""),)), *((0.5, each) for each in watched)):
        yield from ((round(weight - 0.1 * rank, 2), name) for rank, name in enumerate(known(names)[:2]))
    yield from ((round(0.4 - 0.1 * rank, 2), name) for rank, name in enumerate(known(_PROCEDURES[signal])[:2]))


_WORDS = {
    Signal.OUTAGE: "an outage",
    Signal.PARTIAL_OUTAGE: "a partial outage",
    Signal.PAYMENTS: "payments that fail",
    Signal.CORRUPTION: "damaged data",
    Signal.BREACH: "a breach",
    Signal.SIGN_IN: "sign-ins that fail",
    Signal.PERFORMANCE: "slow answers",
    Signal.ERRORS: "requests that fail",
    Signal.COMPLIANCE: "a violation of compliance",
    Signal.SECURITY: "a security concern",
    Signal.REDUNDANCY: "lost redundancy",
    Signal.FEATURE: "something that does not work",
    Signal.REQUEST: "something minor",
}


def ranked(suggestions: Iterable[Suggestion]) -> tuple[Suggestion, ...]:
    """The weightiest first, each title once, at most twelve."""
    best: dict[tuple[str, str], Suggestion] = {}
    for one in suggestions:
        key = (one.title, one.procedure)
        if key not in best or best[key].weight < one.weight:
            best[key] = one
    return tuple(sorted(best.values(), key=lambda one: (-one.weight, one.title))[:_SUGGESTED_MAX])


def nearness(moment: dt.datetime, began: dt.datetime) -> float:
    """How near before the beginning something happened: 1 right before it, 0.5 an hour before, little after it.

    >>> noon = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    >>> [nearness(noon - dt.timedelta(minutes=m), noon) for m in (0, 30, 60, -1)]
    [1.0, 0.75, 0.5, 0.25]
    """
    ago = (began - moment).total_seconds()
    return round(1 - 0.5 * min(ago / BEFORE, 1.0), 3) if ago >= 0 else 0.25


def suggest(seen: Traces) -> tuple[Suggestion, ...]:
    """The likely causes among what was found, the weightiest first."""
    found = [*_of_changes(seen), *_of_runs(seen), *_of_lines(seen), *_of_commits(seen), *_of_missed(seen)]
    return ranked(found)


def _when(moment: dt.datetime, began: dt.datetime) -> str:
    apart = Seconds(abs((began - moment).total_seconds()))
    return f"{apart} {'before' if moment <= began else 'after'} it began"


def _of_changes(seen: Traces) -> Iterator[Suggestion]:
    back = next(iter(known(("restore-application", "rollback"))), "")
    for change in seen.changes:
        who = change.instance or change.service
        if change.what == "version" and change.before:
            title = f"{who} went from version {change.before} to {change.after}"
            weight = round(0.95 * nearness(change.time, seen.began), 2)
            yield Suggestion(
                title=title,
                procedure=back,
                evidence=f"the watch saw it {_when(change.time, seen.began)}",
                weight=weight,
            )
        elif change.what == "start" and change.before:
            weight = round(0.6 * nearness(change.time, seen.began), 2)
            yield Suggestion(
                title=f"{who} was restarted",
                evidence=f"the watch saw it {_when(change.time, seen.began)}",
                weight=weight,
            )
    if first := _first_gone(seen):
        title = f"{first.instance or first.service} was the first that was not ready: {first.after}"
        evidence = f"readiness as the watch saw it, {_when(first.time, seen.began)}"
        yield Suggestion(title=title, evidence=evidence, weight=0.55)


def _first_gone(seen: Traces) -> Change | None:
    """The first part that stopped being ready, from a minute before the beginning on."""
    since = seen.began - dt.timedelta(minutes=1)
    gone = [one for one in seen.changes if one.what == _READY and one.before == _READY and one.time >= since]
    return min(gone, key=lambda one: one.time, default=None)


def _of_runs(seen: Traces) -> Iterator[Suggestion]:
    for run in seen.runs:
        if not run.acted or run.started > seen.began:
            continue
        going = run.ended is None or run.ended >= seen.began
        moment = seen.began if going else run.ended or run.started
        said = "was under way" if going else f"ended {_when(moment, seen.began)}"
        weight = round(0.8 * nearness(moment, seen.began), 2)
        yield Suggestion(
            title=f"{run.procedure} {said}", evidence=f"the run {run.id} ({run.verdict or run.state})", weight=weight
        )


def _of_lines(seen: Traces) -> Iterator[Suggestion]:
    for line in seen.lines:
        if line.after and line.after > 3 * line.before:
            how = "not before" if not line.before else f"{Count(line.before)} before"
            yield Suggestion(
                title=f"{line.source} logs {line.event}",
                evidence=f"{Count(line.after)} lines since it began, {how}",
                weight=0.7 if not line.before else 0.5,
            )


def _of_commits(seen: Traces) -> Iterator[Suggestion]:
    for commit in seen.commits[:5]:
        if commit.time <= seen.began:
            evidence = f"commit {commit.id} by {commit.author}, {_when(commit.time, seen.began)}"
            weight = round(0.45 * nearness(commit.time, seen.began), 2)
            yield Suggestion(title=commit.subject, evidence=evidence, weight=weight)


def _of_missed(seen: Traces) -> Iterator[Suggestion]:
    for missed in seen.missed[-5:]:
        evidence = f"it was due at {missed.due:%Y-%m-%d %H:%M %Z} and did not run"
        there = next(iter(known((missed.procedure,))), "")
        yield Suggestion(title=f"{missed.procedure} was missed", procedure=there, evidence=evidence, weight=0.3)


def links_of(seen: Traces) -> tuple[dict[str, str], ...]:
    """What an incident is linked to: runs, releases, changes, commits, log lines, each with its time."""
    links = [_link("run", run.id, f"{run.procedure} {run.verdict or run.state}", run.started) for run in seen.runs]
    links += [_link("missed", one.procedure, "was due and did not run", one.due) for one in seen.missed]
    for change in seen.changes:
        kind = "deployment" if change.what == "version" else "change"
        text = f"{change.what}: {change.before or 'unknown'} → {change.after}"
        links.append(_link(kind, change.instance or change.service, text, change.time))
    links += [_link("commit", commit.id, f"{commit.subject} ({commit.author})", commit.time) for commit in seen.commits]
    for line in seen.lines:
        if line.first:
            text = f"{line.event}: {line.after} since it began, {line.before} before"
            links.append(_link("log", line.source, text, line.first))
    return tuple(links[:_LINKS_MAX])


def _link(kind: str, identity: str, text: str, time: dt.datetime) -> dict[str, str]:
    return {"kind": kind, "id": identity, "text": text, "time": time.astimezone(dt.UTC).isoformat()}


def findings_of(suggestions: Sequence[Suggestion], troubles: dict[str, str]) -> list[Finding]:
    """The suggestions as lines of a report; what could not be read is UNKNOWN."""
    lines = []
    for one in suggestions:
        check = START if one.procedure else LIKELY
        lines.append(check.finding(Verdict.OK, f"{one.title} ({one.evidence})", subject=one.procedure))
    lines += [UNREAD.unknown(why, subject=name) for name, why in troubles.items()]
    return lines or [LIKELY.finding(Verdict.OK, "nothing stands out around its beginning")]


def to_look_into(reading: Reading, at: dt.datetime) -> list[tuple[Incident, str]]:
    """The incidents around whose beginning somebody should look now, and as what: first at once, then `again`.

    The second time its log has lines of some minutes, and what came a little later is known.
    """
    found = []
    for one in timeline.active(reading):
        if reading.get(Event, f"{one.number}/looked") is None:
            found.append((one, ""))
        elif at >= one.detected + dt.timedelta(seconds=AFTER) and not reading.count(
            Event, id=f"{one.number}/looked/{_AGAIN}"
        ):
            found.append((one, _AGAIN))
    return found


# --- Procedures ---


@conduct(deadline="1 min", idempotent=True, attempts=3)
def enter_cause(target: Target, number: int, seen: Traces, at: dt.datetime, run: str, cause: str = "") -> int:
    """Write what was found into the incident: links, suggestions, a line. Answers how many suggestions there are."""
    with records_of(target).changing() as desk:
        incident = timeline.the(desk, number)
        there = [one for one in incident.suggestions if one.procedure]
        best = ranked([*there, *suggest(seen)])
        timeline.change(desk, incident, suggestions=best, links=links_of(seen))
        first = f"most likely: {best[0].title} ({best[0].evidence})" if best else "nothing stands out"
        text = f"looked around its beginning: {first}"
        data = {"run": run, "suggestions": len(best), "unread": sorted(seen.troubles)}
        timeline.enter(desk, number, "looked", text, manifest=target.manifest, at=at, cause=cause, data=data)
        return len(best)


def look_into(target: Target, at: dt.datetime) -> list[int]:
    """Look for the causes of what goes on, where nobody has yet; the numbers of those incidents."""
    with records_of(target).reading() as reading:
        found = to_look_into(reading, at)
    for incident, cause in found:
        seen = traces(target, incident.began, incident.detected)
        enter_cause(target, incident.number, seen, at, "", cause)
    return [incident.number for incident, _ in found]


@procedure("investigate-incident", evidences=())
def investigate_incident(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, number: int = 0
) -> None:
    """Look for the cause of an incident: changes, runs, commits and log lines around its beginning, ranked.

    What is found is linked with the incident. Each suggestion says from what it follows; nothing is changed but that.

    Args:
        number: the incident
    """
    if number < 1:
        raise UsageError("which incident?", hint="--number N; `nvcops incidents` lists them")
    found: Case = run.read(case, target, number)
    incident: Incident = found.incident
    seen = run.read(traces, target, incident.began, incident.detected)
    run.step("link what was found with the incident", enter_cause, target, number, seen, run.started, run.id)
    best = ranked([*incident.suggestions, *suggest(seen)])
    run.conclude(findings_of(best, seen.troubles), summary=f"incident {number}: {best[0].title}" if best else "")
