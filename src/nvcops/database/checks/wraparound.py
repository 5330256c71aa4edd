"""How far the primary is from running out of transaction numbers, and who keeps old rows from being removed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import DatabaseLimits, Manifest
from nvcops.core.units import Count, Ratio, Seconds
from nvcops.database.topics import Answers, judged, many, then, unread

ASKED = queries.load("nvcops.database.checks", "wraparound.sql")

# --- Facts ---


class Frozen(msgspec.Struct, frozen=True):
    """A database, how many transactions and multixacts ago it was frozen, and at which age autovacuum must do it."""

    name: str
    xids: float
    mxids: float
    xids_max: float
    mxids_max: float


class Oldest(msgspec.Struct, frozen=True):
    """The table of this database that was frozen longest ago; `kind` is xid or mxid."""

    name: str
    kind: str
    age: float


class Emergency(msgspec.Struct, frozen=True):
    """An autovacuum against wraparound; `failsafe`: its table is so old that it leaves out indexes and all pauses."""

    pid: int
    database: str
    name: str | None
    failsafe: bool
    percent: float


class Holder(msgspec.Struct, frozen=True):
    """Who holds a snapshot or a transaction's number, `age` transactions old; `since_s` is None where nobody knows."""

    kind: str  # session, prepared, slot, standby
    name: str
    pid: int
    of: str
    age: float
    since_s: float | None = None

    @property
    def who(self) -> str:
        """Whoever it is, in words.

        >>> Holder("slot", "gone", 0, "used by nobody", 7).who
        'the replication slot gone (used by nobody)'
        >>> Holder("session", "bank", 812, "psql, idle in transaction", 7, 96).who
        'pid 812 (bank, psql, idle in transaction) for 1.6 min'
        """
        more = f" ({self.of})" if self.of else ""
        since = f" for {Seconds(max(self.since_s, 0))}" if self.since_s is not None else ""
        if self.kind == "session":
            return f"pid {self.pid} ({', '.join(filter(None, (self.name, self.of)))}){since}"
        kinds = {"prepared": "the prepared transaction", "slot": "the replication slot", "standby": "the standby"}
        feedback = "'s feedback" if self.kind == "standby" else ""
        return f"{kinds[self.kind]} {self.name}{feedback}{more}{since}"

    @property
    def remedy(self) -> str:
        """The command that lets go of it.

        >>> Holder("prepared", "it's", 0, "bank", 7).remedy
        "ROLLBACK PREPARED 'it''s' (or COMMIT) in its database, if its coordinator is gone"
        """
        literal = "'" + self.name.replace("'", "''") + "'"
        return {
            "session": f"SELECT pg_terminate_backend({self.pid})",
            "prepared": f"ROLLBACK PREPARED {literal} (or COMMIT) in its database, if its coordinator is gone",
            "slot": f"SELECT pg_drop_replication_slot({literal}) when nobody will come back for it",
            "standby": f"end the longest query on {self.name}, or set hot_standby_feedback = off there",
        }[self.kind]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why. `holders` begin with the oldest."""

    unread: dict[str, str] = {}
    databases: tuple[Frozen, ...] = ()
    oldest: tuple[Oldest, ...] = ()
    emergencies: tuple[Emergency, ...] = ()
    holders: tuple[Holder, ...] = ()


def parsed(answers: Answers) -> Seen:
    """The rows as types."""
    return Seen(
        unread=unread(answers),
        databases=many(answers, "databases", Frozen),
        oldest=many(answers, "oldest_tables", Oldest),
        emergencies=many(answers, "emergencies", Emergency),
        holders=many(answers, "holders", Holder),
    )


# --- Rules ---

XID = Check(
    "database.xid_age", "Transaction age", "who holds it up? the line Oldest snapshot; then VACUUM (FREEZE) {name}"
)
MXID = Check("database.mxid_age", "Multixact age", XID.next_step)
EMERGENCY = Check(
    "database.emergency_vacuum",
    "Vacuum against wraparound",
    "let pid {pid} finish: it yields to nobody, so change no table meanwhile",
)
XMIN = Check("database.oldest_xmin", "Oldest snapshot", "{remedy}: until then no dead row since is removed")
CHECKS = (XID, MXID, EMERGENCY, XMIN)
_LAST = float(2**31)


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about transaction numbers of one primary."""
    limits = manifest.database.limits if manifest.database else DatabaseLimits()
    lines = {
        "databases": ((XID, MXID), lambda: age_findings(seen.databases, seen.oldest, limits)),
        "emergencies": ((EMERGENCY,), lambda: [emergency_finding(seen.emergencies)]),
        "holders": ((XMIN,), lambda: [xmin_finding(seen.holders, limits)]),
    }
    return judged(lines, seen.unread, name)


def age_findings(databases: Sequence[Frozen], oldest: Sequence[Oldest], limits: DatabaseLimits) -> list[Finding]:
    """The oldest database by transactions, and by multixacts."""
    tables = {one.kind: one for one in oldest}
    return [
        age_finding(XID, [(one.name, one.xids, one.xids_max) for one in databases], tables.get("xid"), limits),
        age_finding(MXID, [(one.name, one.mxids, one.mxids_max) for one in databases], tables.get("mxid"), limits),
    ]


def age_finding(
    check: Check, ages: Sequence[tuple[str, float, float]], oldest: Oldest | None, limits: DatabaseLimits
) -> Finding:
    """Grade (database, age, age at which autovacuum must freeze), by that age and by where writing ends.

    >>> def verdict(*age): return age_finding(XID, [("bank", *age)], None, DatabaseLimits()).verdict.name
    >>> [verdict(age, 200e6) for age in (239e6, 240e6, 399e6, 400e6)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    >>> [verdict(2**31 * share, 2e9) for share in (0.399, 0.4, 0.699, 0.7)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    >>> age_finding(XID, [("bank", 3e8, 2e8)], Oldest("bank.entry", "xid", 3e8), DatabaseLimits()).observed
    'bank: 300,000,000, 150 % of where autovacuum must freeze, 14 % of where writing ends; oldest table bank.entry'
    """
    if not ages:
        return check.unknown("no database was listed")
    database, age, must = max(ages, key=lambda one: one[1])
    overdue, gone = Ratio(age / max(must, 1)), Ratio(age / _LAST)
    graded = [check.at_most(overdue, limits.freeze), check.at_most(gone, limits.wraparound)]
    worst = max(graded, key=lambda line: line.verdict)
    # Another database's tables cannot be seen from here.
    there = oldest is not None and oldest.age >= age
    table = f"; oldest table {oldest.name}" if oldest and there else ""
    observed = (
        f"{database}: {Count(age)}, {overdue} of where autovacuum must freeze, {gone} of where writing ends{table}"
    )
    of = oldest.name if oldest and there else f"(all tables of {database})"
    return then(msgspec.structs.replace(worst, observed=observed), name=of)


def emergency_finding(emergencies: Sequence[Emergency]) -> Finding:
    """A vacuum that gives way to nobody; with the failsafe it is the last one before writing ends.

    >>> emergency_finding([]).verdict.name
    'OK'
    >>> line = emergency_finding([Emergency(7, "bank", "bank.entry", True, 12.0)])
    >>> line.verdict.name, line.subject, line.observed
    ('CRITICAL', 'bank.entry', 'pid 7 is 12 % through, with the failsafe: all else is left out')
    """
    if not emergencies:
        return EMERGENCY.finding(Verdict.OK, "none")
    worst = max(emergencies, key=lambda one: one.failsafe)
    verdict = Verdict.CRITICAL if worst.failsafe else Verdict.WARNING
    observed = f"pid {worst.pid} is {worst.percent:.0f} % through"
    observed += ", with the failsafe: all else is left out" if worst.failsafe else ""
    observed += f"; {len(emergencies)} run" if len(emergencies) > 1 else ""
    subject = worst.name or f"a table of {worst.database}"
    return then(EMERGENCY.finding(verdict, observed, subject=subject), pid=worst.pid)


def xmin_finding(holders: Sequence[Holder], limits: DatabaseLimits) -> Finding:
    """The oldest snapshot, and whose it is: rows that died since stay, in every table.

    >>> def verdict(age): return xmin_finding([Holder("slot", "old", 0, "", age)], DatabaseLimits()).verdict.name
    >>> [verdict(age) for age in (4_999_999, 5_000_000, 50_000_000)]
    ['OK', 'WARNING', 'CRITICAL']
    >>> xmin_finding([], DatabaseLimits()).observed
    'nobody holds one'
    """
    if not holders:
        return XMIN.at_most(Count(0), limits.xmin_age, observed="nobody holds one")
    worst = holders[0]
    observed = f"{Count(worst.age)} transactions old, held by {worst.who}"
    return then(XMIN.at_most(Count(worst.age), limits.xmin_age, observed=observed), remedy=worst.remedy)
