"""Alerts that come as events: PagerDuty Events v2, CloudEvents 1.0, and plain JSON."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from nvcops.alerts.fields import At, as_text, cut, document
from nvcops.alerts.said import Said
from nvcops.core.alerts import ALERTNAME, CATEGORY_LABELS
from nvcops.core.errors import UsageError

_BEGINNINGS = {"firing", "triggered", "opened", "raised", "created", "alert"}
_ENDINGS = {"resolved", "closed", "recovered", "cleared", "ended", "ok"}
_DEDUP_KEY_MAX = 255

# --- PagerDuty ---


def parse_pagerduty(body: bytes) -> list[Said]:
    """One event of PagerDuty's Events API v2: trigger, acknowledge or resolve, known by its `dedup_key`.

    Where a trigger has none, it is made of what it says: the same event again is the same alert. It is the label
    `dedup_key`, which the answer to the sender names.
    """
    at = document(body)
    action = at["event_action"].one_of("trigger", "acknowledge", "resolve")
    key = at["dedup_key"].text("" if action == "trigger" else None)
    if len(key) > _DEDUP_KEY_MAX:
        raise at["dedup_key"].wrong(f"has {len(key)} characters, more than {_DEDUP_KEY_MAX}")
    if action == "trigger":
        return [_triggered(at, key)]
    if not key:
        raise at["dedup_key"].wrong("is empty", "say which alert is meant")
    by = at["client"].text()[:100] or "PagerDuty client" if action == "acknowledge" else ""
    return [
        Said(
            labels={"dedup_key": key},
            identity=_known_by("pagerduty", key),
            over=action == "resolve",
            acknowledged_by=by,
            source="pagerduty",
        )
    ]


def _triggered(at: At, key: str) -> Said:
    payload = at["payload"]
    summary, instance = payload["summary"].text(None), payload["source"].text(None)
    severity = payload["severity"].one_of("critical", "error", "warning", "info")
    named = {name: payload[name].text() for name in ("class", "component", "group")}
    key = key or hashlib.sha256(msgspec.json.encode([summary, instance, severity, named])).hexdigest()[:32]
    labels = {
        ALERTNAME: named["class"] or "PagerDutyEvent",
        "dedup_key": key,
        "instance": instance,
        "severity": severity,
        "service": named["component"],
        "group": named["group"],
    }
    details = payload["custom_details"]
    said = details.annotations() if isinstance(details.value, dict) else {"details": cut(as_text(details.value))}
    return Said(
        labels=At(labels, payload.path).labels(),
        annotations={**{name: text for name, text in said.items() if text}, "summary": cut(summary, 1024)},
        starts=payload["timestamp"].moment(),
        url=at["client_url"].url(),
        identity=_known_by("pagerduty", key),
        source="pagerduty",
    )


def _known_by(source: str, key: str) -> dict[str, str]:
    return {"source": source, "key": key}


# --- CloudEvents ---


def parse_cloudevents(body: bytes, headers: Mapping[str, str]) -> list[Said]:
    """One or several CloudEvents 1.0, as their content type says: structured, a batch, or binary with `ce-` headers.

    The event's `data` may say what plain JSON says; what it leaves out is read from the event. An event whose type ends
    in `.resolved` (closed, recovered, cleared, ended, ok) ends what the same type without that began.
    """
    there = {name.lower(): value for name, value in headers.items()}
    content = there.get("content-type", "").partition(";")[0].strip().lower()
    if content == "application/cloudevents-batch+json":
        return [_event(at) for at in document(body).each()]
    if content == "application/cloudevents+json":
        return [_event(document(body))]
    attributes: dict[str, Any] = {name[3:]: unquote(value) for name, value in there.items() if name.startswith("ce-")}
    if not attributes:
        hint = "Content-Type: application/cloudevents+json, or the headers ce-id, ce-source, ce-specversion, ce-type"
        raise UsageError(f"the content type {content[:60]!r} is no CloudEvent's", hint=hint)
    if content.endswith("json"):
        attributes["data"] = document(body).value if body else None
    else:
        attributes["data"] = body.decode(errors="replace")
    return [_event(At(attributes, "event"))]


def _event(at: At) -> Said:
    version = at["specversion"].text(None)
    if version != "1.0":
        raise at["specversion"].wrong(f"is {version[:20]!r}, not '1.0'")
    for name in ("id", "source", "type"):
        if not at[name].text(None):
            raise at[name].wrong("is empty")
    kind, _, last = at["type"].text().rpartition(".")
    over = last.lower() in _ENDINGS
    name = kind if kind and (over or last.lower() in _BEGINNINGS) else at["type"].text()
    said = _data(at)
    time = at["time"].moment()
    known = {"source": at["source"].text(), "subject": at["subject"].text()}
    return plain(said, name=name, time=time, over=over, known=known, source="cloudevents")


def _data(at: At) -> At:
    """What the event says, as an object."""
    data = at["data"]
    if "data_base64" in at:
        data = at["data_base64"]
        try:
            raw = base64.b64decode(data.text(), validate=True)
        except (binascii.Error, ValueError):
            raise data.wrong("is not base64") from None
        text = raw.decode(errors="replace")
        return document(raw) if at["datacontenttype"].text().endswith("json") else At({"description": text}, data.path)
    if isinstance(data.value, dict):
        return data
    return At({"description": as_text(data.value)} if data.value is not None else {}, data.path)


# --- Plain JSON ---


def parse_plain(body: bytes) -> list[Said]:
    """An alert, a list of them, or `{"alerts": [...]}`, for whoever writes a script.

    >>> said = parse_plain(b'{"name": "DiskFull", "severity": "critical", "service": "bank", "summary": "95 %"}')[0]
    >>> said.labels
    {'alertname': 'DiskFull', 'service': 'bank', 'severity': 'critical'}
    """
    at = document(body)
    if isinstance(at.value, dict) and "alerts" in at:
        at = at["alerts"]
    alerts = list(at.each()) if isinstance(at.value, list) else [at]
    return [plain(alert, source="json") for alert in alerts]


def plain(
    at: At, *, source: str, name: str = "", time: Any = None, over: bool = False, known: Mapping[str, str] | None = None
) -> Said:
    """An alert from an object.

    It has a `name` (or `alertname`), and what it likes of `status` (firing, resolved), `severity`, `service`,
    `summary`, `description`, `runbook`, `labels`, `annotations`, `starts`, `ends`, `url` and `id`. It is known by `id`,
    else by its labels without what grades it: who says that it is over need not grade it again.
    """
    labels = at["labels"].labels()
    given = {
        **(known or {}),
        ALERTNAME: at["alertname"].text() or at["name"].text() or labels.get(ALERTNAME, "") or name,
        "service": at["service"].text() or labels.get("service", ""),
        **{grade: at[grade].text() or labels.get(grade, "") for grade in CATEGORY_LABELS},
    }
    labels = At(
        {**labels, **{label: value for label, value in given.items() if value}}, f"{at.path}.labels".lstrip(".")
    ).labels()
    if ALERTNAME not in labels:
        raise at["name"].wrong("is missing", "an alert has a name, as in DiskFull")
    status = at["status"].one_of("firing", "resolved", default="resolved" if over else "firing")
    starts = at["starts"].moment() or (time if status == "firing" else None)
    ends = at["ends"].moment() or (time if status == "resolved" else None)
    if starts and ends and ends < starts:
        raise at["ends"].wrong("lies before its start")
    words = {word: cut(at[word].text()) for word in ("summary", "description", "runbook") if word in at}
    key = at["id"].text()
    return Said(
        labels=labels,
        annotations={**at["annotations"].annotations(), **words},
        starts=starts,
        ends=ends,
        over=status == "resolved",
        url=at["url"].url(),
        source=source,
        identity=_known_by(source, key) if key else {n: v for n, v in labels.items() if n not in CATEGORY_LABELS},
    )
