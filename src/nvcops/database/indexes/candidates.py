"""Which columns an index could begin with or hold: read off the plans of a statement, and off the words of its text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from nvcops.core import queries
from nvcops.core.clones import Copy
from nvcops.core.errors import TargetError
from nvcops.core.workload import Statement

Relation = tuple[str, str]  # schema and table, without quotes
Columns = dict[Relation, frozenset[str]]

QUERIES = queries.load("nvcops.database.indexes", "candidates.sql")
TABLES_MAX = 500  # tables of a workload that are looked at
WIDTH_MAX_BYTES = 200  # a column that is wider makes a poor b-tree, and may be too wide for one

# --- Facts ---


class Mentioned(msgspec.Struct, frozen=True, kw_only=True):
    """What a statement does with columns: `searched` are those of its conditions, joins, groups and orders.

    `named` are all that stand in its text, those included: an index that holds them spares the table. `writes` are the
    tables that it writes to; `opaque`: its plan names no table, so what its functions do is not seen.
    """

    id: int
    searched: Columns
    named: Columns
    writes: frozenset[Relation] = frozenset()
    opaque: bool = False


class Unplanned(msgspec.Struct, frozen=True):
    """A statement that cannot be planned on the copy, and why."""

    id: int
    why: str


def mentioned(copy: Copy, statements: Sequence[Statement]) -> tuple[list[Mentioned], list[Unplanned]]:
    """What each statement does with the columns that a b-tree can hold, and the statements that have no plan."""
    planned: dict[int, list[dict[str, Any]]] = {}
    without = []
    for statement in statements:
        try:
            planned[statement.id] = copy.explain(statement)
        except TargetError as error:
            without.append(Unplanned(statement.id, error.sentence))
    there = indexable(copy, {relation for plans in planned.values() for relation in relations_in(plans)})
    texts = {statement.id: statement.text for statement in statements}
    return [mentioned_in(one, texts[one], plans, there) for one, plans in planned.items()], without


def indexable(copy: Copy, tables: Iterable[Relation]) -> Columns:
    """The columns of ordinary tables that a b-tree can hold; a partition is left to whoever keeps its parent."""
    asked = sorted(tables)[:TABLES_MAX]
    given = {
        "schemas": [schema for schema, _ in asked],
        "tables": [table for _, table in asked],
        "width_max": WIDTH_MAX_BYTES,
    }
    rows = copy.rows(QUERIES["indexable"], given) if asked else []
    return {(row["schema"], row["table"]): frozenset(row["columns"]) for row in rows}


# --- Rules ---

_CONDITIONS = (
    "Filter",
    "Index Cond",
    "Recheck Cond",
    "Hash Cond",
    "Merge Cond",
    "Join Filter",
    "Sort Key",
    "Group Key",
    "Order By",
    "Cache Key",
)
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_NAME = r'("(?:[^"]|"")+"|[a-z_\u0080-\uffff][a-z0-9_$\u0080-\uffff]*)'
_COLUMN = re.compile(rf"(?<![\w$\"]){_NAME}\.{_NAME}")
_WORD = re.compile(r'"(?:[^"]|"")+"|[A-Za-z_\u0080-\uffff][\w$]*')
_NODES_MAX = 10_000


def nodes(plans: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The nodes of plans, parents first; at most 10,000.

    >>> plan = {"Node Type": "Sort", "Plans": [{"Node Type": "Seq Scan"}]}
    >>> [node["Node Type"] for node in nodes([plan])]
    ['Sort', 'Seq Scan']
    """
    waiting = list(reversed(plans))
    for _ in range(_NODES_MAX):
        if not waiting:
            return
        node = waiting.pop()
        waiting.extend(reversed(node.get("Plans", ())))
        yield node


def relations_in(plans: Sequence[Mapping[str, Any]]) -> dict[Relation, set[str]]:
    """The tables that plans read or write, with the aliases that they have there."""
    found: dict[Relation, set[str]] = {}
    for node in nodes(plans):
        if "Relation Name" in node and "Schema" in node:
            found.setdefault((node["Schema"], node["Relation Name"]), set()).add(node.get("Alias", ""))
    return found


def indexes_in(plans: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The names of the indexes that plans use."""
    return frozenset(node["Index Name"] for node in nodes(plans) if "Index Name" in node)


def columns_in(condition: str) -> set[tuple[str, str]]:
    r"""The qualified columns of a condition, as alias and column.

    >>> sorted(columns_in("((l1.l_orderkey = \"Or.der\".\"Key\") AND (l1.mode = 'a.b'::text))"))
    [('Or.der', 'Key'), ('l1', 'l_orderkey'), ('l1', 'mode')]
    """
    return {(plain(alias), plain(column)) for alias, column in _COLUMN.findall(_LITERAL.sub("''", condition))}


def plain(name: str) -> str:
    r"""A name without its quotes.

    >>> plain('"a""b"'), plain("a")
    ('a"b', 'a')
    """
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def words_of(text: str) -> frozenset[str]:
    r"""The names that may be columns in a statement's text; unquoted ones are lower case to the server.

    >>> sorted(words_of('SELECT L_Tax FROM "Line" WHERE mode = \'AIR\''))
    ['Line', 'from', 'l_tax', 'mode', 'select', 'where']
    """
    found = _WORD.findall(_LITERAL.sub("''", text))
    return frozenset(plain(word) if word.startswith('"') else word.lower() for word in found)


def mentioned_in(statement: int, text: str, plans: Sequence[Mapping[str, Any]], there: Columns) -> Mentioned:
    """What a statement does with the columns that are there."""
    aliases: dict[str, set[Relation]] = {}
    relations = [relation for relation in relations_in(plans).items() if relation[0] in there]
    for relation, called in relations:
        for alias in called:
            aliases.setdefault(alias, set()).add(relation)
    searched: dict[Relation, set[str]] = {}
    for alias, column in (pair for node in nodes(plans) for pair in _conditions(node)):
        for relation in aliases.get(alias, ()):
            if column in there[relation]:
                searched.setdefault(relation, set()).add(column)
    words = words_of(text)
    named = {relation: (there[relation] & words) | searched.get(relation, set()) for relation, _ in relations}
    return Mentioned(
        id=statement,
        searched={key: frozenset(kept) for key, kept in searched.items()},
        named=named,
        writes=written_in(plans),
        opaque=not relations_in(plans),
    )


def written_in(plans: Sequence[Mapping[str, Any]]) -> frozenset[Relation]:
    """The tables that plans write to."""
    writing = [node for node in nodes(plans) if node["Node Type"] == "ModifyTable"]
    targets = [target for node in writing for target in (node, *node.get("Target Tables", ()))]
    return frozenset((one["Schema"], one["Relation Name"]) for one in targets if "Relation Name" in one)


def _conditions(node: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The columns of a node's conditions."""
    found: set[tuple[str, str]] = set()
    for name in _CONDITIONS:
        said = node.get(name, ())
        for condition in [said] if isinstance(said, str) else said:
            found |= columns_in(condition)
    return found
