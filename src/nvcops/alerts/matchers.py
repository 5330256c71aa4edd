"""Matchers as people write them: `severity="critical"`, `{team=~"db|web", env!=prod}`."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from nvcops.core.alerts import Matcher, compiled

MATCHERS_MAX = 32
_NAME = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^\s{}!=~,"\'`\\]+)\s*')
_OPERATOR = re.compile(r"(=~|!~|!=|=)\s*")
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"\s*')
_BARE = re.compile(r"([^\s{},\"]+(?:[ \t]+[^\s{},\"]+)*)\s*")


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    r"""Matchers, separated by commas, with or without braces around them, in Alertmanager's syntax.

    >>> [str(matcher) for matcher in parse_matchers('{alertname=Down, service =~ "bank|ledger",}')]
    ['alertname="Down"', 'service=~"bank|ledger"']
    >>> parse_matchers('a="x, \\"y\\""')[0].value
    'x, "y"'
    >>> parse_matchers("severity")
    Traceback (most recent call last):
    ValueError: 'severity' has no operator after 'severity': write =, !=, =~ or !~

    Raises:
        ValueError: a sentence that says what is expected.
    """
    rest = text.strip()
    if rest.startswith("{") != rest.endswith("}"):
        raise ValueError(f"{text[:60]!r} has a brace without its other one")
    rest = rest.removeprefix("{").removesuffix("}").strip() if rest.startswith("{") else rest
    found: list[Matcher] = []
    while rest:
        one, rest = _first(rest, text)
        found.append(one)
        if rest and not rest.startswith(","):
            raise ValueError(f"{text[:60]!r} goes on with {rest[:20]!r}: separate matchers by commas, quote values")
        rest = rest[1:].lstrip()
    if len(found) > MATCHERS_MAX:
        raise ValueError(f"{len(found)} matchers are more than {MATCHERS_MAX}")
    return tuple(found)


def _first(rest: str, whole: str) -> tuple[Matcher, str]:
    name = _NAME.match(rest)
    if name is None:
        raise ValueError(f"{whole[:60]!r} has no label name before {rest[:20]!r}")
    operator = _OPERATOR.match(rest, name.end())
    label = _unquoted(name[1]) if name[1].startswith('"') else name[1]
    if operator is None:
        raise ValueError(f"{whole[:60]!r} has no operator after {label[:40]!r}: write =, !=, =~ or !~")
    value = _QUOTED.match(rest, operator.end())
    if value is not None:
        return checked(label, operator[1], _unquoted(f'"{value[1]}"')), rest[value.end() :]
    bare = _BARE.match(rest, operator.end())
    if bare is None and rest[operator.end() : operator.end() + 1] == '"':
        raise ValueError(f"{whole[:60]!r} has a quote that does not end")
    end = bare.end() if bare else operator.end()
    return checked(label, operator[1], bare[1] if bare else ""), rest[end:]


def _unquoted(text: str) -> str:
    r"""Text between double quotes; a backslash that escapes nothing is kept, as regular expressions need it.

    >>> _unquoted(r'"a\.b\"c\\d"')
    'a\\.b"c\\d'
    """
    escapes = {'"': '"', "\\": "\\", "n": "\n"}
    return re.sub(r"\\(.)", lambda match: escapes.get(match[1], match[0]), text[1:-1])


def checked(name: str, operator: str, value: str) -> Matcher:
    """A matcher that can be carried out.

    Raises:
        ValueError: its regular expression is none.
    """
    if operator in ("=~", "!~"):
        check_pattern(value)
    return msgspec.convert({"name": name, "operator": operator, "value": value}, Matcher)


def check_pattern(pattern: str) -> None:
    """Nothing, where it is a regular expression of RE2, the syntax of Alertmanager.

    >>> check_pattern("(")
    Traceback (most recent call last):
    ValueError: '(' is no regular expression of RE2: missing ): (

    Raises:
        ValueError: it is none.
    """
    compiled(pattern)


def matches(matchers: Iterable[Matcher], labels: dict[str, str]) -> bool:
    """Whether all matchers match.

    >>> matches(parse_matchers("a=1,b!=2"), {"a": "1"}), matches([], {})
    (True, True)
    """
    return all(matcher.matches(labels) for matcher in matchers)
