"""Conditions as functions of an event's fields: the exact answer, after a witness was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nvcops.core.detections import Value
from nvcops.security.detection.conditions import (
    COMPARISONS,
    SAME,
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
    expression,
    folded,
    regex,
    text,
    within,
)

Predicate = Callable[[Mapping[str, Value]], bool]


def predicate(condition: Condition) -> Predicate:
    """A condition as a function."""
    match condition:
        case All(parts):
            return _all([predicate(part) for part in sorted(parts, key=_dear)])
        case Some(parts):
            return _any(parts)
        case Not(part):
            inner = predicate(part)
            return lambda fields: not inner(fields)
        case Match(field, test):
            return _match(field, test)


def _dear(condition: Condition) -> int:
    """What is asked last: regular expressions and networks, then texts, then the rest; the answer is the same."""
    match condition:
        case All(parts) | Some(parts):
            return max(map(_dear, parts), default=0)
        case Not(part):
            return _dear(part)
        case Match(_, Regex() | Cidr()):
            return 2
        case Match(_, Text()):
            return 1
        case Match():
            return 0


def _all(parts: list[Predicate]) -> Predicate:
    def ask(fields: Mapping[str, Value]) -> bool:
        for part in parts:  # noqa: SIM110 - all() over a generator takes twice as long
            if not part(fields):
                return False
        return True

    return ask


def _any(conditions: tuple[Condition, ...]) -> Predicate:
    """One of several; many whole texts of one field are one look into a set, many parts of one field fold it once."""
    equal: dict[str, set[str]] = {}
    within_one: dict[str, list[str]] = {}
    parts: list[Predicate] = []
    for condition in conditions:
        match condition:
            case Match(field, Text((str(whole),), cased=False)):
                equal.setdefault(field, set()).add(whole)
            case Match(field, Text((Wild.ANY, str(part), Wild.ANY), cased=False)):
                within_one.setdefault(field, []).append(part)
            case _:
                parts.append(predicate(condition))
    parts += [_one_of(field, frozenset(texts)) for field, texts in equal.items()]
    parts += [_one_within(field, texts) for field, texts in within_one.items()]

    def ask(fields: Mapping[str, Value]) -> bool:
        for part in parts:  # noqa: SIM110 - any() over a generator takes twice as long
            if part(fields):
                return True
        return False

    return ask


def _one_of(field: str, texts: frozenset[str]) -> Predicate:
    def ask(fields: Mapping[str, Value]) -> bool:
        value = fields.get(field)
        return value is not None and folded(text(value)) in texts

    return ask


def _one_within(field: str, texts: list[str]) -> Predicate:
    def ask(fields: Mapping[str, Value]) -> bool:
        value = fields.get(field)
        if value is None:
            return False
        whole = folded(text(value))
        return any(each in whole for each in texts)

    return ask


def _match(field: str, test: Test) -> Predicate:  # noqa: PLR0911 - one answer for each kind of test
    match test:
        case Absent():
            return lambda fields: fields.get(field) is None
        case Present():
            return lambda fields: fields.get(field) is not None
        case Equal(wanted):
            return lambda fields: fields.get(field) == wanted
        case Compare(sign, number):
            compare = COMPARISONS[sign]
            return _known(field, lambda value: not isinstance(value, str) and compare(value, number))
        case Regex(pattern, flags):
            search = regex(pattern, flags).search
            return _known(field, lambda value: search(text(value)) is not None)
        case Cidr(network):
            return _known(field, lambda value: within(text(value), network))
        case SameAs(other, how):
            return _same(field, other, SAME[how])
        case Text():
            return _known(field, _text(test))


def _known(field: str, ask: Callable[[Value], bool]) -> Predicate:
    def of_field(fields: Mapping[str, Value]) -> bool:
        value = fields.get(field)
        return value is not None and ask(value)

    return of_field


def _same(field: str, other: str, same: Callable[[str, str], bool]) -> Predicate:
    def ask(fields: Mapping[str, Value]) -> bool:
        mine, theirs = fields.get(field), fields.get(other)
        return mine is not None and theirs is not None and same(folded(text(mine)), folded(text(theirs)))

    return ask


def _text(test: Text) -> Callable[[Value], bool]:
    """The usual shapes without a regular expression."""
    fold = text if test.cased else lambda value: folded(text(value))
    match test.pieces:
        case ():
            return lambda value: text(value) == ""
        case (str(whole),):
            return lambda value: fold(value) == whole
        case (Wild.ANY, str(part), Wild.ANY):
            return lambda value: part in fold(value)
        case (str(start), Wild.ANY):
            return lambda value: fold(value).startswith(start)
        case (Wild.ANY, str(end)):
            return lambda value: fold(value).endswith(end)
        case _:
            fullmatch = expression(test).fullmatch
            return lambda value: fullmatch(text(value)) is not None
