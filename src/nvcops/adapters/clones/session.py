"""Sessions of a copy: by its superuser, on its private socket, finding tables as the services' own sessions do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from nvcops.core.errors import DeadlineExceeded, Refused, TargetError, Unreachable
from nvcops.core.workload import quoted

Session = psycopg.Connection[DictRow]
_CONNECT_S = 10
_LINE_MAX = 300
# How values are written as text, so that what is drawn from a column is read again as what it was.
_WRITTEN = {"datestyle": "ISO,YMD", "intervalstyle": "iso_8601", "bytea_output": "hex", "extra_float_digits": "1"}
_SCHEMAS = """
SELECT n.nspname, (SELECT split_part(c, '=', 2) FROM pg_db_role_setting s, unnest(s.setconfig) c
                   WHERE c LIKE 'search_path=%%' AND s.setdatabase IN (0, (SELECT oid FROM pg_database
                   WHERE datname = current_database())) ORDER BY s.setdatabase DESC LIMIT 1) AS path
FROM pg_namespace n WHERE n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'
  AND EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid) ORDER BY n.oid LIMIT 1000"""


@dataclass(frozen=True, slots=True)
class Door:
    """How the copy's database is reached. `path` is the search_path of its sessions."""

    conninfo: str
    database: str
    path: str = ""

    @contextmanager
    def session(self, *, deadline_s: float, settings: Mapping[str, str] | None = None) -> Iterator[Session]:
        """A session of one's own, autocommitting; no statement of it takes longer than `deadline_s`.

        Raises:
            TargetError: what the server refuses, or does not do in time, within the block as well.
        """
        wanted = {**_WRITTEN, "statement_timeout": str(int(deadline_s * 1000)), **(settings or {})}
        with told(deadline_s):
            connection = psycopg.connect(
                self.conninfo,
                dbname=self.database,
                autocommit=True,
                connect_timeout=_CONNECT_S,
                application_name="nvcops",
                prepare_threshold=None,
                row_factory=dict_row,
            )
            with connection:
                set_all(connection, {**({"search_path": self.path} if self.path else {}), **wanted})
                yield connection


def door(conninfo: str, database: str) -> Door:
    """The way to a database; tables without a schema are looked for where its roles look, then everywhere else."""
    plain = Door(conninfo, database)
    with plain.session(deadline_s=60.0) as session:
        found = session.execute(_SCHEMAS).fetchall()
    named = next((row["path"] for row in found if row["path"]), '"$user", public')
    return Door(conninfo, database, ", ".join([named, *(quoted(row["nspname"]) for row in found)]))


def set_all(session: Session, settings: Mapping[str, str]) -> None:
    """Set settings for as long as the session lasts."""
    for name, value in settings.items():
        session.execute("SELECT set_config(%s, %s, false)", (name, value))


def run(session: Session, text: str, parameters: Any = None) -> psycopg.Cursor[DictRow]:
    """Run a text that is made here or comes from the copy's own workload; nobody outside has a say in it.

    Without parameters it is one message as it stands: percent signs are percent signs.
    """
    return session.execute(text, parameters)


@contextmanager
def told(deadline_s: float) -> Iterator[None]:
    """Say what the server says as one of our errors."""
    try:
        yield
    except psycopg.Error as error:
        raise as_target_error(error, deadline_s) from error


def as_target_error(error: psycopg.Error, deadline_s: float) -> TargetError:
    """Tell a server that refuses from one that is too slow and one that is gone."""
    said = first_line(error)
    if isinstance(error, psycopg.errors.QueryCanceled):
        return DeadlineExceeded(f"the copy did not answer within {deadline_s:g} s")
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return Unreachable(f"the copy does not answer: {said}")
    return Refused(f"the copy refused: {said}")


def first_line(error: Exception) -> str:
    """What went wrong, in one line without the values of a statement: those are in DETAIL and CONTEXT."""
    line = str(error).strip().partition("\n")[0].strip()
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:_LINE_MAX]
