"""The watch that `nvcops serve` keeps: each interval, ask every front door and instance, and write down the answers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

from nvcops.adapters.http import HttpServices
from nvcops.adapters.metrics.store import MetricsStore
from nvcops.adapters.metrics.write import READY, Observation
from nvcops.core.errors import TargetError
from nvcops.core.exposition import Page, parse_page
from nvcops.core.manifest import Manifest, ServiceEntry
from nvcops.core.probes import json_object, why_not_ready
from nvcops.core.target import Answer, Question

METRICS_FILE = "metrics.sqlite"


def metrics_store(manifest: Manifest) -> MetricsStore:
    """The file of a platform's metrics."""
    return MetricsStore(manifest.platform.state / METRICS_FILE, manifest.metrics.raw, manifest.metrics.rollups)


@dataclass(frozen=True, slots=True)
class Scraper:
    """One round each `interval_s`, called by whoever keeps the time.

    Raises:
        StateError: what was seen could not be written down.
    """

    services: Sequence[ServiceEntry]
    store: MetricsStore
    interval_s: float
    name: str = "scrape"
    _http: HttpServices = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_http", HttpServices(self.services))

    @classmethod
    def of(cls, manifest: Manifest) -> Scraper:
        """The scraper of a platform."""
        return cls(manifest.services, metrics_store(manifest), manifest.metrics.interval)

    def __call__(self) -> None:
        """Ask all of them side by side, write it down in one transaction."""
        asked = [(entry, instance) for entry in self.services for instance in _instances(entry)]
        questions = [question for entry, instance in asked for question in _questions(entry, instance)]
        answers = dict(zip(questions, self._http.ask(questions), strict=True))
        seen = [_observation(entry, instance, answers) for entry, instance in asked]
        if seen:
            self.store.record(dt.datetime.now(dt.UTC), seen, self.interval_s)


def _instances(entry: ServiceEntry) -> list[str]:
    """The front door, and each instance."""
    return ["", *(instance.name for instance in entry.instances)]


def _questions(entry: ServiceEntry, instance: str) -> list[Question]:
    """Metrics and version are the instances' own; a service without instances is asked for them at its front door."""
    paths = [entry.ready]
    if instance or not entry.instances:
        paths += [path for path in (entry.metrics, entry.version) if path]
    return [Question(entry.name, path, instance) for path in paths]


def _observation(entry: ServiceEntry, instance: str, answers: dict[Question, Answer | TargetError]) -> Observation:
    def answer(path: str | None) -> Answer | TargetError | None:
        return answers.get(Question(entry.name, path, instance)) if path else None

    ready = answer(entry.ready)
    about = json_object(answer(entry.version))
    return Observation(
        service=entry.name,
        instance=instance,
        ready=(ready is not None and why_not_ready(ready)) or READY,
        version=str(about.get("version", "")),
        started=str(about.get("started", "")),
        seconds=ready.seconds if isinstance(ready, Answer) else None,
        page=_page(answer(entry.metrics)),
    )


def _page(answer: Answer | TargetError | None) -> Page | None:
    """None where it cannot be read: then its age grows, and the check on the age says so."""
    if not isinstance(answer, Answer) or answer.status != 200:
        return None
    try:
        return parse_page(answer.body.decode())
    except ValueError:  # not UTF-8, or not the format
        return None
