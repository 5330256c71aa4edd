"""A line as a person may see it: without secrets, without what a terminal would obey, and not longer than it helps."""

from __future__ import annotations

import re

SHOWN_CHARACTERS_MAX = 400
_SECRET = re.compile(
    r"(?i)(\b(?:password|passwd|pwd|requirepass|masterauth|masteruser|secret|token|api[_-]?key|identified\s+by|auth(?:orization)?)\b"
    r"[\\\"']{0,3}\s*[:=]?\s*(?:bearer\s+|basic\s+)?)"
    r"(?:\\?[eubn]?&?(?:'(?:[^']|'')*(?:'|$)|\"(?:[^\"\\]|\\.)*(?:\"|$))"
    r"|(?!for\b|from\b|is\b|has\b|in\b|of\b|authentication\b|failure\b|failed\b|check\b|accepted\b|null\b)[^\s,;\"'&)}\]]+)"
)
_CARD = re.compile(r"(?<!\d)(\d{4})\d{5,11}(\d{4})(?!\d)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+")


def masked(line: str) -> str:
    r"""A line without secrets and control characters.

    >>> masked("ALTER ROLE bob PASSWORD 'open sesame' VALID UNTIL 'x'\x1b[2J")
    "ALTER ROLE bob PASSWORD *** VALID UNTIL 'x'·[2J"
    >>> masked("Failed password for root from 192.0.2.1"), masked("CONFIG SET requirepass hunter2")
    ('Failed password for root from 192.0.2.1', 'CONFIG SET requirepass ***')
    >>> masked("/login?token=abc&card=4111111111111111")
    '/login?token=***&card=4111***1111'
    """
    # what is cut off is cut off afterwards: half a secret would not look like one
    clean = _CONTROL.sub("·", line[: 16 * SHOWN_CHARACTERS_MAX])
    clean = _CARD.sub(r"\1***\2", _SECRET.sub(r"\1***", clean))
    return clean if len(clean) <= SHOWN_CHARACTERS_MAX else clean[: SHOWN_CHARACTERS_MAX - 1] + "…"
