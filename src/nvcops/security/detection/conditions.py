"""What a rule asks of an event, as a tree; and the plain way to answer it, which says what the tree means.

Small and capital letters of ASCII are the same unless a test says otherwise; other letters are as they are. A field
that is not there fits nothing but `Absent`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Protocol, cast

import re2

from nvcops.core.detections import Event, Value
from nvcops.core.errors import UsageError


class Wild(Enum):
    """A place in a text that fits any characters, or any one."""

    ANY = "*"
    ONE = "?"


@dataclass(frozen=True, slots=True)
class Text:
    """The value as text is these pieces in a row."""

    pieces: tuple[str | Wild, ...]
    cased: bool = False


@dataclass(frozen=True, slots=True)
class Equal:
    """The value is this number."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Compare:
    """The value is a number below or above this: `sign` is one of < <= > >=."""

    sign: str
    number: int | float


@dataclass(frozen=True, slots=True)
class Regex:
    """RE2 finds this in the value as text; `flags` of i, m, s."""

    pattern: str
    flags: str = ""


@dataclass(frozen=True, slots=True)
class Cidr:
    """The value is an address of this network."""

    network: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The field is not there."""


@dataclass(frozen=True, slots=True)
class Present:
    """The field is there."""


@dataclass(frozen=True, slots=True)
class SameAs:
    """The value as text is, begins with, or ends with another field's: `how` is one of equal, start, end."""

    field: str
    how: str = "equal"


Test = Text | Equal | Compare | Regex | Cidr | Absent | Present | SameAs


@dataclass(frozen=True, slots=True)
class Match:
    """A field fits a test."""

    field: str
    test: Test


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """One part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Condition


Condition = Match | All | Some | Not


def holds(condition: Condition, event: Event) -> bool:
    """Whether an event fulfils a condition, asked part by part."""
    match condition:
        case All(parts):
            return all(holds(part, event) for part in parts)
        case Some(parts):
            return any(holds(part, event) for part in parts)
        case Not(part):
            return not holds(part, event)
        case Match(field, test):
            return fits(test, event.fields.get(field), event)


def fits(test: Test, value: Value | None, event: Event) -> bool:  # noqa: PLR0911 - one answer for each kind of test
    """Whether a value passes a test.

    >>> event = Event(time=0, source="", route=("", ""), fields={"a": "Root"})
    >>> fits(Text(("ro", Wild.ANY)), "ROOT", event), fits(Text(("ro",), cased=True), "RO", event)
    (True, False)
    >>> fits(Cidr("10.0.0.0/8"), "10.1.2.3", event), fits(SameAs("a"), "root", event), fits(Equal(1), None, event)
    (True, True, False)
    """
    if isinstance(test, Absent):
        return value is None
    if value is None:
        return False
    match test:
        case Present():
            return True
        case Text():
            return expression(test).fullmatch(text(value)) is not None
        case Equal(wanted):
            return value == wanted
        case Compare(sign, number):
            return not isinstance(value, str) and COMPARISONS[sign](value, number)
        case Regex(pattern, flags):
            return regex(pattern, flags).search(text(value)) is not None
        case Cidr(network):
            return within(text(value), network)
        case SameAs(field, how):
            other = event.fields.get(field)
            return other is not None and SAME[how](folded(text(value)), folded(text(other)))


COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
SAME: dict[str, Callable[[str, str], bool]] = {"equal": str.__eq__, "start": str.startswith, "end": str.endswith}


def text(value: Value) -> str:
    """A value as a text test sees it.

    >>> text(443), text("A")
    ('443', 'A')
    """
    return value if isinstance(value, str) else str(value)


def folded(value: str) -> str:
    """A text with ASCII's capital letters made small, and no others: so do bytes, and SQLite.

    >>> folded("ÄBC")
    'Äbc'
    """
    return value.lower() if value.isascii() else value.translate(_SMALL)


_SMALL = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}


@cache
def expression(test: Text) -> re.Pattern[str]:
    """A text test as a regular expression over the whole value."""
    wild = {Wild.ANY: ".*", Wild.ONE: "."}
    pattern = "".join(_letters(p, cased=test.cased) if isinstance(p, str) else wild[p] for p in test.pieces)
    return re.compile(pattern, re.DOTALL)


def _letters(piece: str, *, cased: bool) -> str:
    if cased:
        return re.escape(piece)
    return "".join(f"[{c.lower()}{c.upper()}]" if c.isascii() and c.isalpha() else re.escape(c) for c in piece)


class Searcher(Protocol):
    """What is asked of a regular expression."""

    def search(self, text: str) -> object | None:
        """Find it somewhere."""
        ...


REGEX_BYTES_MAX = 1 << 20


@cache
def regex(pattern: str, flags: str = "") -> Searcher:
    """A regular expression that ends in linear time, compiled within a limit of memory.

    Raises:
        UsageError: RE2 cannot read it, or it grows too large.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = REGEX_BYTES_MAX
    try:
        return cast("Searcher", re2.compile((f"(?{flags})" if flags else "") + pattern, options))
    except re2.error as error:
        said = error.args[0] if error.args else "no reason given"
        why = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise UsageError(
            f"the regular expression {pattern[:60]!r} is refused: {why}",
            hint="RE2's syntax: no look-around, no back references, repetitions of at most 1,000",
        ) from None


@cache
def _network(written: str) -> IPv4Network | IPv6Network:
    return ip_network(written, strict=False)


def within(address: str, written: str) -> bool:
    """Whether a text is an address of a network.

    >>> within("10.1.1.1", "10.0.0.0/8"), within("not one", "10.0.0.0/8"), within("::1", "10.0.0.0/8")
    (True, False, False)
    """
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found) in _network(written)
