"""The servers: do they answer, are their roles right, do the standbys follow. The daily health check reads this too."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import TargetError
from nvcops.core.manifest import Limits
from nvcops.core.queries import Rows
from nvcops.core.target import Database, Target
from nvcops.core.together import side_by_side
from nvcops.core.units import Bytes, Ratio, Seconds

_SQL = queries.load("nvcops.database", "servers.sql")
_LOOKS_MAX = 10

# --- Facts ---


class Sender(msgspec.Struct, frozen=True):
    """A connection on which a standby receives the WAL."""

    name: str
    state: str
    sync_state: str


class Slot(msgspec.Struct, frozen=True):
    """A replication slot and how much WAL is kept for it."""

    name: str
    active: bool
    wal_status: str
    kept_bytes: int


class ServerState(msgspec.Struct, frozen=True):
    """What a server says of itself. `position` is in bytes of WAL: written by a primary, replayed by a standby."""

    in_recovery: bool
    now: dt.datetime
    version: str
    connections: int
    connections_max: int
    position: int
    paused: bool
    receiver: str
    replayed_s: float | None


class ServerReading(msgspec.Struct, frozen=True, kw_only=True):
    """One server of the manifest: its state, or the trouble with reading it. `offset_s`: its clock minus ours."""

    name: str
    standby: bool
    trouble: str = ""
    state: ServerState | None = None
    offset_s: float = 0.0
    senders: tuple[Sender, ...] = ()
    slots: tuple[Slot, ...] = ()


def servers(target: Target) -> list[ServerReading]:
    """Ask the primary and its standbys what they are and how they do."""
    if target.database is None:
        return []
    # Once: where a cluster chooses its primary, the roles may be others a moment later.
    primary_now, standbys_now = target.database, list(target.standbys)
    databases = [primary_now, *standbys_now]

    def ask(database: Database) -> ServerReading:
        return _read(target, database, standby=database is not primary_now)

    readings = [
        ServerReading(name=database.name, standby=database is not primary_now, trouble=answer.sentence)
        if isinstance(answer, TargetError)
        else answer
        for database, answer in zip(databases, side_by_side(ask, databases), strict=True)
    ]
    primary = readings[0]
    pairs = zip(standbys_now, readings[1:], strict=True)
    return [primary, *(_caught_up(target, database, primary, standby) for database, standby in pairs)]


def _read(target: Target, database: Database, *, standby: bool) -> ServerReading:
    names = ("server",) if standby else ("server", "senders", "slots")
    before = target.host.now()
    answers = {name: _rows(answer) for name, answer in database.read({name: _SQL[name] for name in names}).items()}
    middle = before + (target.host.now() - before) / 2
    state = msgspec.convert(answers["server"][0], ServerState)
    return ServerReading(
        name=database.name,
        standby=standby,
        state=state,
        offset_s=(state.now - middle).total_seconds(),
        senders=msgspec.convert(answers.get("senders", []), tuple[Sender, ...]),
        slots=msgspec.convert(answers.get("slots", []), tuple[Slot, ...]),
    )


def _rows(answer: Rows | TargetError) -> Rows:
    if isinstance(answer, TargetError):
        raise answer
    return answer


def _caught_up(target: Target, database: Database, primary: ServerReading, standby: ServerReading) -> ServerReading:
    """Look again while the standby has not reached where the primary was: some milliseconds behind is no lag."""
    for _ in range(_LOOKS_MAX):
        if not (primary.state and standby.state) or standby.state.position >= primary.state.position:
            break
        if standby.state.paused or standby.state.receiver != "streaming":
            break  # it will not come nearer while we look
        try:
            standby = _read(target, database, standby=True)
        except TargetError as error:
            return ServerReading(name=standby.name, standby=True, trouble=error.sentence)
    return standby


# --- Rules ---

ANSWERS = Check("database.server", "Database server", "psql -h HOST -p PORT; its log; is the process there?")
ROLE = Check("database.role", "Database role", "decide which server is the primary before anything writes to two")
CONNECTIONS = Check("database.connections", "Connections", "scripts/db_performance_check.py shows who holds them")
CLOCK = Check("database.clock", "Database clock", "timedatectl on its host: is the time synchronised?")
RECEIVER = Check(
    "database.receiver", "WAL receiver", "its log says why; primary_conninfo and pg_hba.conf of the primary"
)
REPLAY = Check(
    "database.replay", "WAL replay", "SELECT pg_wal_replay_resume() on the standby, when nobody needs the pause"
)
LAG = Check(
    "database.replication_lag", "Replication lag", "scripts/db_performance_check.py; is the standby's disk busy?"
)
STANDBYS = Check("database.standbys", "Standbys streaming", "SELECT * FROM pg_stat_replication; start the standby")
SLOTS = Check(
    "database.slots", "Replication slots", "SELECT pg_drop_replication_slot(NAME) when its standby is gone for good"
)
_FULL = ("too many clients", "connection slots are reserved", "too many connections")


def server_findings(readings: Sequence[ServerReading], limits: Limits) -> list[Finding]:
    """All lines about the servers; what cannot be known of one that does not answer is UNKNOWN."""
    findings = [finding for reading in readings for finding in _of_one(reading, limits)]
    standbys = [reading for reading in readings if reading.standby]
    if standbys:
        primary = readings[0]
        findings += [finding for standby in standbys for finding in _following(standby, primary, limits)]
        findings += _sending(primary, len(standbys))
    return findings


def replication_findings(readings: Sequence[ServerReading], limits: Limits) -> list[Finding]:
    """The lag of each standby."""
    return [lag_finding(reading, readings[0], limits) for reading in readings if reading.standby]


def _of_one(reading: ServerReading, limits: Limits) -> list[Finding]:
    name, state = reading.name, reading.state
    if state is None:
        unread = [check.unknown("the server does not answer", subject=name) for check in (ROLE, CLOCK)]
        full = any(words in reading.trouble for words in _FULL)
        connections = (
            CONNECTIONS.finding(Verdict.CRITICAL, "none is free", subject=name)
            if full
            else CONNECTIONS.unknown("the server does not answer", subject=name)
        )
        return [ANSWERS.finding(Verdict.CRITICAL, reading.trouble, subject=name), connections, *unread]
    used = Ratio(state.connections / max(state.connections_max, 1))
    written = f"{state.connections} of {state.connections_max} ({used})"
    return [
        ANSWERS.finding(Verdict.OK, f"PostgreSQL {state.version}", subject=name),
        CONNECTIONS.at_most(used, limits.connections, subject=name, observed=written),
        role_finding(reading),
        CLOCK.at_most(Seconds(abs(reading.offset_s)), limits.clock_offset, subject=name),
    ]


def role_finding(reading: ServerReading) -> Finding:
    """A primary writes, a standby replays; the other way round is CRITICAL."""
    expected = "standby" if reading.standby else "primary"
    actual = "standby" if reading.state and reading.state.in_recovery else "primary"
    verdict = Verdict.OK if actual == expected else Verdict.CRITICAL
    return ROLE.finding(verdict, actual, subject=reading.name, limit=expected)


def _following(standby: ServerReading, primary: ServerReading, limits: Limits) -> list[Finding]:
    state, name = standby.state, standby.name
    if state is None:
        return [check.unknown("the standby does not answer", subject=name) for check in (RECEIVER, REPLAY, LAG)]
    receiving = state.receiver == "streaming"
    return [
        RECEIVER.finding(
            Verdict.OK if receiving else Verdict.CRITICAL,
            state.receiver or "does not run",
            subject=name,
            limit="streaming",
        ),
        REPLAY.finding(
            Verdict.WARNING if state.paused else Verdict.OK, "paused" if state.paused else "goes on", subject=name
        ),
        lag_finding(standby, primary, limits),
    ]


def lag_finding(standby: ServerReading, primary: ServerReading, limits: Limits) -> Finding:
    """How far a standby is behind the primary, in time and in bytes."""
    if standby.state is None or primary.state is None:
        silent = primary.name if primary.state is None else standby.name
        return LAG.unknown(f"{silent} does not answer", subject=standby.name)
    behind = max(primary.state.position - standby.state.position, 0)
    if behind == 0:
        return LAG.at_most(Seconds(0), limits.replication_lag, subject=standby.name, observed="none")
    if standby.state.replayed_s is None:
        return LAG.finding(Verdict.CRITICAL, f"{Bytes(behind)}, nothing was replayed yet", subject=standby.name)
    lag = Seconds(standby.state.replayed_s)
    return LAG.at_most(lag, limits.replication_lag, subject=standby.name, observed=f"{lag}, {Bytes(behind)}")


def _sending(primary: ServerReading, expected: int) -> list[Finding]:
    if primary.state is None:
        return [check.unknown("the primary does not answer", subject=primary.name) for check in (STANDBYS, SLOTS)]
    streaming = sum(sender.state == "streaming" for sender in primary.senders)
    verdict = Verdict.OK if streaming >= expected else Verdict.CRITICAL
    observed = f"{streaming} of {expected}"
    return [STANDBYS.finding(verdict, observed, subject=primary.name), slots_finding(primary.name, primary.slots)]


def slots_finding(name: str, slots: Sequence[Slot]) -> Finding:
    """A slot that lost its WAL is CRITICAL: its standby must be made anew; one that nobody uses is a WARNING.

    >>> slots_finding("db-1", [Slot("db_2", True, "reserved", 0)]).verdict.name
    'OK'
    >>> slots_finding("db-1", [Slot("db_2", False, "extended", 2**20)]).observed
    'db_2 is not used and keeps 1 MiB of WAL'
    >>> slots_finding("db-1", [Slot("db_2", False, "lost", 0)]).verdict.name
    'CRITICAL'
    """
    lost = [slot for slot in slots if slot.wal_status in ("lost", "unreserved")]
    if lost:
        return SLOTS.finding(Verdict.CRITICAL, f"{lost[0].name} is {lost[0].wal_status}: its WAL is gone", subject=name)
    unused = [slot for slot in slots if not slot.active]
    if unused:
        kept = Bytes(unused[0].kept_bytes)
        return SLOTS.finding(Verdict.WARNING, f"{unused[0].name} is not used and keeps {kept} of WAL", subject=name)
    return SLOTS.finding(Verdict.OK, f"{len(slots)}, all used", subject=name)
