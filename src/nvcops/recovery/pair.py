"""The database's cluster as a failover needs it: one primary, a synchronous standby, and a way back for the old one."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from nvcops.core.backups import ReceiverState
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.cluster import ClusterState, Member
from nvcops.core.errors import NvcopsError, Refused, TargetError
from nvcops.core.manifest import Limits
from nvcops.core.queries import Rows
from nvcops.core.runs import conduct
from nvcops.core.target import Database, Target
from nvcops.core.together import side_by_side
from nvcops.core.units import Bytes, Seconds

# --- Facts ---

_QUERIES = {
    "server": (
        "SELECT pg_is_in_recovery() AS standby, current_setting('data_checksums') = 'on'"
        " OR current_setting('wal_log_hints') = 'on' AS rewinds,"
        " current_setting('full_page_writes') = 'on' AS whole_pages"
    ),
    "slots": (
        "SELECT slot_name AS name, active, coalesce(wal_status, '') AS wal_status"
        " FROM pg_replication_slots WHERE NOT temporary ORDER BY 1 LIMIT 1000"
    ),
}
_WHOLE_AGAIN_S = 240.0
_LOOK_EVERY_S = 0.5


class Slot(msgspec.Struct, frozen=True):
    """A replication slot."""

    name: str
    active: bool
    wal_status: str


class ServerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself; `trouble`: why it says nothing. `rewinds`: pg_rewind may bring it back later."""

    name: str
    trouble: str = ""
    standby: bool = False
    rewinds: bool = False
    slots: tuple[Slot, ...] = ()


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster by its manager's word, each server by its own, and the log's backup. `trouble`: why not known."""

    trouble: str = ""
    state: ClusterState | None = None
    servers: tuple[ServerSeen, ...] = ()
    receiver: ReceiverState | None = None

    @property
    def primary(self) -> str:
        """Who has the lease; empty: nobody, or it is not known."""
        return self.state.leader if self.state else ""

    @property
    def followers(self) -> tuple[Member, ...]:
        """The members that are not primary."""
        return tuple(member for member in self.state.members if member.name != self.primary) if self.state else ()

    def server(self, name: str) -> ServerSeen | None:
        """One server."""
        return next((server for server in self.servers if server.name == name), None)


def pair_now(target: Target) -> Pair:
    """Read who is primary, who follows, and whether the log's backup goes on."""
    if target.cluster is None or target.database is None:
        return Pair(trouble="platform.toml has no [cluster]")
    try:
        state = target.cluster.state()
    except TargetError as error:
        return Pair(trouble=error.sentence)
    databases = [target.database, *target.standbys]
    servers = [
        ServerSeen(name=database.name, trouble=seen.sentence) if isinstance(seen, TargetError) else seen
        for database, seen in zip(databases, side_by_side(_server, databases), strict=True)
    ]
    return Pair(state=state, servers=tuple(servers), receiver=_receiver(target))


@conduct(deadline="5 min", idempotent=True)
def whole_again(target: Target, primary_not: str = "") -> Pair:
    """Wait until the pair is whole: one primary, all others streaming on its timeline, the log's backup too."""
    end = time.monotonic() + _WHOLE_AGAIN_S
    while True:
        pair = pair_now(target)
        wrong = [line for line in ready_findings(pair, target.manifest.limits) if line.verdict is not Verdict.OK]
        if (not wrong and pair.primary != primary_not) or time.monotonic() > end:
            return pair
        time.sleep(_LOOK_EVERY_S)


def _server(database: Database) -> ServerSeen:
    answers = {name: _rows(answer) for name, answer in database.read(_QUERIES).items()}
    said = answers["server"][0]
    return ServerSeen(
        name=database.name,
        standby=bool(said["standby"]),
        rewinds=bool(said["rewinds"] and said["whole_pages"]),
        slots=tuple(Slot(**row) for row in answers["slots"]),
    )


def _rows(answer: Rows | TargetError) -> Rows:
    if isinstance(answer, TargetError):
        raise answer
    if not isinstance(answer, list):
        raise Refused("a server answered with no rows")
    return answer


def _receiver(target: Target) -> ReceiverState | None:
    if target.backups is None:
        return None
    try:
        return target.backups.receiver()
    except NvcopsError as error:
        return ReceiverState(running=False, trouble=error.sentence)


# --- Rules ---

CLUSTER = Check("failover.cluster", "Cluster", "patronictl list; do Patroni and etcd run?")
PRIMARY = Check("failover.primary", "One primary", "patronictl list; stop whoever is primary without the lease at once")
STANDBY = Check("failover.standby", "Standby", "patronictl list; its log; is its host off? mend it, then start it")
SYNCHRONOUS = Check("failover.synchronous", "Synchronous standby", "patronictl edit-config: synchronous_mode: true")
REWIND = Check(
    "failover.rewind", "Way back for an old primary", "wal_log_hints = on, or data checksums; full_page_writes = on"
)
SLOTS = Check("failover.slots", "Slots of the primary", "SELECT pg_drop_replication_slot(NAME) when nobody needs it")
ARCHIVE = Check(
    "failover.archive", "Backup of the log", "`nvcops serve` keeps it; its own messages say why it does not"
)
LAG_MAX = Bytes(16 << 20)


def ready_findings(pair: Pair, limits: Limits) -> list[Finding]:
    """Whether the pair is whole: what a failover on purpose asks for, and what is there again after one."""
    state = pair.state
    if state is None:
        return [CLUSTER.unknown(pair.trouble)]
    return [
        cluster_finding(state),
        primary_finding(pair),
        *(standby_finding(member, state.timeline) for member in pair.followers),
        synchronous_finding(state),
        *rewind_findings(pair.servers),
        *slot_findings(pair.server(pair.primary)),
        *([archive_finding(pair.receiver, state.timeline, limits)] if pair.receiver else []),
    ]


def cluster_finding(state: ClusterState) -> Finding:
    """Nobody has told the manager to keep its hands off."""
    if state.paused:
        return CLUSTER.finding(Verdict.WARNING, "paused: nobody takes over", limit="not paused")
    return CLUSTER.finding(Verdict.OK, f"{len(state.members)} members, timeline {state.timeline}")


def primary_finding(pair: Pair) -> Finding:
    """Exactly one server takes writes, and it is the one with the lease."""
    writing = [server.name for server in pair.servers if not server.trouble and not server.standby]
    silent = [server.name for server in pair.servers if server.trouble]
    if len(writing) > 1 or (writing and writing != [pair.primary]):
        said = f"{' and '.join(writing)} take writes, {pair.primary or 'nobody'} has the lease"
        return PRIMARY.finding(Verdict.CRITICAL, said, limit="one, with the lease")
    if not writing:
        return PRIMARY.finding(Verdict.CRITICAL, "nobody takes writes", limit="one, with the lease")
    if silent:
        return PRIMARY.unknown(f"{writing[0]}; {', '.join(silent)} does not answer", subject=writing[0])
    return PRIMARY.finding(Verdict.OK, writing[0])


def standby_finding(member: Member, timeline: int) -> Finding:
    """A standby that streams, on the primary's timeline, and close behind it.

    >>> [standby_finding(Member(name="b", role="standby", state=state, timeline=2, lag_bytes=lag), 2).verdict.name
    ...  for state, lag in (("streaming", 0), ("streaming", None), ("streaming", 1 << 30), ("stopped", 0))]
    ['OK', 'UNKNOWN', 'CRITICAL', 'CRITICAL']
    """
    if member.state != "streaming" or member.timeline != timeline:
        said = f"{member.state or 'not heard of'}, timeline {member.timeline}"
        return STANDBY.finding(Verdict.CRITICAL, said, subject=member.name, limit=f"streaming, timeline {timeline}")
    if member.lag_bytes is None:
        return STANDBY.unknown("streaming; its lag is not known", subject=member.name)
    verdict = Verdict.CRITICAL if member.lag_bytes >= LAG_MAX else Verdict.OK
    said = f"streaming, {Bytes(member.lag_bytes)} behind" if member.lag_bytes else "streaming, nothing behind"
    return STANDBY.finding(verdict, said, subject=member.name, limit=f"< {LAG_MAX} behind")


def synchronous_finding(state: ClusterState) -> Finding:
    """A commit waits for a standby: who takes over has all that was acknowledged."""
    names = [member.name for member in state.members if member.synchronous]
    if not state.synchronous_mode:
        return SYNCHRONOUS.finding(Verdict.CRITICAL, "off: acknowledged writes may be lost", limit="on")
    if not names:
        return SYNCHRONOUS.finding(Verdict.CRITICAL, "none at the moment", limit="one or more")
    return SYNCHRONOUS.finding(Verdict.OK, ", ".join(names))


def rewind_findings(servers: Sequence[ServerSeen]) -> list[Finding]:
    """Each server could be rewound when it has been primary."""
    return [
        REWIND.unknown(server.trouble, subject=server.name)
        if server.trouble
        else REWIND.finding(
            Verdict.OK if server.rewinds else Verdict.WARNING,
            "can be rewound" if server.rewinds else "would have to be made anew",
            subject=server.name,
        )
        for server in servers
    ]


def slot_findings(primary: ServerSeen | None) -> list[Finding]:
    """No slot of the primary has lost its log, and each is used."""
    if primary is None or primary.trouble:
        return [SLOTS.unknown("the primary does not answer")]
    lost = [slot.name for slot in primary.slots if slot.wal_status in ("lost", "unreserved")]
    unused = [slot.name for slot in primary.slots if not slot.active]
    if lost:
        return [SLOTS.finding(Verdict.CRITICAL, f"{', '.join(lost)}: the log is gone", subject=primary.name)]
    if unused:
        return [SLOTS.finding(Verdict.WARNING, f"{', '.join(unused)}: not used", subject=primary.name)]
    return [SLOTS.finding(Verdict.OK, f"{len(primary.slots)}, all used", subject=primary.name)]


def archive_finding(receiver: ReceiverState, timeline: int, limits: Limits) -> Finding:
    """The log's backup runs, on the primary's timeline, and is not far behind."""
    if receiver.trouble or not receiver.running:
        return ARCHIVE.finding(Verdict.CRITICAL, receiver.trouble or "does not run", limit="runs")
    if receiver.timeline != timeline:
        said = f"on timeline {receiver.timeline}"
        return ARCHIVE.finding(Verdict.CRITICAL, said, limit=f"timeline {timeline}")
    lag = Seconds(receiver.lag_s or 0)
    said = f"on timeline {timeline}, {Bytes(receiver.lag_bytes)} behind"
    return ARCHIVE.at_most(lag, limits.archive_lag, observed=said)
