"""The planner's word on indexes that nobody built: in one transaction of a copy, of which nothing stays.

For each table an empty one of the same columns is made, and the index on that: it takes a millisecond. In the catalogue
it is then written over to the real table, and its file made as large and as tall as it would be. The planner sees real
rows, real statistics and real indexes beside the pretended ones; nothing is executed. Killed at any moment, the
transaction never was.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import msgspec
import psycopg

from nvcops.adapters.backup.tools import Tools
from nvcops.adapters.clones import btree
from nvcops.adapters.clones.prepared import call, generic, parameters, prepare
from nvcops.adapters.clones.session import Door, Session, as_target_error, run, told
from nvcops.core.clones import WhatIf
from nvcops.core.errors import Refused, StateError
from nvcops.core.workload import IndexKey, Statement, quoted

_DEADLINE_S = 600.0
_SCHEMA = "nvcops_what_if"
_COSTS_MAX = 500_000
_WORDS = "COSTS, "
_LAID_OUT = """
SELECT a.attnum, a.attisdropped, quote_ident(a.attname) AS name, format_type(a.atttypid, a.atttypmod) AS type,
       CASE WHEN a.attcollation <> 0 THEN (SELECT format(' COLLATE %%I.%%I', n.nspname, c.collname) FROM pg_collation c
            JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) ELSE '' END AS collated
FROM pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 ORDER BY a.attnum"""
_LEAVES = """
SELECT c.oid FROM pg_class c
WHERE c.oid = %(table)s::regclass AND c.relkind IN ('r', 'm')
UNION ALL
SELECT c.oid FROM pg_partition_tree(%(table)s::regclass) t JOIN pg_class c ON c.oid = t.relid
WHERE t.isleaf AND c.relkind = 'r' AND c.oid <> %(table)s::regclass
LIMIT 2000"""
_COLUMNS = """
SELECT a.attname, a.attlen, a.attalign, coalesce(s.stawidth, 0) AS width,
       coalesce(s.stanullfrac, 0) AS nulls, coalesce(s.stadistinct, 0) AS distinct
FROM pg_attribute a LEFT JOIN pg_statistic s ON s.starelid = a.attrelid AND s.staattnum = a.attnum AND NOT s.stainherit
WHERE a.attrelid = %(table)s AND a.attname = ANY (%(names)s) AND a.attnum > 0 AND NOT a.attisdropped"""
_ROWS = """
SELECT CASE WHEN reltuples >= 0 AND relpages > 0
            THEN reltuples / relpages * (pg_relation_size(oid) / 8192) ELSE greatest(reltuples, 0) END AS rows
FROM pg_class WHERE oid = %s"""
_MOVE = "UPDATE pg_index SET indrelid = %s, indisvalid = false WHERE indexrelid = %s"
# What the planner keeps in mind of a table is thrown away by any change of its own row.
_NOTICE = "UPDATE pg_class SET relhasindex = true WHERE oid = %s"
_SWITCH = "UPDATE pg_index SET indisvalid = true WHERE indexrelid = ANY (%s)"


class _Column(msgspec.Struct, frozen=True):
    attname: str
    attlen: int
    attalign: str
    width: int
    nulls: float
    distinct: float


@dataclass(frozen=True, slots=True)
class _Made:
    """The pretended index: one of the table, or one of each of its partitions."""

    indexes: tuple[int, ...]
    bytes: int


@dataclass(slots=True)
class EmptyIndexes:
    """See core.clones.WhatIf. Everything happens in the one transaction of `session`."""

    session: Session
    data: Path
    tools: Tools
    checksums: bool
    _made: dict[IndexKey, _Made | Refused] = field(default_factory=dict)
    _empty: dict[int, str] = field(default_factory=dict)
    _prepared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _concerns: dict[str, frozenset[tuple[str, str]]] = field(default_factory=dict)
    _costs: dict[tuple[str, frozenset[IndexKey]], float] = field(default_factory=dict)
    _visible: frozenset[IndexKey] = frozenset()

    @property
    def means(self) -> str:
        """By what it is found out."""
        return "empty indexes that look full, in a transaction on the clone"

    def cost(self, statement: Statement, indexes: Collection[IndexKey]) -> float:
        """The statement's cost with these indexes."""
        digest = _digest(statement)
        calls = self._calls(statement, digest)
        concerned = frozenset(index for index in indexes if (index.schema, index.table) in self._concerns[digest])
        known = self._costs.get((digest, concerned))
        if known is None:
            self._show(concerned)
            known = sum(self._planned(each)["Total Cost"] for each in calls) / len(calls)
            if len(self._costs) < _COSTS_MAX:
                self._costs[digest, concerned] = known
        return known

    def bytes(self, index: IndexKey) -> int:
        """How large it is expected to be."""
        return self._of(index).bytes

    def begin(self) -> None:
        """Begin the transaction."""
        self.session.execute("SET allow_system_table_mods = on")
        self.session.execute("BEGIN")
        run(self.session, f"CREATE SCHEMA {_SCHEMA}")
        self.session.execute("SAVEPOINT made")

    # Of statements.

    def _calls(self, statement: Statement, digest: str) -> tuple[str, ...]:
        """What is explained; prepared once, which no savepoint undoes."""
        if digest not in self._prepared:
            with self._undone_if_refused("planned"):
                name = prepare(self.session, statement, len(self._prepared))
                sets = statement.arguments
                calls = [call(name, each) for each in sets] or [generic(name, parameters(statement.text))]
                mode = "force_custom_plan" if sets else "force_generic_plan"
                prepared = tuple(
                    f"SET LOCAL plan_cache_mode = {mode}; EXPLAIN ({_WORDS}FORMAT JSON) {c}" for c in calls
                )
                plans = [self._explained(each, "VERBOSE, ") for each in prepared]
            self._concerns[digest] = frozenset(found for plan in plans for found in _tables(plan)) | self._above(plans)
            self._prepared[digest] = prepared
        return self._prepared[digest]

    def _above(self, plans: Sequence[dict[str, Any]]) -> frozenset[tuple[str, str]]:
        """The partitioned tables of whose partitions a plan tells."""
        found = sorted({each for plan in plans for each in _tables(plan)})
        names = [f"{quoted(schema)}.{quoted(table)}" for schema, table in found]
        rows = self.session.execute(
            "SELECT DISTINCT n.nspname, c.relname FROM unnest(%s::regclass[]) t, pg_partition_ancestors(t) a"
            " JOIN pg_class c ON c.oid = a.relid JOIN pg_namespace n ON n.oid = c.relnamespace",
            (names,),
        )
        return frozenset((row["nspname"], row["relname"]) for row in rows)

    def _planned(self, text: str) -> dict[str, Any]:
        with self._undone_if_refused("planned"):
            return self._explained(text, _WORDS)

    def _explained(self, text: str, words: str) -> dict[str, Any]:
        cursor = run(self.session, text.replace(_WORDS, words, 1))
        cursor.nextset()
        row = cursor.fetchone()
        if row is None:
            raise Refused("the copy has no plan")
        plan: dict[str, Any] = row["QUERY PLAN"][0]["Plan"]
        return plan

    # Of indexes.

    def _show(self, indexes: frozenset[IndexKey]) -> None:
        """Let the planner see these, and no other pretended ones."""
        if indexes == self._visible:
            return
        oids = [oid for index in indexes for oid in self._of(index).indexes]
        self.session.execute("ROLLBACK TO made")
        self.session.execute("DISCARD PLANS")  # a generic plan is not thrown away when only an index changes
        self._visible = frozenset()
        if oids:
            self.session.execute(_SWITCH, (oids,))
        self._visible = indexes

    def _of(self, index: IndexKey) -> _Made:
        """The pretended index, made when it is asked for the first time."""
        if index not in self._made:
            self.session.execute("ROLLBACK TO made")
            self._visible = frozenset()
            try:
                with self._undone_if_refused("made"):
                    self._made[index] = self._pretended(index)
            except Refused as error:
                self._made[index] = error
            self.session.execute("RELEASE made; SAVEPOINT made")
        made = self._made[index]
        if isinstance(made, Refused):
            raise Refused(made.sentence, hint=made.hint)
        return made

    def _pretended(self, index: IndexKey) -> _Made:
        name = f"{quoted(index.schema)}.{quoted(index.table)}"
        leaves = self.session.execute(_LEAVES, {"table": name}).fetchall()
        if not leaves:
            raise Refused(f"{index.schema}.{index.table} is no table with rows of its own")
        made = [self._on(leaf["oid"], index) for leaf in leaves]
        return _Made(tuple(oid for oid, _ in made), sum(size for _, size in made))

    def _on(self, table: int, index: IndexKey) -> tuple[int, int]:
        """One index on one table: made empty, moved over, made to look full."""
        session = self.session
        found = session.execute(_COLUMNS, {"table": table, "names": list(index.columns)})
        columns = {row["attname"]: msgspec.convert(row, _Column) for row in found}
        missing = [name for name in index.columns if name not in columns]
        if missing:
            raise Refused(f"{index.schema}.{index.table} has no column {missing[0]}")
        keys = [columns[name] for name in index.columns]
        oid = self._made_empty(table, index)
        file = self.data / _first(session, "SELECT pg_relation_filepath(%s)", oid)
        rows = float(_first(session, _ROWS, table))
        session.execute(_MOVE, (table, oid))
        session.execute(_NOTICE, (table,))
        shape = _shape(keys, rows, deduplicated=btree.is_deduplicated(file))
        btree.pretend(file, shape, checksums=self.checksums, give=self.tools.give)
        return oid, shape.pages * btree.PAGE

    def _made_empty(self, table: int, index: IndexKey) -> int:
        """On a table whose columns have the same numbers, the dropped ones too."""
        if table not in self._empty:
            self._empty[table] = f"{_SCHEMA}.like_{table}"
            columns = ", ".join(_laid_out(row) for row in self.session.execute(_LAID_OUT, (table,)))
            run(self.session, f"CREATE TABLE {self._empty[table]} ({columns})")
        own = quoted(f"{table}_{index.name[-8:]}")
        columns = ", ".join(quoted(column) for column in index.columns)
        run(self.session, f"CREATE INDEX {own} ON {self._empty[table]} ({columns})")
        return int(_first(self.session, "SELECT %s::regclass::oid", f"{_SCHEMA}.{own}"))

    @contextmanager
    def _undone_if_refused(self, name: str) -> Iterator[None]:
        """A savepoint: what the server refuses costs the transaction nothing."""
        self.session.execute(f"SAVEPOINT try_{name}".encode())
        empty = dict(self._empty)
        try:
            yield
        except (psycopg.Error, Refused) as error:
            if self.session.closed:
                raise
            self.session.execute(f"ROLLBACK TO try_{name}; RELEASE try_{name}".encode())
            self._empty = empty
            if isinstance(error, Refused):
                raise
            raise as_target_error(error, _DEADLINE_S) from error
        self.session.execute(f"RELEASE try_{name}".encode())


@contextmanager
def opened(door: Door, data: Path, tools: Tools) -> Iterator[WhatIf]:
    """Ask about indexes for as long as the block lasts."""
    with door.session(deadline_s=_DEADLINE_S) as session, told(_DEADLINE_S):
        asked = EmptyIndexes(
            session=session, data=data, tools=tools, checksums=_first(session, "SHOW data_checksums") == "on"
        )
        asked.begin()
        try:
            yield asked
        finally:
            if not session.closed:
                session.execute("ROLLBACK")


def _laid_out(row: dict[str, Any]) -> str:
    """A column as CREATE TABLE has it; in the place of a dropped one stands anything."""
    return f"nvcops_{row['attnum']} int" if row["attisdropped"] else f"{row['name']} {row['type']}{row['collated']}"


def _shape(columns: Sequence[_Column], rows: float, *, deduplicated: bool) -> btree.Shape:
    """How large it would be, by what is known of its columns; where they go together, it is smaller than that.

    A key that has a null in it has eight bytes more, which say where, and nothing in its place.
    """
    without = math.prod(1 - column.nulls for column in columns)
    full = btree.Keys(rows * without, _width(columns), min(_groups(columns, rows), rows * without))
    there = sorted(columns, key=lambda column: column.nulls)[:-1]
    empty = btree.Keys(rows * (1 - without), 8 + _width(there), min(_groups(there, rows), rows * (1 - without)))
    return btree.shape([full, empty], deduplicated=deduplicated)


def _groups(columns: Sequence[_Column], rows: float) -> float:
    """How many different keys; 200 is what the planner takes where nothing is known of a column."""
    known = (column.distinct if column.distinct >= 0 else -column.distinct * rows for column in columns)
    return math.prod(max(1.0, each or 200.0) for each in known)


_ALIGNED = {"c": 1, "s": 2, "i": 4, "d": 8}


def _width(columns: Sequence[_Column]) -> int:
    """Bytes of the columns side by side, up to the next multiple of eight."""
    at = 0
    for column in columns:
        step = _ALIGNED[column.attalign] if column.attlen > 0 else 1  # short ones stand without a gap
        at = -(-at // step) * step + (column.attlen if column.attlen > 0 else column.width)
    return -(-at // 8) * 8


def _tables(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Schema and name of every table that a plan touches."""
    if "Relation Name" in plan:
        yield plan["Schema"], plan["Relation Name"]
    for target in plan.get("Target Tables", ()):
        yield target["Schema"], target["Relation Name"]
    for below in plan.get("Plans", ()):
        yield from _tables(below)


def _digest(statement: Statement) -> str:
    return hashlib.sha256(msgspec.json.encode((statement.text, statement.arguments))).hexdigest()


def _first(session: Session, question: LiteralString, *parameters: Any) -> Any:
    row = session.execute(question, parameters or None).fetchone()
    if row is None:
        raise StateError("the copy does not answer what was asked of its catalogue")
    return next(iter(row.values()))
