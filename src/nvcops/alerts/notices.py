"""A notice in words: what a person reads, and what a webhook gets. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from nvcops.alerts.routing import Webhook
from nvcops.alerts.said import ORIGIN
from nvcops.core.alerts import Alert, Notice
from nvcops.core.evidence import utc

LINES_MAX = 20
SUMMARY_LENGTH_MAX = 300
_PAYLOAD_ALERTS_MAX = 1_000
_NO_END = "0001-01-01T00:00:00Z"  # what Go's clients read as none


def summary_of(notice: Notice) -> str:
    """One line: the gravest alert, and how many there are beside it."""
    alerts = notice.firing or notice.resolved
    gravest = next(alert for alert in alerts if alert.category is notice.category)
    said = " ".join(gravest.summary.split())[:SUMMARY_LENGTH_MAX] or gravest.name or "an alert without a name"
    return said if len(alerts) == 1 else f"{said} (and {len(alerts) - 1:,} more)"


def body_of(notice: Notice) -> str:
    """What fires and what is over, a line each; where there are too many, how many more."""
    return "\n".join([*_lines("", notice.firing), *_lines("over: ", notice.resolved)])


def _lines(mark: str, alerts: Sequence[Alert]) -> list[str]:
    lines = [mark + _line(alert) for alert in alerts[:LINES_MAX]]
    return lines if len(alerts) <= LINES_MAX else [*lines, f"{mark}and {len(alerts) - LINES_MAX:,} more"]


def _line(alert: Alert) -> str:
    summary = " ".join(alert.summary.split())[:SUMMARY_LENGTH_MAX]
    where = ", ".join(alert.labels[name] for name in ("service", "instance") if name in alert.labels)
    runbook = (
        alert.annotations.get("runbook_url") or alert.annotations.get("runbook") or alert.labels.get("runbook", "")
    )
    parts = [
        f"[{alert.category}] {alert.name}",
        f" ({where})" if where else "",
        f": {summary}" if summary != alert.name else "",
    ]
    return "".join(parts) + (f"; runbook: {runbook}" if runbook else "")


def of_one_incident(every: Iterable[Notice]) -> list[list[Notice]]:
    """Notices of one moment, those of one service to one receiver together: a storm of them is one thing that happened.

    What names no service, or several, stands alone: nobody knows whether it belongs to the others.
    """
    found: dict[tuple[str, str], list[Notice]] = {}
    for notice in every:
        services = {alert.labels.get("service", "") for alert in (*notice.firing, *notice.resolved)}
        (service,) = services if len(services) == 1 else ("",)
        found.setdefault((notice.receiver, service or f"in {notice.group.key}"), []).append(notice)
    return list(found.values())


def together(every: Sequence[Notice]) -> Notice:
    """Several notices as one, of the first one's group; an alert of two groups stands in it once."""
    firing = {alert.fingerprint: alert for notice in every for alert in notice.firing}
    resolved = {alert.fingerprint: alert for notice in every for alert in notice.resolved}
    return msgspec.structs.replace(every[0], firing=tuple(firing.values()), resolved=tuple(resolved.values()))


def payload_of(notice: Notice, webhook: Webhook, *, origin: str, address: str) -> str:
    """The JSON of Alertmanager's webhook, version 4; empty where this webhook is told nothing.

    Each alert carries the platforms that passed it on, by which we know our own when they come back.
    """
    resolved = notice.resolved if webhook.send_resolved else ()
    every = [*notice.firing, *resolved]
    if not every:
        return ""
    fires = len(notice.firing)
    sent = every[: min(webhook.alerts_max or _PAYLOAD_ALERTS_MAX, _PAYLOAD_ALERTS_MAX)]
    document = {
        "version": "4",
        "groupKey": notice.group.key,
        "truncatedAlerts": len(every) - len(sent),
        "status": "firing" if notice.firing else "resolved",
        "receiver": notice.receiver,
        "groupLabels": notice.group.labels,
        "commonLabels": common(alert.labels for alert in every),
        "commonAnnotations": common(alert.annotations for alert in every),
        "externalURL": address,
        "alerts": [_sent(alert, notice.at, origin, over=number >= fires) for number, alert in enumerate(sent)],
    }
    return msgspec.json.encode(document).decode()


def _sent(alert: Alert, at: dt.datetime, origin: str, *, over: bool) -> dict[str, Any]:
    before = alert.annotations.get(ORIGIN, "").split()
    return {
        "status": "resolved" if over else "firing",
        "labels": alert.labels,
        "annotations": {**alert.annotations, ORIGIN: " ".join(dict.fromkeys([*before, origin]))},
        "startsAt": utc(alert.starts),
        "endsAt": utc(alert.ends or alert.expires or at) if over else _NO_END,
        "generatorURL": alert.url,
        "fingerprint": alert.fingerprint,
    }


def common(tables: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What all have alike.

    >>> common([{"a": "1", "b": "2"}, {"a": "1", "b": "3"}]), common([])
    ({'a': '1'}, {})
    """
    found: dict[str, str] | None = None
    for table in tables:
        found = {
            name: value for name, value in (found if found is not None else table).items() if table.get(name) == value
        }
    return found or {}
