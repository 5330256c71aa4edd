"""Tables of the primary: rows that are dead, pages that hold none, and tables that the planner knows nothing of."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import TargetError
from nvcops.core.manifest import DatabaseLimits, Limits, Manifest
from nvcops.core.units import Bytes, Count, Ratio
from nvcops.database.topics import Answers, judged, listed, many, then, unknown, unread

_SQL = queries.load("nvcops.database.checks", "tables.sql")
ASKED = {**_SQL, "measured": _SQL["measured"].replace("{large}", _SQL["large"])}

# --- Facts ---


class Table(msgspec.Struct, frozen=True):
    """A table: rows alive and dead."""

    name: str
    live: float
    dead: float


class Unanalyzed(msgspec.Struct, frozen=True):
    """A table without statistics: rows as far as they were counted, and its size."""

    name: str
    rows: float
    bytes: float


class Large(msgspec.Struct, frozen=True, kw_only=True):
    """One of the largest tables. `fresh`: its statistics are; `counted`: so are `live` and `dead`.

    `rows` is what the statistics say, `width` the bytes of one, None where nobody may tell; `fill` is its fillfactor.
    """

    oid: int
    name: str
    bytes: float
    block: float = 8192.0
    toast: bool = False
    rows: float = 0.0
    live: float = 0.0
    dead: float = 0.0
    fresh: bool = True
    counted: bool = True
    locked: bool = False
    unseen: float = 0.0
    width: float | None = None
    fill: float = 1.0

    @property
    def title(self) -> str:
        """Its name, and whether it is only the table's TOAST."""
        return f"{self.name} (TOAST)" if self.toast else self.name


class Measured(msgspec.Struct, frozen=True):
    """What was found in a table's pages: bytes that it takes, and that its rows need."""

    oid: int
    bytes: float
    needed: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why. `remedy` is what lets us measure tables."""

    unread: dict[str, str] = {}
    remedy: str = ""
    tables: tuple[Table, ...] = ()
    never_analyzed: tuple[Unanalyzed, ...] = ()
    large: tuple[Large, ...] = ()
    measured: tuple[Measured, ...] = ()


def parsed(answers: Answers) -> Seen:
    """The rows as types."""
    refused = answers.get("measured")
    return Seen(
        unread=unread(answers),
        remedy=(refused.hint or _GRANT) if isinstance(refused, TargetError) else "",
        tables=many(answers, "tables", Table),
        never_analyzed=many(answers, "never_analyzed", Unanalyzed),
        large=many(answers, "large", Large),
        measured=many(answers, "measured", Measured),
    )


# --- Rules ---

DEAD = Check("performance.dead_rows", "Dead rows", "VACUUM (ANALYZE) {name}; does an old transaction hold it up?")
BLOAT = Check(
    "database.table_bloat",
    "Table bloat",
    "VACUUM {name} lets new rows in; only pg_repack, or VACUUM (FULL) in a maintenance window, gives the disk back",
)
NEVER = Check("database.never_analyzed", "Tables never analysed", "ANALYZE {name}: without it each plan is a guess")
CHECKS = (DEAD, BLOAT, NEVER)
_GRANT = "GRANT pg_stat_scan_tables TO the user of nvcops"
_MEASURE = (
    "SELECT * FROM pgstattuple_approx('{name}') measures it in its own time; ANALYZE {name} renews its statistics"
)
_DEAD_MIN = 50_000  # fewer are vacuumed in a blink
_DEAD_TELLS = 0.2  # from this share on, dead rows alone are told as bloat where nothing better is known
_UNANALYZED_ROWS, _UNANALYZED_BYTES = 50_000, 8 << 20
_PAGE_HEADER = 24


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about the tables of one primary."""
    limits = manifest.database.limits if manifest.database else DatabaseLimits()
    lines = {
        "tables": ((DEAD,), lambda: [dead_rows_finding(seen.tables, manifest.limits)]),
        "large": ((BLOAT,), lambda: [bloat_finding(seen, limits)]),
        "never_analyzed": ((NEVER,), lambda: [never_analyzed_finding(seen.never_analyzed)]),
    }
    return judged(lines, seen.unread, name)


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


class Judged(msgspec.Struct, frozen=True):
    """A table, the bytes that its rows need at its fillfactor, and how that is known."""

    table: Large
    bytes: float
    needed: float
    how: str

    @property
    def wasted(self) -> float:
        """Bytes that hold no living row."""
        return max(self.bytes - self.needed, 0.0)

    @property
    def share(self) -> Ratio:
        """What of it that is."""
        return Ratio(self.wasted / self.bytes if self.bytes else 0.0)


def weighed(table: Large, measured: Measured | None) -> Judged | None:
    """What a table's rows need: as measured, else by fresh statistics, else by its dead rows; None: nobody knows.

    >>> def how(**more):
    ...     found = weighed(Large(oid=1, name="a", bytes=8192e3, live=9, dead=1, **more), None)
    ...     return found and (found.how, f"{found.share:.2f}")
    >>> how(rows=10_000, width=64.0), how(rows=10_000, width=64.0, fresh=False, counted=False)
    (('by its statistics', '0.92'), None)
    >>> weighed(Large(oid=1, name="a", bytes=100.0, live=1, dead=9, fresh=False), None).how
    'by its dead rows'
    >>> weighed(Large(oid=1, name="a", bytes=100.0, fill=0.5), Measured(1, 100.0, 40.0)).share
    0.2
    """
    if measured is not None:
        return Judged(table, measured.bytes, measured.needed / table.fill, "measured")
    if table.fresh and table.width is not None:
        fit = max((table.block - _PAGE_HEADER) * table.fill // table.width, 1)
        return Judged(table, table.bytes, table.rows / fit * table.block, "by its statistics")
    dead = table.dead / max(table.live + table.dead, 1)
    if table.counted and dead >= _DEAD_TELLS:
        return Judged(table, table.bytes, table.bytes * (1 - dead), "by its dead rows")
    return None


def bloat_finding(seen: Seen, limits: DatabaseLimits) -> Finding:
    """The table with the largest share of pages that hold nothing. Old statistics are not believed.

    >>> def line(needed, **more):
    ...     table = Large(oid=1, name="bank.entry", bytes=2.0**30, fresh=False, **more)
    ...     found = () if needed is None else (Measured(1, 2.0**30, 2.0**30 * needed),)
    ...     return bloat_finding(Seen(large=(table,), measured=found), DatabaseLimits())
    >>> [line(needed).verdict.name for needed in (0.51, 0.5, 0.21, 0.2)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    >>> line(0.1).observed, line(None).verdict.name, line(None, locked=True).verdict.name
    ('90 %, 922 MiB of 1 GiB, measured', 'UNKNOWN', 'UNKNOWN')
    """
    found = {one.oid: one for one in seen.measured}
    tables = [table for table in seen.large if table.bytes >= limits.table_bloat_min]
    weights = {table.oid: weighed(table, found.get(table.oid)) for table in tables}
    known = [one for one in weights.values() if one is not None and one.wasted >= limits.table_bloat_min]
    bloated = sorted((one for one in known if one.share >= limits.table_bloat.warning), key=lambda one: -one.share)
    untold = [table for table in tables if weights[table.oid] is None]
    stale = [table for table in untold if not table.fresh]
    if bloated:
        worst = bloated[0]
        observed = f"{worst.share}, {Bytes(worst.wasted)} of {Bytes(worst.bytes)}, {worst.how}"
        observed += f"; also {listed([one.table.title for one in bloated[1:]])}" if bloated[1:] else ""
        finding = BLOAT.at_most(worst.share, limits.table_bloat, subject=worst.table.title, observed=observed)
        return then(finding, name=worst.table.name)
    if stale:
        return _untold(stale, seen)
    observed = "none" + (
        f"; of {len(untold)} it is not known: {listed([t.title for t in untold], 3)}" if untold else ""
    )
    return BLOAT.at_most(Ratio(0), limits.table_bloat, observed=observed)


def _untold(stale: Sequence[Large], seen: Seen) -> Finding:
    """Old statistics say nothing, and the tables could not be measured: why not, and what helps."""
    first = max(stale, key=lambda table: table.bytes)
    why = seen.unread.get("measured", "")
    if not why:
        why = "somebody holds all of it" if first.locked else f"{Bytes(first.bytes)} take too long to be measured here"
    observed = f"statistics are old of {listed([table.title for table in stale])}: {why}"
    step = seen.remedy or _MEASURE.format(name=first.name)
    return unknown(BLOAT, observed, step, subject=first.title)


def never_analyzed_finding(tables: Sequence[Unanalyzed]) -> Finding:
    """Large tables that the planner knows nothing of.

    >>> def verdict(rows, size): return never_analyzed_finding([Unanalyzed("bank.entry", rows, size)]).verdict.name
    >>> verdict(49_999, 2**23 - 1), verdict(50_000, 0), verdict(0, 2**23)
    ('OK', 'WARNING', 'WARNING')
    """
    many = [table for table in tables if table.rows >= _UNANALYZED_ROWS or table.bytes >= _UNANALYZED_BYTES]
    if not many:
        return NEVER.finding(Verdict.OK, "none that is large")
    worst = many[0]
    observed = f"{Count(worst.rows)} rows, {Bytes(worst.bytes)}"
    observed += f"; also {listed([table.name for table in many[1:]])}" if many[1:] else ""
    return then(NEVER.finding(Verdict.WARNING, observed, subject=worst.name), name=worst.name)
