"""Series scraped off /metrics, kept in one SQLite file (docs/decisions/metrics.md).

What is written is how much each counter rose since the last scrape: a sum over 24 hours is a sum, and a restart was
bridged when it was seen.
"""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path

from nvcops.adapters.metrics.gauges import newest, prune_gauges, write_gauges
from nvcops.adapters.metrics.write import BUCKET_MS, Figures, Observation, moment_of, ms, write, write_rises
from nvcops.adapters.sqlite_file import opened, version
from nvcops.core.errors import StateError
from nvcops.core.target import Answers, Change, Increase, Sample, ScrapeSummary

_VERSION = 2
_HOUR_MS = 3_600_000
_PAGES_MAX = 5 * 2**30 // 4096  # 5 GiB
_CHANGES_MAX = 1_000
_HINT = "is the disk full, or the folder not ours to write? `state` in platform.toml names it"
_SCHEMAS = ("schema.sql", "schema_gauges.sql")  # each makes what its format added; nothing that is there is changed


class MetricsStore:
    """The file. It is made by the first `record`; before that it reads as empty."""

    def __init__(self, path: Path, raw_s: float, rollups_s: float) -> None:
        self._path = path
        self._raw_ms, self._rollups_ms = int(raw_s * 1000), int(rollups_s * 1000)
        self._kept_ms = 0

    def record(self, at: dt.datetime, observations: Sequence[Observation], interval_s: float) -> None:
        """Write one round of asking, whole or not at all.

        Raises:
            StateError: the disk is full, the folder cannot be written, or the clock went back behind the last round.
        """
        moment = ms(at)
        with self._writing() as connection:
            (last,) = connection.execute("SELECT coalesce(max(at), 0) FROM state").fetchone()
            for seen in observations:
                write(connection, seen, moment, int(interval_s * 1000))
                if seen.page:
                    write_gauges(connection, seen.service, seen.instance, seen.page.gauges, moment)
            if moment // _HOUR_MS != last // _HOUR_MS:
                self._prune(connection, moment)

    def keep(self, at: dt.datetime, figures: Sequence[Figures]) -> None:
        """Write figures of our own, whole or not at all.

        Raises:
            StateError: the disk is full, or the folder cannot be written.
        """
        moment = ms(at)
        with self._writing() as connection:
            for one in figures:
                write_rises(connection, one.service, one.rises, moment)
                write_gauges(connection, one.service, "", one.gauges, moment)
            if moment // _HOUR_MS != self._kept_ms // _HOUR_MS:
                self._prune(connection, moment)
        self._kept_ms = moment

    def increases(self, service: str, series: str, start: dt.datetime, end: dt.datetime) -> list[Increase]:
        """How much each labelled counter of that name rose between two moments, all instances together."""
        # Asked for in each part: SQLite would else walk through all that was ever rolled up.
        meant = "{at} AND series IN (SELECT id FROM series WHERE service = :service AND name = :name)"
        raw, rolled = (f"SELECT series, increase FROM {table} WHERE {meant}" for table in ("raw", "rollup"))  # noqa: S608 - ours
        parts, parameters = _parts(raw, rolled, start, end)
        sql = f"""
            SELECT labels, coalesce(sum(rise), 0) FROM series LEFT JOIN (
                SELECT series, sum(increase) AS rise FROM ({parts}) GROUP BY series
            ) ON series = id
            WHERE service = :service AND name = :name GROUP BY labels"""  # noqa: S608 - the parts are written above
        with self._reading() as connection:
            rows = connection.execute(sql, {**parameters, "service": service, "name": series}) if connection else ()
            return [Increase(json.loads(labels), rise) for labels, rise in rows]

    def samples(self, service: str, series: str, start: dt.datetime, end: dt.datetime) -> list[Sample]:
        """The newest reading of each labelled gauge of that name between two moments; its instance is a label."""
        with self._reading(since=2) as connection:
            return newest(connection, service, series, ms(start), ms(end)) if connection else []

    def scrapes(self, service: str, start: dt.datetime, end: dt.datetime) -> ScrapeSummary:
        """How often a service's front door was asked in that time, and how often it was ready."""
        ours = " AND service = :service AND instance = ''"
        raw = "SELECT at, 1 AS asked, ready, covers FROM probe WHERE {at}"
        rolled = "SELECT at, asked, ready, covers FROM probe_rollup WHERE {at}"
        parts, parameters = _parts(raw + ours, rolled + ours, start, end)
        sums = f"SELECT coalesce(sum(asked), 0), sum(ready), sum(covers), min(at), max(at) FROM ({parts})"  # noqa: S608 - ours
        with self._reading() as connection:
            if connection is None:
                return ScrapeSummary(0, 0, 0.0, None, None)
            asked, ready, covers, first, last = connection.execute(sums, {**parameters, "service": service}).fetchone()
            state = "SELECT instance, at, page_at FROM state WHERE service = ?"
            pages = {}
            for instance, at, page_at in connection.execute(state, (service,)):
                if page_at:
                    pages[instance] = moment_of(page_at)
                if last and not instance:  # a rollup only knows the beginning of its 5 minutes
                    last = min(max(last, at), parameters["end"])
        if not asked:
            return ScrapeSummary(0, 0, 0.0, None, None, pages)
        return ScrapeSummary(asked, ready, covers / 1000, moment_of(first), moment_of(last), pages)

    def answers(self, service: str, start: dt.datetime, end: dt.datetime) -> list[Answers]:
        """How quickly a service and its instances answered."""
        sql = "SELECT instance, count(took), avg(took) FROM probe WHERE service = ? AND at >= ? AND at < ? GROUP BY 1"
        with self._reading() as connection:
            rows = connection.execute(sql, (service, ms(start), ms(end))).fetchall() if connection else []
        return [Answers(instance, count, mean or 0.0) for instance, count, mean in rows]

    def changes(self, start: dt.datetime, end: dt.datetime) -> list[Change]:
        """What was seen to change between two moments, oldest first."""
        sql = "SELECT * FROM change WHERE at >= ? AND at < ? ORDER BY at DESC, rowid DESC LIMIT ?"
        with self._reading() as connection:
            rows = connection.execute(sql, (ms(start), ms(end), _CHANGES_MAX)).fetchall() if connection else []
        return [Change(moment_of(row[0]), *row[1:]) for row in reversed(rows)]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            with closing(opened(self._path)) as connection:
                if version(connection, self._path, _VERSION) < _VERSION:
                    _create(connection)
                connection.execute(f"PRAGMA max_page_count = {_PAGES_MAX}")
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    yield connection
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"{self._path} cannot be written: {error}", hint=_HINT) from error

    @contextmanager
    def _reading(self, since: int = 1) -> Iterator[sqlite3.Connection | None]:
        """None where nothing was ever written, or only by a release whose format was older than `since`."""
        try:
            if not self._path.exists():
                yield None
                return
            with closing(opened(self._path)) as connection:
                yield connection if version(connection, self._path, _VERSION) >= since else None
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"{self._path} cannot be read: {error}", hint=_HINT) from error

    def _prune(self, connection: sqlite3.Connection, moment: int) -> None:
        raw, rolled = moment - self._raw_ms, moment - self._rollups_ms
        connection.execute("DELETE FROM raw WHERE at < ?", (raw,))
        connection.execute("DELETE FROM probe WHERE at < ?", (raw,))
        connection.execute("DELETE FROM probe_rollup WHERE at < ?", (rolled,))
        connection.execute("DELETE FROM change WHERE at < ?", (rolled,))
        for (series,) in connection.execute("SELECT id FROM series").fetchall():  # each a short range of the key
            connection.execute("DELETE FROM rollup WHERE series = ? AND at < ?", (series, rolled))
        connection.execute(
            "DELETE FROM series WHERE id NOT IN (SELECT series FROM latest)"
            " AND NOT EXISTS (SELECT 1 FROM rollup WHERE series = id)"
        )
        prune_gauges(connection, raw, rolled)


def _create(connection: sqlite3.Connection) -> None:
    """Make the tables that are not there yet, unless another process was quicker; an older file keeps all it has."""
    connection.execute("PRAGMA journal_mode = WAL")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        for name in _SCHEMAS[found:]:
            text = resources.files("nvcops.adapters.metrics").joinpath(name).read_text(encoding="utf-8")
            for statement in text.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")


def _parts(raw: str, rolled: str, start: dt.datetime, end: dt.datetime) -> tuple[str, dict[str, int]]:
    """A window as whole buckets of rollups, and the raw readings at its two edges."""
    first, last = ms(start), ms(end)
    whole = -(-first // BUCKET_MS) * BUCKET_MS
    until = max(last // BUCKET_MS * BUCKET_MS, whole)
    whole_last, until = (whole, until) if until > whole else (last, last)
    parameters = {"start": first, "whole": min(whole_last, last), "until": until, "end": last}
    spans = ((raw, "start", "whole"), (rolled, "whole", "until"), (raw, "until", "end"))
    return " UNION ALL ".join(sql.format(at=f"at >= :{low} AND at < :{high}") for sql, low, high in spans), parameters
