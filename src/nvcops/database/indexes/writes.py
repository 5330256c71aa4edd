"""What an index costs the writes of its table: an entry for each new row version, and updates that are no longer HOT.

An update is HOT when it changes no indexed column: then no index gets an entry. One more indexed column can end that
for every update that sets it, and then all indexes of the table pay, not only the new one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

import msgspec

from nvcops.core.workload import IndexKey, Statement
from nvcops.database.indexes.candidates import Relation, plain

# --- Rules ---

ENTRY_COST = 2.0  # planner units of one entry: a leaf page dirtied, its share of the log, the way down to it
_SET = re.compile(r"\bset\b(?!\s+(?:local|session)\b)(.*)", re.IGNORECASE | re.DOTALL)
_UPDATE = re.compile(
    r'\bupdate\s+(?:only\s+)?(?:(?P<schema>"(?:[^"]|"")+"|[\w$]+)\s*\.\s*)?(?P<table>"(?:[^"]|"")+"|[\w$]+)'
    r'(?:\s+(?:as\s+)?(?!set\b)[\w$"]+)?\s+(?P<rest>set\b.*)',
    re.IGNORECASE | re.DOTALL,
)
_END = re.compile(r"\b(?:where|from|returning)\b|;", re.IGNORECASE)
_TARGET = re.compile(r'^\s*(?:"((?:[^"]|"")+)"|([\w$]+))\s*(?:\[[^\]]*\]\s*)?=')


class Updated(msgspec.Struct, frozen=True, kw_only=True):
    """Updates that set the same columns; `columns` None: it is not known which."""

    columns: tuple[str, ...] | None
    count: float


class Writes(msgspec.Struct, frozen=True, kw_only=True):
    """What is written to a table over the workload's time.

    `hot` is the share of its updates that touch no index now. `indexes` is how many it has, `indexed` their columns.
    """

    inserts: float = 0.0
    updates: tuple[Updated, ...] = ()
    hot: float = 0.0
    indexes: int = 0
    indexed: tuple[str, ...] = ()


def cost_of_writes(writes: Writes, indexes: Collection[IndexKey]) -> float:
    """What these further indexes of one table cost its writes, in the planner's units.

    >>> key, state = IndexKey("bank", "account", ("owner",)), IndexKey("bank", "account", ("balance",))
    >>> updates = (Updated(columns=("balance",), count=100),)
    >>> cost_of_writes(Writes(inserts=10, updates=updates, hot=1.0, indexes=2), [key])
    20.0
    >>> cost_of_writes(Writes(inserts=10, updates=updates, hot=1.0, indexes=2), [state])
    620.0
    """
    if not indexes:
        return 0.0
    new = {column for index in indexes for column in index.columns}
    entries = writes.inserts * len(indexes)
    for updated in writes.updates:
        entries += updated.count * (1 - writes.hot) * len(indexes)
        if updated.columns is None or new & set(updated.columns):
            entries += updated.count * writes.hot * (writes.indexes + len(indexes))
    return entries * ENTRY_COST


def columns_set(text: str) -> tuple[str, str, tuple[str, ...]] | None:
    r"""Schema (empty: not named), table and columns of the first UPDATE in a text; None: none is understood.

    >>> columns_set("UPDATE bank.account AS a SET balance = f(a.x, $1), \"At\" = now() WHERE id = $2")
    ('bank', 'account', ('balance', 'At'))
    >>> columns_set("update t set (a, b) = (select 1, 2), c = $1")
    ('', 't', ('a', 'b', 'c'))
    >>> columns_set("SELECT 1 FROM t FOR UPDATE") is None
    True
    """
    found = _UPDATE.search(text)
    if found is None or (after := _SET.search(found["rest"])) is None:
        return None
    columns = [column for piece in _pieces(after[1]) for column in _targets(piece)]
    return _folded(found["schema"] or ""), _folded(found["table"]), tuple(columns)


def _folded(name: str) -> str:
    return plain(name) if name.startswith('"') else name.lower()


def _pieces(text: str) -> list[str]:
    """What stands between the commas of a SET clause, up to its end; those inside of brackets do not count."""
    pieces, depth, piece = [], 0, ""
    for part in re.findall(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+|.""", text, re.DOTALL):
        if depth == 0 and _END.fullmatch(part):
            break
        depth += (part in ("(", "[")) - (part in (")", "]"))
        if part == "," and depth == 0:
            pieces.append(piece)
            piece = ""
        else:
            piece += part
    return [*pieces, piece]


def _targets(piece: str) -> list[str]:
    """The columns that one assignment sets."""
    if piece.lstrip().startswith("("):
        inside = piece.lstrip()[1:].partition(")")[0]
        return [_folded(name.strip()) for name in inside.split(",")]
    found = _TARGET.match(piece)
    return [] if found is None else [found[1].replace('""', '"') if found[1] else found[2].lower()]


def updates_of(
    table: Relation, total: float, statements: Iterable[Statement], bodies: Iterable[str]
) -> tuple[Updated, ...]:
    """A table's updates by the columns that they set.

    What the workload's own statements do not account for is laid to the functions that update the table, whose bodies
    are given; where there are none, nobody knows which columns it sets.

    >>> update = Statement(id=1, text="UPDATE account SET balance = $1", calls=60, total_s=1, rows=60)
    >>> updates_of(("bank", "account"), 100, [update], [])
    (Updated(columns=('balance',), count=60.0), Updated(columns=None, count=40.0))
    """
    known: dict[tuple[str, ...], float] = {}
    for statement in statements:
        seen = columns_set(statement.text)
        if seen and seen[1] == table[1] and seen[0] in ("", table[0]):
            known[seen[2]] = known.get(seen[2], 0.0) + max(statement.rows, 0.0)
    scale = min(1.0, total / sum(known.values())) if sum(known.values()) else 1.0
    updates = [Updated(columns=columns, count=count * scale) for columns, count in known.items() if count]
    left = total - sum(one.count for one in updates)
    if left > max(1.0, total * 0.01):
        updates.append(Updated(columns=_set_in(table, bodies), count=left))
    return tuple(updates)


def _set_in(table: Relation, bodies: Iterable[str]) -> tuple[str, ...] | None:
    """All columns of a table that functions set; None where none of them does."""
    found: set[str] = set()
    for body in bodies:
        for start in re.finditer(r"\bupdate\b", body, re.IGNORECASE):
            seen = columns_set(body[start.start() :])
            if seen and seen[1] == table[1] and seen[0] in ("", table[0]):
                found.update(seen[2])
    return tuple(sorted(found)) or None


def indexes_by_table(indexes: Iterable[IndexKey]) -> Mapping[Relation, list[IndexKey]]:
    """The indexes of each table."""
    found: dict[Relation, list[IndexKey]] = {}
    for index in indexes:
        found.setdefault((index.schema, index.table), []).append(index)
    return found
