"""Values drawn from tables of a copy: as often as they stand there, the same ones each time, those of a set of one row.

So what belongs together (an account and its currency) stays together, and what is looked for is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nvcops.adapters.clones.session import Session, run
from nvcops.core.workload import quoted

if TYPE_CHECKING:
    from nvcops.adapters.clones.arguments import Place

_PER_SET = 4  # rows: for the ends of ranges, and for lists
_PAGES = 300
_PREFIX = 4
_SIZE = """
SELECT greatest(1, sum(pg_relation_size(relid)) / 8192)::bigint AS pages FROM (
    SELECT %(table)s::regclass AS relid UNION SELECT relid FROM pg_partition_tree(%(table)s::regclass)) t"""
# Columns of which a new row must have a new value: of a unique key, and not a reference to another table.
_UNIQUE = """
SELECT a.attname, format_type(a.atttypid, NULL) AS type,
       coalesce((SELECT stawidth FROM pg_statistic s WHERE s.starelid = a.attrelid AND s.staattnum = a.attnum
                 AND NOT s.stainherit), 16) AS width
FROM pg_attribute a
WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped
  AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique AND a.attnum = ANY (i.indkey))
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = a.attrelid AND k.contype = 'f'
                  AND a.attnum = ANY (k.conkey))"""


def values(
    session: Session,
    types: Sequence[str],
    places: Mapping[int, Place],
    known: Mapping[int, Sequence[str]],
    *,
    sets: int,
    seed: int,
) -> tuple[tuple[str, ...], ...]:
    """Sets of literals, one for each of the types; none where one of them has no place and nothing is known of it."""
    if any(number not in places and number not in known for number in range(1, len(types) + 1)):
        return ()
    fresh = _fresh(session, places)
    samples = {
        table: _sample(session, table, sorted({p.column for p in places.values() if _of(p) == table}), sets, seed)
        for table in {_of(place) for number, place in places.items() if number not in fresh}
    }
    if not all(samples.values()):
        return ()
    drawn = [_one(types, places, known, samples, fresh, each) for each in range(sets)]
    return tuple(dict.fromkeys(drawn))


def qualified(schema: str, table: str) -> str:
    """A table's whole name, as SQL has it."""
    return f"{quoted(schema)}.{quoted(table)}"


def _of(place: Place) -> tuple[str, str]:
    return place.schema, place.table


def _sample(
    session: Session, table: tuple[str, str], columns: Sequence[str], sets: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of a table: each column's text as a literal under its name, and its rank under a number.

    From a few hundred pages of it; the choice depends on nothing but the data and the seed.
    """
    name = qualified(*table)
    size = session.execute(_SIZE, {"table": name}).fetchone()
    share = min(100.0, 100.0 * _PAGES / size["pages"]) if size else 100.0
    listed = ", ".join(f"quote_literal({quoted(c)}::text) AS {quoted(c)}" for c in columns)
    ranked = ", ".join(f'rank() OVER (ORDER BY {quoted(c)}::text) AS "{n}"' for n, c in enumerate(columns))
    typed = ", ".join(f'rank() OVER (ORDER BY {quoted(c)}) AS "{n}"' for n, c in enumerate(columns))
    there = " AND ".join(f"{quoted(c)} IS NOT NULL" for c in columns)
    sampled = f"{name} TABLESAMPLE SYSTEM ({share:.6f}) REPEATABLE ({seed % 1000})"
    turned = f"SELECT *, md5(ctid::text || '{seed}') AS nvcops_turn FROM {sampled} WHERE {there}"  # noqa: S608 - names of the catalogue, quoted
    rows = f"FROM ({turned} ORDER BY nvcops_turn LIMIT {sets * _PER_SET}) s ORDER BY nvcops_turn"
    order = typed if _all_sortable(session, name, columns) else ranked
    return run(session, f"SELECT {listed}, {order} {rows}").fetchall()


def _all_sortable(session: Session, name: str, columns: Sequence[str]) -> bool:
    """Whether values of these columns have an order; json has none, for one."""
    found = session.execute(
        "SELECT count(*) AS n FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = %s::regclass"
        " AND a.attname = ANY (%s) AND NOT EXISTS (SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod"
        " WHERE m.amname = 'btree' AND o.opcdefault AND (o.opcintype = t.oid OR t.typcategory IN ('A', 'E', 'S')))",
        (name, list(columns)),
    ).fetchone()
    return found is not None and found["n"] == 0


def _fresh(session: Session, places: Mapping[int, Place]) -> dict[int, str]:
    """The arguments that become a key of a new row: an expression that is new each time."""
    found: dict[int, str] = {}
    for number, place in places.items():
        if place.use == "new":
            for row in session.execute(_UNIQUE, {"table": qualified(*_of(place))}):
                if row["attname"] == place.column and (expression := _new(row["type"], row["width"])):
                    found[number] = expression
    return found


def _new(kind: str, width: int) -> str:
    """An expression for a value that is there nowhere yet, most probably; empty: no such expression is known.

    >>> _new("bigint", 8), _new("text", 37), _new("point", 16)
    ('(random() * 9e15)::bigint', 'left(md5(random()::text) || md5(random()::text), 36)', '')
    """
    if kind in ("text", "character varying", "character"):
        return f"left(md5(random()::text) || md5(random()::text), {max(8, min(width - 1, 64))})"
    return {
        "uuid": "gen_random_uuid()",
        "smallint": "(random() * 3e4)::smallint",
        "integer": "(random() * 2e9)::int",
        "bigint": "(random() * 9e15)::bigint",
        "timestamp with time zone": "clock_timestamp()",
    }.get(kind, "")


def _one(
    types: Sequence[str],
    places: Mapping[int, Place],
    known: Mapping[int, Sequence[str]],
    samples: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
    fresh: Mapping[int, str],
    each: int,
) -> tuple[str, ...]:
    """One set of literals."""
    used: dict[tuple[str, str, str, str], int] = {}
    literals = []
    for number, kind in enumerate(types, 1):
        place = places.get(number)
        if place is None:
            literals.append(known[number][each % len(known[number])])
        elif number in fresh:
            literals.append(fresh[number])
        else:
            key = (*_of(place), place.column, place.use)
            turn = used[key] = used.get(key, -1) + 1
            literals.append(_literal(place, kind, _rows(samples[_of(place)], each), turn))
    return tuple(literals)


def _rows(sample: Sequence[Mapping[str, Any]], each: int) -> list[Mapping[str, Any]]:
    """The rows of one set: some that follow one another in the sample, which begins anew where it is short."""
    return [sample[(each * _PER_SET + turn) % len(sample)] for turn in range(_PER_SET)]


def _literal(place: Place, kind: str, rows: Sequence[Mapping[str, Any]], turn: int) -> str:
    """The value of a column for its `turn`th argument; the ends of a range are those of two rows, in order."""
    columns = [name for name in rows[0] if not name.isdigit()]
    rank = str(columns.index(place.column))
    if kind.endswith("[]"):
        return f"ARRAY[{', '.join(row[place.column] for row in rows)}]::{kind}"
    if place.use in ("low", "high"):
        ends = sorted(rows[:2], key=lambda row: row[rank])
        return f"{ends[place.use == 'high'][place.column]}::{kind}"
    value: str = rows[turn % len(rows)][place.column]
    if place.use == "like":
        return f"left({value}, {_PREFIX}) || '%'"
    return f"{value}::{kind}"
