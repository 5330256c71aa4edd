"""Counters and histograms of one process, written in the Prometheus text format."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

LATENCY_EDGES_S = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
GROUP_EDGES = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class Counter:
    """A count per tuple of label values."""

    def __init__(self, name: str, about: str, labels: Sequence[str]) -> None:
        self.name, self.about, self.labels = name, about, tuple(labels)
        self.values: dict[tuple[object, ...], int] = {}

    def add(self, *values: object, by: int = 1) -> None:
        """One more, or `by` more."""
        self.values[values] = self.values.get(values, 0) + by

    def lines(self) -> list[str]:
        """The exposition's lines."""
        samples = [f"{self.name}{_labels(self.labels, values)} {count}" for values, count in self.values.items()]
        return [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} counter", *samples]


class Histogram:
    """Counts per bucket and their sum, per label value."""

    def __init__(self, name: str, about: str, label: str, edges: Sequence[float]) -> None:
        self.name, self.about, self.label, self.edges = name, about, label, tuple(edges)
        self._buckets: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, value: float, labelled: str = "") -> None:
        """One more observation."""
        buckets = self._buckets.get(labelled)
        if buckets is None:
            buckets = self._buckets[labelled] = [0] * (len(self.edges) + 1)
            self._sums[labelled] = 0.0
        buckets[bisect_left(self.edges, value)] += 1
        self._sums[labelled] += value

    def lines(self) -> list[str]:
        """The exposition's lines; buckets are cumulative there."""
        lines = [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} histogram"]
        for labelled, buckets in self._buckets.items():
            own = [(self.label, labelled)] if self.label else []
            total = 0
            for edge, count in zip([*map(_number, self.edges), "+Inf"], buckets, strict=True):
                total += count
                names, values = zip(*own, ("le", edge), strict=True)
                lines.append(f"{self.name}_bucket{_labels(names, values)} {total}")
            text = _labels((self.label,), (labelled,)) if self.label else ""
            lines.append(f"{self.name}_sum{text} {self._sums[labelled]:.9g}")
            lines.append(f"{self.name}_count{text} {total}")
        return lines


class Gauge:
    """Values read when they are asked for."""

    def __init__(self, name: str, about: str, label: str, read: Callable[[], dict[str, float]]) -> None:
        self.name, self.about, self.label, self._read = name, about, label, read

    def lines(self) -> list[str]:
        """The exposition's lines."""
        samples = [
            f"{self.name}{_labels((self.label,), (labelled,)) if self.label else ''} {_number(value)}"
            for labelled, value in self._read().items()
        ]
        return [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} gauge", *samples]


class Info:
    """What does not change while the process lives, as labels of a gauge that is 1."""

    def __init__(self, name: str, about: str) -> None:
        self.name, self.about = name, about
        self.labels: dict[str, str] = {}

    def update(self, **labels: str) -> None:
        """Say more."""
        self.labels.update(labels)

    def lines(self) -> list[str]:
        """The exposition's lines; none before anything was said."""
        samples = [f"{self.name}{_labels([*self.labels], [*self.labels.values()])} 1"] if self.labels else []
        return [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} gauge", *samples]


class Metrics:
    """Everything this process counts."""

    def __init__(self) -> None:
        self.build = Info("nvcbank_build_info", "Which release this is.")
        self.requests = Counter("nvcbank_http_requests_total", "Answered requests.", ("route", "method", "status"))
        self.seconds = Histogram(
            "nvcbank_http_request_seconds", "From the whole request to its answer.", "route", LATENCY_EDGES_S
        )
        self.payments = Counter("nvcbank_payments_total", "Payments by outcome; replays are not counted.", ("outcome",))
        self.sessions = Counter("nvcbank_sessions_total", "Sign-ins by outcome.", ("outcome",))
        self.cases = Counter("nvcbank_aml_cases_total", "AML cases raised by this instance.", ())
        self.group_size = Histogram("nvcbank_payment_group_size", "Payments posted by one statement.", "", GROUP_EDGES)
        self.gauges: list[Gauge] = []

    def gauge(self, name: str, about: str, label: str, read: Callable[[], dict[str, float]]) -> None:
        """Add a value that is read at every scrape."""
        self.gauges.append(Gauge(name, about, label, read))

    def text(self) -> bytes:
        """The exposition."""
        families: list[Counter | Histogram | Gauge | Info] = [
            self.build, self.requests, self.seconds, self.payments, self.sessions, self.cases, self.group_size,
            *self.gauges,
        ]  # fmt: skip
        return ("\n".join(line for family in families for line in family.lines()) + "\n").encode()


def _labels(names: Sequence[str], values: Sequence[object]) -> str:
    """Label pairs; values are ours, but a quote in one must not break the format.

    >>> _labels(("route", "status"), ("/v1", 200))
    '{route="/v1",status="200"}'
    >>> _labels((), ())
    ''
    """
    if not names:
        return ""
    pairs = (
        f'{name}="{str(value).replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"'
        for name, value in zip(names, values, strict=True)
    )
    return "{" + ",".join(pairs) + "}"


def _number(value: float) -> str:
    """A number as Prometheus reads it.

    >>> _number(0.025), _number(500), _number(3.0)
    ('0.025', '500', '3')
    """
    return f"{value:g}" if value < 1e15 else repr(value)
