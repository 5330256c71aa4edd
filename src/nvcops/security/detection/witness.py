"""A witness of a rule: a few literals of which one must stand in every line that the rule can match.

Any literal that a condition cannot do without would be right; the one that stands in the fewest lines is quick. How
many lines that is, is measured on lines of the log; a long literal is no help where every line has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

import ahocorasick

from nvcops.core.detections import ASSIGNED, FIELDS, Event
from nvcops.security.detection.conditions import All, Condition, Match, Not, Some, Text, folded

Literals = frozenset[str]
SAMPLE_LINES_MAX = 20_000
_LENGTH_MIN = 1
_ALTERNATIVES_MAX = 200
_LETTER = 4.0  # a further letter makes an unseen literal so much rarer
_SEARCHED = frozenset(name for name, kind in FIELDS.items() if kind is str) - ASSIGNED


def haystack(event: Event, line: bytes) -> str:
    """Where an event's literals are searched: the line itself, or its fields' texts where a parser rewrote them."""
    return searched(line) if event.verbatim else "\n".join(map(needle, filter(_is_text, event.fields.values())))


def _is_text(value: object) -> bool:
    return value.__class__ is str


def searched(line: bytes) -> str:
    """A line as literals are searched in it: small letters of ASCII, one character for each byte.

    >>> searched("GRANT ü".encode())
    'grant Ã¼'
    """
    return line.lower().decode("latin-1")


def needle(literal: object) -> str:
    """A literal as it is searched for."""
    return searched(str(literal).encode("utf-8", "replace"))


def literals(condition: Condition) -> set[str]:
    """All literals of a condition that could be witnesses."""
    match condition:
        case Match(field, Text(pieces)) if field in _SEARCHED:
            return {needle(folded(p)) for p in pieces if isinstance(p, str) and len(p) >= _LENGTH_MIN}
        case All(parts) | Some(parts):
            return set().union(*map(literals, parts))
        case _:
            return set()


def shares(wanted: Iterable[str], lines: Iterable[bytes]) -> dict[str, float]:
    """In which share of the lines each literal stands; measured on the first so many.

    >>> shares(["ab", "x"], [b"AB", b"abab", b"c", b"d"])
    {'ab': 0.5, 'x': 0.0}
    """
    counts = dict.fromkeys(wanted, 0)
    if not counts:
        return {}
    automaton = ahocorasick.Automaton()
    for literal in counts:
        automaton.add_word(literal, literal)
    automaton.make_automaton()
    seen = 0
    for line in islice(lines, SAMPLE_LINES_MAX):
        seen += 1
        for literal in {found for _, found in automaton.iter(searched(line))}:
            counts[literal] += 1
    return {literal: count / max(seen, 1) for literal, count in counts.items()}


def cost(found: Literals, measured: Mapping[str, float]) -> float:
    """In which share of the lines one of these stands, at most; what was never seen is rarer the longer it is.

    >>> cost(frozenset({"request"}), {"request": 0.9}) > cost(frozenset({"drop"}), {"request": 0.9})
    True
    """
    return sum(measured.get(literal, 0.0) + _LETTER ** -len(literal) for literal in found)


def witness(condition: Condition, measured: Mapping[str, float]) -> Literals | None:
    """The rarest literals that a condition cannot do without; None where it has none.

    >>> both = All((Match("message", Text(("statement",))), Match("message", Text(("drop",)))))
    >>> witness(both, {"statement": 0.2, "drop": 0.01}), witness(Not(both), {})
    (frozenset({'drop'}), None)
    """
    match condition:
        case Match():
            found = [frozenset({literal}) for literal in literals(condition)]
        case All(parts):
            found = [each for part in parts if (each := witness(part, measured)) is not None]
        case Some(parts):
            each_one = [witness(part, measured) for part in parts]
            union = frozenset(literal for each in each_one if each is not None for literal in each)
            found = [union] if union and None not in each_one and len(union) <= _ALTERNATIVES_MAX else []
        case Not():
            return None
    return min(found, key=lambda each: (cost(each, measured), sorted(each)), default=None)
