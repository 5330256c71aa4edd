"""Texts that come from outside: what is no character is marked, so that every text can be kept, hashed and sent."""

from __future__ import annotations

import re

_MARK = "\ufffd"
_HALVES = re.compile("[\ud800-\udfff]")


def legible(text: str) -> str:
    r"""A text with U+FFFD in place of what UTF-8 or a database cannot hold: half a character, and NUL.

    >>> legible("caf\udce9 \0"), legible("café")
    ('caf� �', 'café')
    """
    if "\0" in text:
        text = text.replace("\0", _MARK)
    if text.isascii():
        return text
    return _HALVES.sub(_MARK, text)
