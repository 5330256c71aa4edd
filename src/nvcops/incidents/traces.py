"""What lies around the beginning of an incident: changes, runs, commits, log lines. Nothing is concluded here."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from typing import TypeVar

import msgspec

from nvcops.core.commits import Commit
from nvcops.core.errors import NvcopsError
from nvcops.core.incidents import Event, Incident, IncidentAlert
from nvcops.core.records import Records
from nvcops.core.runs import RunRecord, conduct
from nvcops.core.target import Change, LogEvent, Target
from nvcops.core.units import Seconds
from nvcops.incidents import correlation, timeline

T = TypeVar("T")
BEFORE = Seconds(3600)
AFTER = Seconds(120)
_LINES_MAX = 50_000
_KINDS_MAX = 200
_SHOWN_MAX = 50
_LOUD = {"error", "critical", "fatal", "panic", "emergency"}

# --- Facts ---


class LogKind(msgspec.Struct, frozen=True, kw_only=True):
    """The loud lines of one name in one log: how many before the incident began and after; `first` of those after."""

    source: str
    event: str
    before: int
    after: int
    first: dt.datetime | None = None


class RunSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was under way, or ended, in the hour before; `acted`: it holds a lock, so it may change something."""

    id: str
    procedure: str
    acted: bool
    state: str
    verdict: str
    started: dt.datetime
    ended: dt.datetime | None


class Missed(msgspec.Struct, frozen=True):
    """A procedure that was due and did not run."""

    procedure: str
    due: dt.datetime


class Traces(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, and why a part of it could not be read, by the part's name."""

    began: dt.datetime
    until: dt.datetime
    changes: tuple[Change, ...] = ()
    runs: tuple[RunSeen, ...] = ()
    missed: tuple[Missed, ...] = ()
    commits: tuple[Commit, ...] = ()
    lines: tuple[LogKind, ...] = ()
    troubles: dict[str, str] = {}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """An incident as the records have it, with its alerts and its timeline."""

    incident: Incident
    alerts: tuple[IncidentAlert, ...]
    events: tuple[Event, ...]


def records_of(target: Target) -> Records:
    """Where incidents are kept.

    Raises:
        NvcopsError: they are not kept here.
    """
    if target.records is None:
        raise NvcopsError("no records are kept here", hint="run it where `nvcops serve` keeps its state")
    return target.records


def case(target: Target, number: int) -> Case:
    """Read an incident with its alerts and its timeline."""
    with records_of(target).reading() as reading:
        incident = timeline.the(reading, number)
        alerts = tuple(correlation.linked(reading, number))
        return Case(incident=incident, alerts=alerts, events=tuple(timeline.events(reading, number)))


@conduct(deadline="2 min", idempotent=True)
def traces(target: Target, began: dt.datetime, detected: dt.datetime) -> Traces:
    """Look around the beginning: changes, runs, commits, loud log lines."""
    start, end = began - dt.timedelta(seconds=BEFORE), detected + dt.timedelta(seconds=AFTER)
    troubles: dict[str, str] = {}
    runs, commits = target.runs, target.commits
    seen = _asked("runs", lambda: runs.between(start, end), troubles) if runs else None
    late = _asked("missed", lambda: runs.missed(began - dt.timedelta(days=1), end), troubles) if runs else None
    made = _asked("commits", lambda: commits.between(start, end), troubles) if commits else None
    return Traces(
        began=began,
        until=end,
        changes=tuple(_asked("changes", lambda: target.metrics.changes(start, end), troubles) or ())[-_SHOWN_MAX:],
        runs=tuple(_seen(run) for run in seen or () if run.started)[:_SHOWN_MAX],
        missed=tuple(Missed(due.procedure, due.due) for due in late or ())[-_SHOWN_MAX:],
        commits=tuple(made or ())[:_SHOWN_MAX],
        lines=_lines(target, began, end, troubles),
        troubles=troubles,
    )


def _asked(name: str, question: Callable[[], T], troubles: dict[str, str]) -> T | None:
    try:
        return question()
    except NvcopsError as error:
        troubles[name] = error.sentence
        return None


def _seen(run: RunRecord) -> RunSeen:
    return RunSeen(
        id=run.id,
        procedure=run.procedure,
        acted=bool(run.lock) and not run.dry_run,
        state=run.state.value,
        verdict=run.verdict.name if run.verdict is not None else "",
        started=run.started or run.requested,
        ended=run.ended,
    )


def _lines(target: Target, began: dt.datetime, end: dt.datetime, troubles: dict[str, str]) -> tuple[LogKind, ...]:
    """The loud lines of every log, counted by name over as long before the beginning as after it."""
    start = began - (end - began)
    found: list[LogKind] = []
    for source in target.logs.sources:
        count = functools.partial(_counted, target, source, start, began, end)
        counted = _asked(f"log of {source}", count, troubles)
        found += counted or []
    return tuple(sorted(found, key=lambda kind: (kind.before > 0, -kind.after))[:_SHOWN_MAX])


def _counted(target: Target, source: str, start: dt.datetime, began: dt.datetime, end: dt.datetime) -> list[LogKind]:
    counts: dict[str, list[int]] = {}
    first: dict[str, dt.datetime] = {}
    for number, event in enumerate(target.logs.events(source, start, end)):
        if number >= _LINES_MAX:
            break
        if not loud(event) or (event.event not in counts and len(counts) >= _KINDS_MAX):
            continue
        after = event.time >= began
        counts.setdefault(event.event, [0, 0])[after] += 1
        if after:
            first.setdefault(event.event, event.time)
    return [
        LogKind(source=source, event=name, before=before, after=after, first=first.get(name))
        for name, (before, after) in counts.items()
    ]


def loud(event: LogEvent) -> bool:
    """Whether a line says that something is wrong, by its level or by its name.

    >>> at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    >>> loud(LogEvent(at, "bank", "request.failed", {"level": "error"}))
    True
    >>> loud(LogEvent(at, "db-1", "postgresql.fatal", {}))
    True
    >>> loud(LogEvent(at, "bank", "request.served", {"level": "info"}))
    False
    """
    return str(event.fields.get("level", "")).lower() in _LOUD or event.event.rpartition(".")[2] in _LOUD
