"""What `nvcops serve` watches with: probes, rules and doors on one side, messages to people on the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property

from nvcops.adapters.files import read_routing_file
from nvcops.adapters.probes import open_prober
from nvcops.adapters.runs.serve import Job, Life
from nvcops.alerts.evaluate import SOURCE, Evaluator
from nvcops.alerts.routing import Routing
from nvcops.alerts.routing_file import routing_of
from nvcops.alerts.rules import rules_of
from nvcops.alerts.signals import Watchman
from nvcops.core import schedule
from nvcops.core.alerts import Alert
from nvcops.core.evidence import Log
from nvcops.core.manifest import Manifest
from nvcops.core.records import Records
from nvcops.core.target import Target
from nvcops.health.watch import probes_of
from nvcops.wiring.engine import Engine

_DRAIN_EVERY_S = 2.0


class Watch:
    """What looks, what decides, and what tells people: made of one manifest, around one place of records."""

    def __init__(self, manifest: Manifest, target: Target, records: Records, notify: Callable[[str], None]) -> None:
        self.manifest = manifest
        self.records = records
        self.engine = Engine(manifest, records, self.routing, notify=notify)
        self._target = target
        self._notify = notify
        self._probes = probes_of(manifest)
        self._evaluator: Evaluator | None = None

    @cached_property
    def routing(self) -> Routing:
        """Where alerts go: the file that [alerts] names, or what follows from the manifest."""
        file = self.manifest.alerts.routing
        return routing_of(self.manifest, read_routing_file(file) if file else None)

    def lives(self) -> list[tuple[str, Life]]:
        """What goes on for as long as `nvcops serve` does."""
        found: list[tuple[str, Life]] = [("alerts", self.engine.run)]
        if self._probes:
            found.append(("watch", self._look))
        return found

    def jobs(self, log: Log) -> list[Job]:
        """What is done again and again."""
        found: list[Job] = [("evidence of alerts", _DRAIN_EVERY_S, lambda: self.records.drain(log))]
        if self.manifest.watch.enabled:
            found.append(("rules", self.manifest.metrics.interval, self._judge))
        return found

    def _look(self, stop: threading.Event) -> None:
        watchman = Watchman(self._probes, self.manifest)
        prober = open_prober(self.manifest, self._probes)
        prober.run(stop, lambda looks: self.engine.offer(watchman.hear(looks)))

    def _judge(self) -> None:
        """Evaluate the rules on what was scraped; what fired before this process goes on firing."""
        if self._evaluator is None:
            with self.records.reading() as reading:
                firing = reading.find(Alert, source=SOURCE, ends__isnull=True)
            self._evaluator = Evaluator(rules_of(self.manifest, self._probes), firing)
        self.engine.offer(self._evaluator.evaluate(self._target.metrics, schedule.now()))
