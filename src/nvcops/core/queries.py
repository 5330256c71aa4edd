"""SQL that a room asks, kept in its `queries.sql`: a name and a sentence above each query; code knows only names."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

Rows = list[dict[str, Any]]  # what a query answers: dictionaries by column name

_NAME = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)


def load(package: str, file: str = "queries.sql") -> dict[str, str]:
    """The queries of a package's file, by name.

    Raises:
        ValueError: a name stands twice, or a query has no sentence above it.
    """
    return parse(resources.files(package).joinpath(file).read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, str]:
    r"""Split the text of a queries.sql.

    >>> parse("-- name: one\n-- The number one.\nSELECT 1;\n")
    {'one': 'SELECT 1'}
    >>> parse("-- name: one\nSELECT 1;\n")
    Traceback (most recent call last):
    ValueError: the query 'one' has no sentence above it
    """
    pieces = _NAME.split(text)[1:]
    queries: dict[str, str] = {}
    for name, body in zip(pieces[::2], pieces[1::2], strict=True):
        if not body.lstrip("\n").startswith("-- "):
            raise ValueError(f"the query {name!r} has no sentence above it")
        if name in queries:
            raise ValueError(f"the query {name!r} stands twice")
        code = [line for line in body.splitlines() if not line.startswith("--")]
        queries[name] = "\n".join(code).strip().removesuffix(";")
    return queries
