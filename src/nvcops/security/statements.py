"""SQL as it is logged, without what hides a statement or looks like one: comments, texts, quoted bodies."""

from __future__ import annotations

import re

_ASIDE = re.compile(  # what is no statement: comments and texts; each begins outside of the others, or never ends
    r"--[^\n]*|/\*.*?(?:\*/|\Z)|\$(?P<tag>\w*)\$(?P<body>.*?)(?:\$(?P=tag)\$|\Z)"
    r"|(?<![\w$])E'(?:[^'\\]|\\.|'')*(?:'|\Z)|'(?:[^']|'')*(?:'|\Z)|\"[^\"]*(?:\"|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_SPACE = re.compile(r"\s+")


def bare(statement: str) -> str:
    r"""A statement without comments and texts; quoted names stay, the statements of a DO block stand for themselves.

    >>> bare("GRANT/* all */a TO \"b\" -- DROP\n; DO $$GRANT c TO d$$; SELECT 'DROP'")
    'GRANT a TO "b"  \n; DO ;GRANT c TO d;; SELECT  '
    """
    return _ASIDE.sub(_without, statement)


def _without(aside: re.Match[str]) -> str:
    if aside[0].startswith('"'):
        return aside[0]
    return f";{aside['body']};" if aside["body"] else " "


def plain(statement: str) -> tuple[str, str]:
    r"""What a statement does, and what the functions that it defines would do: two texts for rules to search in.

    Both in small letters on one line, without comments, texts and quotes.

    >>> plain("COPY t FROM/**/PROGRAM\n'id'"), plain('SELECT "pg_read_file" (\'/etc/passwd\')')
    (('copy t from program', ''), ('select pg_read_file ( )', ''))
    >>> plain("CREATE FUNCTION f() RETURNS int AS $$ DROP TABLE a $$ LANGUAGE sql; DO $$ DROP TABLE b $$")
    ('create function f() returns int as language sql; do ; drop table b ;', 'drop table a')
    """
    bodies: list[str] = []

    def told(aside: re.Match[str]) -> str:
        if not _DEFINES.search(aside.string, max(0, aside.start() - _BEFORE), aside.start()):
            return _without(aside)
        bodies.append(_ASIDE.sub(_without, aside["body"] or aside[0].strip("eE'").replace("''", "'")))
        return " "

    return _line(_ASIDE.sub(told, statement)), _line(" ; ".join(bodies))


_DEFINES = re.compile(r"\bas\s*\Z", re.IGNORECASE)
_BEFORE = 40


def _line(text: str) -> str:
    return _SPACE.sub(" ", text.replace('"', "")).strip().lower()
