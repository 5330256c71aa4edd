"""One round of asking on its way into the metrics file: how much each counter rose, who was ready, what changed."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nvcops.core.errors import StateError
from nvcops.core.exposition import Page, parse_series

BUCKET_MS = 300_000
_GAP_MS = 300_000
_TEXT_MAX = 200
READY = "ready"


@dataclass(frozen=True, slots=True)
class Observation:
    """What one asking saw of a service's front door (`instance` empty) or of an instance.

    `ready` is "ready", or the reason why not; `seconds` how long that answer took, None where none came. `started` is
    when it says that it began, as it says it. `page` is None where there are no metrics, or none that could be read.
    """

    service: str
    instance: str
    ready: str
    version: str = ""
    started: str = ""
    seconds: float | None = None
    page: Page | None = None

    @property
    def subject(self) -> str:
        """Who was asked."""
        return self.instance or self.service


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of our own about a service: how much counters rose since the last time, and gauges; by their series."""

    service: str
    rises: Mapping[str, float]
    gauges: Mapping[str, float]


class _Last(NamedTuple):
    """What it was when it was last asked; all zero and empty before the first time."""

    at: int = 0
    ready: str = ""
    version: str = ""
    start: str = ""
    page_at: int = 0


def write(connection: sqlite3.Connection, seen: Observation, at: int, interval: int) -> None:
    """Write one observation of the moment `at`; both times in milliseconds.

    Raises:
        StateError: it is not younger than the last one.
    """
    last = _last(connection, seen)
    if at <= last.at:
        raise StateError(
            f"the metrics of {seen.subject} were last read at {moment_of(last.at)}, and now is {moment_of(at)}: "
            "out of order, not written",
            hint="did the clock go back? the next round after that time is written again",
        )
    # Up to twice the interval counts as watched: what lies between two rounds further apart was not seen by anybody.
    _probe(connection, seen, at, min(at - last.at, 2 * interval) if last.at else interval)
    now = _Last(
        at=at,
        ready=seen.ready[:_TEXT_MAX],
        version=seen.version[:_TEXT_MAX] or last.version,
        start=_start(seen)[:_TEXT_MAX] or last.start,
        page_at=at if seen.page else last.page_at,
    )
    _changes(connection, seen, last, now)
    if seen.page:
        _page(connection, seen, seen.page, last, now)
    connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?, ?, ?)", (seen.service, seen.instance, *now))


def _start(seen: Observation) -> str:
    """When it began: the page's own word first, because it belongs to the page's counters."""
    if seen.page and seen.page.started:
        return moment_of(int(seen.page.started * 1000)).isoformat()
    return seen.started


def _last(connection: sqlite3.Connection, seen: Observation) -> _Last:
    row = connection.execute(
        "SELECT at, ready, version, start, page_at FROM state WHERE service = ? AND instance = ?",
        (seen.service, seen.instance),
    ).fetchone()
    return _Last(*row) if row else _Last()


def _probe(connection: sqlite3.Connection, seen: Observation, at: int, covers: int) -> None:
    ready = int(seen.ready == READY)
    row = (seen.service, seen.instance, at, ready, covers, seen.seconds)
    connection.execute("INSERT INTO probe VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.execute(
        "INSERT INTO probe_rollup VALUES (?, ?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET"
        " asked = asked + 1, ready = ready + excluded.ready, covers = covers + excluded.covers",
        (seen.service, seen.instance, at - at % BUCKET_MS, ready, covers),
    )


def _changes(connection: sqlite3.Connection, seen: Observation, last: _Last, now: _Last) -> None:
    """A reason that reads differently is no change; ready or not is one."""
    different = {
        "ready": (last.ready == READY) != (now.ready == READY) or not last.ready,
        "version": last.version != now.version,
        "start": last.start != now.start,
    }
    for what, changed in different.items():
        if changed:
            row = (now.at, seen.service, seen.instance, what, getattr(last, what), getattr(now, what))
            connection.execute("INSERT INTO change VALUES (?, ?, ?, ?, ?, ?)", row)


def _page(connection: sqlite3.Connection, seen: Observation, page: Page, last: _Last, now: _Last) -> None:
    """How much each series rose: a counter that fell, or whose process began anew, rose from zero.

    The first page of an instance is where counting begins. What rose in a gap is booked in its middle: it belongs to
    the day, but not to the last five minutes.
    """
    known = _known(connection, seen)
    restarted = bool(page.started and last.start) and last.start != now.start
    at = (last.page_at + now.at) // 2 if last.page_at and now.at - last.page_at > _GAP_MS else now.at
    rises: list[tuple[int, int, float]] = []
    values: list[tuple[int, float]] = []
    for key, value in page.rising.items():
        series, before = known.pop(key, (None, None))
        if value == before and not restarted:
            continue
        series = series if series is not None else _new_series(connection, seen, key)
        values.append((series, value))
        rise = value if before is None or restarted or value < before else value - before
        if rise and last.page_at:
            rises.append((at, series, rise))
    connection.executemany("INSERT OR REPLACE INTO latest VALUES (?, ?)", values)
    gone = [(series,) for series, before in known.values() if before is not None]
    connection.executemany("DELETE FROM latest WHERE series = ?", gone)
    _risen(connection, rises)


def write_rises(connection: sqlite3.Connection, service: str, rises: Mapping[str, float], at: int) -> None:
    """Write how much series of a service, of none of its instances, rose until `at` (ms)."""
    sql = "SELECT key, id FROM series WHERE service = ? AND instance = ''"
    known = dict(connection.execute(sql, (service,)).fetchall())
    ours = Observation(service, "", READY)
    _risen(
        connection, [(at, known.get(key) or _new_series(connection, ours, key), rise) for key, rise in rises.items()]
    )


def _risen(connection: sqlite3.Connection, rises: Sequence[tuple[int, int, float]]) -> None:
    """Each rise is a reading, and part of its 5 minutes' sum: (moment, series, rise)."""
    connection.executemany(
        "INSERT INTO raw VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET increase = increase + excluded.increase", rises
    )
    connection.executemany(
        "INSERT INTO rollup VALUES (?2, ?1, ?3) ON CONFLICT DO UPDATE SET increase = increase + excluded.increase",
        [(moment - moment % BUCKET_MS, series, rise) for moment, series, rise in rises],
    )


def _known(connection: sqlite3.Connection, seen: Observation) -> dict[str, tuple[int, float | None]]:
    """Series and last value by the way it is written; a series that was away has no last value."""
    rows = connection.execute(
        "SELECT key, id, value FROM series LEFT JOIN latest ON series = id WHERE service = ? AND instance = ?",
        (seen.service, seen.instance),
    )
    return {key: (series, value) for key, series, value in rows}


def _new_series(connection: sqlite3.Connection, seen: Observation, key: str) -> int:
    name, labels = parse_series(key)
    row = (seen.service, seen.instance, name, json.dumps(labels, sort_keys=True), key)
    sql = "INSERT INTO series (service, instance, name, labels, key) VALUES (?, ?, ?, ?, ?)"
    return int(connection.execute(sql, row).lastrowid or 0)


def ms(moment: dt.datetime) -> int:
    """Milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def moment_of(milliseconds: int) -> dt.datetime:
    """The moment, in UTC."""
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
