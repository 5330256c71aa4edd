"""Statements of pg_stat_statements made fit to be run again: prepared, and executed with arguments.

What stands there is not always SQL: `date '1998-12-01'` was written down as `date $1`, which nobody can parse.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nvcops.adapters.clones.session import Session, run
from nvcops.core.errors import Refused
from nvcops.core.workload import Statement

_TYPES = "date|timestamptz|timestamp with time zone|timestamp without time zone|timestamp|timetz|time|interval"
_FIELDS = "year|month|day|hour|minute|second"
_INTERVAL = re.compile(rf"\binterval\s+\$(\d+)\s+({_FIELDS})\b(?!\s+to\b)", re.IGNORECASE)
_TYPED = re.compile(rf"\b({_TYPES})\s+\$(\d+)", re.IGNORECASE)
_EXTRACT = re.compile(r"\bextract\s*\(\s*\$(\d+)\s+from\b", re.IGNORECASE)
_QUOTED = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/)""", re.DOTALL)
_PARAMETER = re.compile(r"\$(\d+)")
_FIRST_WORD = re.compile(r"[a-z]+", re.IGNORECASE)
_PREPARED = {"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "WITH", "TABLE"}


def preparable(text: str) -> str:
    r"""The statement as PREPARE reads it.

    >>> preparable("SELECT * FROM t WHERE d < date $1 - interval $2 day AND extract($3 FROM d) = $4;")
    'SELECT * FROM t WHERE d < $1::date - ($2 || \' day\')::interval AND pg_catalog."extract"($3, d) = $4'
    >>> preparable("SELECT 'date $1' FROM t")
    "SELECT 'date $1' FROM t"
    """
    pieces = _QUOTED.split(text.strip().rstrip(";"))
    return "".join(_rewritten(piece) if even % 2 == 0 else piece for even, piece in enumerate(pieces))


def _rewritten(piece: str) -> str:
    piece = _INTERVAL.sub(lambda found: f"(${found[1]} || ' {found[2]}')::interval", piece)
    piece = _TYPED.sub(lambda found: f"${found[2]}::{found[1]}", piece)
    return _EXTRACT.sub(lambda found: f'pg_catalog."extract"(${found[1]},', piece)


def parameters(text: str) -> int:
    """How many arguments a statement takes.

    >>> parameters("SELECT $1, $2, '$7'")
    2
    """
    pieces = _QUOTED.split(text)[::2]
    return max((int(number) for piece in pieces for number in _PARAMETER.findall(piece)), default=0)


def can_be_prepared(text: str) -> bool:
    """Whether it is a statement that can be planned at all, by its first word.

    >>> can_be_prepared("/* pay */ SELECT 1"), can_be_prepared("VACUUM t"), can_be_prepared("(SELECT 1)")
    (True, False, True)
    """
    words = _FIRST_WORD.search(" ".join(_QUOTED.split(text)[::2]))
    return words is not None and words[0].upper() in _PREPARED


def prepare(session: Session, statement: Statement, number: int = 0) -> str:
    """Prepare a statement in a session, as the `number`th there; its name.

    Raises:
        Refused: it is none that is planned.
        psycopg.Error: the server refuses it.
    """
    if not can_be_prepared(statement.text):
        raise Refused(f"the statement {statement.id} is none that is planned")
    name = f"nvcops_{number}"
    run(session, f"PREPARE {name} AS {preparable(statement.text)}")
    return name


def call(name: str, arguments: Sequence[str]) -> str:
    """The EXECUTE of it.

    >>> call("s", ["1", "'x'"]), call("s", [])
    ("EXECUTE s (1, 'x')", 'EXECUTE s')
    """
    return f"EXECUTE {name} ({', '.join(arguments)})" if arguments else f"EXECUTE {name}"


def generic(name: str, count: int) -> str:
    """An EXECUTE whose plan is made without looking at the arguments."""
    return call(name, ["NULL"] * count)
