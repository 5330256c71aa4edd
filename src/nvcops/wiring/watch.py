"""What `nvcops serve` watches with: probes and rules on one side, messages to people on the other."""

from __future__ import annotations

import datetime as dt
import platform
import threading
from collections.abc import Callable, Sequence
from functools import cached_property

from nvcops.adapters.files import routing_text
from nvcops.adapters.heartbeat import Heartbeat
from nvcops.adapters.metrics.looks import LookSeries
from nvcops.adapters.metrics.scrape import metrics_store
from nvcops.adapters.outbox.sender import Sender
from nvcops.adapters.probes import open_prober
from nvcops.adapters.runs.serve import Job, Life
from nvcops.adapters.status_page import publish
from nvcops.alerts import desk as alerts
from nvcops.alerts.evaluate import Evaluator
from nvcops.alerts.own import beats_said, condition_said, of_itself, runs_said, undeliverable
from nvcops.alerts.routing import Routing, Webhook
from nvcops.alerts.routing_file import routing_of
from nvcops.alerts.rules import rules_of
from nvcops.alerts.said import PROBES, RULES, Said
from nvcops.alerts.signals import Watchman
from nvcops.changes.excluding import excluded
from nvcops.core import schedule
from nvcops.core.alerts import Alert
from nvcops.core.errors import StateError
from nvcops.core.evidence import Log
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message
from nvcops.core.procedures import planned
from nvcops.core.records import Desk, Reading, Records
from nvcops.core.slo import Exclusion
from nvcops.core.target import Series, Target
from nvcops.core.watch import Look
from nvcops.health.watch import probes_of
from nvcops.incidents import cause, measuring, status_page
from nvcops.oncall import deadman
from nvcops.oncall.concerns import concerns
from nvcops.wiring.engine import Engine

_DRAIN_EVERY_S = 2.0
_STATUS_EVERY_S = 5.0
_RUNS_EVERY_S = 15.0
_PAGING_EVERY_S = 15.0
_INCIDENTS_EVERY_S = 5.0
_WINDOW = dt.timedelta(days=3)  # the longest that a burn rate looks back
_RUNS_SEEN = dt.timedelta(days=8)  # a weekly procedure has run once in it


class Watch:
    """What looks, what decides, and what tells people: made of one manifest, around one place of records."""

    def __init__(self, manifest: Manifest, target: Target, records: Records, notify: Callable[[str], None]) -> None:
        self.manifest = manifest
        self.records = records
        self.engine = Engine(manifest, records, self.routing, notify=notify)
        self._target = target
        self._notify = notify
        self._probes = probes_of(manifest)
        self._series = LookSeries(metrics_store(manifest), self._probes, manifest.metrics.interval)
        self._evaluator: Evaluator | None = None
        self._begun = False
        self._sends: Callable[[dt.datetime], bool] = lambda _at: False
        self._instance = f"{platform.node()}/{manifest.alerts.listen or manifest.platform.state}"

    @cached_property
    def routing(self) -> Routing:
        """Where alerts go: the file that [alerts] names, or what follows from the manifest."""
        return routing_of(self.manifest, routing_text(self.manifest))

    @property
    def series(self) -> Series:
        """The figures that probes read, and those of the services."""
        return self._target.metrics

    def lives(self) -> list[tuple[str, Life]]:
        """What goes on for as long as `nvcops serve` does."""
        sender = Sender(self.records, self.manifest, hooks=self._hooks, dead=self._dead, notify=self._notify)
        self._sends = sender.alive
        found: list[tuple[str, Life]] = [("alerts", self.engine.run), ("messages", sender.run), ("beat", self._beat)]
        if self._probes:
            found.append(("watch", self._look))
        return found

    def jobs(self, log: Log) -> list[Job]:
        """What is done again and again."""
        watch, incidents = self.manifest.watch, self.manifest.incidents
        found: list[Job] = [
            ("evidence of alerts", _DRAIN_EVERY_S, lambda: self.records.drain(log)),
            ("runs", _RUNS_EVERY_S, self._look_at_runs),
            ("paging", _PAGING_EVERY_S, self._look_at_paging),
            ("incidents", _INCIDENTS_EVERY_S, self._look_at_incidents),
        ]
        if self._probes:
            found.append((self._series.name, self._series.interval_s, self._series))
        if watch.enabled:
            found.append(("rules", self.manifest.metrics.interval, self._judge))
        if incidents.status_page is not None:
            found.append(("status page", _STATUS_EVERY_S, self._publish))
        if watch.heartbeat_url_file is not None:
            interval = watch.heartbeat_interval
            found.append(("heartbeat", interval, Heartbeat(watch.heartbeat_url_file, interval, self._well)))
        return found

    # What looks.

    def _look(self, stop: threading.Event) -> None:
        watchman = Watchman(self._probes, self.manifest)
        prober = open_prober(self.manifest, self._probes)

        def told(looks: Sequence[Look]) -> None:
            self.engine.offer(watchman.hear(looks))
            self._series.hear(looks)

        prober.run(stop, told)

    def _judge(self) -> None:
        """Evaluate the rules on what was scraped; what fired before this process goes on firing."""
        if self._evaluator is None:
            with self.records.reading() as reading:
                firing = reading.find(Alert, source=RULES, ends__isnull=True)
            self._evaluator = Evaluator(rules_of(self.manifest, self._probes), firing)
        at = schedule.now()
        self.engine.offer(self._evaluator.evaluate(self._target.metrics, at, self._excluded(at)))

    def _excluded(self, at: dt.datetime) -> list[Exclusion]:
        """What approved runs and changes took of the longest window; where that cannot be read, nothing is excused."""
        if self._target.runs is None:
            return []
        try:
            with self.records.reading() as reading:
                changed = excluded(reading, at - _WINDOW, at)
            return planned([*self._target.runs.approved(at - _WINDOW, at), *changed])
        except StateError as error:
            self._notify(error.sentence)
            return []

    def _look_at_runs(self) -> None:
        """What was due and did not run, and what ran and came to no good end, are alerts."""
        runs, at = self._target.runs, schedule.now()
        if runs is not None:
            self.engine.offer(runs_said(runs.missed(at - _RUNS_SEEN, at), runs.between(at - _RUNS_SEEN, at), at))

    def _look_at_incidents(self) -> None:
        """Look for the causes of what goes on; infer its severity again from how customers are served now."""
        at = schedule.now()
        cause.look_into(self._target, at)
        measuring.look_again(self._target, at)
        self.engine.wake()

    def _look_at_paging(self) -> None:
        """Pages that nobody answers, and rotations that nobody has, are alerts for as long as that is so."""
        with self.records.reading() as reading:
            found = concerns(reading, manifest=self.manifest, at=schedule.now())
            ends = [] if self._begun else self._unwatched(reading)
        self.engine.offer([*ends, *(condition_said(one.labels, one.summary, one.starts) for one in found)])
        self._begun = True

    def _unwatched(self, reading: Reading) -> list[Said]:
        """The ends of alerts in the records that nobody will end: of what the manifest does not watch any more."""
        probes, rules = (reading.find(Alert, source=source, ends__isnull=True) for source in (PROBES, RULES))
        ends = Watchman(self._probes, self.manifest).ends(probes)
        if not self.manifest.watch.enabled:  # else the evaluator knows them
            ends += Evaluator((), rules).evaluate(self._target.metrics, schedule.now())
        return ends

    def _beat(self, stop: threading.Event) -> None:
        """Leave a sign of life for the other instances, and look for theirs; say good-bye at the end."""
        every_s = self.manifest.watch.peer_silent_after / 3

        def beat(desk: Desk) -> None:
            at = schedule.now()
            deadman.beat(desk, instance=self._instance, host=platform.node(), at=at)
            found = [one for one in deadman.beats(desk) if one.id != self._instance]
            self.engine.offer(beats_said(found, deadman.silent(found, self.manifest, at)))

        while True:
            self.engine.change(beat)
            if stop.wait(every_s):
                break
        self.engine.change(lambda desk: deadman.leave(desk, instance=self._instance))

    def _well(self) -> bool:
        """Whether what is seen becomes a page, and pages are sent: who only decides wakes nobody."""
        at = schedule.now()
        return self.engine.alive(at) and self._sends(at)

    # What tells.

    def _hooks(self, receiver: str) -> Sequence[Webhook]:
        found = self.routing.receivers.get(receiver)
        return found.webhooks if found else ()

    def _dead(self, desk: Desk, message: Message, at: dt.datetime) -> None:
        """Nobody could be told: that is an alert, in the transaction that gives the message up."""
        if not of_itself(message):
            alerts.take(desk, [undeliverable(message)], at, manifest=self.manifest, routing=self.routing)

    def _publish(self) -> None:
        folder, at = self.manifest.incidents.status_page, schedule.now()
        if folder is not None:
            with self.records.reading() as reading:
                files = status_page.render(reading, manifest=self.manifest, at=at)
            publish(folder, files)
