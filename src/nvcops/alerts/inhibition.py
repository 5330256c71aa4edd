"""Which alerts keep quiet because of another: what inhibits stands in an index, so that nobody looks through all."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence

from nvcops.alerts.matchers import matches
from nvcops.alerts.routing import InhibitRule
from nvcops.core.alerts import Alert, Member
from nvcops.core.records import Reading

PAGE = 500

# --- Rules ---


def inhibits(rule: InhibitRule, source: Alert, target: Alert) -> bool:
    """Whether an alert, while it fires, keeps another quiet by a rule.

    An alert that both sides match is not kept quiet by one of its like, else each would silence the other.
    """
    return (
        matches(rule.source, source.labels)
        and matches(rule.target, target.labels)
        and not (matches(rule.source, target.labels) and matches(rule.target, source.labels))
        and all(source.labels.get(name, "") == target.labels.get(name, "") for name in rule.equal)
    )


def index_key(rule: InhibitRule, labels: dict[str, str]) -> str:
    """The place in the index of what inhibits by a rule with these values of its `equal` labels.

    >>> rule = InhibitRule(source=(), target=(), equal=("service",))
    >>> index_key(rule, {"service": "bank", "x": "1"}) == index_key(rule, {"service": "bank"})
    True
    """
    parts = [*map(str, rule.source), "|", *map(str, rule.target), "|"]
    parts += [part for name in rule.equal for part in (name, labels.get(name, ""))]
    return f"inhibits/{digest(*parts)}"


def index_keys(rules: Sequence[InhibitRule], labels: dict[str, str]) -> list[str]:
    """The places in the index in which an alert stands."""
    return [index_key(rule, labels) for rule in rules if matches(rule.source, labels)]


def digest(*parts: str) -> str:
    """Texts as 32 hex digits."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode()
        whole.update(len(data).to_bytes(4, "big") + data)
    return whole.hexdigest()[:32]


# --- Facts ---


class Inhibition:
    """What is inhibited at a moment; what was found is remembered for as long as this lives."""

    def __init__(self, reading: Reading, rules: Sequence[InhibitRule], at: dt.datetime) -> None:
        self._reading = reading
        self._rules = rules
        self._at = at
        self._found: dict[tuple[str, bool], bool] = {}

    def mutes(self, target: Alert) -> bool:
        """Whether something that fires keeps the alert quiet."""
        return any(self._inhibited(rule, target) for rule in self._rules if matches(rule.target, target.labels))

    def _inhibited(self, rule: InhibitRule, target: Alert) -> bool:
        place = (index_key(rule, target.labels), matches(rule.source, target.labels))
        if place not in self._found:
            self._found[place] = any(
                source.firing(self._at) and inhibits(rule, source, target) for source in self._sources(place[0])
            )
        return self._found[place]

    def _sources(self, group: str) -> Iterator[Alert]:
        for members in pages_of(self._reading, group):
            yield from self._reading.find(Alert, fingerprint__in=[member.fingerprint for member in members])


def pages_of(reading: Reading, group: str) -> Iterator[list[Member]]:
    """The members of a group, so many at a time."""
    after = ""
    while members := reading.find(Member, group=group, key__gt=after, order="key", limit=PAGE):
        yield members
        after = members[-1].key
