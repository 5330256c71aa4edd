"""What probes saw, as series: how many looks were good, failed or unknown, and gauges by the names that are usual."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from nvcops.adapters.metrics.store import MetricsStore
from nvcops.adapters.metrics.write import Figures
from nvcops.core.schedule import now
from nvcops.core.watch import PROBE_DURATION, PROBE_SUCCESS, PROBE_VALUE, WATCHED, Look, Probe

LOOKS = "nvcops_probe_looks_total"
_FLUSH_S_MAX = 15.0


@dataclass
class _Sum:
    """What the looks of one probe add up to since they were last written down."""

    outcomes: Counter[str] = field(default_factory=Counter)
    success: float | None = None
    seconds: float = 0.0
    timed: int = 0
    value: float | None = None

    def add(self, look: Look) -> None:
        """Add a look; an unknown one leaves the gauges as they were."""
        self.outcomes["unknown" if not look.known else "failed" if look.why else "good"] += 1
        if look.known:
            self.success = 0.0 if look.why else 1.0
            self.value = look.value
            if look.seconds is not None:
                self.seconds, self.timed = self.seconds + look.seconds, self.timed + 1

    def go_on(self, newer: _Sum) -> None:
        """Add what was heard in the meantime."""
        self.outcomes += newer.outcomes
        self.seconds, self.timed = self.seconds + newer.seconds, self.timed + newer.timed
        if newer.success is not None:
            self.success, self.value = newer.success, newer.value

    def figures(self, probe: Probe) -> Figures:
        """As series: the count of looks rises; success and value of the newest, and mean duration, are gauges."""
        labels = f'probe="{probe.name}",kind="{probe.kind}"'
        labels += f',service="{probe.service}"' if probe.service else ""
        gauges = {
            PROBE_SUCCESS: self.success,
            PROBE_DURATION: self.seconds / self.timed if self.timed else None,
            PROBE_VALUE: self.value,
        }
        return Figures(
            service=WATCHED,
            rises={f'{LOOKS}{{{labels},outcome="{name}"}}': float(count) for name, count in self.outcomes.items()},
            gauges={f"{name}{{{labels}}}": value for name, value in gauges.items() if value is not None},
        )


class LookSeries:
    """Sums looks up, and writes them down when it is called: each `interval_s`, by whoever keeps the time."""

    name = "probe series"

    def __init__(self, store: MetricsStore, probes: Sequence[Probe], interval_s: float) -> None:
        self.interval_s = min(interval_s, _FLUSH_S_MAX)
        self._store = store
        self._probes = {probe.name: probe for probe in probes}
        self._sums: dict[str, _Sum] = {}
        self._turn = threading.Lock()

    def hear(self, looks: Sequence[Look]) -> None:
        """Count looks; of probes that are not among ours, none."""
        with self._turn:
            for look in looks:
                if look.probe in self._probes:
                    self._sums.setdefault(look.probe, _Sum()).add(look)

    def __call__(self) -> None:
        """Write down what was heard since the last time.

        Raises:
            StateError: it could not be written; then it is kept for the next time.
        """
        with self._turn:
            sums, self._sums = self._sums, {}
        figures = [sum_.figures(self._probes[name]) for name, sum_ in sums.items()]
        try:
            if figures:
                self._store.keep(now(), figures)
        except BaseException:
            with self._turn:
                for name, sum_ in sums.items():
                    sum_.go_on(self._sums.get(name, _Sum()))
                self._sums = {**self._sums, **sums}
            raise
