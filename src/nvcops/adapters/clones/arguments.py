"""Arguments for the statements of a workload, drawn from the columns of a copy with which they are compared.

Which column that is, is read out of the plan that the server makes without looking at arguments: there, every condition
names its table and its column. What does not stand in a plan (what is set, how many rows are wanted) is read out of the
statement. The values go nowhere but back to the copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
import psycopg

from nvcops.adapters.clones import drawing
from nvcops.adapters.clones.prepared import call, generic, parameters, prepare
from nvcops.adapters.clones.session import Door, Session, run
from nvcops.core.errors import Refused
from nvcops.core.workload import Statement

_ASKED_S = 120.0
_SETS_MAX = 100
_NAME = r'(?:"(?:[^"]|"")+"|[A-Za-z_][\w$]*)'
_COLUMN = re.compile(rf"({_NAME})\.({_NAME})")
_PIECE = re.compile(r"\s(?:AND|OR)\s")
_NUMBER = re.compile(r"\$(\d+)")
_OPERATOR = re.compile(r"(<=|>=|<>|~~\*?|=|<|>)")
_SET = re.compile(rf"({_NAME})\s*(=|<>|<=|>=|<|>|\blike\b|\bilike\b|\bin\s*\()\s*\$(\d+)", re.IGNORECASE)
_WANTED = re.compile(r"\b(limit|offset|fetch\s+(?:first|next))\s+\$(\d+)", re.IGNORECASE)
_FIELD = re.compile(r"\b(?:date_trunc|date_part|extract)\s*\(\s*\$(\d+)", re.IGNORECASE)
_AGO = re.compile(r"\binterval\s+\$(\d+)\s+[a-z]+", re.IGNORECASE)
_CONDITIONS = ("Index Cond", "Recheck Cond", "Filter", "Join Filter", "Hash Cond", "Merge Cond", "One-Time Filter")
_TYPES = "SELECT parameter_types::text[] AS types FROM pg_prepared_statements WHERE name = %s"
_TABLE = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = coalesce(pg_partition_root(%(table)s::regclass), %(table)s::regclass)"""
_ALIKE = """
SELECT p.typcategory = 'A' OR p.typcategory = c.typcategory OR p.typcategory = 'S' AS alike
FROM pg_attribute a JOIN pg_type c ON c.oid = a.atttypid, pg_type p
WHERE a.attrelid = %(table)s::regclass AND a.attname = %(column)s AND p.oid = %(kind)s::regtype"""
_WHICH = """
SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"""

Use = Literal["equal", "low", "high", "like", "new"]
_USES: dict[str, Use] = {">": "low", ">=": "low", "<": "high", "<=": "high", "~~": "like", "~~*": "like"}
_FLIPPED: dict[Use, Use] = {"low": "high", "high": "low"}


class Place(msgspec.Struct, frozen=True):
    """With what an argument is compared: a table, its column, and how. `new`: it becomes a value of that column."""

    schema: str
    table: str
    column: str
    use: Use


def drawn(door: Door, statements: Sequence[Statement], sets: int) -> list[Statement]:
    """The statements with at most `sets` sets of arguments each; one for which none are found is left out."""
    if not 0 < sets <= _SETS_MAX:
        raise Refused(f"{sets} sets of arguments are none", hint=f"1 to {_SETS_MAX}")
    found = []
    with door.session(deadline_s=_ASKED_S) as session:
        for number, statement in enumerate(statements):
            if statement.arguments or not parameters(statement.text):
                found.append(statement)
                continue
            try:
                arguments = _found(session, statement, number, sets)
            except (psycopg.Error, Refused):
                if session.closed:
                    raise
                continue  # it cannot be prepared, or not be planned with these: there is nothing to be measured
            found += [msgspec.structs.replace(statement, arguments=arguments)] if arguments else []
    return found


def _found(session: Session, statement: Statement, number: int, sets: int) -> tuple[tuple[str, ...], ...]:
    name = prepare(session, statement, number)
    row = session.execute(_TYPES, (name,)).fetchone()
    types: list[str] = row["types"] if row else []
    session.execute("SET plan_cache_mode = force_generic_plan; SET enable_partition_pruning = off")
    planned = run(session, f"EXPLAIN (VERBOSE, FORMAT JSON) {generic(name, len(types))}").fetchone()
    if planned is None:
        return ()
    places = _places(session, statement.text, planned["QUERY PLAN"][0]["Plan"])
    known = _by_text(statement.text)
    for place, kind in enumerate(types, 1):
        if place in known or (place in places and not _alike(session, places[place], kind)):
            places.pop(place, None)
        if place not in places and kind in _PLAIN:
            known.setdefault(place, _PLAIN[kind])
    arguments = drawing.values(session, types, places, known, sets=sets, seed=statement.id)
    session.execute("SET plan_cache_mode = force_custom_plan; RESET enable_partition_pruning")
    for each in arguments:
        run(session, f"EXPLAIN {call(name, each)}")
    return arguments


def _places(session: Session, text: str, plan: dict[str, Any]) -> dict[int, Place]:
    """Each argument's place, by its number; not of those for which none is found."""
    nodes = list(_nodes(plan))
    aliases = {
        node["Alias"]: _root(session, node["Schema"], node["Relation Name"])
        for node in nodes
        if "Relation Name" in node and "Alias" in node
    }
    places: dict[int, Place] = {}
    for node in nodes:
        if node.get("Operation") == "Insert" and "Plans" in node:
            columns = [row["attname"] for row in session.execute(_WHICH, (_qualified(node),))]
            for column, written in zip(columns, node["Plans"][0].get("Output", ()), strict=False):
                for number in _NUMBER.findall(written):
                    places.setdefault(int(number), Place(node["Schema"], node["Relation Name"], column, "new"))
        for title in _CONDITIONS:
            for number, place in _conditions(str(node.get(title, "")), aliases):
                places.setdefault(number, place)
    targets = [(node["Schema"], node["Relation Name"]) for node in nodes if node["Node Type"] == "ModifyTable"]
    tables = [*targets, *aliases.values()]
    for written, operator, number in _SET.findall(text):
        if int(number) not in places and (table := _having(session, tables, _plain(written))):
            places[int(number)] = Place(*table, _plain(written), _use(operator.lower()))
    return places


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _conditions(condition: str, aliases: dict[str, tuple[str, str]]) -> Iterator[tuple[int, Place]]:
    """The arguments of a condition of a plan, and the column with which each is compared.

    >>> aliases = {"l": ("shop", "line")}
    >>> for number, place in _conditions("((l.part = $1) AND (l.day >= $2) AND ($3 > (l.day)::date))", aliases):
    ...     print(number, place.column, place.use)
    1 part equal
    2 day low
    3 day high
    """
    for piece in _PIECE.split(condition):
        columns = [(_plain(alias), _plain(column), at) for alias, column, at in _columns(piece)]
        named = next(((alias, column, at) for alias, column, at in columns if alias in aliases), None)
        if named is None:
            continue
        alias, column, at = named
        operator = _OPERATOR.search(piece)
        for match in _NUMBER.finditer(piece):
            use = _use(operator[1]) if operator else "equal"
            yield int(match[1]), Place(*aliases[alias], column, use if at < match.start() else _FLIPPED.get(use, use))


def _columns(piece: str) -> Iterator[tuple[str, str, int]]:
    for match in _COLUMN.finditer(piece):
        yield match[1], match[2], match.start()


def _use(operator: str) -> Use:
    return "like" if "like" in operator else _USES.get(operator, "equal")


def _plain(name: str) -> str:
    """A name without its quotes.

    >>> _plain('"Odd ""x"')
    'Odd "x'
    """
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _root(session: Session, schema: str, table: str) -> tuple[str, str]:
    """The table of which it is a partition, else itself."""
    row = session.execute(_TABLE, {"table": drawing.qualified(schema, table)}).fetchone()
    return (row["nspname"], row["relname"]) if row else (schema, table)


def _qualified(node: dict[str, Any]) -> str:
    return drawing.qualified(node["Schema"], node["Relation Name"])


def _having(session: Session, tables: Sequence[tuple[str, str]], column: str) -> tuple[str, str] | None:
    """The first of the tables that has a column of that name."""
    for table in tables:
        if column in {row["attname"] for row in session.execute(_WHICH, (drawing.qualified(*table),))}:
            return table
    return None


def _alike(session: Session, place: Place, kind: str) -> bool:
    """Whether values of the column may stand for an argument of that type."""
    row = session.execute(_ALIKE, {"table": drawing.qualified(place.schema, place.table), "column": place.column,
                                   "kind": kind}).fetchone()  # fmt: skip
    return row is not None and bool(row["alike"])


def _by_text(text: str) -> dict[int, tuple[str, ...]]:
    """What follows from an argument's place in the statement: literals to choose from.

    >>> _by_text("SELECT date_trunc($1, at) FROM t LIMIT $2")
    {1: ("'day'",), 2: ('10', '20', '50')}
    """
    known: dict[int, tuple[str, ...]] = {}
    for number in _FIELD.findall(text):
        known[int(number)] = ("'day'",)
    for number in _AGO.findall(text):
        known[int(number)] = ("'1'", "'7'", "'30'")
    for word, number in _WANTED.findall(text):
        known[int(number)] = ("0", "20", "100") if word.lower() == "offset" else ("10", "20", "50")
    return known


_PLAIN: dict[str, tuple[str, ...]] = {
    "smallint": ("1", "2", "5"),
    "integer": ("1", "2", "5"),
    "bigint": ("1", "2", "5"),
    "numeric": ("1", "2", "5"),
    "double precision": ("1", "2", "5"),
    "boolean": ("true", "false"),
    "interval": ("'1 day'", "'7 days'", "'30 days'"),
}
