"""Indexes of the primary: are they there, do queries use them, is one too many, one missing, one mostly air."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import Manifest
from nvcops.core.manifest.database import DatabaseLimits
from nvcops.core.units import Bytes, Count, Ratio, Seconds
from nvcops.database.topics import Answers, listed, many, then, unknown, unread
from nvcops.database.written import is_like

ASKED = queries.load("nvcops.database.checks", "indexes.sql")
OF_STANDBYS = {name: ASKED[name] for name in ("unused", "counted_since")}

# --- Facts ---


class Index(msgspec.Struct, frozen=True):
    """An index and whether queries may use it; of one that they may not, its table too, and its name as SQL has it."""

    name: str
    valid: bool
    quoted: str | None = None
    table: str | None = None


class Redundant(msgspec.Struct, frozen=True):
    """An index that `other` makes superfluous: it is the `same`, or begins with its columns."""

    name: str
    quoted: str
    other: str
    same: bool
    bytes: float


class Unused(msgspec.Struct, frozen=True):
    """An index that no query has used on a server since it began to count."""

    name: str
    quoted: str
    bytes: float


class Scanned(msgspec.Struct, frozen=True):
    """A table: how often it was read from end to end, how many rows that were, how often it was looked up."""

    name: str
    scans: float
    scanned: float
    lookups: float
    bytes: float


class Bloat(msgspec.Struct, frozen=True):
    """A b-tree: bytes that it has and that it needs; None where the width of its entries is not known to us."""

    name: str
    quoted: str
    bytes: float
    needed: float | None = None
    measured: bool = False

    @property
    def wasted(self) -> float:
        """Bytes that hold nothing."""
        return 0.0 if self.needed is None else max(self.bytes - self.needed, 0.0)

    @property
    def share(self) -> float:
        """What of it holds nothing."""
        return self.wasted / self.bytes if self.bytes else 0.0


class Counting(msgspec.Struct, frozen=True):
    """For how long a server has counted what is used, and how many standbys it has."""

    seconds: float
    standbys: int = 0


class Uses(msgspec.Struct, frozen=True, kw_only=True):
    """What is used on one server; `trouble` says why it could not be asked."""

    trouble: str = ""
    unused: tuple[Unused, ...] = ()
    counting: Counting = Counting(0.0)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why. `uses` is by server, the primary's name is ""."""

    unread: dict[str, str] = {}
    indexes: tuple[Index, ...] = ()
    redundant: tuple[Redundant, ...] = ()
    scanned: tuple[Scanned, ...] = ()
    bloat: tuple[Bloat, ...] = ()
    uses: dict[str, Uses] = {}


def parsed(answers: Answers, standbys: Mapping[str, Answers] | None = None) -> Seen:
    """The rows as types: a size that was measured takes the place of one that was estimated."""
    measured = {one.name: msgspec.structs.replace(one, measured=True) for one in many(answers, "density", Bloat)}
    estimated = {one.name: one for one in many(answers, "bloat", Bloat)}
    return Seen(
        unread=unread(answers),
        indexes=many(answers, "indexes", Index),
        redundant=many(answers, "redundant", Redundant),
        scanned=many(answers, "scanned", Scanned),
        bloat=tuple((estimated | measured).values()),
        uses={name: _uses(said) for name, said in {"": answers, **(standbys or {})}.items()},
    )


def _uses(answers: Answers) -> Uses:
    counting = many(answers, "counted_since", Counting)
    why = next((unread(answers)[name] for name in OF_STANDBYS if name in unread(answers)), "")
    if why or not counting:
        return Uses(trouble=why or "it did not say")
    return Uses(unused=many(answers, "unused", Unused), counting=counting[0])


# --- Rules ---

REQUIRED = Check("performance.required_indexes", "Required indexes", "build it again: CREATE INDEX CONCURRENTLY")
INVALID = Check("performance.invalid_indexes", "Invalid indexes", "REINDEX INDEX CONCURRENTLY {name}")
SCANS = Check("performance.scans", "Scans of large tables", "scripts/optimize_indexes.py looks for the index")
DUPLICATE = Check(
    "database.duplicate_indexes", "Duplicate indexes", "DROP INDEX CONCURRENTLY {name}: each write pays for both"
)
REDUNDANT = Check(
    "database.redundant_indexes", "Redundant indexes", "scripts/optimize_indexes.py proves that {name} can go"
)
UNUSED = Check("database.unused_indexes", "Unused indexes", "scripts/optimize_indexes.py proves that {name} can go")
BLOAT = Check("database.index_bloat", "Index bloat", "REINDEX INDEX CONCURRENTLY {name}")
CHECKS = (REQUIRED, INVALID, SCANS, DUPLICATE, REDUNDANT, UNUSED, BLOAT)
_NAMES_MAX = 10_000
_SCANS_MIN = 100
_SCANS_SHARE = 0.1
_ASK_STANDBYS = "name each standby in platform.toml, and let nvcops connect to it"


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about the indexes of one primary."""
    entry = manifest.database
    if entry is None:
        return []
    limits = entry.limits
    duplicate = [one for one in seen.redundant if one.same]
    redundant = [one for one in seen.redundant if not one.same]
    lines: dict[str, list[Callable[[], Finding]]] = {
        "indexes": [
            lambda: required_finding(seen.indexes, entry.required_indexes),
            lambda: invalid_finding(seen.indexes, entry.books),
        ],
        "scanned": [lambda: scans_finding(seen.scanned, limits)],
        "redundant": [lambda: redundant_finding(DUPLICATE, duplicate), lambda: redundant_finding(REDUNDANT, redundant)],
        "unused": [lambda: unused_finding(seen.uses, limits)],
        "bloat": [lambda: bloat_finding(seen.bloat, limits)],
    }
    checks = {"indexes": (REQUIRED, INVALID), "scanned": (SCANS,), "redundant": (DUPLICATE, REDUNDANT)}
    checks |= {"unused": (UNUSED,), "bloat": (BLOAT,)}
    made: list[Finding] = []
    for query, rules in lines.items():
        if query in seen.unread:
            made += [unknown(check, seen.unread[query], subject=name) for check in checks[query]]
        else:
            made += [rule() for rule in rules]
    return made


def required_finding(indexes: Sequence[Index], required: Sequence[str]) -> Finding:
    """Each required index is there and valid; it may be named with or without its schema.

    >>> there = [Index("bank.entry_account", True)]
    >>> required_finding(there, ["entry_account"]).verdict.name, required_finding(there, ["bank.other"]).observed
    ('OK', 'missing: bank.other')
    """
    valid = {index.name for index in indexes if index.valid}
    known = valid | {name.rpartition(".")[2] for name in valid}
    missing = [name for name in required if name not in known]
    if missing and len(indexes) >= _NAMES_MAX:
        return REQUIRED.unknown(f"not among the first {_NAMES_MAX:,} indexes: {listed(missing)}")
    if missing:
        return REQUIRED.finding(Verdict.CRITICAL, f"missing: {', '.join(missing)}", limit=f"all {len(required)}")
    return REQUIRED.finding(Verdict.OK, f"all {len(required)} are there" if required else "none are named")


def invalid_finding(indexes: Sequence[Index], books: Sequence[str]) -> Finding:
    """An index that was not built to its end costs every write and serves no read; on the books a rule may be off."""
    invalid = [index for index in indexes if not index.valid]
    if not invalid:
        return INVALID.finding(Verdict.OK, "none")
    on_books = [index for index in invalid if is_like(index.table or "", books)]
    worst = (on_books or invalid)[0]
    verdict = Verdict.CRITICAL if on_books else Verdict.WARNING
    observed = listed([index.name for index in (*on_books, *(one for one in invalid if one not in on_books))])
    observed += f", of the books' {worst.table}" if on_books else ""
    return then(INVALID.finding(verdict, observed, subject=worst.name), name=worst.quoted)


def scans_finding(tables: Sequence[Scanned], limits: DatabaseLimits) -> Finding:
    """Large tables that are read from end to end again and again: the sign of an index that is missing.

    >>> def line(scans, size): return scans_finding([Scanned("a", scans, 9, 900, size)], DatabaseLimits())
    >>> [line(scans, size).verdict.name for scans, size in ((99, 2**30), (100, 2**30), (100, 2**20))]
    ['OK', 'WARNING', 'OK']
    """
    scanned = [
        table
        for table in tables
        if table.bytes >= limits.scanned_table_min
        and table.scans >= _SCANS_MIN
        and table.scans >= _SCANS_SHARE * (table.scans + table.lookups)
    ]
    worst = max(scanned, key=lambda table: table.scanned, default=None)
    if worst is None:
        return SCANS.finding(Verdict.OK, "none")
    observed = f"{Count(worst.scans)} of {Bytes(worst.bytes)} each"
    return SCANS.finding(Verdict.WARNING, observed, subject=worst.name)


def redundant_finding(check: Check, redundant: Sequence[Redundant]) -> Finding:
    """Indexes that can go because another one does what they do; the largest is the line's subject.

    >>> one = Redundant("bank.a", "bank.a", "bank.b", True, 2**20)
    >>> line = redundant_finding(DUPLICATE, [one])
    >>> line.subject, line.observed, line.next_step[:31]
    ('bank.a', 'the same as bank.b, 1 MiB', 'DROP INDEX CONCURRENTLY bank.a:')
    """
    by_name = {one.name: one for one in reversed(redundant)}
    worst = max(by_name.values(), key=lambda one: one.bytes, default=None)
    if worst is None:
        return check.finding(Verdict.OK, "none")
    how = f"the same as {worst.other}" if worst.same else f"{worst.other} begins with its columns"
    others = [name for name in by_name if name != worst.name]
    observed = f"{how}, {Bytes(worst.bytes)}" + (f"; also {listed(sorted(others))}" if others else "")
    return then(check.finding(Verdict.WARNING, observed, subject=worst.name), name=worst.quoted)


def unused_finding(uses: Mapping[str, Uses], limits: DatabaseLimits) -> Finding:
    """Indexes that no server has used for as long as each has counted, once all have counted long enough.

    >>> big, small = Unused("s.big", "s.big", 2**30), Unused("s.small", "s.small", 2**10)
    >>> def of(seconds, *unused, **more): return Uses(unused=unused, counting=Counting(seconds, **more))
    >>> unused_finding({"": of(31 * 86400, big, small)}, DatabaseLimits()).subject
    's.big'
    >>> unused_finding({"": of(31 * 86400, big, standbys=1)}, DatabaseLimits()).verdict.name
    'UNKNOWN'
    >>> [unused_finding({"": of(31 * 86400, big), "db-2": there}, DatabaseLimits()).verdict.name
    ...  for there in (of(31 * 86400, big), of(31 * 86400), of(86400, big), Uses(trouble="it does not answer"))]
    ['WARNING', 'OK', 'OK', 'UNKNOWN']
    """
    large = [one for one in uses[""].unused if one.bytes >= limits.unused_index_min]
    counted = Seconds(min((each.counting.seconds for each in uses.values() if not each.trouble), default=0.0))
    silent = [f"{name}: {each.trouble}" for name, each in uses.items() if each.trouble]
    if not large:
        return UNUSED.finding(Verdict.OK, f"none in {counted}")
    if uses[""].counting.standbys > len(uses) - 1:
        missing = f"{uses[''].counting.standbys} standbys replay, {len(uses) - 1} could be asked"
        return unknown(UNUSED, missing, _ASK_STANDBYS)
    if silent:
        return unknown(UNUSED, silent[0], _ASK_STANDBYS)
    if counted < limits.unused_index_after:
        return UNUSED.finding(Verdict.OK, f"counted for {counted}; judged after {limits.unused_index_after}")
    everywhere = set.intersection(*({one.name for one in each.unused} for each in uses.values()))
    unused = [one for one in large if one.name in everywhere]
    if not unused:
        return UNUSED.finding(Verdict.OK, f"none in {counted}")
    where = f"on all {len(uses)} servers" if len(uses) > 1 else "on the only server"
    observed = f"no query in {counted} {where}, {Bytes(unused[0].bytes)}"
    observed += f"; also {listed([one.name for one in unused[1:]])}" if unused[1:] else ""
    return then(UNUSED.finding(Verdict.WARNING, observed, subject=unused[0].name), name=unused[0].quoted)


def bloat_finding(indexes: Sequence[Bloat], limits: DatabaseLimits) -> Finding:
    """The b-tree with the most air in it. Where nothing says how wide its entries are, nothing is claimed of it.

    >>> def line(*bloat): return bloat_finding(bloat, DatabaseLimits())
    >>> [line(Bloat("s.i", "s.i", 2**30, 2**30 * full)).verdict.name for full in (0.51, 0.5, 0.1)]
    ['OK', 'WARNING', 'CRITICAL']
    >>> line(Bloat("s.i", "s.i", 2**20, 0.0)).verdict.name, line(Bloat("s.i", "s.i", 2**30)).observed
    ('OK', 'none; not known of 1 that we may not read: s.i')
    """
    waste = [one for one in indexes if one.wasted >= limits.index_bloat_min]
    worst = max(waste, key=lambda one: one.share, default=None)
    unjudged = [one.name for one in indexes if one.needed is None]
    if worst is None:
        unknown_of = f"; not known of {len(unjudged)} that we may not read: {listed(unjudged, 3)}" if unjudged else ""
        return BLOAT.at_most(Ratio(0), limits.index_bloat, observed=f"none{unknown_of}")
    share = Ratio(worst.share)
    means = "measured" if worst.measured else "estimated"
    observed = f"{share} of {Bytes(worst.bytes)} is air ({means})"
    return then(BLOAT.at_most(share, limits.index_bloat, subject=worst.name, observed=observed), name=worst.quoted)
