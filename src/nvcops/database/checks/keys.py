"""Keys of the primary's tables: integers and sequences that come to their end, foreign keys that no index serves."""

from __future__ import annotations

from collections.abc import Sequence as Many

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import DatabaseLimits, Manifest
from nvcops.core.units import Bytes, Count, Ratio
from nvcops.database.topics import Answers, judged, listed, many, then, unknown, unread

ASKED = queries.load("nvcops.database.checks", "keys.sql")

# --- Facts ---


class Sequence(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence, and where it fills a column of 16 or 32 bits: which, how many rows it has, and the `most` it holds.

    `last` is the value drawn last; None: none was, or it is not `readable`.
    """

    name: str
    schema: str = ""
    table: str = ""
    column: str = ""
    rows: float = 0.0
    ascending: bool = True
    cycles: bool = False
    least: float = 1.0
    greatest: float = float(2**31 - 1)
    most: float | None = None
    readable: bool = True
    last: float | None = None

    @property
    def key(self) -> str:
        """The column that it fills."""
        return f"{self.table}.{self.column}"

    @property
    def used(self) -> Ratio:
        """What of the sequence is drawn.

        >>> str(Sequence(name="s", least=1, greatest=101, last=51).used)
        '50 %'
        >>> str(Sequence(name="s", ascending=False, least=-100, greatest=0, last=-90).used)
        '90 %'
        """
        if self.last is None:
            return Ratio(0)
        drawn = self.last - self.least if self.ascending else self.greatest - self.last
        return Ratio(drawn / max(self.greatest - self.least, 1))

    @property
    def filled(self) -> Ratio:
        """What its column holds of what it can hold; at least as many values as there are rows.

        >>> str(Sequence(name="s", most=2.0**31 - 1, last=2.0**30).filled)
        '50 %'
        >>> str(Sequence(name="s", most=32767, rows=32767, readable=False).filled)
        '100 %'
        """
        reached = abs(self.last) if self.last is not None else 0.0
        return Ratio(max(reached, 0.0 if self.readable else self.rows) / max(self.most or 1, 1))


class ForeignKey(msgspec.Struct, frozen=True):
    """A foreign key without an index, the size of its table, and how many rows were deleted where it points."""

    name: str
    table: str
    columns: str
    parent: str
    bytes: float
    deleted: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why."""

    unread: dict[str, str] = {}
    sequences: tuple[Sequence, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()


def parsed(answers: Answers) -> Seen:
    """The rows as types."""
    return Seen(
        unread=unread(answers),
        sequences=many(answers, "sequences", Sequence),
        foreign_keys=many(answers, "foreign_keys", ForeignKey),
    )


# --- Rules ---

SEQUENCES = Check(
    "database.sequences", "Sequences", "ALTER SEQUENCE {name} AS bigint NO MAXVALUE: at its end inserts are refused"
)
KEYS = Check(
    "database.integer_keys",
    "Integer keys",
    "make {name} a bigint by an approved change (new column, trigger, backfill): at its end inserts are refused",
)
FOREIGN_KEYS = Check(
    "database.foreign_keys",
    "Foreign keys without index",
    "CREATE INDEX CONCURRENTLY ON {table} ({columns}): each row deleted from {parent} reads all of it",
)
CHECKS = (SEQUENCES, KEYS, FOREIGN_KEYS)
_READ = "GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO the user of nvcops"


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about the keys of one primary."""
    limits = manifest.database.limits if manifest.database else DatabaseLimits()
    lines = {
        "sequences": (
            (SEQUENCES, KEYS),
            lambda: [sequences_finding(seen.sequences, limits), keys_finding(seen.sequences, limits)],
        ),
        "foreign_keys": ((FOREIGN_KEYS,), lambda: [foreign_keys_finding(seen.foreign_keys, limits)]),
    }
    return judged(lines, seen.unread, name)


def sequences_finding(sequences: Many[Sequence], limits: DatabaseLimits) -> Finding:
    """The sequence that is nearest to its end; those that begin anew have none.

    >>> def line(last, **more):
    ...     return sequences_finding([Sequence(name="a", least=0, greatest=100, last=last, **more)], DatabaseLimits())
    >>> [line(last).verdict.name for last in (74, 75, 89, 90)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    >>> line(99, cycles=True).verdict.name, line(None, readable=False, schema="bank").next_step
    ('OK', 'GRANT SELECT ON ALL SEQUENCES IN SCHEMA bank TO the user of nvcops')
    """
    own = {one.name: one for one in sequences if not one.cycles and (one.most is None or one.greatest < one.most)}
    worst = max(own.values(), key=lambda one: one.used, default=None)
    hidden = [one for one in own.values() if not one.readable]
    if hidden and (worst is None or worst.used < limits.sequence_used.warning):
        return _hidden(SEQUENCES, hidden, [one.name for one in hidden])
    if worst is None:
        return SEQUENCES.at_most(Ratio(0), limits.sequence_used, observed="none that could end")
    observed = f"{worst.used}, {Count(worst.last or 0)} of {Count(worst.greatest if worst.ascending else worst.least)}"
    finding = SEQUENCES.at_most(worst.used, limits.sequence_used, observed=observed, subject=worst.name)
    return _named(finding, name=worst.name)


def keys_finding(sequences: Many[Sequence], limits: DatabaseLimits) -> Finding:
    """The integer column that is nearest to the largest number that it can hold.

    >>> def line(last, **more):
    ...     one = Sequence(name="s", table="a", column="id", most=100, last=last, **more)
    ...     return keys_finding([one], DatabaseLimits())
    >>> [line(last).verdict.name for last in (74, 75, 89, 90)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    >>> [line(None, readable=False, rows=rows).verdict.name for rows in (74, 75)]
    ['UNKNOWN', 'WARNING']
    """
    keys = [one for one in sequences if one.most is not None and one.greatest >= one.most]
    worst = max(keys, key=lambda one: one.filled, default=None)
    hidden = [one for one in keys if not one.readable]
    if hidden and (worst is None or worst.filled < limits.sequence_used.warning):
        return _hidden(KEYS, hidden, [one.key for one in hidden])
    if worst is None:
        return KEYS.at_most(Ratio(0), limits.sequence_used, observed="none of 32 bits is filled by a sequence")
    reached = Count(worst.filled * (worst.most or 1))
    observed = f"{worst.filled}, {reached} of {Count(worst.most or 1)}"
    others = [one.key for one in keys if one is not worst and one.filled >= limits.sequence_used.warning]
    observed += f"; also {listed(others)}" if others else ""
    return _named(
        KEYS.at_most(worst.filled, limits.sequence_used, observed=observed, subject=worst.key), name=worst.key
    )


def _named(finding: Finding, **facts: object) -> Finding:
    """A line that is OK is the server's; one that is not names what is wrong."""
    if finding.verdict is Verdict.OK:
        return msgspec.structs.replace(finding, subject="")
    return then(finding, **facts)


def _hidden(check: Check, hidden: Many[Sequence], names: Many[str]) -> Finding:
    step = _READ.format(schema=hidden[0].schema)
    return unknown(check, f"{listed(sorted(names), 3)} may not be read", step)


def foreign_keys_finding(keys: Many[ForeignKey], limits: DatabaseLimits) -> Finding:
    """Large tables that are read to their end for each row that is deleted from the table they refer to.

    >>> def line(size, deleted):
    ...     key = ForeignKey("entry_account", "bank.entry", "account_id", "bank.account", size, deleted)
    ...     return foreign_keys_finding([key], DatabaseLimits())
    >>> [line(*case).verdict.name for case in ((2**26 - 1, 1), (2**26, 1), (2**26, 0))]
    ['OK', 'WARNING', 'OK']
    >>> line(2**26, 7).next_step.partition(":")[0]
    'CREATE INDEX CONCURRENTLY ON bank.entry (account_id)'
    """
    large = [key for key in keys if key.bytes >= limits.foreign_key_min]
    hurting = [key for key in large if key.deleted > 0]
    if not hurting:
        observed = f"none; {len(large)} lead to tables that lose no rows" if large else "none of a large table"
        return FOREIGN_KEYS.finding(Verdict.OK, observed)
    worst = max(hurting, key=lambda key: key.bytes)
    observed = (
        f"{worst.name} ({worst.columns}), {Bytes(worst.bytes)}; {Count(worst.deleted)} rows deleted from {worst.parent}"
    )
    observed += (
        f"; also {listed([f'{key.table} {key.name}' for key in hurting if key is not worst])}" if hurting[1:] else ""
    )
    finding = FOREIGN_KEYS.finding(Verdict.WARNING, observed, subject=worst.table)
    return then(finding, table=worst.table, columns=worst.columns, parent=worst.parent)
