"""What an answer to a readiness question means, in words. Pure: the check and the scraper read it alike."""

from __future__ import annotations

import json
from typing import Any

from nvcops.core.errors import TargetError
from nvcops.core.target import Answer

_TEXT_MAX = 160
_GOOD = {"ok", "ready", "up", "pass", "passing", "healthy", "true"}


def why_not_ready(answer: Answer | TargetError) -> str:
    """The reason why a part is not ready; empty when it is: it answered 200.

    >>> import datetime as dt
    >>> at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    >>> why_not_ready(Answer(200, 0.01, b"", at))
    ''
    >>> why_not_ready(Answer(503, 0.01, b'{"detail": "the database does not answer"}', at))
    'answers 503: the database does not answer'
    >>> why_not_ready(Answer(503, 0.01, b'{"parts": {"database": "down", "cache": "ok"}}', at))
    'answers 503: database down'
    >>> why_not_ready(Answer(301, 0.01, b"<html>", at))
    'answers 301'
    """
    if isinstance(answer, TargetError):
        return answer.sentence
    if answer.status == 200:
        return ""
    said = _said(answer.body)
    return f"answers {answer.status}" + (f": {said}" if said else "")


def _said(body: bytes) -> str:
    """The reason in a JSON body: problem+json's detail, else the parts of it that are not well."""
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(document, dict):
        return ""
    for key in ("detail", "reason", "title"):
        if isinstance(document.get(key), str):
            return _short(document[key])
    return _short(", ".join(_not_well(document)))


def _not_well(document: dict[str, Any]) -> list[str]:
    """The members of the document, at most one level down, that are not good."""
    bad: list[str] = []
    for key, value in document.items():
        if isinstance(value, dict):
            bad += _not_well(value)
        elif isinstance(value, str | bool) and str(value).lower() not in _GOOD and key != "status":
            bad.append(f"{key} {value}")
    return bad


def _short(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"
