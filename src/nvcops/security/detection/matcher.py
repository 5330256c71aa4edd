"""Which rules an event fulfils: route -> witness -> exact predicate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ahocorasick

from nvcops.core.detections import Event
from nvcops.security.detection.conditions import All, Condition, Equal, Match
from nvcops.security.detection.predicates import Predicate, predicate
from nvcops.security.detection.rules import Rule
from nvcops.security.detection.witness import haystack, literals, shares, witness

Compiled = tuple[int, Rule, Predicate]


@dataclass(slots=True)
class _Route:
    """The rules that look at one kind of log: behind witnesses, behind a class of events, and always."""

    automaton: Any = None
    of_class: dict[object, list[Compiled]] = field(default_factory=lambda: defaultdict(list))
    always: list[Compiled] = field(default_factory=list)


class Matcher:
    """Single-event rules, made ready. `sample` are lines of the logs, by which the witnesses are chosen."""

    def __init__(self, rules: Sequence[Rule], sample: Iterable[bytes] = ()) -> None:
        measured = shares({each for rule in rules for each in literals(rule.condition)}, sample)
        self._compiled: list[Compiled] = [(at, rule, predicate(rule.condition)) for at, rule in enumerate(rules)]
        self.witnesses = [witness(rule.condition, measured) for rule in rules]
        self._routes: dict[tuple[str, str], _Route] = {}

    def match(self, event: Event, line: bytes) -> list[Rule]:
        """The rules that an event fulfils, in their order. `line` is what it was read from."""
        route = self._routes.get(event.route)
        if route is None:
            route = self._routes.setdefault(event.route, self._route(*event.route))
        fields = event.fields
        found: list[Compiled] | None = None
        if route.automaton is not None:
            for _, compiled in route.automaton.iter(haystack(event, line)):
                found = [*compiled] if found is None else found + compiled
        if route.of_class and (of_class := route.of_class.get(fields.get("class_uid"))):
            found = [*of_class] if found is None else found + of_class
        if route.always:
            found = [*route.always] if found is None else found + route.always
        if found is None:
            return []
        asked = {at: (rule, ask) for at, rule, ask in found}
        return [asked[at][0] for at in sorted(asked) if asked[at][1](fields)]

    def _route(self, product: str, service: str) -> _Route:
        route, words = _Route(), defaultdict[str, list[Compiled]](list)
        for compiled in self._compiled:
            at, rule, _ = compiled
            if rule.product not in ("", product) or rule.service not in ("", service):
                continue
            found = self.witnesses[at]
            if found is not None:
                for literal in found:
                    words[literal].append(compiled)
            elif (of_class := required_class(rule.condition)) is not None:
                route.of_class[of_class].append(compiled)
            else:
                route.always.append(compiled)
        if words:
            route.automaton = ahocorasick.Automaton()
            for literal, behind in words.items():
                route.automaton.add_word(literal, behind)
            route.automaton.make_automaton()
        return route


def required_class(condition: Condition) -> int | None:
    """The class_uid that a condition cannot do without.

    >>> required_class(All((Match("class_uid", Equal(3002)),)))
    3002
    """
    match condition:
        case Match("class_uid", Equal(wanted)):
            return int(wanted)
        case All(parts):
            return next((found for part in parts if (found := required_class(part)) is not None), None)
        case _:
            return None
