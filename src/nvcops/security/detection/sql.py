"""Conditions as SQL for SQLite, for looking back over events that are stored.

A table of events has a column for each field of the schema, named as the field, and `unmapped`, a JSON object. Two
functions are beside them: `FUNCTIONS` are given to the store (adapters/lookback).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nvcops.core.detections import FIELDS, UNMAPPED
from nvcops.security.detection.conditions import (
    Absent,
    All,
    Cidr,
    Compare,
    Condition,
    Equal,
    Match,
    Not,
    Present,
    Regex,
    SameAs,
    Some,
    Test,
    Text,
    Wild,
    regex,
    within,
)
from nvcops.security.detection.rules import Rule

Parameter = str | int | float
Query = tuple[str, tuple[Parameter, ...]]


FUNCTIONS: dict[str, Callable[..., int]] = {
    "finds": lambda pattern, flags, text: int(text is not None and regex(pattern, flags).search(text) is not None),
    "within": lambda address, network: int(address is not None and within(address, network)),
}
"""What SQLite does not have."""


def where(rule: Rule) -> Query:
    """A rule as the condition of a WHERE, with its parameters; columns `product` and `service` are the route."""
    asked, parameters = expression(rule.condition)
    for column, wanted in (("product", rule.product), ("service", rule.service)):
        if wanted:
            asked, parameters = f"{column} = ? AND {asked}", (wanted, *parameters)
    return asked, parameters


def expression(condition: Condition) -> Query:
    """A condition as an expression that is 0 or 1, never NULL."""
    match condition:
        case All(parts):
            return _joined(parts, " AND ", "1")
        case Some(parts):
            return _joined(parts, " OR ", "0")
        case Not(part):
            inner, parameters = expression(part)
            return f"(NOT {inner})", parameters
        case Match(field, test):
            return _match(column(field), test)


def _joined(parts: Sequence[Condition], word: str, empty: str) -> Query:
    """As a tree with short branches: SQLite limits an expression's depth to 1,000."""
    if len(parts) > 2:
        middle = len(parts) // 2
        halves = [_joined(half, word, empty) for half in (parts[:middle], parts[middle:])]
    else:
        halves = [expression(part) for part in parts]
    sql = word.join(text for text, _ in halves) or empty
    return f"({sql})", tuple(parameter for _, parameters in halves for parameter in parameters)


def column(field: str) -> str:
    r"""A field as an expression.

    >>> column("user.name"), column("unmapped.why")
    ('"user.name"', 'json_extract(unmapped, \'$."why"\')')
    """
    if field in FIELDS:
        return f'"{field}"'
    path = '$."' + field.removeprefix(UNMAPPED).replace('"', "") + '"'
    return "json_extract(unmapped, '" + path.replace("'", "''") + "')"


def _match(value: str, test: Test) -> Query:  # noqa: PLR0911 - one answer for each kind of test
    match test:
        case Absent():
            return f"({value} IS NULL)", ()
        case Present():
            return f"({value} IS NOT NULL)", ()
        case Equal(wanted):
            return f"ifnull({value} = ?, 0)", (wanted,)
        case Compare(sign, number):
            return f"ifnull({value} {sign} ?, 0)", (number,)
        case Regex(pattern, flags):
            return f"ifnull(finds(?, ?, {_text(value)}), 0)", (pattern, flags)
        case Cidr(network):
            return f"ifnull(within({value}, ?), 0)", (network,)
        case SameAs(field, how):
            return _same(f"lower({_text(value)})", f"lower({_text(column(field))})", how)
        case Text():
            return _like(_text(value), test)


def _text(value: str) -> str:
    return f"CAST({value} AS TEXT)"


def _same(mine: str, theirs: str, how: str) -> Query:
    compared = {
        "equal": f"{mine} = {theirs}",
        "start": f"substr({mine}, 1, length({theirs})) = {theirs}",
        "end": f"(substr({mine}, -length({theirs})) = {theirs} OR ({theirs} = '' AND {mine} IS NOT NULL))",
    }
    return f"ifnull({compared[how]}, 0)", ()


def _like(value: str, test: Text) -> Query:
    """GLOB knows `*` and `?` as Sigma does, and takes neither for granted; lower() of SQLite knows ASCII alone."""
    folded = value if test.cased else f"lower({value})"
    match test.pieces:
        case (str(whole),):
            return f"ifnull({folded} = ?, 0)", (whole,)
        case (Wild.ANY, str(part), Wild.ANY):
            return f"ifnull(instr({folded}, ?) > 0, 0)", (part,)
        case pieces:
            pattern = "".join(piece.value if isinstance(piece, Wild) else _quoted(piece) for piece in pieces)
            return f"ifnull({folded} GLOB ?, 0)", (pattern,)


def _quoted(piece: str) -> str:
    """A text that GLOB takes letter by letter.

    >>> _quoted("a*[b]?")
    'a[*][[]b][?]'
    """
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in piece)
