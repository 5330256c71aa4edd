"""The forms in which alerts come in: Alertmanager's API and webhook, PagerDuty's, CloudEvents', and plain JSON.

Each reads a body and raises UsageError with the path of the mistake: then nothing of the body is taken.
"""

from __future__ import annotations

from nvcops.alerts.fields import At, document
from nvcops.alerts.intake_events import parse_cloudevents, parse_pagerduty, parse_plain
from nvcops.alerts.said import Said

__all__ = [
    "Said",
    "parse_alertmanager",
    "parse_cloudevents",
    "parse_pagerduty",
    "parse_plain",
    "parse_webhook",
]


def parse_alertmanager(body: bytes) -> list[Said]:
    """What a Prometheus posts to `/api/v2/alerts`: it says each alert again and again until it is over.

    >>> parse_alertmanager(b'[{"labels": {"alertname": "Down"}}]')[0].labels
    {'alertname': 'Down'}
    >>> parse_alertmanager(b'[{"labels": {"alertname": 3}}]')
    Traceback (most recent call last):
    nvcops.core.errors.UsageError: [0].labels.alertname is a number, not text
    """
    return [_alert(at, "alertmanager", lasts=False) for at in document(body).each()]


def parse_webhook(body: bytes) -> list[Said]:
    """What an Alertmanager posts to a webhook receiver (version 4): its own alerts, firing and resolved."""
    at = document(body)
    version = at["version"].text(None)
    if version != "4":
        raise at["version"].wrong(f"is {version[:20]!r}, not '4'", "the webhook of Alertmanager 0.4 and later")
    at["status"].one_of("firing", "resolved")
    return [_reported(alert) for alert in at["alerts"].each()]


def _reported(at: At) -> Said:
    over = at["status"].one_of("firing", "resolved") == "resolved"
    return _alert(at, "webhook", over=over)


def _alert(at: At, source: str, *, over: bool = False, lasts: bool = True) -> Said:
    labels = at["labels"].labels()
    if not labels:
        raise at["labels"].wrong("says nothing", "an alert is known by its labels: at least one")
    starts, ends = at["startsAt"].moment(), at["endsAt"].moment()
    if starts and ends and ends < starts:
        raise at["endsAt"].wrong("lies before startsAt")
    return Said(
        labels=labels,
        annotations=at["annotations"].annotations(),
        starts=starts,
        ends=ends,
        over=over,
        url=at["generatorURL"].url(),
        source=source,
        lasts=lasts,
    )
