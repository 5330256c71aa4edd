"""What an answer to a readiness question means, in words. Pure: the check and the scraper read it alike."""

from __future__ import annotations

import json
from typing import Any

from nvcops.core.errors import TargetError
from nvcops.core.target import Answer

_TEXT_MAX = 160
_GOOD = {"ok", "ready", "up", "pass", "passing", "healthy", "true"}
_STATES = ("ok", "ready", "healthy", "status", "state")
_REASONS = ("why", "reason", "detail", "error", "message", "output")


def why_not_ready(answer: Answer | TargetError) -> str:
    """The reason why a part is not ready; empty when it is: it answered 200.

    >>> import datetime as dt
    >>> at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    >>> why_not_ready(Answer(200, 0.01, b"", at))
    ''
    >>> why_not_ready(Answer(503, 0.01, b'{"detail": "the database does not answer"}', at))
    'answers 503: the database does not answer'
    >>> why_not_ready(Answer(503, 0.01, b'{"parts": {"database": {"ok": false, "why": "gone"}, "cache": "ok"}}', at))
    'answers 503: database: gone'
    >>> why_not_ready(Answer(301, 0.01, b"<html>", at))
    'answers 301'
    """
    if isinstance(answer, TargetError):
        return answer.sentence
    if answer.status == 200:
        return ""
    said = _said(answer.body)
    return f"answers {answer.status}" + (f": {said}" if said else "")


def json_object(answer: Answer | TargetError | None) -> dict[str, Any]:
    """The JSON object that was answered with 200; empty where there is none."""
    if not isinstance(answer, Answer) or answer.status != 200:
        return {}
    return object_in(answer.body)


def object_in(body: bytes) -> dict[str, Any]:
    """The JSON object in a body, whatever its status was; empty where there is none."""
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _said(body: bytes) -> str:
    """The reason in a JSON body: problem+json's detail, else the parts of it that are not well."""
    document = object_in(body)
    for key in ("detail", "reason", "title"):
        if isinstance(document.get(key), str):
            return _short(document[key])
    return _short(", ".join(_not_well(document)))


def _not_well(document: dict[str, Any]) -> list[str]:
    """The members that are not good, at any depth that JSON of this size has.

    >>> _not_well({"status": "not ready", "db": "down", "checks": {"disk": {"status": "full"}, "cpu": {"ok": True}}})
    ['db: down', 'disk: full']
    """
    bad: list[str] = []
    for name, value in document.items():
        state = next((value[key] for key in _STATES if key in value), None) if isinstance(value, dict) else value
        if isinstance(value, dict) and state is None:
            bad += _not_well(value)
        elif isinstance(state, str | bool) and str(state).lower() not in _GOOD and name not in _STATES:
            why = next((value[key] for key in _REASONS if value.get(key)), state) if isinstance(value, dict) else state
            bad.append(f"{name}: {why}")
    return bad


def _short(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"
