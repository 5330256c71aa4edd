"""One reading of pg_stat_statements on its way into the file: how much each statement rose."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Sequence

import msgspec

HOUR_MS = 3_600_000
_TOLD_MAX = 200  # statements of a reading that are told apart; the others are summed up
_TEXT_MAX = 20_000
_Key = tuple[int, int]


class Counted(msgspec.Struct, frozen=True):
    """What a server has counted of a statement of a role; `since` is when it began to, where the server says so."""

    role: int
    query: int
    text: str
    calls: float
    total_ms: float
    rows: float
    since: dt.datetime | None = None


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """All that a server has counted since `reset`; `forgotten` is how often it gave up statements for newer ones."""

    server: str
    reset: dt.datetime | None
    forgotten: int
    counted: Sequence[Counted]


def ms(moment: dt.datetime) -> int:
    """A moment as the file has it."""
    return int(moment.timestamp() * 1000)


def write_reading(connection: sqlite3.Connection, at: int, reading: Reading) -> bool:
    """Write how much each statement rose; whether a new hour began with it.

    The first reading of a server is where its counting begins, and so is one after our clock went back.
    """
    row = connection.execute("SELECT id, at, reset, forgotten FROM server WHERE name = ?", (reading.server,)).fetchone()
    reset = ms(reading.reset) if reading.reset else 0
    if row is None:
        sql = "INSERT INTO server (name, at, reset, forgotten) VALUES (?, ?, ?, ?)"
        server = connection.execute(sql, (reading.server, at, reset, reading.forgotten)).lastrowid or 0
        _remember(connection, server, reading)
        return True
    server, last, last_reset, forgotten = row
    if at > last:
        anew = reset != last_reset
        rises = _rises(_latest(connection, server), reading.counted, last, anew=anew)
        lost = reading.forgotten if anew else max(reading.forgotten - forgotten, 0)
        _write(connection, server, at, at - last, rises, lost)
    _remember(connection, server, reading)
    sql = "UPDATE server SET at = ?, reset = ?, forgotten = ? WHERE id = ?"
    connection.execute(sql, (at, reset, reading.forgotten, server))
    return bool(at // HOUR_MS != last // HOUR_MS)


def _rises(
    latest: dict[_Key, tuple[int, float, float, float]], counted: Sequence[Counted], last: int, *, anew: bool
) -> list[Counted]:
    """What was counted since the last reading, the costliest first.

    A statement that began to be counted in between, or whose counters fell, has risen by all that it has.
    """
    found = []
    for one in counted:
        since = ms(one.since) if one.since else 0
        began, calls, total, rows = latest.get((one.role, one.query), (0, 0.0, 0.0, 0.0))
        if anew or since > last or began != since or one.calls < calls:
            calls = total = rows = 0.0
        if one.calls > calls:
            rise = (one.calls - calls, max(one.total_ms - total, 0.0), max(one.rows - rows, 0.0))
            found.append(Counted(one.role, one.query, one.text, *rise))
    return sorted(found, key=lambda one: one.total_ms, reverse=True)


def _latest(connection: sqlite3.Connection, server: int) -> dict[_Key, tuple[int, float, float, float]]:
    sql = "SELECT role, query, since, calls, total, rows FROM latest WHERE server = ?"
    return {(row[0], row[1]): row[2:] for row in connection.execute(sql, (server,))}


def _remember(connection: sqlite3.Connection, server: int, reading: Reading) -> None:
    connection.execute("DELETE FROM latest WHERE server = ?", (server,))
    connection.executemany(
        "INSERT OR REPLACE INTO latest VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (server, one.role, one.query, ms(one.since) if one.since else 0, one.calls, one.total_ms, one.rows)
            for one in reading.counted
        ],
    )


def _write(
    connection: sqlite3.Connection, server: int, at: int, covers: int, rises: Sequence[Counted], lost: int
) -> None:
    calls, total = sum(one.calls for one in rises), sum(one.total_ms for one in rises)
    connection.execute("INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?)", (server, at, covers, calls, total, lost))
    others = rises[_TOLD_MAX:]
    told = list(rises[:_TOLD_MAX])
    if others:
        sums = (sum(o.calls for o in others), sum(o.total_ms for o in others), sum(o.rows for o in others))
        told.append(Counted(0, 0, "", *sums))
    rows = [(_statement(connection, one, at), one.calls, one.total_ms, one.rows) for one in told]
    for table, moment in (("rise", at), ("rise_hour", at // HOUR_MS * HOUR_MS)):
        connection.executemany(
            f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"  # noqa: S608 - ours
            " calls = calls + excluded.calls, total = total + excluded.total, rows = rows + excluded.rows",
            [(moment, *row) for row in rows],
        )


def _statement(connection: sqlite3.Connection, one: Counted, at: int) -> int:
    """Its number; a text that is longer than 20,000 characters is not kept: nobody could plan a part of it."""
    text = one.text if len(one.text) <= _TEXT_MAX else ""
    (number,) = connection.execute(
        "INSERT INTO statement (query, text, seen) VALUES (?, ?, ?)"
        " ON CONFLICT (query) DO UPDATE SET seen = excluded.seen RETURNING id",
        (one.query, text, at),
    ).fetchone()
    return int(number)
