"""From pySigma's tree to ours: every value gets the one meaning that the matcher, the plain answer and SQL share."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SpecialChars,
)

from nvcops.core.detections import FIELDS, RAW, UNMAPPED
from nvcops.core.errors import UsageError
from nvcops.security.detection import conditions as own

_SIGNS = {
    CompareOperators.LT: "<",
    CompareOperators.LTE: "<=",
    CompareOperators.GT: ">",
    CompareOperators.GTE: ">=",
}
_FLAGS = {
    SigmaRegularExpressionFlag.IGNORECASE: "i",
    SigmaRegularExpressionFlag.MULTILINE: "m",
    SigmaRegularExpressionFlag.DOTALL: "s",
}
_WILD = {SpecialChars.WILDCARD_MULTI: own.Wild.ANY, SpecialChars.WILDCARD_SINGLE: own.Wild.ONE}
_PARTS_MAX = 2_000


def condition(tree: Any) -> own.Condition:
    """A parsed condition of pySigma's as ours.

    Raises:
        UsageError: something in it that this engine does not answer, or a field that no event has.
    """
    if isinstance(tree, ConditionAND | ConditionOR):
        if len(tree.args) > _PARTS_MAX:
            raise UsageError(f"one list has {len(tree.args):,} values", hint=f"at most {_PARTS_MAX:,}")
        parts = tuple(condition(part) for part in tree.args)
        return own.All(parts) if isinstance(tree, ConditionAND) else own.Some(parts)
    if isinstance(tree, ConditionNOT):
        return own.Not(condition(tree.args[0]))
    if isinstance(tree, ConditionFieldEqualsValueExpression):
        return _of_value(tree.field, tree.value)
    if isinstance(tree, ConditionValueExpression):
        return _keyword(tree.value)
    raise UsageError(f"the condition has a {type(tree).__name__}", hint="and, or, not, 1 of, all of, and fields")


def _keyword(value: Any) -> own.Condition:
    """A value without a field stands anywhere in the line."""
    if isinstance(value, SigmaRegularExpression):
        return own.Match(RAW, _regex(value))
    if not isinstance(value, SigmaString | SigmaNumber):
        raise UsageError(f"a {type(value).__name__} has no field", hint="name the field, or search for a text")
    whole = value if isinstance(value, SigmaString) else SigmaString(str(value))
    pieces = _pieces(whole)
    return own.Match(RAW, _text((own.Wild.ANY, *pieces, own.Wild.ANY), cased=isinstance(value, SigmaCasedString)))


def _of_value(field: str, value: Any) -> own.Condition:
    kind = type_of(field)
    if isinstance(value, SigmaExpansion):
        return own.Some(tuple(_of_value(field, each) for each in value.values))
    test = _test(value, kind)
    needed = _needed(test)
    if needed is not None and kind not in needed:
        raise UsageError(
            f"{field} is {_KINDS[kind]}, and a {type(value).__name__} asks for something else",
            hint="a number is compared with lt, lte, gt, gte or is given as it is; a text by contains, re, cidr",
        )
    return own.Match(field, test)


_KINDS: dict[type, str] = {str: "a text", int: "a whole number", float: "a number"}


def type_of(field: str) -> type:
    """The type of a field.

    Raises:
        UsageError: no event has it.

    >>> type_of("http_response.code"), type_of("unmapped.why")
    (<class 'int'>, <class 'str'>)
    """
    if field.startswith(UNMAPPED):
        return str
    if field not in FIELDS:
        raise UsageError(
            f"no event has a field {field!r}",
            hint="fields have OCSF's names, as in src_endpoint.ip; others: unmapped.*",
        )
    return FIELDS[field]


def _needed(test: own.Test) -> tuple[type, ...] | None:
    """The types of fields that a test can be asked of; None: of any."""
    match test:
        case own.Text() | own.Regex() | own.SameAs():
            return (str, int)
        case own.Cidr():
            return (str,)
        case own.Compare():
            return (int, float)
        case _:
            return None


def _test(value: Any, kind: type) -> own.Test:  # noqa: C901, PLR0911 - one answer for each kind of value
    match value:
        case SigmaNull():
            return own.Absent()
        case SigmaExists():
            return own.Present() if value.exists else own.Absent()
        case SigmaBool():
            return own.Text((str(value.boolean).lower(),))
        case SigmaCompareExpression() if value.op in _SIGNS:
            return own.Compare(_SIGNS[value.op], _bounded(value.number.number))
        case SigmaNumber() if type(value) is SigmaNumber:
            return own.Text((str(value.number),)) if kind is str else own.Equal(_bounded(value.number))
        case SigmaRegularExpression():
            return _regex(value)
        case SigmaCIDRExpression():
            return own.Cidr(str(ip_network(value.cidr, strict=False)))
        case SigmaFieldReference():
            if type_of(value.field) is float:
                raise UsageError(f"{value.field} is a number, not a text", hint="fieldref compares texts")
            return own.SameAs(value.field, "start" if value.starts_with else "end" if value.ends_with else "equal")
        case SigmaString():
            return _text(_pieces(value), cased=isinstance(value, SigmaCasedString))
        case _:
            raise UsageError(
                f"this engine does not answer a {type(value).__name__}",
                hint="texts, numbers, null, and contains, startswith, endswith, all, cased, exists, re, cidr, lt, gt,"
                " fieldref, base64, wide",
            )


def _bounded(number: float) -> float:
    if not -(2**63) <= number < 2**63:
        raise UsageError(f"the number {number} is too large", hint="numbers have 64 bits")
    return number


def _regex(value: SigmaRegularExpression) -> own.Regex:
    flags = "".join(sorted(_FLAGS[flag] for flag in value.flags))
    own.regex(value.regexp.original, flags)  # refuse here what cannot be searched for later
    return own.Regex(value.regexp.original, flags)


def _pieces(value: SigmaString) -> tuple[str | own.Wild, ...]:
    found: list[str | own.Wild] = []
    for piece in value.s:
        if isinstance(piece, str):
            found.append(piece)
        elif isinstance(piece, SpecialChars):
            found.append(_WILD[piece])
        else:
            raise UsageError("a placeholder stands in a value", hint="write the values out")
    return tuple(found)


def _text(pieces: tuple[str | own.Wild, ...], *, cased: bool) -> own.Text:
    """The same with neighbours joined: `**` fits what `*` fits."""
    joined: list[str | own.Wild] = []
    for piece in pieces:
        if joined and isinstance(piece, str) and isinstance(joined[-1], str):
            joined[-1] += piece
        elif piece and not (joined and piece is own.Wild.ANY and joined[-1] is own.Wild.ANY):
            joined.append(piece)
    letters = tuple(own.folded(piece) if isinstance(piece, str) and not cased else piece for piece in joined)
    return own.Text(letters, cased)
