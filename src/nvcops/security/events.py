"""What happened: sign-in failures, lock-outs, changes of privileges, from the services' logs and PostgreSQL's."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import TargetError, UsageError
from nvcops.core.manifest import Bound, Events, Limits
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import MALFORMED, LogEvent, Target
from nvcops.core.units import Count, Seconds
from nvcops.security.statements import bare

SIGN_IN, LOCK_OUT, REFUSED_SIGN_IN = "sign-in failures", "lock-outs", "refused sign-ins"
PRIVILEGE, POWER = "privilege changes", "grants of power"
_NAMED_MAX = 10_000
_MINUTES_MAX = 4_096
_TOP = 3
_DAY = dt.timedelta(hours=24)

# --- Facts ---


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one kind in one log. `top` are pseudonyms, roles or statements' kinds, never a person."""

    kind: str
    count: int = 0
    first: dt.datetime | None = None
    last: dt.datetime | None = None
    peak: int = 0
    peak_at: dt.datetime | None = None
    top: tuple[tuple[str, int], ...] = ()
    different: int = 0


class LogReading(msgspec.Struct, frozen=True, kw_only=True):
    """What one log says of a time."""

    source: str
    database: bool
    trouble: str = ""
    begins: dt.datetime | None = None
    malformed: int = 0
    tallies: tuple[Tally, ...] = ()


@dataclass
class _Counter:
    """Counts events in bounded memory: the minutes of the last days, the first so many names."""

    count: int = 0
    first: dt.datetime | None = None
    last: dt.datetime | None = None
    peak: tuple[int, dt.datetime | None] = (0, None)
    minutes: dict[dt.datetime, int] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)

    def add(self, time: dt.datetime, name: str) -> None:
        self.count += 1
        self.first = min(self.first or time, time)
        self.last = max(self.last or time, time)
        minute = time.replace(second=0, microsecond=0)
        self.minutes[minute] = self.minutes.get(minute, 0) + 1
        if self.minutes[minute] > self.peak[0]:
            self.peak = (self.minutes[minute], minute)
        if len(self.minutes) > _MINUTES_MAX:
            del self.minutes[min(self.minutes)]
        name = name if name in self.names or len(self.names) < _NAMED_MAX else "others"
        self.names[name] = self.names.get(name, 0) + 1

    def tally(self, kind: str) -> Tally:
        ranked = sorted(self.names.items(), key=lambda item: (-item[1], item[0]))
        return Tally(
            kind=kind,
            count=self.count,
            first=self.first,
            last=self.last,
            peak=self.peak[0],
            peak_at=self.peak[1],
            top=tuple(ranked[:_TOP]),
            different=len(self.names),
        )


@conduct(deadline="10 min", idempotent=True)
def security_events(target: Target, start: dt.datetime, end: dt.datetime) -> list[LogReading]:
    """Read the security events out of the logs."""
    names = {service.name: service.events for service in target.manifest.services}
    readings = []
    for source in target.logs.sources:
        of_database = source not in names
        events = names.get(source)
        if not of_database and events is None:
            continue  # nobody said what they are called: left out, and not looked for
        kinds = ("postgresql.fatal", "postgresql.log") if events is None else _watched(events)
        try:
            read = target.logs.events(source, start, end, kinds)
            counters, malformed = fold(_of_postgres(read) if events is None else _of_service(read, events))
            begins = target.logs.begins(source)
        except TargetError as error:
            readings.append(LogReading(source=source, database=of_database, trouble=error.sentence))
            continue
        expected = (REFUSED_SIGN_IN, PRIVILEGE, POWER) if events is None else _expected(events)
        tallies = tuple(counters.get(kind, _Counter()).tally(kind) for kind in expected)
        readings.append(
            LogReading(source=source, database=of_database, begins=begins, malformed=malformed, tallies=tallies)
        )
    return readings


def statement_logging(target: Target) -> str:
    """Ask the primary which statements it logs: without them a change of privileges leaves no trace."""
    if target.database is None:
        return ""
    try:
        return str(target.database.rows("SELECT current_setting('log_statement') AS setting")[0]["setting"])
    except TargetError as error:
        return error.sentence


Seen = tuple[str, dt.datetime, str]


def fold(seen: Iterable[Seen]) -> tuple[dict[str, _Counter], int]:
    """Count (kind, time, name); malformed lines apart."""
    counters: dict[str, _Counter] = {}
    malformed = 0
    for kind, time, name in seen:
        if kind == MALFORMED:
            malformed += 1
        else:
            counters.setdefault(kind, _Counter()).add(time, name)
    return counters, malformed


def _watched(events: Events) -> tuple[str, ...]:
    return (*events.sign_in_failures, *events.lock_outs, *events.privilege_changes)


def _expected(events: Events) -> list[str]:
    """The kinds that the service has names for: nothing is said of what nobody could see."""
    named = {SIGN_IN: events.sign_in_failures, LOCK_OUT: events.lock_outs, PRIVILEGE: events.privilege_changes}
    return [kind for kind, names in named.items() if names]


def _of_service(read: Iterator[LogEvent], events: Events) -> Iterator[Seen]:
    kinds = dict.fromkeys(events.sign_in_failures, SIGN_IN)
    kinds |= dict.fromkeys(events.lock_outs, LOCK_OUT) | dict.fromkeys(events.privilege_changes, PRIVILEGE)
    for event in read:
        name = event.event if kinds.get(event.event) == PRIVILEGE else pseudonym(event.fields.get(events.subject))
        yield kinds.get(event.event, MALFORMED), event.time, name


_PSEUDONYM = re.compile(r"[0-9a-f]{8,128}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def pseudonym(value: object) -> str:
    """A pseudonym is a hash or a UUID; anything else could be a person and is not shown.

    >>> pseudonym("9f86d081884c7d65"), pseudonym("dana@example.com"), pseudonym(None)
    ('9f86d081884c', 'not a pseudonym', 'nobody named')
    """
    if value in (None, ""):
        return "nobody named"
    text = str(value)
    return text[:12] if _PSEUDONYM.fullmatch(text) else "not a pseudonym"


def _of_postgres(read: Iterator[LogEvent]) -> Iterator[Seen]:
    for event in read:
        if event.event == MALFORMED:
            yield MALFORMED, event.time, ""
        elif event.event == "postgresql.fatal":
            if event.fields.get("state_code") in ("28000", "28P01"):
                yield REFUSED_SIGN_IN, event.time, f"role {event.fields.get('user', 'unknown')}"
        else:
            user = event.fields.get("user", "unknown")
            for what, powerful in privilege_changes(str(event.fields.get("message", ""))):
                yield PRIVILEGE, event.time, f"{what} by {user}"
                if powerful:
                    yield POWER, event.time, f"{what} by {user}"


_CHANGE = re.compile(
    r"(?:^|;)\s*(GRANT|REVOKE|(?:CREATE|ALTER|DROP)\s+(?:ROLE|USER|GROUP)(?!\s+MAPPING)|ALTER\s+DEFAULT\s+PRIVILEGES"
    r"|REASSIGN\s+OWNED)\b([^;]*)",
    re.IGNORECASE,
)
_POWER = re.compile(
    r"(?<!NO)\b(SUPERUSER|CREATEROLE|BYPASSRLS|PG_EXECUTE_SERVER_PROGRAM|PG_WRITE_SERVER_FILES|PG_READ_SERVER_FILES"
    r"|PG_WRITE_ALL_DATA|PG_READ_ALL_DATA)\b",
    re.IGNORECASE,
)


def privilege_changes(message: str) -> list[tuple[str, bool]]:
    r"""What a logged statement changes in roles and privileges, by its kind, and whether it hands out great power.

    The statement's text is not kept: it may hold a password.

    >>> privilege_changes("statement: GRANT SELECT ON a TO b; -- REVOKE x\nalter role b PASSWORD 'secret'")
    [('GRANT', False), ('ALTER ROLE', False)]
    >>> privilege_changes("statement: ALTER ROLE b SUPERUSER; CREATE ROLE c NOSUPERUSER")
    [('ALTER ROLE', True), ('CREATE ROLE', False)]
    >>> privilege_changes("statement: SELECT '/*', E'\\'--', $$/*$$; GRANT \"pg_read_all_data\" TO b; SELECT '*/'")
    [('GRANT', True)]
    >>> privilege_changes("statement: DO $$BEGIN NULL; GRANT a TO b; END$$; SELECT 'x; GRANT a TO b'")
    [('GRANT', False)]
    >>> privilege_changes("connection received: host=127.0.0.1")
    []
    """
    found = re.match(r"(?:statement|execute [^:]*): ", message)
    if found is None:
        return []
    statement = bare(message[found.end() :])
    return [
        (" ".join(change[1].upper().split()), bool(_POWER.search(change[2]))) for change in _CHANGE.finditer(statement)
    ]


# --- Rules ---

FAILURES = Check("security.sign_in_failures", "Sign-in failures", "who is behind the top pseudonyms? block the source")
LOCK_OUTS = Check(
    "security.lock_outs", "Lock-outs", "many at once is guessing: block the source; one is a customer to help"
)
PRIVILEGES = Check("security.privilege_changes", "Privilege changes", "who ordered it? take it back if nobody did")
POWERFUL = Check(
    "security.powerful_grants", "Grants of great power", "who ordered it? REVOKE it, or NOSUPERUSER, if nobody did"
)
REFUSED = Check(
    "security.database_sign_ins", "Database sign-ins refused", "which host does it come from? PostgreSQL's log"
)
LINES = Check("security.log_lines", "Log lines", "read the lines that are not JSON: what wrote them?")
LOG = Check("security.log", "Log", "`log` in platform.toml names it; may this user read it?")
LOGGED = Check(
    "security.statement_logging", "Statement logging", "ALTER SYSTEM SET log_statement = 'ddl'; SELECT pg_reload_conf()"
)
_FAILURES_PER_LOCK_OUT = 10


def window(now: dt.datetime, zone: str, *, last_24h: bool, since: str, until: str) -> tuple[dt.datetime, dt.datetime]:
    """From when to when: the last 24 hours unless said otherwise. A time without a zone is the platform's.

    Raises:
        UsageError: what was written is no time, or the two are the wrong way round.

    >>> now = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
    >>> start, end = window(now, "America/New_York", last_24h=False, since="2026-07-01T06:00", until="")
    >>> start.isoformat(), end == now
    ('2026-07-01T10:00:00+00:00', True)
    """
    if last_24h and (since or until):
        raise UsageError("--last-24h and --since or --until exclude each other", hint="leave one of them out")
    end = _time(until, zone, "--until") if until else now
    start = _time(since, zone, "--since") if since else end - _DAY
    if start >= end:
        raise UsageError(f"--since ({start}) is not before the end ({end})", hint="swap the two")
    return start, end


def _time(written: str, zone: str, flag: str) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(written)
    except ValueError:
        raise UsageError(f"{flag} {written!r} is no time", hint='write it like "2026-07-01T06:00"') from None
    return (time if time.tzinfo else time.replace(tzinfo=zoneinfo.ZoneInfo(zone))).astimezone(dt.UTC)


def security_findings(
    readings: Iterable[LogReading], logging: str, start: dt.datetime, end: dt.datetime, limits: Limits
) -> list[Finding]:
    """All lines: what was seen, how dense it was, and what could not be seen."""
    findings: list[Finding] = []
    for reading in readings:
        if reading.trouble:
            findings.append(LOG.unknown(reading.trouble, subject=reading.source))
        else:
            findings.append(_covers(reading, start, end))
            findings += [_tally(reading.source, tally, limits) for tally in reading.tallies]
            findings.append(_lines(reading))
        if reading.database:
            findings.append(logging_finding(reading.source, logging))
    return findings or [LOG.unknown("platform.toml names no log with security events")]


def _covers(reading: LogReading, start: dt.datetime, end: dt.datetime) -> Finding:
    """How much of the time is in the log."""
    if reading.begins is None:
        return LOG.unknown("the log is empty", subject=reading.source)
    covered = Seconds(max((end - max(reading.begins, start)).total_seconds(), 0))
    asked = Count(round((end - start).total_seconds() / 3600, 1))
    return LOG.finding(Verdict.OK, f"{covered} of {asked} h are in it", subject=reading.source)


def _tally(source: str, tally: Tally, limits: Limits) -> Finding:
    observed = f"{tally.count:,}" + (f", at most {tally.peak} a minute; {_seen(tally)}" if tally.count else "")
    if tally.kind == PRIVILEGE:  # listed for whoever reviews them
        return PRIVILEGES.finding(Verdict.OK, observed, subject=source)
    if tally.kind == POWER:
        return POWERFUL.finding(Verdict.WARNING if tally.count else Verdict.OK, observed, subject=source)
    limit = limits.failed_sign_ins_per_minute
    if tally.kind == LOCK_OUT:
        limit = Bound(
            warning=Count(limit.warning / _FAILURES_PER_LOCK_OUT),
            critical=Count(limit.critical / _FAILURES_PER_LOCK_OUT),
        )
    check = {SIGN_IN: FAILURES, LOCK_OUT: LOCK_OUTS, REFUSED_SIGN_IN: REFUSED}[tally.kind]
    return check.at_most(Count(tally.peak), limit, subject=source, observed=observed)


def _seen(tally: Tally) -> str:
    top = ", ".join(f"{name} ({count})" for name, count in tally.top)
    more = f" and {tally.different - len(tally.top)} more" if tally.different > len(tally.top) else ""
    times = f"{tally.first:%d %b %H:%M} to {tally.last:%H:%M} UTC" if tally.first and tally.last else ""
    return f"top: {top}{more}; {times}"


def _lines(reading: LogReading) -> Finding:
    bad = reading.malformed
    observed = f"{bad:,} malformed" if bad else "all well-formed"
    return LINES.finding(Verdict.WARNING if bad else Verdict.OK, observed, subject=reading.source)


def logging_finding(source: str, setting: str) -> Finding:
    """Whether PostgreSQL logs what changes roles and privileges.

    >>> [logging_finding("db-1", setting).verdict.name for setting in ("ddl", "all", "none", "db-1 does not answer")]
    ['OK', 'OK', 'UNKNOWN', 'UNKNOWN']
    """
    if setting in ("ddl", "mod", "all"):
        return LOGGED.finding(Verdict.OK, f"log_statement = {setting}", subject=source)
    if setting == "none":
        return LOGGED.unknown("log_statement = none: changes of privileges leave no trace", subject=source)
    return LOGGED.unknown(setting, subject=source)


# --- Procedures ---


@procedure("security-events-summary", script="security_events_summary.py")
def security_events_summary(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, last_24h: bool = False, since: str = "", until: str = ""
) -> None:
    """Sum up the security events of the logs: sign-in failures, lock-outs, changes of privileges.

    People appear as the pseudonyms that the logs have of them. Rotated files are read too.

    Args:
        last_24h: the last 24 hours, which is also what is meant when no time is given
        since: from this time on, like "2026-07-01T06:00"; without a zone it is the platform's
        until: up to this time
    """
    zone = target.manifest.platform.time_zone
    start, end = window(run.started, zone, last_24h=last_24h, since=since, until=until)
    readings = run.read(security_events, target, start, end)
    logging = run.read(statement_logging, target)
    findings = security_findings(readings, logging, start, end, target.manifest.limits)
    run.conclude(findings)
