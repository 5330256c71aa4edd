"""What the customers see: counts and latencies by kind of request, published as a small JSON file.

Latency is counted from the moment at which a request was due, so that a slow server is not spared: time spent waiting
for a free connection counts too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

BUCKETS_MS = 10_000  # one bucket a millisecond; what takes longer is in the last one
WINDOW_S = 10.0


@dataclass
class Latencies:
    """A histogram of milliseconds."""

    count: int = 0
    sum_ms: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (BUCKETS_MS + 1))

    def add(self, latency_ms: float) -> None:
        """One more request."""
        self.count += 1
        self.sum_ms += latency_ms
        self.buckets[min(int(latency_ms), BUCKETS_MS)] += 1

    @property
    def mean_ms(self) -> float:
        """Arithmetic mean; 0 of nothing."""
        return self.sum_ms / self.count if self.count else 0.0

    def quantile_ms(self, share: float) -> float:
        """The upper edge of the bucket below which `share` of the requests lie; 0 of nothing.

        >>> some = Latencies()
        >>> for ms in (1, 2, 3, 40): some.add(ms)
        >>> some.quantile_ms(0.5), some.quantile_ms(0.99), some.mean_ms
        (3.0, 41.0, 11.5)
        """
        rank = share * self.count
        seen = 0
        for edge, count in enumerate(self.buckets, 1):
            seen += count
            if count and seen >= rank:
                return float(edge)
        return 0.0


@dataclass
class Kind:
    """One kind of request."""

    requests: int = 0
    errors: int = 0
    latencies: Latencies = field(default_factory=Latencies)


@dataclass
class Figures:
    """Everything since the start, and the last whole window of ten seconds."""

    kinds: dict[str, Kind] = field(default_factory=dict)
    all: Latencies = field(default_factory=Latencies)
    outcomes: dict[str, int] = field(default_factory=dict)
    _window: Latencies = field(default_factory=Latencies)
    _window_errors: int = 0
    _window_start: float = 0.0
    _last: Latencies = field(default_factory=Latencies)
    _last_errors: int = 0

    def add(self, kind: str, outcome: str, latency_ms: float, *, error: bool) -> None:
        """A request is over."""
        one = self.kinds.setdefault(kind, Kind())
        one.requests += 1
        one.errors += error
        self._window_errors += error
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        for latencies in (one.latencies, self.all, self._window):
            latencies.add(latency_ms)

    def turn(self, now: float) -> None:
        """Begin a new window when the current one is over."""
        if now - self._window_start >= WINDOW_S:
            self._last, self._window = self._window, Latencies()
            self._last_errors, self._window_errors = self._window_errors, 0
            self._window_start = now

    def as_data(self) -> dict[str, Any]:
        """Plain data; before the first whole window the figures of the window are those of the time so far."""
        last, errors = (self._last, self._last_errors) if self._last.count else (self._window, self._window_errors)
        return {
            "requests": self.all.count,
            "errors": sum(kind.errors for kind in self.kinds.values()),
            "window_s": WINDOW_S,
            "window_requests": last.count,
            "window_errors": errors,
            "mean_ms": last.mean_ms,
            "p50_ms": last.quantile_ms(0.5),
            "p99_ms": last.quantile_ms(0.99),
            "kinds": {
                name: {
                    "requests": kind.requests,
                    "errors": kind.errors,
                    "mean_ms": kind.latencies.mean_ms,
                    "p50_ms": kind.latencies.quantile_ms(0.5),
                    "p99_ms": kind.latencies.quantile_ms(0.99),
                }
                for name, kind in sorted(self.kinds.items())
            },
            "outcomes": dict(sorted(self.outcomes.items())),
            # Since the start, so that whoever reads twice can compute the figures of the time between.
            "sum_ms": self.all.sum_ms,
            "histogram_ms": {str(ms): count for ms, count in enumerate(self.all.buckets) if count},
        }


def publish(path: Path, data: dict[str, Any]) -> None:
    """Replace the file whole, so that no reader sees half of it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(data), encoding="utf-8")
    fresh.replace(path)
