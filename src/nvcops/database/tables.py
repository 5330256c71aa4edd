"""Tables of the primary: rows that are dead, and large ones that are read from end to end."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import Limits, Manifest
from nvcops.core.units import Bytes, Count, Ratio
from nvcops.database.topics import Answers, many, then, unknown, unread

ASKED = queries.load("nvcops.database", "tables.sql")

# --- Facts ---


class Table(msgspec.Struct, frozen=True):
    """A table: rows alive and dead, how often it was scanned and looked up, its size."""

    name: str
    live: float
    dead: float
    scans: float
    scanned: float
    lookups: float
    bytes: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why."""

    unread: dict[str, str] = {}
    tables: tuple[Table, ...] = ()


def parsed(answers: Answers) -> Seen:
    """The rows as types."""
    return Seen(unread=unread(answers), tables=many(answers, "tables", Table))


# --- Rules ---

DEAD = Check("performance.dead_rows", "Dead rows", "VACUUM (ANALYZE) {name}; does an old transaction hold it up?")
SCANS = Check("performance.scans", "Scans of large tables", "EXPLAIN the statements on {name}: is an index missing?")
CHECKS = (DEAD, SCANS)
_DEAD_MIN = 50_000  # fewer are vacuumed in a blink
_LARGE_BYTES = 64 * 2**20
_SCANS_MIN = 100
_SCANS_SHARE = 0.1


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about the tables of one primary."""
    if "tables" in seen.unread:
        return [unknown(check, seen.unread["tables"], subject=name) for check in CHECKS]
    return [dead_rows_finding(seen.tables, manifest.limits), scans_finding(seen.tables)]


def dead_rows_finding(tables: Sequence[Table], limits: Limits) -> Finding:
    """The table with the largest share of dead rows, among those with many."""
    many = [table for table in tables if table.dead >= _DEAD_MIN]
    worst = max(many, key=lambda table: table.dead / (table.dead + table.live), default=None)
    if worst is None:
        observed = f"no table has {_DEAD_MIN:,} of them"
        return DEAD.at_most(Ratio(0), limits.dead_rows, observed=observed)
    ratio = Ratio(worst.dead / (worst.dead + worst.live))
    finding = DEAD.at_most(ratio, limits.dead_rows, subject=worst.name, observed=f"{ratio}, {Count(worst.dead)} rows")
    return then(finding, name=worst.name)


def scans_finding(tables: Sequence[Table]) -> Finding:
    """Large tables that are read from end to end again and again.

    >>> def verdict(scans, size): return scans_finding([Table("a", 1, 0, scans, 9, 900, size)]).verdict.name
    >>> verdict(99, 2**30), verdict(100, 2**30), verdict(100, 2**20)
    ('OK', 'WARNING', 'OK')
    """
    scanned = [
        table
        for table in tables
        if table.bytes >= _LARGE_BYTES
        and table.scans >= _SCANS_MIN
        and table.scans >= _SCANS_SHARE * (table.scans + table.lookups)
    ]
    worst = max(scanned, key=lambda table: table.scanned, default=None)
    if worst is None:
        return SCANS.finding(Verdict.OK, "none")
    observed = f"{Count(worst.scans)} of {Bytes(worst.bytes)} each"
    return then(SCANS.finding(Verdict.WARNING, observed, subject=worst.name), name=worst.name)
