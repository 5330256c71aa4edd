"""Our own figures for a Prometheus: what the probes read, what fires, what waits to be sent."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping

from django.http import HttpRequest, HttpResponse
from ninja import Router

from nvcops.console.served import served
from nvcops.core import schedule
from nvcops.core.alerts import Alert, Category
from nvcops.core.incidents import Incident, IncidentState
from nvcops.core.oncall import Message, MessageState
from nvcops.core.watch import PROBE_DURATION, PROBE_SUCCESS, PROBE_VALUE, WATCHED

router = Router(tags=["figures"])
INSTANCE = "instance"
_FRESH = dt.timedelta(minutes=2)
_OVER = (IncidentState.RESOLVED, IncidentState.CLOSED)


def line(name: str, labels: Mapping[str, str], value: float) -> str:
    r"""One sample of the Prometheus text format; an empty label is none.

    >>> line("up", {"probe": 'a"b'}, 1)
    'up{probe="a\\"b"} 1'
    """
    written = ",".join(
        f"{label}={json.dumps(text, ensure_ascii=False)}" for label, text in sorted(labels.items()) if text
    )
    return f"{name}{{{written}}} {value:g}" if written else f"{name} {value:g}"


def _probes() -> Iterator[str]:
    at, series = schedule.now(), served().series
    for name in (PROBE_SUCCESS, PROBE_DURATION, PROBE_VALUE):
        yield f"# TYPE {name} gauge"
        for sample in series.samples(WATCHED, name, at - _FRESH, at + _FRESH):
            known = {label: text for label, text in sample.labels.items() if label != INSTANCE}  # who asks says it
            yield line(name, known, sample.value)


def _records() -> Iterator[str]:
    with served().records.reading() as reading:
        yield "# TYPE nvcops_alerts_firing gauge"
        for category in Category:
            firing = reading.count(Alert, ends__isnull=True, category=category)
            yield line("nvcops_alerts_firing", {"category": category}, firing)
        going = [state for state in IncidentState if state not in _OVER]
        yield "# TYPE nvcops_incidents_open gauge"
        yield line("nvcops_incidents_open", {}, reading.count(Incident, state__in=going))
        yield "# TYPE nvcops_messages gauge"
        for state in (MessageState.WAITING, MessageState.SENDING, MessageState.DEAD):
            yield line("nvcops_messages", {"state": state}, reading.count(Message, state=state))


@router.get("/metrics")
def metrics(request: HttpRequest) -> HttpResponse:
    """All of it, in the Prometheus text format."""
    text = "\n".join([*_probes(), *_records()]) + "\n"
    return HttpResponse(text, content_type="text/plain; version=0.0.4; charset=utf-8")
