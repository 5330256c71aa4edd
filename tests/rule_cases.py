"""Cases of alert rules as data: series in promtool's notation, and which rules fire when.

The same series are given to promtool, to a twin of the metrics socket, and page by page to the real store.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from nvcops.adapters.metrics.store import MetricsStore
from nvcops.adapters.metrics.write import Observation
from nvcops.alerts.evaluate import labels_of
from nvcops.alerts.promql import selector
from nvcops.alerts.rules import Rule
from nvcops.alerts.said import Said
from nvcops.core.alerts import Category, fingerprint
from nvcops.core.exposition import Page, parse_series
from nvcops.core.manifest import EvidenceEntry, Instance, Manifest, MetricsEntry, ObjectiveEntry, Platform, ServiceEntry
from nvcops.core.manifest import Series as Names
from nvcops.core.target import Answers, Change, Increase, Sample, ScrapeSummary
from nvcops.core.units import Ratio, Seconds
from nvcops.core.watch import PART, PROBE_VALUE, ROLE, WATCHED, Probe, ProbeKind

FOLDER = Path(__file__).parent / "rules"
BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ORDERS = ("paid",)


def manifest(interval_s: float = 60) -> Manifest:
    """A shop with an objective of each kind."""
    names = Names(requests="requests_total", latency="seconds", outcomes="orders_total", probe_routes=("/ready",))
    shop = ServiceEntry(
        name="shop",
        url="http://127.0.0.1:1",
        metrics="/metrics",
        series=names,
        instances=(
            Instance(name="shop-1", url="http://127.0.0.1:2"),
            Instance(name="shop-2", url="http://127.0.0.1:3"),
        ),
    )
    common: dict[str, Any] = {"service": "shop", "target": Ratio(0.999)}
    return Manifest(
        platform=Platform(name="shop-platform", title="The shop", state=Path("state")),
        services=(shop,),
        metrics=MetricsEntry(interval=Seconds(interval_s)),
        slos=(
            ObjectiveEntry(name="availability", indicator="availability", **common),
            ObjectiveEntry(name="errors", indicator="errors", **common),
            ObjectiveEntry(
                name="latency", service="shop", indicator="latency", target=Ratio(0.99), threshold=Seconds(0.25),
                category=Category.HIGH,
            ),
            ObjectiveEntry(
                name="orders", service="shop", indicator="outcomes", target=Ratio(0.995), good=ORDERS,
                ignored=("declined",),
            ),
        ),
        evidence=EvidenceEntry(origin="example.com/log"),
    )  # fmt: skip


def probes() -> list[Probe]:
    """What has limits, a Critical probe each, and what has none."""
    of: list[tuple[ProbeKind, str, str]] = [
        ("disk", "disk", "data"),
        ("tls", "certificate", "front"),
        ("replication", "replication", "db-2"),
        ("replication", "slot", "backup"),
        ("sql", "connections", "db-1"),
        ("sql", "longest-query", "db-1"),
        ("http", "front-door", "shop"),
    ]
    return [
        Probe(
            name=f"{role}.{part}", kind=kind, interval=Seconds(1), deadline=Seconds(1), failures=2, recoveries=3,
            category=Category.CRITICAL, labels={ROLE: role, PART: part},
        )
        for kind, role, part in of
    ]  # fmt: skip


def seconds_of(written: str) -> int:
    """`1h30m` in seconds."""
    sizes = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return sum(int(number) * sizes[unit] for number, unit in re.findall(r"(\d+)([dhms])", written))


def expand(written: str) -> list[float | None]:
    """Values in promtool's notation: `a+bxn` is n+1 values, `_xn` n absent ones."""
    values: list[float | None] = []
    for token in written.split():
        if match := re.fullmatch(r"_(?:x(\d+))?", token):
            values += [None] * int(match[1] or 1)
        elif match := re.fullmatch(r"(-?[\d.]+)([+-][\d.]+)x(\d+)", token):
            start, step = float(match[1]), float(match[2])
            values += [start + step * number for number in range(int(match[3]) + 1)]
        else:
            values.append(float(token))
    return values


@dataclass(frozen=True)
class Case:
    """One case; `fires` are the names of rules (without their service) by moment."""

    family: str
    name: str
    series: dict[str, str]
    fires: dict[str, list[str]]
    interval: str = "1m"
    store: bool = False
    only: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"

    @property
    def interval_s(self) -> int:
        return seconds_of(self.interval)

    @property
    def last_s(self) -> int:
        return max(map(seconds_of, self.fires))

    def prometheus(self) -> dict[str, str]:
        """The series as a Prometheus has them: with job and instance."""
        return {_labelled(key): values for key, values in self.series.items()}

    @cached_property
    def values(self) -> dict[str, list[float | None]]:
        return {key: expand(values) for key, values in self.series.items()}


def _labelled(key: str) -> str:
    name, labels = parse_series(key)
    job = {"probe_success": "shop-ready", PROBE_VALUE: WATCHED}.get(name, "shop")
    whole = {"job": job, "instance": "one", **labels}
    return selector(name, whole)


def cases(family: str) -> list[Case]:
    """All cases of a file."""
    found = json.loads((FOLDER / f"{family}.json").read_text(encoding="utf-8"))["cases"]
    return [Case(family=family, **{**case, "only": tuple(case.get("only", ()))}) for case in found]


GOOD, BAD = [0, 5, 80, 200], [0, 0, 1, 3, 40]  # a minute


def random_case(seed: int, family: str) -> Case:
    """Two instances that restart, fail, fall silent and come back; it does not say what fires."""
    drawn = random.Random(seed)
    keys = [
        f'requests_total{{instance="shop-{number}",route="/buy",status="{status}"}}'
        for number in (1, 2)
        for status in (200, 500)
    ] + [f'orders_total{{outcome="{outcome}"}}' for outcome in ("paid", "declined", "error")]
    series = {key: [0.0] for key in keys}
    for _ in range(drawn.randint(6, 10)):
        pace = {key: drawn.choice(BAD if "500" in key or "error" in key else GOOD) for key in keys}
        restarts = drawn.random() < 0.15
        for minute in range(drawn.randint(3, 25)):
            for key, values in series.items():
                values.append(0.0 if restarts and minute == 0 else values[-1] + pace[key])
    written = {key: " ".join(f"{value:g}" for value in values) for key, values in series.items()}
    return Case(family=family, name=f"seed {seed}", series=written, fires={f"{len(series[keys[0]]) - 1}m": []})


def firing(said: Sequence[Said], rules: Sequence[Rule]) -> list[str]:
    """The names of the rules that fire, without their service."""
    names = {fingerprint(labels_of(rule)): rule.name.removeprefix("shop/") for rule in rules}
    return sorted(names[one.fingerprint] for one in said if one.ends is None)


@dataclass
class Rising:
    """One counter in memory: at which ticks it rose, and by how much up to there."""

    labels: dict[str, str]
    ticks: list[int] = field(default_factory=list)
    sums: list[float] = field(default_factory=lambda: [0.0])

    def between(self, low: int, high: int) -> float:
        return self.sums[bisect_left(self.ticks, high)] - self.sums[bisect_left(self.ticks, low)]


class SeriesTwin:
    """The twin of the metrics socket over series in memory; the moments of the series are ticks of `interval_s`."""

    def __init__(self, values: dict[str, list[float | None]], interval_s: float) -> None:
        self.interval_s = interval_s
        self._named: dict[str, list[tuple[dict[str, str], list[float | None]]]] = {}
        for key, read in values.items():
            name, labels = parse_series(key)
            self._named.setdefault(name, []).append((labels, read))
        self._rising = {name: [_rising(*one) for one in found] for name, found in self._named.items()}

    def _ticks(self, start: dt.datetime, end: dt.datetime) -> range:
        """The ticks at or after `start` and before `end`."""
        low, high = (-((BEGIN - moment).total_seconds() // self.interval_s) for moment in (start, end))
        return range(max(int(low), 0), max(int(high), 0))

    def increases(self, service: str, series: str, start: dt.datetime, end: dt.datetime) -> list[Increase]:
        ticks = self._ticks(start, end)
        rising = self._rising.get(series, []) if service == "shop" else []
        return [
            Increase(one.labels, one.between(ticks.start, ticks.stop)) for one in rising if one.sums[1:] or one.ticks
        ]

    def samples(self, service: str, series: str, start: dt.datetime, end: dt.datetime) -> list[Sample]:
        found = []
        for labels, read in self._named.get(series, []) if service == WATCHED else []:
            there = [tick for tick in self._ticks(start, end) if tick < len(read) and read[tick] is not None]
            if there:
                moment = BEGIN + dt.timedelta(seconds=there[-1] * self.interval_s)
                found.append(Sample(labels, float(read[there[-1]] or 0), moment))
        return found

    def scrapes(self, service: str, start: dt.datetime, end: dt.datetime) -> ScrapeSummary:
        read = self._named.get("probe_success", [({}, [])])[0][1]
        seen = [read[tick] for tick in self._ticks(start, end) if tick < len(read)]
        asked = [value for value in seen if value is not None]
        pages = {}
        for labels, up in self._named.get("up", []) if service == "shop" else []:
            until = self._ticks(BEGIN, end).stop
            there = [tick for tick, value in enumerate(up[:until]) if value == 1]
            if there:
                pages[labels.get("instance", "")] = BEGIN + dt.timedelta(seconds=there[-1] * self.interval_s)
        return ScrapeSummary(len(asked), int(sum(asked)), len(asked) * self.interval_s, None, None, pages)

    def answers(self, service: str, start: dt.datetime, end: dt.datetime) -> list[Answers]:
        raise AssertionError(f"rules do not ask for {service} {start} {end}")

    def changes(self, start: dt.datetime, end: dt.datetime) -> list[Change]:
        raise AssertionError(f"rules do not ask for changes {start} {end}")


def _rising(labels: dict[str, str], read: list[float | None]) -> Rising:
    rises: list[tuple[int, float]] = []
    before: float | None = None
    for tick, value in enumerate(read):
        if value is not None:
            rise = 0.0 if before is None else value if value < before else value - before
            rises.append((tick, rise))
            before = value
    ticks = [tick for tick, _ in rises]
    return Rising(labels, ticks, list(accumulate((rise for _, rise in rises), initial=0.0)))


def feed(store: MetricsStore, case: Case) -> Iterator[dt.datetime]:
    """Write a case into the real store, a round at a time; each moment when it was written."""
    for tick in range(case.last_s // case.interval_s + 1):
        at = BEGIN + dt.timedelta(seconds=tick * case.interval_s)
        there = {
            key: value for key, read in case.values.items() if tick < len(read) and (value := read[tick]) is not None
        }
        store.record(at, list(_seen(there)), case.interval_s)
        yield at


def _seen(there: dict[str, float]) -> Iterator[Observation]:
    """The front door where it was asked, the pages of instances and those of what probes read."""
    pages: dict[str, Page] = {}
    for key, value in there.items():
        name, labels = parse_series(key)
        instance = labels.get("instance", "shop-1")
        if name == "probe_success":
            yield Observation("shop", "", "ready" if value else "503")
        elif name == PROBE_VALUE:
            yield Observation(WATCHED, labels["probe"], "ready", page=Page(gauges={key: value}))
        elif name != "up" or value == 1:
            pages.setdefault(instance, Page()).rising.update({} if name == "up" else {key: value})
    for instance, page in pages.items():
        yield Observation("shop", instance, "ready", page=page)
