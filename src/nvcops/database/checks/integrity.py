"""Whether the rows can be relied upon: checksums, and rules that are switched off. Of the books, that is CRITICAL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import Manifest
from nvcops.database.topics import Answers, listed, many, then, unknown, unread
from nvcops.database.written import is_like

ASKED = queries.load("nvcops.database.checks", "integrity.sql")
OF_STANDBYS = {"checksums": ASKED["checksums"]}

# --- Facts ---


class Failed(msgspec.Struct, frozen=True):
    """Pages of a database whose checksum did not fit, and when that was last seen, in UTC."""

    database: str
    failures: int
    last: str | None = None


class Checksums(msgspec.Struct, frozen=True):
    """Whether a server's pages are checked, and where one was not what was written."""

    checked: bool
    failed: tuple[Failed, ...] = ()


class Weak(msgspec.Struct, frozen=True):
    """A table with something that weakens it: `names` are its constraints or triggers."""

    table: str
    quoted: str
    names: str = ""
    internal: bool = False


class Constraint(msgspec.Struct, frozen=True):
    """A constraint that not all rows were held against."""

    table: str
    quoted: str
    name: str
    quoted_name: str
    enforced: bool


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why. `checksums` are by server, "" is the primary.

    In their place stands why a standby did not say.
    """

    unread: dict[str, str] = {}
    checksums: dict[str, Checksums | str] = {}
    unlogged: tuple[Weak, ...] = ()
    unvalidated: tuple[Constraint, ...] = ()
    disabled: tuple[Weak, ...] = ()


def parsed(answers: Answers, standbys: Mapping[str, Answers] | None = None) -> Seen:
    """The rows as types."""
    checksums: dict[str, Checksums | str] = {}
    for name, said in {"": answers, **(standbys or {})}.items():
        rows = many(said, "checksums", Checksums)
        checksums[name] = rows[0] if rows else unread(said).get("checksums", "it did not say")
    return Seen(
        unread=unread(answers),
        checksums=checksums,
        unlogged=many(answers, "unlogged", Weak),
        unvalidated=many(answers, "unvalidated", Constraint),
        disabled=many(answers, "disabled", Weak),
    )


# --- Rules ---

FAILURES = Check(
    "database.checksum_failures",
    "Checksum failures",
    "scripts/restore_database.sh brings back what is damaged, before anything writes there; look at the disk",
)
CHECKSUMS = Check(
    "database.checksums", "Checksums", "stop the server, then pg_checksums --enable: without, damage spreads unnoticed"
)
UNLOGGED = Check("database.unlogged", "Unlogged tables", "ALTER TABLE {name} SET LOGGED")
UNVALIDATED = Check(
    "database.unvalidated", "Unvalidated constraints", "ALTER TABLE {name} VALIDATE CONSTRAINT {constraint}"
)
DISABLED = Check("database.disabled_triggers", "Disabled triggers", "ALTER TABLE {name} ENABLE TRIGGER ALL")
CHECKS = (FAILURES, CHECKSUMS, UNLOGGED, UNVALIDATED, DISABLED)
_ENFORCE = "ALTER TABLE {name} ALTER CONSTRAINT {constraint} ENFORCED"


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about what can be relied upon."""
    books = manifest.database.books if manifest.database else ()
    lines = [line for server, said in seen.checksums.items() for line in checksum_findings(server or name, said)]
    for query, check, made in (
        ("unlogged", UNLOGGED, unlogged_finding(seen.unlogged, books)),
        ("unvalidated", UNVALIDATED, unvalidated_finding(seen.unvalidated, books)),
        ("disabled", DISABLED, disabled_finding(seen.disabled, books)),
    ):
        lines.append(unknown(check, seen.unread[query], subject=name) if query in seen.unread else made)
    return lines


def checksum_findings(server: str, seen: Checksums | str) -> list[Finding]:
    """Damage that was seen on a server, and whether it would be seen at all.

    >>> [line.verdict.name for line in checksum_findings("db-1", Checksums(True))]
    ['OK', 'OK']
    >>> [line.observed for line in checksum_findings("db-1", Checksums(True, (Failed("bank", 2, "2026-07-01 08:00"),)))]
    ['2 in bank, last at 2026-07-01 08:00', 'on']
    >>> [line.verdict.name for line in checksum_findings("db-1", Checksums(False))]
    ['UNKNOWN', 'WARNING']
    """
    if isinstance(seen, str):
        return [unknown(check, seen, subject=server) for check in (FAILURES, CHECKSUMS)]
    if not seen.checked:
        unseen = FAILURES.unknown("checksums are off: nobody would notice", subject=server)
        return [unseen, CHECKSUMS.finding(Verdict.WARNING, "off", subject=server, limit="on")]
    on = CHECKSUMS.finding(Verdict.OK, "on", subject=server)
    if not seen.failed:
        return [FAILURES.finding(Verdict.OK, "none", subject=server), on]
    said = [f"{one.failures} in {one.database or 'what all databases share'}" for one in seen.failed]
    last = f", last at {seen.failed[0].last}" if seen.failed[0].last else ""
    return [FAILURES.finding(Verdict.CRITICAL, listed(said) + last, subject=server), on]


def _of_books(check: Check, tables: Sequence[str], books: Sequence[str], what: str) -> Finding | None:
    """The line about tables, the books' first; None where there are none."""
    money = [table for table in tables if is_like(table, books)]
    named = [*dict.fromkeys((*money, *tables))]
    if not named:
        return None
    more = f"; also {listed(named[1:])}" if named[1:] else ""
    verdict, where = (Verdict.CRITICAL, "the books: ") if money else (Verdict.WARNING, "")
    return check.finding(verdict, f"{where}{what}{more}", subject=named[0])


def unlogged_finding(tables: Sequence[Weak], books: Sequence[str]) -> Finding:
    """A table whose rows are gone after a crash, and after each failover.

    >>> there = [Weak("a.cache", "a.cache"), Weak("a.entry", "a.entry")]
    >>> lines = [unlogged_finding(there, books) for books in (["%.entry"], [])]
    >>> [(line.verdict.name, line.subject) for line in lines]
    [('CRITICAL', 'a.entry'), ('WARNING', 'a.cache')]
    """
    what = "a crash empties it, and a failover"
    line = _of_books(UNLOGGED, [one.table for one in tables], books, what)
    return _named(line, tables) if line else UNLOGGED.finding(Verdict.OK, "none")


def disabled_finding(tables: Sequence[Weak], books: Sequence[str]) -> Finding:
    """A table whose triggers do not fire: the rules that they keep are off, foreign keys among them."""
    ordered = sorted(tables, key=lambda one: not is_like(one.table, books))
    if not ordered:
        return DISABLED.finding(Verdict.OK, "none")
    keys = "foreign keys are not kept" if ordered[0].internal else f"{ordered[0].names[:200]} do not fire"
    line = _of_books(DISABLED, [one.table for one in ordered], books, keys)
    return _named(line, tables) if line else DISABLED.finding(Verdict.OK, "none")


def _named(line: Finding, tables: Sequence[Weak]) -> Finding:
    return then(line, name=next(one.quoted for one in tables if one.table == line.subject))


def unvalidated_finding(constraints: Sequence[Constraint], books: Sequence[str]) -> Finding:
    """A constraint that rows of before may break, or that nobody keeps.

    >>> one = Constraint("a.entry", "a.entry", "positive", "positive", True)
    >>> line = unvalidated_finding([one], ["a.%"])
    >>> line.verdict.name, line.observed, line.next_step
    ('CRITICAL', 'the books: positive is not validated', 'ALTER TABLE a.entry VALIDATE CONSTRAINT positive')
    """
    ordered = sorted(constraints, key=lambda one: (not is_like(one.table, books), one.enforced))
    if not ordered:
        return UNVALIDATED.finding(Verdict.OK, "none")
    worst = ordered[0]
    check = UNVALIDATED if worst.enforced else msgspec.structs.replace(UNVALIDATED, next_step=_ENFORCE)
    what = f"{worst.name} is not {'validated' if worst.enforced else 'enforced'}"
    line = _of_books(check, [one.table for one in ordered], books, what)
    return then(line, name=worst.quoted, constraint=worst.quoted_name) if line else check.finding(Verdict.OK, "none")
