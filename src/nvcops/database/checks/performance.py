"""The full check of the database: every topic of this room is asked in one session, and has its lines in one report."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from types import ModuleType

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import Refused, TargetError
from nvcops.core.manifest import Manifest
from nvcops.core.procedures import procedure
from nvcops.core.queries import Rows
from nvcops.core.runs import Run
from nvcops.core.target import Database, Target
from nvcops.database.checks import (
    indexes,
    integrity,
    keys,
    sessions,
    settings,
    statements,
    tables,
    vacuum,
    waits,
    wal,
    wraparound,
)
from nvcops.database.checks.capacity import capacity, capacity_findings
from nvcops.database.checks.pools import pool_findings, pools
from nvcops.database.diagnostics.spending import TOP_MAX, length, spending, spending_findings
from nvcops.database.servers import replication_findings, server_findings, servers
from nvcops.database.topics import Answers, Extension, placed, unknown

_SQL = queries.load("nvcops.database.checks", "performance.sql")
TOPICS: tuple[ModuleType, ...] = (
    sessions,
    waits,
    wal,
    wraparound,
    vacuum,
    tables,
    keys,
    indexes,
    integrity,
    settings,
    statements,
)
OLDEST, NEWEST = 15, 18

# --- Facts ---


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a server answered to one query, or why it did not, and what helps."""

    rows: Rows = []
    refused: str = ""
    hint: str = ""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What one server said; `trouble` says why it said nothing. `answers` are by topic, and by query."""

    trouble: str = ""
    release: int = 0
    answers: dict[str, dict[str, Asked]] = {}


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """What the primary said, and what its standbys were asked besides."""

    primary: Heard
    standbys: dict[str, Heard] = {}


def performance(target: Target) -> Performance | None:
    """Ask the primary about everything that is checked, and its standbys what only they know."""
    if target.database is None:
        return None
    asked = {name_of(topic): topic.ASKED for topic in TOPICS}
    beside = {name_of(topic): topic.OF_STANDBYS for topic in TOPICS if hasattr(topic, "OF_STANDBYS")}
    return Performance(
        primary=heard(target.database, asked),
        standbys={standby.name: heard(standby, beside) for standby in target.standbys} if beside else {},
    )


def heard(database: Database, topics: Mapping[str, Mapping[str, str]]) -> Heard:
    """Ask one server the queries of topics, in one session once it is known what it is."""
    since = {name_of(topic): getattr(topic, "SINCE", {}) for topic in TOPICS}
    until = {name_of(topic): getattr(topic, "UNTIL", {}) for topic in TOPICS}
    try:
        first = database.read(_SQL)
        number, extensions = first["release"], first["extensions"]
        if isinstance(number, TargetError):
            return Heard(trouble=number.sentence)
        release = int(number[0]["number"]) // 10_000
        there = {} if isinstance(extensions, TargetError) else {row["name"]: _extension(row) for row in extensions}
        wanted = {
            f"{topic}.{name}": sql
            for topic, queries_ in topics.items()
            for name, sql in queries_.items()
            if since[topic].get(name, 0) <= release <= until[topic].get(name, release)
        }
        asked, refused = placed(wanted, there)
        answers = database.read(asked) | refused
    except TargetError as error:
        return Heard(trouble=error.sentence)
    by_topic: dict[str, dict[str, Asked]] = {topic: {} for topic in topics}
    for name, answer in answers.items():
        topic, _, query = name.partition(".")
        by_topic[topic][query] = (
            Asked([], answer.sentence, answer.hint) if isinstance(answer, TargetError) else Asked(answer)
        )
    return Heard(release=release, answers=by_topic)


def _extension(row: Mapping[str, object]) -> Extension:
    return Extension(str(row["schema"]), bool(row["loaded"]))


def name_of(topic: ModuleType) -> str:
    """The name of a topic: its module's."""
    return topic.__name__.rpartition(".")[2]


# --- Rules ---

RELEASE = Check(
    "database.release", "PostgreSQL release", f"these checks know PostgreSQL {OLDEST} to {NEWEST}: read with care"
)
_SILENT = "the server's own line says what is wrong"
_UNCHECKED = Check("performance.sessions", "Sessions", "")


def performance_findings(seen: Performance, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about one primary."""
    made = release_findings(seen.primary.release) if not seen.primary.trouble else []
    for topic in TOPICS:
        if seen.primary.trouble:
            made += [unknown(check, seen.primary.trouble, _SILENT) for check in topic.CHECKS]
        else:
            made += topic.findings(_parsed(topic, seen), manifest, name)
    return [msgspec.structs.replace(finding, subject=finding.subject or name) for finding in made]


def release_findings(release: int) -> list[Finding]:
    """A line where the release is none that is known.

    >>> release_findings(15), release_findings(18)
    ([], [])
    >>> [line.observed for line in release_findings(14)]
    ['PostgreSQL 14']
    """
    if OLDEST <= release <= NEWEST:
        return []
    return [RELEASE.finding(Verdict.WARNING, f"PostgreSQL {release}", limit=f"{OLDEST} to {NEWEST}")]


def _parsed(topic: ModuleType, seen: Performance) -> object:
    answers = _answers(seen.primary, topic)
    if not hasattr(topic, "OF_STANDBYS"):
        return topic.parsed(answers)
    return topic.parsed(answers, {name: _of_standby(heard, topic) for name, heard in seen.standbys.items()})


def _of_standby(heard: Heard, topic: ModuleType) -> Answers:
    if heard.trouble:
        return {query: Refused(heard.trouble) for query in topic.OF_STANDBYS}
    return _answers(heard, topic)


def _answers(heard: Heard, topic: ModuleType) -> Answers:
    return {
        query: Refused(asked.refused, hint=asked.hint) if asked.refused else asked.rows
        for query, asked in heard.answers.get(name_of(topic), {}).items()
    }


# --- Procedures ---


@procedure("db-performance-check", script="db_performance_check.py")
def db_performance_check(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, since: str = "24 h", top: int = 5, sample: str = ""
) -> None:
    """Check the database: connections, locks, tables, indexes, replication, and on which statements its time goes.

    Works on PostgreSQL 15 to 18 with the role pg_monitor alone; what that may not read is UNKNOWN, with what helps.

    Args:
        since: how far back statements and waits are added up, as a duration
        top: how many statements are shown
        sample: look at the sessions' waits now, each second for so long, instead of at what was sampled
    """
    back, sampled = dt.timedelta(seconds=length(since, "--since")), length(sample, "--sample")
    manifest = target.manifest
    seen = run.read(performance, target)
    if seen is None or manifest.database is None:
        run.conclude(
            [_UNCHECKED.unknown("no [database] stands in platform.toml")], summary="There is no database to check."
        )
        return
    readings = run.read(servers, target)
    lines = server_findings(readings[:1], manifest.limits) + replication_findings(readings, manifest.limits)
    wanted = ("database.server", "database.connections", "database.replication_lag")
    findings = [finding for finding in lines if finding.check in wanted]
    name = manifest.database.primary.name
    findings += performance_findings(seen, manifest, name)
    findings += capacity_findings(run.read(capacity, target, run.started), manifest, name)
    lately = dt.timedelta(seconds=manifest.limits.recent_window)
    findings += pool_findings(run.read(pools, target, run.started - lately, run.started), manifest.database.limits)
    if not seen.primary.trouble:
        spent = run.read(spending, target, run.started - back, run.started, sampled)
        findings += [
            msgspec.structs.replace(line, subject=line.subject or name)
            for line in spending_findings(spent, max(0, min(top, TOP_MAX)))
        ]
    run.conclude(findings)
