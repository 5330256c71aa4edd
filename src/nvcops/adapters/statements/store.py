"""What a database was asked and what its sessions waited for, kept in one SQLite file (docs/decisions/diagnostics.md).

Kept is how much each counter rose since it was read last, so that a reset of the statistics is bridged when it is seen.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path

from nvcops.adapters.sqlite_file import opened, version
from nvcops.adapters.statements.rises import HOUR_MS, Counted, Reading, ms, write_reading
from nvcops.core.errors import StateError
from nvcops.core.manifest import Manifest
from nvcops.core.statements import Waited, Waits
from nvcops.core.workload import Statement, Workload

__all__ = ["Counted", "Reading", "StatementStore", "statement_store"]

FILE = "statements.sqlite"
_VERSION = 1
_MINUTE_MS = 60_000
_RAW_MS = 48 * HOUR_MS
_HOURS_MS = 35 * 24 * HOUR_MS
_PAGES_MAX = 2**30 // 4096  # 1 GiB
_STATEMENTS_MAX = 1_000
_WAITS_MAX = 1_000
_HINT = "is the disk full, or the folder not ours to write? `state` in platform.toml names it"
_SUMS = """
SELECT query, text, calls, total, rows FROM (
    SELECT statement, sum(calls) AS calls, sum(total) AS total, sum(rows) AS rows FROM (
        SELECT statement, calls, total, rows FROM rise WHERE at >= :raw AND at <= :end
        UNION ALL SELECT statement, calls, total, rows FROM rise_hour WHERE at >= :first AND at < :last
    ) GROUP BY statement
) JOIN statement ON id = statement ORDER BY total DESC"""
_WAITED = """
SELECT kind, event, query, application, sum(seconds) FROM waited WHERE at >= ? AND at < ?
GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC LIMIT ?"""


def statement_store(manifest: Manifest) -> StatementStore:
    """The file of a platform."""
    return StatementStore(manifest.platform.state / FILE)


class StatementStore:
    """The file. It is made when it is first written; before that it reads as empty.

    Raises:
        StateError: from every method: it cannot be read, or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep_reading(self, at: dt.datetime, reading: Reading) -> None:
        """Write what a server has counted, whole or not at all; once an hour what is too old goes."""
        with self._writing() as connection:
            if write_reading(connection, ms(at), reading):
                _prune(connection, ms(at))

    def keep_waits(
        self, minute: dt.datetime, observed_s: float, waited: Mapping[tuple[str, str, int, str], float]
    ) -> None:
        """Add to a minute for how long somebody looked, and the seconds by (kind, event, query, application)."""
        at = ms(minute) // _MINUTE_MS * _MINUTE_MS
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO looked VALUES (?, ?) ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds",
                (at, observed_s),
            )
            connection.executemany(
                "INSERT INTO waited VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds",
                [(at, *key, seconds) for key, seconds in waited.items()],
            )

    def known(self, start: dt.datetime, end: dt.datetime) -> tuple[dt.datetime, dt.datetime] | None:
        """What of a time is known; None: nothing."""
        with self._reading() as connection:
            return _known(connection, ms(start), ms(end)) if connection else None

    def between(self, start: dt.datetime, end: dt.datetime, server: str) -> Workload | None:
        """The statements of a time, whichever server was the primary; None where nothing is known of it.

        Older than 48 hours, a time begins with its hour and ends with the last whole one.
        """
        with self._reading() as connection:
            span = _known(connection, ms(start), ms(end)) if connection else None
            if connection is None or span is None:
                return None
            (newest,) = connection.execute("SELECT max(at) FROM reading").fetchone()
            times = _times(ms(start), ms(end), newest)
            found = connection.execute(_SUMS, times).fetchall()
        told = [Statement(id=row[0], text=row[1], calls=row[2], total_s=row[3] / 1000, rows=row[4]) for row in found]
        top = tuple([one for one in told if one.id][:_STATEMENTS_MAX])
        everything = sum(one.total_s for one in told)
        share = min(sum(one.total_s for one in top) / everything, 1.0) if everything else 1.0
        return Workload(server=server, since=span[0], until=span[1], statements=top, share=share)

    def waits(self, start: dt.datetime, end: dt.datetime) -> Waits:
        """See core.statements.Statements."""
        first, last = ms(start) // _MINUTE_MS * _MINUTE_MS, ms(end)
        with self._reading() as connection:
            if connection is None:
                return Waits(observed_s=0.0)
            sql = "SELECT coalesce(sum(seconds), 0) FROM looked WHERE at >= ? AND at < ?"
            (observed,) = connection.execute(sql, (first, last)).fetchone()
            rows = connection.execute(_WAITED, (first, last, _WAITS_MAX)).fetchall()
        return Waits(
            observed_s=observed,
            waited=tuple(Waited(kind=r[0], event=r[1], query=r[2], application=r[3], seconds=r[4]) for r in rows),
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            with closing(opened(self._path)) as connection:
                _create(connection, self._path)
                connection.execute(f"PRAGMA max_page_count = {_PAGES_MAX}")
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    yield connection
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"{self._path} cannot be written: {error}", hint=_HINT) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """None where nothing was ever written."""
        try:
            if not self._path.exists():
                yield None
                return
            with closing(opened(self._path)) as connection:
                yield connection if version(connection, self._path, _VERSION) else None
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"{self._path} cannot be read: {error}", hint=_HINT) from error


def _create(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables, unless they are there or another process was quicker."""
    if version(connection, path, _VERSION):
        return
    connection.execute("PRAGMA journal_mode = WAL")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if version(connection, path, _VERSION):
            return
        text = resources.files("nvcops.adapters.statements").joinpath("schema.sql").read_text(encoding="utf-8")
        for statement in text.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")


def _known(connection: sqlite3.Connection, start: int, end: int) -> tuple[dt.datetime, dt.datetime] | None:
    sql = "SELECT min(at - covers), max(at) FROM reading WHERE covers > 0 AND at > ? AND at <= ?"
    first, last = connection.execute(sql, (start, end)).fetchone()
    return None if last is None else (_moment(first), _moment(last))


def _times(start: int, end: int, newest: int) -> dict[str, int]:
    """Which readings, and which whole hours, a time is the sum of: single readings are there for 48 hours.

    >>> _times(5 * HOUR_MS + 1, 7 * HOUR_MS, 50 * HOUR_MS)
    {'raw': 18000002, 'end': 25200000, 'first': 0, 'last': 0}
    >>> _times(HOUR_MS // 2, 7 * HOUR_MS, 50 * HOUR_MS)
    {'raw': 7200000, 'end': 25200000, 'first': 0, 'last': 7200000}
    """
    horizon = -(-(newest - _RAW_MS) // HOUR_MS) * HOUR_MS
    if start >= horizon:
        return {"raw": start + 1, "end": end, "first": 0, "last": 0}
    last = min(horizon, end // HOUR_MS * HOUR_MS)
    return {"raw": horizon, "end": end, "first": start // HOUR_MS * HOUR_MS, "last": last}


def _prune(connection: sqlite3.Connection, moment: int) -> None:
    raw, hours = moment - _RAW_MS, moment - _HOURS_MS
    for table, before in (("rise", raw), ("waited", raw), ("looked", raw), ("rise_hour", hours), ("reading", hours)):
        connection.execute(f"DELETE FROM {table} WHERE at < ?", (before,))  # noqa: S608 - ours
    connection.execute(
        "DELETE FROM statement WHERE seen < ? AND id NOT IN (SELECT statement FROM rise_hour)", (moment - HOUR_MS,)
    )


def _moment(at: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at / 1000, dt.UTC)
