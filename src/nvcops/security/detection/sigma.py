"""Reads Sigma rules with pySigma. One that cannot be used is refused with its place and a hint; the others go on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

import yaml
from sigma.correlations import SigmaCorrelationCondition, SigmaCorrelationRule, SigmaCorrelationType
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule
from sigma.rule.base import SigmaYAMLLoader

from nvcops.core.detections import Level
from nvcops.core.errors import UsageError
from nvcops.security.detection.rules import Correlation, Head, Pack, Place, Refusal, Rule
from nvcops.security.detection.translate import condition, type_of

FILE_CHARACTERS_MAX = 1 << 20
RULES_MAX = 10_000
_SEPARATOR = re.compile(r"^---[ \t]*(?:#.*)?$", re.MULTILINE)
_TECHNIQUE = re.compile(r"t\d{4}(\.\d{3})?")
_KINDS = {
    SigmaCorrelationType.EVENT_COUNT,
    SigmaCorrelationType.VALUE_COUNT,
    SigmaCorrelationType.TEMPORAL,
    SigmaCorrelationType.TEMPORAL_ORDERED,
}
_SECTIONS = ("detection", "logsource", "correlation", "level", "tags", "status", "title")
_CATEGORIES = {"webserver": ("haproxy", "http"), "database": ("postgresql", "log"), "application": ("nvcbank", "json")}
_HINT = "https://sigmahq.io/docs/basics/rules.html"


@dataclass(frozen=True, slots=True)
class _Document:
    """One rule's text, and where it begins."""

    place: Place
    text: str

    def line(self, section: str) -> Place:
        """The place of a section, else of the rule."""
        for number, line in enumerate(self.text.splitlines()):
            if re.match(rf"{section}\s*:", line):
                return replace(self.place, line=self.place.line + number)
        return self.place


def read(files: Mapping[str, str]) -> Pack:
    r"""Rules from files: their texts by their names.

    >>> pack = read({"a.yml": "title: A\nlogsource: {product: linux}\ndetection: {s: {user: root}, condition: s}"})
    >>> print(pack.refusals[0])
    a.yml:3: no event has a field 'user' (fields have OCSF's names, as in src_endpoint.ip; others: unmapped.*)
    """
    found: dict[str, Rule | Correlation] = {}
    refusals: list[Refusal] = []
    for document in _documents(files, refusals):
        try:
            rule = _unique(_rule(document), found)
        except _Refused as error:
            refusals.append(error.refusal)
        else:
            found[rule.head.name] = rule
    correlations = _ordered({n: r for n, r in found.items() if isinstance(r, Correlation)}, found, refusals)
    silent = {name for each in correlations if not each.generate for name in each.rules}
    return Pack(
        tuple(replace(r, silent=r.head.name in silent) for r in found.values() if isinstance(r, Rule)),
        tuple(replace(each, silent=each.head.name in silent) for each in correlations),
        tuple(refusals),
    )


def _unique(rule: Rule | Correlation, found: Mapping[str, Rule | Correlation]) -> Rule | Correlation:
    head = rule.head
    if head.name in found:
        raise _Refused(head.place, f"{found[head.name].head.place} has the name {head.name!r} too", "names are unique")
    if len(found) >= RULES_MAX:
        raise _Refused(head.place, f"there are more than {RULES_MAX:,} rules", "leave some out")
    return rule


class _Refused(Exception):
    def __init__(self, place: Place, sentence: str, hint: str) -> None:
        super().__init__(sentence)
        self.refusal = Refusal(place, sentence, hint)


def _documents(files: Mapping[str, str], refusals: list[Refusal]) -> Iterator[_Document]:
    for name, text in files.items():
        if len(text) > FILE_CHARACTERS_MAX:
            refusals.append(Refusal(Place(name, 1), f"it has {len(text):,} characters", "split the file"))
            continue
        line = 1
        for part in _SEPARATOR.split(text):
            skipped = len(part) - len(part.lstrip("\n"))
            if part.strip():
                yield _Document(Place(name, line + skipped), part.lstrip("\n").rstrip() + "\n")
            line += part.count("\n")


def _rule(document: _Document) -> Rule | Correlation:
    content = _content(document)
    try:
        if "correlation" in content:
            return _correlation(SigmaCorrelationRule.from_dict(content), document)
        sigma = SigmaRule.from_dict(content)
        parsed = [each.parsed for each in sigma.detection.parsed_condition]
    except SigmaError as error:
        raise _Refused(document.line(_section(error)), _sentence(error), _HINT) from None
    except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
        # pySigma takes some wrong shapes for right ones and fails further in
        raise _Refused(document.place, f"it has not the form of a rule: {_sentence(error)}", _HINT) from None
    return _single(sigma, parsed, document)


def _content(document: _Document) -> dict[str, Any]:
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(document.text, Loader=yaml.CSafeLoader)):
            raise _Refused(document.place, "it has a YAML alias", "write the value out: an alias can multiply itself")
        content = yaml.load(document.text, Loader=SigmaYAMLLoader)  # noqa: S506 - it is a safe loader
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = replace(document.place, line=document.place.line + mark.line) if mark else document.place
        raise _Refused(
            place, f"it is no YAML: {getattr(error, 'problem', None) or error}", "check the indent"
        ) from None
    if not isinstance(content, dict):
        raise _Refused(document.place, "it is no mapping", "a rule begins with title:")
    return content


def _single(sigma: SigmaRule, parsed: list[Any], document: _Document) -> Rule:
    source = sigma.logsource
    product, service = source.product or "", source.service or ""
    if source.category:
        if source.category not in _CATEGORIES:
            raise _Refused(
                document.line("logsource"), f"nothing here is a {source.category!r}", f"one of {', '.join(_CATEGORIES)}"
            )
        product, service = product or _CATEGORIES[source.category][0], service or _CATEGORIES[source.category][1]
    try:
        asked = [condition(tree) for tree in parsed]
    except (UsageError, ValueError) as error:
        hint = error.hint if isinstance(error, UsageError) else _HINT
        raise _Refused(document.line("detection"), _sentence(error), hint) from None
    if len(asked) != 1:
        raise _Refused(document.line("detection"), f"it has {len(asked)} conditions", "join them with or")
    return Rule(head=_head(sigma, document), product=product, service=service, condition=asked[0])


def _correlation(sigma: SigmaCorrelationRule, document: _Document) -> Correlation:
    place = document.line("correlation")
    asked = sigma.condition
    if sigma.type not in _KINDS:
        raise _Refused(place, f"the type {sigma.type} is not answered", "event_count, value_count, temporal(_ordered)")
    ordered = sigma.type in (SigmaCorrelationType.TEMPORAL, SigmaCorrelationType.TEMPORAL_ORDERED)
    if not isinstance(asked, SigmaCorrelationCondition):
        raise _Refused(place, "its condition combines rules", "name them in rules: all of them are asked for")
    if not ordered and asked.op.name not in ("GT", "GTE"):
        raise _Refused(
            place, f"its condition is {asked.op.name.lower()}", "gt or gte: what is missing is never an event"
        )
    if asked.fieldref is not None and not isinstance(asked.fieldref, str):
        raise _Refused(place, "it counts several fields", "one field")
    aliases = {(name, ref.reference): f for name, a in sigma.aliases.aliases.items() for ref, f in a.mapping.items()}
    try:
        for field in (*(sigma.group_by or ()), *aliases.values(), *((asked.fieldref,) if asked.fieldref else ())):
            if field not in sigma.aliases.aliases:
                type_of(field)
    except UsageError as error:
        raise _Refused(place, error.sentence, error.hint) from None
    return Correlation(
        head=_head(sigma, document),
        kind=sigma.type.name.lower(),
        rules=tuple(reference.reference for reference in sigma.rules or ()),
        group_by=tuple(sigma.group_by or ()),
        span_ms=int(sigma.timespan.seconds * 1000),
        least=1 if ordered else int(asked.count) + (asked.op.name == "GT"),
        field=asked.fieldref or "",
        aliases=aliases,
        generate=sigma.generate,
    )


def _head(sigma: SigmaRule | SigmaCorrelationRule, document: _Document) -> Head:
    names = [tag.name for tag in sigma.tags if tag.namespace == "attack"]
    name = sigma.name or (str(sigma.id) if sigma.id else sigma.title)
    if sigma.level is None:
        raise _Refused(document.place, "it has no level", "level: low, medium, high or critical")
    return Head(
        name=name,
        title=sigma.title,
        level=Level[sigma.level.name],
        techniques=tuple(name.upper() for name in names if _TECHNIQUE.fullmatch(name)),
        tactics=tuple(name for name in names if not _TECHNIQUE.fullmatch(name)),
        false_positives=tuple(sigma.falsepositives or ()),
        place=document.place,
    )


def _ordered(
    named: dict[str, Correlation], found: Mapping[str, object], refusals: list[Refusal]
) -> tuple[Correlation, ...]:
    """Correlations, those first that others listen to. One that listens to nobody, or to itself, is refused."""
    usable = dict(named)
    while True:
        for name, each in list(usable.items()):
            missing = [rule for rule in each.rules if rule not in usable and (rule in named or rule not in found)]
            if missing:
                refusals.append(Refusal(each.head.place, f"it asks for {missing[0]!r}", "the name of a usable rule"))
                del usable[name]
        try:
            order = list(TopologicalSorter({n: set(c.rules) & set(usable) for n, c in usable.items()}).static_order())
        except CycleError as error:
            ring = [usable.pop(name) for name in dict.fromkeys(error.args[1])]
            refusals += [Refusal(each.head.place, "it waits for itself", "break the ring") for each in ring]
        else:
            if all(rule in usable or rule not in named for each in usable.values() for rule in each.rules):
                return tuple(usable[name] for name in order)


def _section(error: SigmaError) -> str:
    name = type(error).__name__.lower()
    if "modifier" in name or "condition" in name or "regular" in name or "value" in name or "type" in name:
        return "correlation" if "correlation" in name else "detection"
    return next((section for section in _SECTIONS if section in name), "title")


def _sentence(error: Exception) -> str:
    first = str(error.args[0]) if error.args else type(error).__name__
    return error.sentence if isinstance(error, UsageError) else first.splitlines()[0][:200]
