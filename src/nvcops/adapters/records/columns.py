"""How the fields of a record become columns, and back: text, numbers and moments as they are, the rest as JSON text.

JSON stands in text, not in the database's own JSON type: that of PostgreSQL holds no NUL and forgets the order of keys.
"""

from __future__ import annotations

import datetime as dt
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Any

import msgspec
from django.db import models

from nvcops.core.errors import UsageError
from nvcops.core.texts import legible

INDEXED_BYTES_MAX = 1_000  # an index of PostgreSQL holds no more than 2,700
_PLAIN: dict[type, type[models.Field[Any, Any]]] = {
    str: models.TextField,
    int: models.BigIntegerField,
    float: models.FloatField,
    bool: models.BooleanField,
    dt.datetime: models.DateTimeField,
    dt.date: models.DateField,
}


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a record: what kind of column it is, and what is done to a value on its way in and out."""

    name: str
    field: type[models.Field[Any, Any]]
    nullable: bool
    write: Callable[[Any], Any] | None
    read: Callable[[Any], Any] | None

    def built(self, *, key: bool) -> models.Field[Any, Any]:
        """The model's field."""
        return self.field(primary_key=True) if key else self.field(null=self.nullable)


def columns_of(kind: type[msgspec.Struct]) -> tuple[Column, ...]:
    """The columns of a kind of record, the key first."""
    hints = typing.get_type_hints(kind)
    return tuple(_column(name, hints[name]) for name in kind.__struct_fields__)


def _column(name: str, hint: Any) -> Column:
    members = [member for member in typing.get_args(hint) if member is not NoneType]
    nullable = NoneType in typing.get_args(hint)
    base = members[0] if nullable and len(members) == 1 else hint
    if base is str:
        return Column(name, models.TextField, nullable, legible, None)
    if base is dt.datetime:
        return Column(name, models.DateTimeField, nullable, _moment, None)
    if base in _PLAIN:
        return Column(name, _PLAIN[base], nullable, None, None)
    if isinstance(base, type) and issubclass(base, Enum):
        return Column(name, models.TextField, nullable, lambda one: one.value, base)
    return Column(name, models.TextField, nullable, _json, msgspec.json.Decoder(base).decode)


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(_legible(msgspec.to_builtins(value))).decode()


def _legible(value: Any) -> Any:
    """What JSON is made of, with texts that can be kept."""
    if isinstance(value, dict):
        return {legible(str(name)): _legible(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_legible(one) for one in value]
    return legible(value) if isinstance(value, str) else value


def _moment(value: dt.datetime) -> dt.datetime:
    if value.tzinfo is None:
        raise UsageError(f"{value} has no time zone")
    return value
