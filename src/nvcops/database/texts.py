"""Statements as they may be shown: no constant, no comment, no byte that steers a terminal."""

from __future__ import annotations

import re

_COMMENT = re.compile(r"/\*.*?(\*/|$)|--[^\n]*", re.DOTALL)
_CONSTANT = re.compile(r"\b[eE]?'(?:[^']|'')*('|$)|'(?:[^']|'')*('|$)|\$\$.*?(\$\$|$)", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w$.\"])\d+(?:\.\d+)?\b")
SHOWN_MAX = 100


def shown(text: str, most: int = SHOWN_MAX) -> str:
    """A text on one line, at most so long.

    pg_stat_statements writes $1 for constants, but not in every place; and applications write names into comments.

    >>> shown("SELECT *  FROM a -- for dana" + chr(10) + "WHERE b = 'dana' AND c = $1 AND d = 17 /* trace: 7 */")
    'SELECT * FROM a WHERE b = ? AND c = $1 AND d = ?'
    >>> shown("SELECT a1, t2.b" + chr(27) + "[31m", 12)
    'SELECT a1, …'
    """
    return plain(_NUMBER.sub("?", _CONSTANT.sub("?", _COMMENT.sub(" ", text))), most)


def plain(text: str, most: int = SHOWN_MAX) -> str:
    """A name that somebody chose, on one line, without bytes that steer a terminal."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"
