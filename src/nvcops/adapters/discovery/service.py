"""What a service says over HTTP when it is asked at the usual places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from nvcops.adapters.discovery.found import Choice, Note, SeriesFound, ServiceFound, Wishes
from nvcops.adapters.discovery.series import choose
from nvcops.adapters.http import HttpServices
from nvcops.adapters.tls import read_certificate
from nvcops.core.errors import TargetError
from nvcops.core.manifest import ServiceEntry
from nvcops.core.target import Answer, Question
from nvcops.core.units import Seconds

_READY = ("/readyz", "/ready", "/healthz", "/health", "/actuator/health", "/status", "/")
_NOWHERE = "/nvcops-init-asks-for-what-is-not-there"
_VERSION = "/version"
_METRICS = ("/metrics", "/actuator/prometheus")
_NAME = "service"
_DEADLINE = Seconds(3)

Answers = Mapping[str, Answer | TargetError]


def ask_service(wishes: Wishes, notes: list[Note]) -> ServiceFound | None:
    """Find readiness, version and metrics of the service; None, with a note, where it says nothing of use."""
    entry = ServiceEntry(
        name=_NAME, url=wishes.service, ca_file=wishes.ca_file, deadline=_DEADLINE, instances=wishes.instances
    )
    services = HttpServices([entry])
    ready = _readiness(_asked(services, (*_READY, _NOWHERE)), wishes, notes)
    if not ready:
        return None
    # Metrics last: by now the service has counted our own requests, so that its labels are there to be read.
    answers = _asked(services, (_VERSION, *_METRICS))
    _instances(services, ready, wishes, notes)
    version = _version(answers[_VERSION], notes)
    metrics, series = _metrics(answers, notes)
    return ServiceFound(
        url=wishes.service,
        ready=ready,
        version=version,
        metrics=metrics,
        series=series,
        instances=wishes.instances,
        ca_file=wishes.ca_file,
    )


def ask_certificate(url: str, ca_file: Path | None, notes: list[Note]) -> str:
    """Where a service's certificate is read (host:port), empty without TLS or where no handshake comes about."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        return ""
    address = f"{parts.hostname}:{parts.port or 443}"
    try:
        seen = read_certificate(parts.hostname or "", address, ca_file, _DEADLINE)
    except TargetError as error:
        notes.append(Note("certificate", False, error.sentence, error.hint))
        return ""
    hint = f"not trusted: {seen.distrust}; name its authority with --ca-file" if seen.distrust else ""
    notes.append(Note("certificate", True, f"{address} shows {seen.subject}, valid until {seen.not_after:%F}", hint))
    return address


def _asked(services: HttpServices, paths: tuple[str, ...]) -> Answers:
    return dict(zip(paths, services.ask([Question(_NAME, path) for path in paths]), strict=True))


def _readiness(answers: Answers, wishes: Wishes, notes: list[Note]) -> str:
    """The path that says whether the service takes customers; empty where none of the usual ones does."""
    statuses = {path: answer.status for path, answer in answers.items() if isinstance(answer, Answer)}
    if not statuses:
        error = next(answer for answer in answers.values() if isinstance(answer, TargetError))
        notes.append(Note("service", False, error.sentence, error.hint or "is it running, and the address right?"))
        return ""
    ready = [path for path in _READY if statuses.get(path) == 200]
    catches_all = statuses.get(_NOWHERE) == 200
    path = _telling(ready, answers) if catches_all else next(iter(ready), "")
    if path:
        hint = f"it answers 200 at any path, so {path} may not say much; is there a better one?" if catches_all else ""
        others = f" (also {', '.join(other for other in ready if other != path)})" if len(ready) > 1 else ""
        notes.append(Note("service", True, f"{wishes.service} answers 200 at {path}{others}", hint))
        return path
    if path := next((path for path in _READY if statuses.get(path) == 503), ""):
        notes.append(Note("service", True, f"{wishes.service} is not ready: {path} answers 503", "why?"))
        return path
    seen = ", ".join(f"{path} {statuses[path]}" for path in _READY if path in statuses)
    notes.append(Note("service", False, f"{wishes.service} is nowhere ready: {seen}", "write `ready` by hand"))
    return ""


def _telling(ready: list[str], answers: Answers) -> str:
    """Of a service that answers 200 to everything: the first path with an answer of its own, else the front page."""
    nowhere = answers[_NOWHERE]
    body = nowhere.body if isinstance(nowhere, Answer) else b""
    own = (path for path in ready if isinstance(answer := answers[path], Answer) and answer.body != body)
    return next(own, "/" if "/" in ready else next(iter(ready), ""))


def _instances(services: HttpServices, ready: str, wishes: Wishes, notes: list[Note]) -> None:
    """Ask each instance where the service is ready. One that is down today is written all the same."""
    questions = [Question(_NAME, ready, instance.name) for instance in wishes.instances]
    for instance, answer in zip(wishes.instances, services.ask(questions), strict=True):
        if isinstance(answer, TargetError):
            text, hint = answer.sentence, "it is written all the same: the morning will say so too"
            notes.append(Note(f"instance {instance.name}", False, text, hint))
        else:
            text = f"{instance.url} answers {answer.status} at {ready}"
            notes.append(Note(f"instance {instance.name}", answer.status == 200, text))


def _version(answer: Answer | TargetError, notes: list[Note]) -> str:
    said: object = None
    if isinstance(answer, Answer) and answer.status == 200:
        try:
            said = json.loads(answer.body)
        except ValueError:
            said = None
    if isinstance(said, dict) and isinstance(said.get("version"), str):
        hint = "" if "now" in said else 'without "now" in it, its clock is not compared with ours'
        notes.append(Note("version", True, f"{_VERSION} says {said['version'][:40]!r}", hint))
        return _VERSION
    hint = f'{_VERSION} with JSON like {{"version": "1.2.3", "now": "2026-01-31T08:00:00Z"}} would say what runs'
    notes.append(Note("version", False, f"no version: {_VERSION} {_how_it_answered(answer)}", hint))
    return ""


def _metrics(answers: Answers, notes: list[Note]) -> tuple[str, SeriesFound | None]:
    """The path of the metrics, and the series that were chosen from them."""
    for path in _METRICS:
        answer = answers[path]
        if not isinstance(answer, Answer) or answer.status != 200:
            continue
        try:
            series = choose(answer.body.decode())
        except ValueError as error:
            notes.append(Note("metrics", False, f"{path} is not Prometheus text: {error}", "no figures without it"))
            continue
        notes.append(Note("metrics", True, f"{path} is Prometheus text"))
        _series_notes(series, notes)
        return path, series
    if not any(note.part == "metrics" for note in notes):
        text = f"no metrics: {_METRICS[0]} {_how_it_answered(answers[_METRICS[0]])}"
        notes.append(Note("metrics", False, text, "availability is watched without it, latency and errors are not"))
    return "", None


def _series_notes(series: SeriesFound, notes: list[Note]) -> None:
    wanted = {
        "requests": (series.requests, "a counter with HTTP status codes in a label"),
        "latency": (series.latency, "a histogram of request durations in seconds"),
        "outcomes": (series.outcomes, "a counter of what the service is there for, by result"),
    }
    for part, (choice, description) in wanted.items():
        if choice is None:
            hint = "it may show once the service had customers; write it in [services.series] by hand"
            notes.append(Note(part, False, f"no metric looks like {description}", hint))
        else:
            notes.append(Note(part, True, f"{choice.name}: {choice.why}", _others(choice)))


def _others(choice: Choice) -> str:
    return f"it could also be {', '.join(choice.others)}" if choice.others else ""


def _how_it_answered(answer: Answer | TargetError) -> str:
    """The end of a sentence about a path."""
    if isinstance(answer, TargetError):
        return "does not answer"
    return "answers 200, but with something else" if answer.status == 200 else f"answers {answer.status}"
