"""The Prometheus text format, as much of it as is kept: counters, histograms, summaries, gauges, and when they began.

A page that breaks the format is refused whole, as Prometheus does: half of it would be a wrong sum.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

_SERIES_MAX = 2_000
_SUFFIXES = {
    "counter": ("", "_total"),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
    "gauge": ("",),
}
_START = "process_start_time_seconds"
_LABEL = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,|$)')
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


@dataclass(frozen=True, slots=True)
class Page:
    """What rises and what is read, by the series as it is written (`name{a="b"}`).

    `started` is when the process began, 0 where it does not say.
    """

    rising: dict[str, float] = field(default_factory=dict)
    started: float = 0.0
    gauges: dict[str, float] = field(default_factory=dict)


def parse_page(text: str) -> Page:
    r"""Read a page.

    Raises:
        ValueError: the line that breaks the format.

    >>> parse_page("# TYPE a_total counter\na_total{x=\"1\"} 3\n# TYPE b gauge\nb 4\n").rising
    {'a_total{x="1"}': 3.0}
    >>> parse_page("# TYPE b gauge\nb -4\nb{x=\"1\"} NaN\n").gauges
    {'b': -4.0}
    >>> parse_page("# TYPE a counter\na 1\na 2\n")
    Traceback (most recent call last):
    ValueError: line 3: 'a' stands twice
    >>> parse_page("# TYPE a counter\na one\n")
    Traceback (most recent call last):
    ValueError: line 2: 'a one' is no sample
    """
    page = Page()
    started, held, names = 0.0, page.rising, frozenset[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("# TYPE "):
            words = line.split()
            held, names = page.gauges if words[3:] == ["gauge"] else page.rising, _names(words)
        elif line and line[0] != "#":
            key, value = _sample(number, line)
            name = key.partition("{")[0]
            if name == _START:
                started = value
            elif name in names and (_can_be_counted(value) if held is page.rising else math.isfinite(value)):
                if key in held:
                    raise ValueError(f"line {number}: {key!r} stands twice")
                held[key] = value
    if (there := len(page.rising) + len(page.gauges)) > _SERIES_MAX:
        raise ValueError(f"{there:,} series are more than the {_SERIES_MAX:,} that are kept of one instance")
    return Page(page.rising, started, page.gauges)


def _names(words: list[str]) -> frozenset[str]:
    """The names of the samples that a TYPE line announces; none where nothing of it is kept."""
    if len(words) != 4 or words[3] not in _SUFFIXES:
        return frozenset()
    return frozenset(words[2] + suffix for suffix in _SUFFIXES[words[3]])


def _sample(number: int, line: str) -> tuple[str, float]:
    end = line.rfind("}") + 1 or line.find(" ")
    try:
        value = float(line[end:].split(maxsplit=1)[0])
    except (ValueError, IndexError):
        raise ValueError(f"line {number}: {line[:80]!r} is no sample") from None
    return line[:end], value


def _can_be_counted(value: float) -> bool:
    """What rises is finite and not below zero; the sum of a histogram of negative values is neither.

    >>> _can_be_counted(0.0), _can_be_counted(-1.0), _can_be_counted(float("nan"))
    (True, False, False)
    """
    return math.isfinite(value) and value >= 0


def parse_series(key: str) -> tuple[str, dict[str, str]]:
    r"""Name and labels of a series as it is written.

    >>> parse_series('a_total{x="1",y="say \\"hi\\""}')
    ('a_total', {'x': '1', 'y': 'say "hi"'})
    >>> parse_series("a_total")
    ('a_total', {})
    >>> parse_series('a{x=1}')
    Traceback (most recent call last):
    ValueError: 'a{x=1}' has labels that cannot be read
    """
    name, _, inside = key.partition("{")
    inside = inside.removesuffix("}").strip().removesuffix(",")
    labels: dict[str, str] = {}
    at = 0
    while at < len(inside):
        match = _LABEL.match(inside, at)
        if match is None:
            raise ValueError(f"{key!r} has labels that cannot be read")
        labels[match[1]] = re.sub(r"\\.", lambda found: _ESCAPES.get(found[0], found[0]), match[2])
        at = match.end()
    return name.strip(), labels
