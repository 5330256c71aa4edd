"""Faults that stay in the database until they are undone: a missing index, a missing privilege.

The undoing statement is remembered in a file before the fault is made, so that the next start of a killed lab finds a
whole database again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from nvclab.database_roles import DATABASE
from nvclab.errors import LabError
from nvclab.faults.kind import Kind, Options
from nvclab.layout import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from nvclab.data_centre import DataCentre

_LOCK_TIMEOUT = "5s"  # of a statement that waits behind the customers


@dataclass
class Memory:
    """D/faults.json: name of a fault -> the statement that undoes it."""

    path: Path

    def read(self) -> dict[str, str]:
        """Everything remembered."""
        found: dict[str, str] = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        return found

    def remember(self, name: str, undo: str) -> None:
        """Remember how to undo a fault that is about to be made."""
        write_private(self.path, json.dumps({**self.read(), name: undo}))

    def forget(self, name: str) -> None:
        """It is undone."""
        write_private(self.path, json.dumps({other: undo for other, undo in self.read().items() if other != name}))


@dataclass
class Undoable:
    """A statement, and the statement that undoes it."""

    centre: DataCentre
    name: str
    do: str
    undo: str
    said: str

    def inject(self) -> str:
        memory = memory_of(self.centre)
        memory.remember(self.name, self.undo)
        try:
            execute(self.centre, self.do)
        except LabError:
            memory.forget(self.name)
            raise
        return self.said

    def heal(self) -> str:
        execute(self.centre, self.undo)
        memory_of(self.centre).forget(self.name)
        return f"{self.name} is undone"


def memory_of(centre: DataCentre) -> Memory:
    """The lab's memory of faults in its database."""
    return Memory(centre.layout.at("faults.json"))


def execute(centre: DataCentre, statement: str) -> None:
    """One statement of the administrator in the bank's database; LabError when the server says no."""
    try:
        with centre.primary.connect(DATABASE) as connection:
            connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
            connection.execute(statement.encode())
    except psycopg.Error as error:
        raise LabError(f"The database refuses: {str(error).strip()}.", hint=statement) from error


def _dropped_index(centre: DataCentre, options: Options) -> Undoable:
    """The index of that name in the bank's schema, unless a constraint needs it."""
    name = str(options["index"])
    with centre.primary.connect(DATABASE) as connection:
        row = connection.execute(
            "SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i"
            " WHERE i.indexrelid = to_regclass(%s) AND NOT EXISTS"
            " (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)",
            [f"bank.{name}"],
        ).fetchone()
        if row is None:
            hint = f"index= {', '.join(centre.bank.required_indexes())}"
            raise LabError(f"There is no index {name!r} that can be dropped.", hint=hint)
        drop = sql.SQL("DROP INDEX bank.{}").format(sql.Identifier(name)).as_string(connection)
    again = str(row[0]).replace(" INDEX ", " INDEX IF NOT EXISTS ", 1)
    return Undoable(centre, "drop-index", drop, again, f"index {name} is dropped")


def _raised_errors(centre: DataCentre, _: Options) -> Undoable:
    return Undoable(
        centre,
        "raise-error-rate",
        "REVOKE SELECT ON bank.entry FROM nvcbank_service",
        "GRANT SELECT ON bank.entry TO nvcbank_service",
        "the service may not read entries any more: that route fails",
    )


KINDS = [
    Kind(
        "drop-index",
        "Drops an index; heal builds it again from its saved definition.",
        "database: a required index is missing",
        _dropped_index,
        {"index": "account_customer"},
    ),
    Kind(
        "raise-error-rate",
        "Takes a privilege away from the service's role: one route answers 5xx.",
        "error rate",
        _raised_errors,
    ),
]
