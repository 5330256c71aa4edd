"""Series of any server with Prometheus' HTTP API. A service's series are those whose label `job` is its name."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from nvcops.adapters.http import Address, exchange
from nvcops.core.errors import Refused
from nvcops.core.probes import object_in
from nvcops.core.target import Answers, Change, Increase, Metrics, Sample, ScrapeSummary
from nvcops.core.watch import WATCHED

_DEADLINE_S = 10.0
_SERIES_MAX = 10_000
_STEP_S = 15
_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_ABOUT_THE_SCRAPE = ("__name__", "job")


@dataclass(frozen=True, slots=True)
class PrometheusMetrics:
    """See core.target.Metrics. `increase` is Prometheus': extrapolated to the edges of the window.

    What we ask and read ourselves is `own`: readiness, changes, and the figures of our probes.
    """

    address: Address
    own: Metrics

    @classmethod
    def at(cls, url: str, own: Metrics, deadline_s: float = _DEADLINE_S) -> PrometheusMetrics:
        """The server at an address, with the path before /api in it."""
        return cls(Address.of(url, None, deadline_s), own)

    def increases(self, service: str, series: str, start: dt.datetime, end: dt.datetime) -> list[Increase]:
        """How much each labelled counter of that name rose between two moments, all instances together."""
        if service == WATCHED:
            return self.own.increases(service, series, start, end)
        query = f"sum without (instance) (increase({_selector(service, series)}[{_window(start, end)}]))"
        return [Increase(labels, value) for labels, value in self._vector(query, end)]

    def samples(self, service: str, series: str, start: dt.datetime, end: dt.datetime) -> list[Sample]:
        """The newest reading of each labelled gauge of that name between two moments; its instance is a label."""
        if service == WATCHED:
            return self.own.samples(service, series, start, end)
        window, selector = _window(start, end), _selector(service, series)
        values = self._vector(f"last_over_time({selector}[{window}])", end)
        stamps = self._vector(f"max_over_time(timestamp({selector})[{window}:{_STEP_S}s])", end)
        times = {_key(labels): dt.datetime.fromtimestamp(value, dt.UTC) for labels, value in stamps}
        return [
            Sample(labels, value, max(start, times.get(_key(labels), start)))
            for labels, value in values
            if math.isfinite(value)
        ]

    def scrapes(self, service: str, start: dt.datetime, end: dt.datetime) -> ScrapeSummary:
        """How often we asked a service's front door, and how often it was ready."""
        return self.own.scrapes(service, start, end)

    def answers(self, service: str, start: dt.datetime, end: dt.datetime) -> list[Answers]:
        """How quickly a service and its instances answered us."""
        return self.own.answers(service, start, end)

    def changes(self, start: dt.datetime, end: dt.datetime) -> list[Change]:
        """What we saw change."""
        return self.own.changes(start, end)

    def _vector(self, query: str, at: dt.datetime) -> list[tuple[dict[str, str], float]]:
        """Labels and values of an instant query.

        Raises:
            TargetError: no answer, or none that is a vector.
        """
        path = "/api/v1/query?" + urlencode({"query": query, "time": f"{at.timestamp():.3f}"})
        answer = asyncio.run(exchange(self.address, path))
        said = object_in(answer.body)
        if answer.status != 200 or said.get("status") != "success":
            why = said.get("error") or f"answers {answer.status}"
            raise Refused(f"{self.address.url} refuses the query {query}: {why}")
        return _read(said.get("data"), f"{self.address.url} answers the query {query}")


def _read(data: Any, where: str) -> list[tuple[dict[str, str], float]]:
    """The rows of a vector.

    >>> _read({"resultType": "vector", "result": [{"metric": {"a": "b", "job": "x"}, "value": [1.5, "7"]}]}, "")
    [({'a': 'b'}, 7.0)]
    >>> _read({"resultType": "matrix", "result": []}, "it says")
    Traceback (most recent call last):
    nvcops.core.errors.Refused: it says with what is no vector
    """
    try:
        kind, result = data["resultType"], data["result"]
        rows = [(dict(row["metric"]), float(row["value"][1])) for row in result] if kind == "vector" else None
    except (KeyError, TypeError, ValueError, IndexError):
        rows = None
    if rows is None:
        raise Refused(f"{where} with what is no vector")
    if len(rows) > _SERIES_MAX:
        raise Refused(f"{where} with more than {_SERIES_MAX:,} series", hint="is `job` the name of the service?")
    return [({name: text for name, text in labels.items() if name not in _ABOUT_THE_SCRAPE}, v) for labels, v in rows]


def _selector(service: str, series: str) -> str:
    r"""A service's series of a name.

    >>> _selector("bank", "paid_total")
    'paid_total{job="bank"}'
    """
    if not _NAME.fullmatch(series):
        raise Refused(f"{series!r} is no name of a series")
    quoted = service.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{series}{{job="{quoted}"}}'


def _window(start: dt.datetime, end: dt.datetime) -> str:
    """The length of a window as Prometheus writes it, one millisecond at least.

    >>> _window(dt.datetime(2026, 1, 2), dt.datetime(2026, 1, 2, 0, 5))
    '300000ms'
    """
    return f"{max(1, round((end - start).total_seconds() * 1000))}ms"


def _key(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))
