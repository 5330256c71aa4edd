"""On which line a place of a TOML document stands: the standard library's reader does not say."""

from __future__ import annotations

import re

Place = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_.\"'-]+)\s*=")


def line_of(text: str, place: Place) -> int:
    r"""The line on which a place of the document stands, or that of the nearest table around it; 1 at worst.

    >>> line_of('[a]\n\n[[b]]\nx = 1\n[[b]]\nx = 2\n', ("b", 1, "x"))
    6
    >>> line_of('[a]\nx = 1\n', ("a", "y"))
    1
    """
    table: Place = ()
    counts: dict[Place, int] = {}
    best = (0, 1)
    for number, line in enumerate(text.splitlines(), 1):
        found = table
        if header := _HEADER.match(line):
            found = tuple(part.strip().strip("\"'") for part in header[2].split("."))
            if found[:-1] in counts:  # [services.series] belongs to the latest [[services]]
                found = (*found[:-1], counts[found[:-1]], found[-1])
            if header[1] == "[[":
                counts[found] = counts.get(found, -1) + 1
                found = (*found, counts[found])
            table = found
        elif key := _KEY.match(line):
            found = (*table, *(part.strip("\"'") for part in key[1].split(".")))
        else:
            continue
        if place[: len(found)] == found and len(found) > best[0]:
            best = (len(found), number)
    return best[1]
