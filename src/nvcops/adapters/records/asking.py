"""The questions that `core.records.Reading` allows, as SQL for both databases.

Of our own, because they are asked thousands of times in a storm, and Django takes longer to write such a statement than
SQLite to answer it. The tables are those of its models.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from nvcops.adapters.records.columns import Column
from nvcops.adapters.records.models import Kind
from nvcops.core.errors import UsageError
from nvcops.core.texts import legible

_COMPARED = {"": "=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_INTEGER_MAX = 2**63 - 1
Change = Callable[[Any], Any]


def select(
    table: Kind, connection: BaseDatabaseWrapper, where: Mapping[str, Any], order: str, limit: int
) -> tuple[str, list[Any]]:
    """The statement for the columns of the rows that are meant, in their order."""
    conditions, values = _conditions(table, connection, where)
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    by = [f'"{table.key}"'] if not order else [_order(table, order), f'"{table.key}"']
    return f'SELECT {names} FROM "{table.table}"{conditions} ORDER BY {", ".join(by)} LIMIT {int(limit)}', values  # noqa: S608 - names of ours


def count(table: Kind, connection: BaseDatabaseWrapper, where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The statement for how many rows are meant."""
    conditions, values = _conditions(table, connection, where)
    return f'SELECT count(*) FROM "{table.table}"{conditions}', values  # noqa: S608 - names of ours


def writers(columns: Iterable[Column], connection: BaseDatabaseWrapper) -> list[Change | None]:
    """What is done to the values of columns for a database."""
    moments: dict[Any, Change] = {
        models.DateTimeField: connection.ops.adapt_datetimefield_value,
        models.DateField: connection.ops.adapt_datefield_value,
    }
    return [_both(column.write, moments.get(column.field)) for column in columns]


def readers(table: Kind, connection: BaseDatabaseWrapper) -> list[tuple[int, Change]]:
    """What is done to the values of a row, by their place; SQLite keeps moments without their zone, which is UTC."""
    found: list[tuple[int, Change]] = []
    for place, column in enumerate(table.columns):
        if column.read is not None:
            found.append((place, column.read))
        elif column.field is models.DateTimeField and connection.vendor == "sqlite":
            found.append((place, _in_utc))
    return found


def _in_utc(moment: dt.datetime) -> dt.datetime:
    return moment.replace(tzinfo=dt.UTC)


def _both(first: Change | None, then: Change | None) -> Change | None:
    if first is None or then is None:
        return first or then
    return lambda value: then(first(value))


def _order(table: Kind, order: str) -> str:
    """NULL comes first in both databases, and last where it is turned round."""
    column, turned = _column(table, order.removeprefix("-")), order.startswith("-")
    direction = "DESC" if turned else "ASC"
    return f'"{column.name}" {direction}' + (f" NULLS {'LAST' if turned else 'FIRST'}" if column.nullable else "")


def _conditions(table: Kind, connection: BaseDatabaseWrapper, where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    said: list[str] = []
    values: list[Any] = []
    for asked, value in where.items():
        name, _, how = asked.partition("__")
        column = _column(table, name)
        condition, given = _condition(column, how, value)
        said.append(condition)
        (write,) = (
            writers([column], connection) if column.field in (models.DateTimeField, models.DateField) else (None,)
        )
        plain = (one.value if isinstance(one, Enum) else legible(one) if isinstance(one, str) else one for one in given)
        values += [write(one) if write and one is not None else one for one in plain]
    return (f" WHERE {' AND '.join(said)}" if said else ""), values


def _condition(column: Column, how: str, value: Any) -> tuple[str, list[Any]]:
    """One condition, and the values in it."""
    if how == "" and isinstance(value, int) and not -_INTEGER_MAX <= value <= _INTEGER_MAX:
        return "1 = 0", []  # no column holds it
    if how == "in":
        several = list(value)
        return (f'"{column.name}" IN ({", ".join(["%s"] * len(several))})' if several else "1 = 0"), several
    if how == "isnull" or (how == "" and value is None):
        return f'"{column.name}" IS {"" if value is None or value else "NOT "}NULL', []
    if how not in _COMPARED:
        raise UsageError(
            f"records are not compared by {how!r}", hint=", ".join([*filter(None, _COMPARED), "in", "isnull"])
        )
    return f'"{column.name}" {_COMPARED[how]} %s', [value]


def _column(table: Kind, name: str) -> Column:
    found = next((column for column in table.columns if column.name == name), None)
    if found is None:
        raise UsageError(
            f"a {table.record.__name__} has no field {name!r}", hint=", ".join(column.name for column in table.columns)
        )
    return found
