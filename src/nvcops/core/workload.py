"""What a database is asked all day: its statements with their weights, and the indexes that could serve them."""

from __future__ import annotations

import datetime as dt
import hashlib

import msgspec

OURS = "nvcops_"  # how the names of the indexes begin that we made


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement of pg_stat_statements: its text has $1, $2 ... in place of constants.

    Over the time that the workload spans: `calls`, `total_s` and `rows`. `arguments` are sets of values for $1, $2 ...
    as SQL has them (of a new key: an expression), with which it is planned and measured; each set stands for an equal
    share of the calls. They are drawn from the clone's own columns, and stay in the journal of nobody: only their
    digest is told.
    """

    id: int
    text: str
    calls: float
    total_s: float
    rows: float = 0.0
    arguments: tuple[tuple[str, ...], ...] = ()

    @property
    def mean_s(self) -> float:
        """Seconds of one call."""
        return self.total_s / self.calls if self.calls else 0.0


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """The statements of a server between two moments, the costliest first. `share` of all time is what they make up."""

    server: str
    since: dt.datetime | None
    until: dt.datetime
    statements: tuple[Statement, ...]
    share: float = 1.0


class IndexKey(msgspec.Struct, frozen=True, order=True):
    """A b-tree over columns of a table, in that order; `table` and `columns` are names without quotes."""

    schema: str
    table: str
    columns: tuple[str, ...]

    @property
    def title(self) -> str:
        """How it is told.

        >>> IndexKey("bank", "entry", ("account", "id")).title
        'bank.entry (account, id)'
        """
        return f"{self.schema}.{self.table} ({', '.join(self.columns)})"

    @property
    def name(self) -> str:
        """What we call it: the same key has the same name, so that what a killed run left is known again.

        >>> IndexKey("bank", "entry", ("account", "id")).name
        'nvcops_entry_account_id_42829dec'
        """
        digest = hashlib.sha256("\0".join((self.schema, self.table, *self.columns)).encode()).hexdigest()[:8]
        plain = "_".join((self.table, *self.columns)).lower()
        stem = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in plain)[:44]
        return f"{OURS}{stem}_{digest}"

    def create(self, *, concurrently: bool) -> str:
        """The statement that makes it."""
        words = "CREATE INDEX CONCURRENTLY" if concurrently else "CREATE INDEX"
        columns = ", ".join(quoted(column) for column in self.columns)
        return f"{words} {quoted(self.name)} ON {quoted(self.schema)}.{quoted(self.table)} ({columns})"

    def drop(self, *, concurrently: bool) -> str:
        """The statement that removes it; fine when it is gone."""
        words = "DROP INDEX CONCURRENTLY IF EXISTS" if concurrently else "DROP INDEX IF EXISTS"
        return f"{words} {quoted(self.schema)}.{quoted(self.name)}"


def quoted(name: str) -> str:
    """A name as SQL has it, whatever letters it is made of.

    >>> quoted('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'
