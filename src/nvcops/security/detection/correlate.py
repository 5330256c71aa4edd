"""Correlations: so many events in a time, so many different values, several rules together, or one after the other.

For "at least n in a span" the last n are enough to remember: they fit into the span, or n events do not. So the memory
of a group is bounded by its rule, and the number of groups by a limit; beyond it the group that was quiet longest is
forgotten.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from nvcops.core.detections import Evidence, Value
from nvcops.security.detection.rules import Correlation

GROUPS_MAX = 10_000
Group = tuple[Value, ...]


class _State(Protocol):
    """What a correlation remembers of a group."""

    def see(self, rule: str, now: int, fields: Mapping[str, Value], line: Evidence) -> list[Evidence] | None:
        """Take in an event; the lines that complete it, or None."""
        ...


@dataclass(slots=True)
class _Counted:
    """The last n events."""

    asked: Correlation
    seen: deque[tuple[int, Evidence]] = field(init=False)

    def __post_init__(self) -> None:
        self.seen = deque(maxlen=self.asked.least)

    def see(self, _rule: str, now: int, _fields: Mapping[str, Value], line: Evidence) -> list[Evidence] | None:
        self.seen.append((now, line))
        full = len(self.seen) == self.asked.least and self.seen[0][0] > now - self.asked.span_ms
        return [each for _, each in self.seen] if full else None


@dataclass(slots=True)
class _Different:
    """The last n different values, each with its newest event."""

    asked: Correlation
    seen: OrderedDict[Value, tuple[int, Evidence]] = field(default_factory=OrderedDict)

    def see(self, _rule: str, now: int, fields: Mapping[str, Value], line: Evidence) -> list[Evidence] | None:
        value = fields.get(self.asked.field)
        if value is None:
            return None
        self.seen[value] = (now, line)
        self.seen.move_to_end(value)
        if len(self.seen) > self.asked.least:
            self.seen.popitem(last=False)
        oldest = next(iter(self.seen.values()))[0]
        full = len(self.seen) == self.asked.least and oldest > now - self.asked.span_ms
        return [each for _, each in self.seen.values()] if full else None


@dataclass(slots=True)
class _Together:
    """The newest event of each rule."""

    asked: Correlation
    seen: dict[str, tuple[int, Evidence]] = field(default_factory=dict)

    def see(self, rule: str, now: int, _fields: Mapping[str, Value], line: Evidence) -> list[Evidence] | None:
        self.seen[rule] = (now, line)
        full = all(each in self.seen and self.seen[each][0] > now - self.asked.span_ms for each in self.asked.rules)
        return [each for _, each in sorted(self.seen.values(), key=lambda pair: pair[0])] if full else None


@dataclass(slots=True)
class _InOrder:
    """For each rule, the chain of events up to it that began last."""

    asked: Correlation
    chains: dict[int, list[tuple[int, Evidence]]] = field(default_factory=dict)

    def see(self, rule: str, now: int, _fields: Mapping[str, Value], line: Evidence) -> list[Evidence] | None:
        last = len(self.asked.rules) - 1
        complete = None
        for at in range(last, -1, -1):  # backwards: one event does not stand for two rules of the chain
            if self.asked.rules[at] != rule:
                continue
            before = self.chains.get(at - 1, []) if at else []
            if at and (not before or before[0][0] <= now - self.asked.span_ms):
                continue
            chain = [*before, (now, line)]
            if at == last:
                complete = [each for _, each in chain]
            if at not in self.chains or chain[0][0] >= self.chains[at][0][0]:
                self.chains[at] = chain
        return complete


_STATES = {"event_count": _Counted, "value_count": _Different, "temporal": _Together, "temporal_ordered": _InOrder}


class Correlator:
    """One correlation over a stream of events. An event that comes late counts at the newest time that was seen."""

    def __init__(self, asked: Correlation, groups_max: int = GROUPS_MAX) -> None:
        self.asked = asked
        self._groups_max = groups_max
        self._groups: OrderedDict[Group, _State] = OrderedDict()
        self._told: OrderedDict[Group, int] = OrderedDict()
        self._now = 0
        self.forgotten = 0

    def see(self, rules: list[str], time: int, fields: Mapping[str, Value], line: Evidence) -> list[Evidence] | None:
        """Take in an event that fulfilled these rules of the correlation; the new lines of what is complete, or None.

        Where it goes on after it was complete, only the newest line is new.
        """
        self._now = max(self._now, time)
        complete: list[Evidence] | None = None
        counted: set[Group] = set()
        for rule in sorted(rules, key=self.asked.rules.index, reverse=True):  # no event comes before itself in an order
            group = self._group(rule, fields)
            if group is None or (group in counted and self.asked.kind == "event_count"):
                continue  # one event is one, however many rules it fulfils
            counted.add(group)
            state = self._state(group)
            found = state.see(rule, self._now, fields, line)
            if found is not None:
                told = self._told.get(group)
                known = told is not None and told > self._now - self.asked.span_ms
                self._told[group] = self._now
                self._told.move_to_end(group)
                complete = [line] if known else found
        if len(self._told) > self._groups_max:
            self._told.popitem(last=False)
        return complete

    def _state(self, group: Group) -> _State:
        state = self._groups.get(group)
        if state is None:
            state = self._groups[group] = _STATES[self.asked.kind](self.asked)
            if len(self._groups) > self._groups_max:
                self._groups.popitem(last=False)
                self.forgotten += 1
        else:
            self._groups.move_to_end(group)
        return state

    def _group(self, rule: str, fields: Mapping[str, Value]) -> Group | None:
        """The values by which events belong together; None where the event lacks one."""
        found: list[Value] = []
        for name in self.asked.group_by:
            value = fields.get(self.asked.aliases.get((name, rule), name))
            if value is None:
                return None
            found.append(value)
        return tuple(found)
