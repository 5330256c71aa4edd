"""Why the database is slow now: who waits for whom, what holds them up, since when, and what changed before it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NotFoundError, StateError, TargetError
from nvcops.core.manifest import Manifest, ServiceEntry
from nvcops.core.probes import json_object
from nvcops.core.procedures import find, procedure
from nvcops.core.runs import Run
from nvcops.core.statements import Waited, Waits
from nvcops.core.target import Question, Target
from nvcops.core.together import side_by_side
from nvcops.core.workload import Workload
from nvcops.database.diagnostics import moment
from nvcops.database.diagnostics.causes import Cause, Seen, causes, slow_services
from nvcops.database.diagnostics.chains import Held, Session
from nvcops.database.servers import servers
from nvcops.database.topics import GRANT, Answers, many, unread

_SQL = queries.load("nvcops.database.diagnostics", "db_diagnostics.sql")
_NOW = dt.timedelta(minutes=2)
_HOUR = dt.timedelta(hours=1)
_LATELY = dt.timedelta(minutes=15)
_WEEK = dt.timedelta(days=8)

# --- Facts ---


def seen(target: Target) -> Seen | None:
    """Look who waits for whom, how customers are served, and what changed in the last hour."""
    if target.database is None:
        return None
    at, name = target.host.now(), target.database.name
    try:
        found = parsed(target.database.read(_SQL), at, name)
    except TargetError as error:
        found = Seen(at=at, name=name, trouble=error.sentence)
    if not found.trouble:
        found = msgspec.structs.replace(
            found,
            versions=_versions(target),
            waits=_waits(target, at, found.waits),
            lately=_known(target, at - _LATELY, at),
            usually=_known(target, at - _WEEK, at - _HOUR),
        )
    return msgspec.structs.replace(
        found,
        services=served(target, at),
        disks=_disks(target),
        standbys=_standbys(target),
        changes=tuple(target.metrics.changes(at - _HOUR, at)),
        runs=_runs(target, at),
    )


def parsed(answers: Answers, at: dt.datetime, name: str) -> Seen:
    """The rows as types."""
    rows = answers.get("server", [])
    server = rows[0] if isinstance(rows, list) and rows else {}
    return Seen(
        at=server.get("now", at),
        name=name,
        unread=unread(answers),
        connections=server.get("connections", 0),
        connections_max=server.get("connections_max", 0),
        synchronous=server.get("synchronous", ""),
        sessions=many(answers, "sessions", Session),
        held=many(answers, "held", Held),
        prepared=many(answers, "prepared", moment.Prepared),
        holders=many(answers, "holders", moment.Holder),
        senders=many(answers, "senders", moment.Sender),
        waits=Waits(observed_s=0.0, waited=many(answers, "waits", Waited)),
    )


def served(target: Target, at: dt.datetime) -> tuple[moment.Served, ...]:
    """How the services answer now, and how they did in the hour before."""
    found = []
    for entry in target.manifest.services:
        if entry.series is None:
            continue
        now, now_s = answered(target, entry, at - _NOW, at)
        before, before_s = answered(target, entry, at - _NOW - _HOUR, at - _NOW)
        what = entry.series.outcome_title if entry.series.outcomes else f"answers of {entry.name}"
        found.append(moment.Served(name=entry.name, what=what, now_s=now_s, now=now, before_s=before_s, before=before))
    return tuple(found)


def answered(target: Target, entry: ServiceEntry, start: dt.datetime, end: dt.datetime) -> tuple[float, float]:
    """How many requests of customers were answered, and in how many seconds on average."""
    series = entry.series
    if series is None:
        return 0.0, 0.0

    def sum_of(name: str) -> float:
        increases = target.metrics.increases(entry.name, f"{series.latency}_{name}", start, end)
        return sum(one.value for one in increases if one.labels.get(series.route_label) not in series.probe_routes)

    count = sum_of("count")
    return count, sum_of("sum") / count if count else 0.0


def _versions(target: Target) -> dict[str, str]:
    """The release of each instance that says it."""
    asked = [
        Question(entry.name, entry.version, instance.name)
        for entry in target.manifest.services
        if entry.version
        for instance in entry.instances
    ]
    answers = zip(asked, target.services.ask(asked), strict=True)
    told = {question.instance: str(json_object(answer).get("version", "")) for question, answer in answers}
    return {instance: version for instance, version in told.items() if version}


def _waits(target: Target, at: dt.datetime, now: Waits) -> Waits:
    """What was sampled in the last minutes, else what is seen at this moment."""
    sampled = target.statements.waits(at - _NOW, at) if target.statements else now
    return sampled if sampled.observed_s else now


def _known(target: Target, start: dt.datetime, end: dt.datetime) -> Workload | None:
    """The statements of a time, where that time is known."""
    if target.statements is None:
        return None
    try:
        found = target.statements.between(start, end)
    except TargetError:
        return None  # without pg_stat_statements nothing can be compared; the performance check says so
    return found if found.since and found.since >= start - _LATELY and found.until <= end else None


def _runs(target: Target, at: dt.datetime) -> tuple[moment.Run, ...]:
    """Our own runs of the last hour that change something."""
    if target.runs is None:
        return ()
    try:
        found = target.runs.between(at - _HOUR, at)
    except StateError:
        return ()  # the journal is no part of the platform: a look goes on without it
    return tuple(
        moment.Run(one.id, one.procedure, one.started, one.ended)
        for one in found
        if one.started and _acts(one.procedure)
    )


def _acts(name: str) -> bool:
    try:
        return not find(name).reads_only
    except NotFoundError:
        return False


def _standbys(target: Target) -> tuple[moment.Standby, ...]:
    return tuple(
        moment.Standby(
            name=reading.name,
            trouble=reading.trouble,
            paused=bool(reading.state and reading.state.paused),
            receiver=reading.state.receiver if reading.state else "",
        )
        for reading in (servers(target) if target.standbys else [])
        if reading.standby
    )


def _disks(target: Target) -> dict[str, float]:
    entries = list(target.manifest.disks)
    read = side_by_side(lambda entry: target.host.disk(entry.name), entries)
    return {
        entry.name: disk.used / disk.size
        for entry, disk in zip(entries, read, strict=True)
        if not isinstance(disk, TargetError) and disk.size
    }


# --- Rules ---

CAUSE = Check("diagnosis.cause", "Cause", "")
NONE = Check("diagnosis.none", "No cause", "scripts/system_status.sh: is it the service, the network, the host?")
UNREAD = Check("diagnosis.unread", "Could not be read", GRANT)
_CAUSES_MAX = 12


def diagnosis(seen: Seen, manifest: Manifest) -> list[Finding]:
    """The causes as lines, the most harmful first; a line that there is none where nothing was found."""
    slow_s = manifest.objectives.response_mean
    found = causes(seen, manifest.limits, slow_s)
    lines = [cause_finding(one) for one in found[:_CAUSES_MAX]]
    if not any(one.weight >= 1 for one in found):
        lines.append(none_finding(seen, slow_services(seen, manifest.limits, slow_s), found=len(found)))
    lines += [UNREAD.unknown(f"{what}: {why}") for what, why in seen.unread.items()]
    return [msgspec.structs.replace(line, subject=seen.name) for line in lines]


def cause_finding(cause: Cause) -> Finding:
    """A cause with what it was seen in, and what to do next."""
    verdict = Verdict.CRITICAL if cause.critical else Verdict.WARNING
    line = CAUSE.finding(verdict, f"{cause.sentence} [{'; '.join(cause.evidence)}]")
    return msgspec.structs.replace(line, next_step=cause.next_step, value=cause.weight, unit="sessions")


def none_finding(seen: Seen, slow: Sequence[str], *, found: int) -> Finding:
    """Nobody is held up; or somebody is, and the database does not say by what."""
    if slow:
        return NONE.finding(Verdict.WARNING, f"{' and '.join(slow)}, and nothing in {seen.name} holds anybody up")
    looked = ", ".join(_looked_at(seen))
    held_up = "nobody is held up for long" if found else "nobody waits, and nothing is wrong"
    return NONE.finding(Verdict.OK, f"{held_up}; looked at {looked}")


def _looked_at(seen: Seen) -> Iterator[str]:
    yield f"locks, {len(seen.sessions)} open transactions, {seen.connections} of {seen.connections_max} connections"
    yield "standbys and disks"
    sampled, known = seen.waits.observed_s > 0, seen.lately is not None and seen.usually is not None
    yield "waits" if sampled else "no waits over time: `nvcops serve` samples them"
    yield "statements" if known else "no statements over time: `nvcops serve` keeps them"


# --- Procedures ---


@procedure("db-diagnostics", script="db_diagnostics.py")
def db_diagnostics(run: Run, target: Target, *, watch: bool = False) -> None:  # noqa: ARG001, D417 - the script's flag
    """Say why the database is slow now: who waits for whom, since when, after what change, and what to do next.

    It reads only, and ends nobody's session: each cause names the command that would.

    Args:
        watch: look again every 2 seconds, until Ctrl-C
    """
    found = run.read(seen, target)
    if found is None:
        run.conclude([UNREAD.unknown("no [database] stands in platform.toml")], summary="There is no database.")
        return
    lines = diagnosis(found, target.manifest)
    worst = next((line for line in lines if line.check == CAUSE.name), lines[0])
    run.conclude(lines, summary=worst.observed.partition(" [")[0])
