"""What every parser does with a line: bounds, encodings, zero bytes; and a line that is nothing is kept as that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from nvcops.core.detections import RAW, Class, Event, Value

LINE_BYTES_MAX = 1 << 20
KEPT_BYTES = 4096  # of a line that is nothing
_ZERO = "␀"


class Malformed(ValueError):
    """The line is no line of this format; the message says why."""


class Parser(Protocol):
    """Reads the lines of one log, in their order. It never raises: what cannot be read is an event with `trouble`."""

    def parse(self, line: bytes) -> Event:
        """One line, with or without its end."""
        ...


class LineParser(ABC):
    """What parsers of single lines share. `time` is that of the newest line, for those that have none."""

    route = ("", "")

    def __init__(self, source: str, time: int = 0) -> None:
        self.source = source
        self.time = time

    def parse(self, line: bytes) -> Event:
        """One line, with or without its end."""
        if len(line) >= LINE_BYTES_MAX:  # as long as a reader gives: the rest was cut off
            return self.malformed(line, f"{LINE_BYTES_MAX:,} bytes or longer")
        try:
            event = self.read(line)
        except (ValueError, RecursionError, OverflowError) as error:  # msgspec's and datetime's are such
            return self.malformed(line, str(error) or type(error).__name__)
        self.time = event.time
        return event

    @abstractmethod
    def read(self, line: bytes) -> Event:
        """One line.

        Raises:
            ValueError: it is none of this format.
        """

    def event(self, time: int, fields: dict[str, Value], *, verbatim: bool) -> Event:
        """An event of this log."""
        return Event(time=time, source=self.source, route=self.route, fields=fields, verbatim=verbatim)

    def malformed(self, line: bytes, trouble: str) -> Event:
        """A line that is nothing, at the time of the one before it; its beginning is kept."""
        raw, _ = decoded(line[:KEPT_BYTES])
        fields: dict[str, Value] = {"class_uid": int(Class.BASE), RAW: raw, "status": "Malformed"}
        return Event(
            time=self.time, source=self.source, route=self.route, fields=fields, verbatim=False, trouble=trouble[:200]
        )


def decoded(line: bytes) -> tuple[str, bool]:
    r"""A line as text, and whether it is exactly what stood there: bytes that are no UTF-8 are replaced, zeros shown.

    >>> decoded(b"a\n"), decoded(b"\xff\x00")
    (('a', True), ('�␀', False))
    """
    line = line.rstrip(b"\r\n")
    try:
        text, exact = line.decode(), True
    except UnicodeDecodeError:
        text, exact = line.decode(errors="replace"), False
    if "\x00" in text:
        return text.replace("\x00", _ZERO), False
    return text, exact


def shown(value: str) -> str:
    """A decoded value without zeros: SQLite's functions end at one."""
    return value.replace("\x00", _ZERO) if "\x00" in value else value
