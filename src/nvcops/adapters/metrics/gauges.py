"""Gauges in the metrics file: each reading while readings are kept, and for longer the newest of each 5 minutes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from nvcops.adapters.metrics.write import BUCKET_MS, moment_of
from nvcops.core.exposition import parse_series
from nvcops.core.target import Sample

_RECENT_MS = 2 * BUCKET_MS
_INSTANCE = "instance"

# A reading of the last minutes is found in `reading`, which is ordered by time; an older one by one look per gauge.
_RECENT = """
SELECT id, instance, labels, value, max(at) FROM reading JOIN gauge ON id = gauge
WHERE at >= :recent AND at < :end AND service = :service AND name = :name GROUP BY id"""
_OLDER = """
SELECT id, instance, labels, value, newest FROM gauge JOIN reading_rollup AS held ON held.gauge = id AND held.at = (
    SELECT max(at) FROM reading_rollup WHERE gauge = id AND at > :start - :bucket AND at < :end
    AND newest >= :start AND newest < :end)
WHERE service = :service AND name = :name"""


def write_gauges(
    connection: sqlite3.Connection, service: str, instance: str, values: Mapping[str, float], at: int
) -> None:
    """Write the readings of a moment (ms), by the series as it is written."""
    sql = "SELECT key, id FROM gauge WHERE service = ? AND instance = ?"
    known = dict(connection.execute(sql, (service, instance)).fetchall())
    readings = []
    for key, value in values.items():
        gauge = known.get(key) or _new_gauge(connection, service, instance, key)
        readings.append((at, gauge, value))
    connection.executemany("INSERT OR REPLACE INTO reading VALUES (?, ?, ?)", readings)
    connection.executemany(
        "INSERT INTO reading_rollup VALUES (?2, ?4, ?1, ?3) ON CONFLICT DO UPDATE"
        " SET newest = excluded.newest, value = excluded.value WHERE excluded.newest >= newest",
        [(*reading, at - at % BUCKET_MS) for reading in readings],
    )


def newest(connection: sqlite3.Connection, service: str, name: str, start: int, end: int) -> list[Sample]:
    """The newest reading of each gauge of that name between two moments (ms).

    Beyond what single readings are kept for, the one of the 5 minutes in which the window ends may be missing.
    """
    parameters = {"service": service, "name": name, "start": start, "end": end, "bucket": BUCKET_MS}
    parameters["recent"] = max(start, end - _RECENT_MS)
    found = {row[0]: row for row in connection.execute(_OLDER, parameters)}
    found |= {row[0]: row for row in connection.execute(_RECENT, parameters)}
    return [
        Sample(_labelled(json.loads(labels), instance or service), value, moment_of(at))
        for _, instance, labels, value, at in found.values()
    ]


def prune_gauges(connection: sqlite3.Connection, raw: int, rolled: int) -> None:
    """Remove the readings before `raw` and the 5 minutes before `rolled` (ms), and gauges that have none any more."""
    connection.execute("DELETE FROM reading WHERE at < ?", (raw,))
    for (gauge,) in connection.execute("SELECT id FROM gauge").fetchall():  # each a short range of the key
        connection.execute("DELETE FROM reading_rollup WHERE gauge = ? AND at < ?", (gauge, rolled))
    connection.execute("DELETE FROM gauge WHERE NOT EXISTS (SELECT 1 FROM reading_rollup WHERE gauge = id)")


def _new_gauge(connection: sqlite3.Connection, service: str, instance: str, key: str) -> int:
    name, labels = parse_series(key)
    row = (service, instance, name, json.dumps(labels, sort_keys=True), key)
    sql = "INSERT INTO gauge (service, instance, name, labels, key) VALUES (?, ?, ?, ?, ?)"
    return int(connection.execute(sql, row).lastrowid or 0)


def _labelled(labels: dict[str, str], instance: str) -> dict[str, str]:
    """The instance is a label; a label of that name that the page itself has is renamed, as Prometheus does.

    >>> _labelled({"a": "1", "instance": "x"}, "bank-1")
    {'a': '1', 'exported_instance': 'x', 'instance': 'bank-1'}
    """
    kept = {f"exported_{name}" if name == _INSTANCE else name: value for name, value in labels.items()}
    return {**kept, _INSTANCE: instance}
