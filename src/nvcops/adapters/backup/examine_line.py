"""The line of a transaction log: which segment of which timeline leads on from which, told by the timelines' histories.

Positions are bytes from the log's beginning. After a promotion the new timeline's first segment begins with a copy of
the old one's, so from the segment that holds the switch on the new timeline's files are the line's, as for PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from nvcops.core.backups import lsn_bytes, segment_name

_SEGMENT = re.compile(r"[0-9A-F]{24}")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history")
_STEP = re.compile(r"\s*([0-9]+)\s+([0-9A-Fa-f]+/[0-9A-Fa-f]+)(\s.*)?")
_STEPS_MAX = 100_000


class Span(msgspec.Struct, frozen=True):
    """The part of a line that is on one timeline: from a position to the one where it was left; None: it goes on."""

    timeline: int
    begin: int
    end: int | None


class Line(msgspec.Struct, frozen=True):
    """A timeline with all those from which it came, oldest first."""

    spans: tuple[Span, ...]
    segment_bytes: int

    @property
    def timeline(self) -> int:
        """The timeline to which it leads."""
        return self.spans[-1].timeline

    def timeline_at(self, number: int) -> int:
        """The timeline whose file is the line's for a segment number."""
        for span in reversed(self.spans):
            if span.begin // self.segment_bytes <= number:
                return span.timeline
        return self.spans[0].timeline

    def name_at(self, number: int) -> str:
        """The name of the line's segment of a number."""
        return segment_name(self.timeline_at(number), number * self.segment_bytes, self.segment_bytes)

    def holds(self, timeline: int, position: int) -> bool:
        """Whether a position that was reached on a timeline lies on this line."""
        return any(
            span.timeline == timeline and span.begin <= position and (span.end is None or position <= span.end)
            for span in self.spans
        )

    def left(self, other: Line) -> int | None:
        """The position at which this line left another one; None: it did not."""
        for mine, its in zip(self.spans, other.spans, strict=False):
            if mine.timeline != its.timeline:
                return mine.begin
            if mine.end != its.end:
                return min(end for end in (mine.end, its.end) if end is not None)
        return None


class HistoryError(ValueError):
    """It is no timeline's history."""


def is_segment(name: str) -> bool:
    """Whether it is a segment's name.

    >>> is_segment("000000010000000000000003"), is_segment("00000002.history")
    (True, False)
    """
    return _SEGMENT.fullmatch(name) is not None


def history_of(name: str) -> int | None:
    """The timeline whose history a file is, by its name; None: it is none.

    >>> history_of("00000002.history"), history_of("000000010000000000000003")
    (2, None)
    """
    match = _HISTORY.fullmatch(name)
    return int(match[1], 16) if match else None


def history_name(timeline: int) -> str:
    """The name of a timeline's history.

    >>> history_name(2)
    '00000002.history'
    """
    return f"{timeline:08X}.history"


def number_of(name: str, segment_bytes: int) -> int:
    """The number of a segment in its log.

    >>> number_of("000000010000000100000002", 16 << 20)
    258
    """
    return int(name[8:16], 16) * (0x1_0000_0000 // segment_bytes) + int(name[16:24], 16)


def timeline_of(name: str) -> int:
    """The timeline of a segment.

    >>> timeline_of("0000000A0000000100000002")
    10
    """
    return int(name[:8], 16)


def read_history(timeline: int, text: str) -> tuple[Span, ...]:
    r"""The spans of a line by its timeline's history, as PostgreSQL writes it.

    >>> [(s.timeline, s.begin, s.end) for s in read_history(3, "1\t0/3000000\twhy\n\n2\t0/5000060\twhy\n")]
    [(1, 0, 50331648), (2, 50331648, 83886176), (3, 83886176, None)]
    >>> read_history(2, "nonsense")
    Traceback (most recent call last):
    nvcops.adapters.backup.examine_line.HistoryError: 'nonsense' is no line of a history
    """
    spans: list[Span] = []
    begin = before = 0
    for line in text.splitlines()[:_STEPS_MAX]:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _STEP.fullmatch(line)
        if match is None:
            raise HistoryError(f"{line[:80]!r} is no line of a history")
        step, end = int(match[1]), lsn_bytes(match[2])
        if not before < step < timeline or end < begin:
            raise HistoryError(f"timeline {step} until {match[2]} cannot follow timeline {before} there")
        spans.append(Span(step, begin, end))
        begin, before = end, step
    if not spans:
        raise HistoryError(f"it does not say from where timeline {timeline} came")
    return (*spans, Span(timeline, begin, None))


def lines_of(
    histories: Mapping[int, tuple[Span, ...]], timelines: Iterable[int], segment_bytes: int
) -> dict[int, Line]:
    """The line of each timeline that is explained: the first one, and those whose history is known."""
    known = {1: Line((Span(1, 0, None),), segment_bytes)}
    known |= {timeline: Line(spans, segment_bytes) for timeline, spans in histories.items()}
    return {timeline: known[timeline] for timeline in timelines if timeline in known}


def runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring numbers as ranges, both ends included; the numbers ascend.

    >>> list(runs([1, 2, 3, 7, 9, 10]))
    [(1, 3), (7, 7), (9, 10)]
    """
    first = last = None
    for number in numbers:
        if last is not None and number == last + 1:
            last = number
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = number
    if first is not None and last is not None:
        yield first, last
