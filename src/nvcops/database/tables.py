"""Tables of the primary: rows that are dead."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding
from nvcops.core.manifest import Limits, Manifest
from nvcops.core.units import Count, Ratio
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
CHECKS = (DEAD,)
_DEAD_MIN = 50_000  # fewer are vacuumed in a blink


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about the tables of one primary."""
    if "tables" in seen.unread:
        return [unknown(check, seen.unread["tables"], subject=name) for check in CHECKS]
    return [dead_rows_finding(seen.tables, manifest.limits)]


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
