"""What is looked at in a restored copy, and in the live data that it is compared with, through psycopg sessions.

A constraint is checked anew by adding it a second time in a transaction that is rolled back: the server itself goes
through all rows. Uniqueness, and that each row is in its indexes, is amcheck's.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from nvcops.adapters.acknowledgements import lines_from_here, opened
from nvcops.core.clients import Told
from nvcops.core.errors import DeadlineExceeded, ManifestError, Unreachable
from nvcops.core.manifest import Acknowledgements
from nvcops.core.restores import Book, Broken, Ledger, Looked

Session = psycopg.Connection[TupleRow]
T = TypeVar("T")
_TABLES_MAX = 20_000
_BROKEN_MAX = 100
_KEYS_AT_ONCE = 5_000
_MISSING_SHOWN = 20
_SHOWN = 200
_STATEMENT_S = 4 * 3600
_QUERY = re.compile(r"^-- ([a-z][a-z0-9_-]*): *(.+)$", re.MULTILINE)

_DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND datname <> 'template0' ORDER BY datname"
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'pg\\_%%' ORDER BY 1, 2 LIMIT %s"""
_CONSTRAINTS = """
SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype IN ('c', 'f', 'x') AND k.convalidated AND k.conparentid = 0 AND k.coninhcount = 0
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2, 3 LIMIT %s"""
_NOT_NULL = """
SELECT n.nspname, c.relname, array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attnotnull AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%%'
GROUP BY 1, 2 ORDER BY 1, 2 LIMIT %s"""
# What is not there or not allowed, not supported, no memory, cancelled, locked.
_QUESTION = ("42", "0A", "53", "57", "55")
_VIOLATIONS = (psycopg.errors.IntegrityConstraintViolation, psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted)


def connected(conninfo: str, database: str, *, read_only: bool = True) -> Session:
    """A session whose way of writing values as text is always the same.

    Raises:
        Unreachable: it cannot be had.
    """
    settings = {
        "statement_timeout": f"{_STATEMENT_S}s",
        "lock_timeout": "60s",
        "timezone": "GMT",
        "datestyle": "ISO,YMD",
        "intervalstyle": "iso_8601",
        "bytea_output": "hex",
        "extra_float_digits": "1",
        "row_security": "off",
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        "default_transaction_read_only": "on" if read_only else "off",
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    try:
        return psycopg.connect(
            conninfo, dbname=database, autocommit=True, connect_timeout=10, options=options, application_name="nvcops"
        )
    except psycopg.OperationalError as error:
        raise Unreachable(f"the database {database} cannot be looked at: {first_line(error)}") from error


def databases(session: Session) -> list[str]:
    """Every database that can be connected to."""
    return [name for (name,) in session.execute(_DATABASES)]


def books(session: Session, database: str) -> list[Book]:
    """Rows and fingerprint of each table, as the session's snapshot has them.

    The fingerprint is the sum of a 64-bit hash of each row's text: in whatever order they lie, equal rows sum equally.
    """
    tables = session.execute(_TABLES, (_TABLES_MAX,)).fetchall()
    return [_book(session, database, schema, table) for schema, table in tables]


def _book(session: Session, database: str, schema: str, table: str) -> Book:
    question = sql.SQL("SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM ONLY {} t").format(
        sql.Identifier(schema, table)
    )
    name = f"{schema}.{table}"
    try:
        with session.transaction():  # a savepoint within a snapshot's transaction
            row = session.execute(question).fetchone()
    except psycopg.Error as error:
        return Book(database=database, table=name, trouble=first_line(error))
    count, total = row or (0, "0")
    return Book(database=database, table=name, rows=count, fingerprint=total)


def constraints(session: Session, database: str) -> Looked:
    """Check every constraint anew: foreign keys, checks, exclusions, columns that must not be null."""
    broken: list[Broken] = []
    stated = session.execute(_CONSTRAINTS, (_TABLES_MAX,)).fetchall()
    for schema, table, name, definition in stated:
        adding = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
            sql.Identifier(schema, table), sql.Identifier("nvcops_checks_anew"), sql.SQL(definition)
        )
        broken += _tried(session, adding, database, f"{schema}.{table}: {name}")
    required = session.execute(_NOT_NULL, (_TABLES_MAX,)).fetchall()
    for schema, table, columns in required:
        empty = sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(sql.Identifier(column)) for column in columns)
        asking = sql.SQL("SELECT 1 FROM ONLY {} WHERE {} LIMIT 1").format(sql.Identifier(schema, table), empty)
        broken += _tried(session, asking, database, f"{schema}.{table}: not null", none=True)
    return Looked(things=len(stated) + len(required), broken=tuple(broken[:_BROKEN_MAX]))


def _tried(
    session: Session, statement: sql.Composed, database: str, subject: str, *, none: bool = False
) -> list[Broken]:
    """What the server says against it; all that it did is rolled back. `none`: any row is one too many."""
    try:
        with session.transaction(force_rollback=True):
            cursor = session.execute(statement)
            if none and cursor.fetchone():
                return [Broken(database=database, subject=subject, sentence="a column that must not be null is")]
    except _VIOLATIONS as error:
        return [Broken(database=database, subject=subject, sentence=_said(error))]
    except psycopg.Error as error:
        said = f"it could not be checked: {_said(error)}"
        return [Broken(database=database, subject=subject, sentence=said, unknown=_of_the_question(error))]
    return []


def _of_the_question(error: psycopg.Error) -> bool:
    """Whether an error is about the question, or about want of time or room: then it tells nothing about the data."""
    return (error.sqlstate or "").startswith(_QUESTION)


class Invariant(msgspec.Struct, frozen=True):
    """What must hold, and the query that returns the rows for which it does not."""

    name: str
    sentence: str
    query: str


def read_invariants(file: Path) -> list[Invariant]:
    """The manifest's file: `-- name: what must hold`, and below it a query whose every row breaks it.

    Raises:
        ManifestError: it cannot be read, or holds none.
    """
    try:
        pieces = _QUERY.split(file.read_text(encoding="utf-8"))[1:]
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file} cannot be read: {error}", hint="[recovery] invariants names it") from error
    found = [_invariant(*piece) for piece in batched(pieces, 3)]
    if not found:
        raise ManifestError(f"{file} holds no invariants", hint="-- name: what must hold; below it its query")
    return found


def batched(things: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Things in tuples of so many, the last one shorter.

    >>> list(batched("abcde", 2))
    [('a', 'b'), ('c', 'd'), ('e',)]
    """
    left = iter(things)
    while some := tuple(islice(left, size)):
        yield some


def _invariant(name: str, sentence: str, body: str) -> Invariant:
    """One of them; `-- name: x` with the sentence on the next line is how our own queries are written."""
    lines = body.strip().splitlines()
    comments = [line.removeprefix("--").strip() for line in lines if line.startswith("--")]
    query = "\n".join(line for line in lines if not line.startswith("--")).strip().removesuffix(";")
    if name == "name":
        name, sentence = sentence.strip(), " ".join(comments)
    return Invariant(name, sentence.strip(), query)


def invariants(session: Session, database: str, stated: Iterable[Invariant]) -> Looked:
    """Ask each: the first rows that break it are told."""
    broken = []
    asked = list(stated)
    for invariant in asked:
        try:
            with session.transaction(force_rollback=True):
                rows = session.execute(invariant.query.encode()).fetchmany(3)
        except psycopg.Error as error:
            sentence = f"{invariant.sentence}: it could not be asked: {_said(error)}"
            asked_wrongly = _of_the_question(error)
            broken.append(Broken(database=database, subject=invariant.name, sentence=sentence, unknown=asked_wrongly))
            continue
        if rows:
            shown = "; ".join(", ".join(map(str, row)) for row in rows)[:_SHOWN]
            broken.append(
                Broken(database=database, subject=invariant.name, sentence=f"{invariant.sentence}: not so for {shown}")
            )
    return Looked(things=len(asked), broken=tuple(broken))


def ledger(session: Session, entry: Acknowledgements, before: dt.datetime | None) -> Ledger:
    """Compare what customers were told with what the database has.

    Raises:
        TargetError: the journal cannot be read.
        ManifestError: the query is refused.
    """
    told, missing = 0, []
    for some in batched(_acknowledged(entry, before), _KEYS_AT_ONCE):
        told += len(some)
        try:
            with session.transaction(force_rollback=True):
                rows = session.execute(entry.query.encode(), {"keys": [said.key for said in some]}).fetchall()
        except psycopg.errors.QueryCanceled as error:
            raise DeadlineExceeded(f"the acknowledgements' query did not end: {first_line(error)}") from error
        except psycopg.Error as error:
            raise ManifestError(
                f"the acknowledgements' query is refused: {first_line(error)}", hint="[recovery.acknowledgements] query"
            ) from error
        there = {str(row[0]) for row in rows}
        missing += [said for said in some if said.key not in there]
    return Ledger(
        before=before,
        acknowledged=told,
        missing=len(missing),
        missing_keys=tuple(said.key for said in missing[:_MISSING_SHOWN]),
        oldest_missing=min((said.time for said in missing), default=None),
    )


def _acknowledged(entry: Acknowledgements, before: dt.datetime | None) -> Iterator[Told]:
    """What customers were told before a moment (None: ever) and must find again, in the journal's order."""
    with opened(entry) as journal:
        for line in lines_from_here(entry, journal):
            if line.settled and (before is None or line.time < before):
                yield line


def first_line(error: Exception) -> str:
    """What went wrong, in one line that steers no terminal."""
    line = str(error).strip().partition("\n")[0].strip()
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:_SHOWN]


def _said(error: psycopg.Error) -> str:
    """The message, with the detail that names the row."""
    detail = error.diag.message_detail or ""
    said = f"{error.diag.message_primary or first_line(error)} {detail}".strip()
    return "".join(letter if letter.isprintable() else "?" for letter in said)[:_SHOWN]
