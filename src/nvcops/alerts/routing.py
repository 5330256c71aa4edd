"""Where an alert goes: a tree of routes, receivers, what inhibits what, and when nobody is told. Pure.

The words and their meaning are Alertmanager's.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from nvcops.alerts.matchers import matches
from nvcops.alerts.timing import TimeInterval, within
from nvcops.core.alerts import ALERTNAME, CATEGORY_LABELS, LIMIT_EXCEEDED, PROBE_DOWN, WORDS, Category, Matcher
from nvcops.core.manifest import Manifest

GROUP_WAIT = dt.timedelta(seconds=30)
GROUP_INTERVAL = dt.timedelta(minutes=5)
REPEAT_INTERVAL = dt.timedelta(hours=4)
KEY_LENGTH_MAX = 160
_AT_ONCE = dt.timedelta(0)
_CRITICAL_INTERVAL = dt.timedelta(seconds=30)
_NOBODY = "default"


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """An address to which notices are posted. `alerts_max` is how many alerts one has; 0: all."""

    url: str = ""
    url_file: Path | None = None
    send_resolved: bool = True
    alerts_max: int = 0


class Receiver(msgspec.Struct, frozen=True, kw_only=True):
    """Who gets notices. `opens`: they open incidents; `policy` is who is paged then, empty: nobody.

    A receiver with none of it gets nothing, as Alertmanager's `null` receivers.
    """

    name: str
    opens: bool = False
    policy: str = ""
    webhooks: tuple[Webhook, ...] = ()


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the tree, with what it inherits. `group_by` None: by all labels, each alert its own group."""

    id: str
    receiver: str
    matchers: tuple[Matcher, ...] = ()
    goes_on: bool = False
    group_by: tuple[str, ...] | None = ()
    group_wait: dt.timedelta = GROUP_WAIT
    group_interval: dt.timedelta = GROUP_INTERVAL
    repeat_interval: dt.timedelta = REPEAT_INTERVAL
    muted: tuple[str, ...] = ()
    active: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()

    def leaves(self, labels: dict[str, str]) -> list[Route]:
        """The routes that an alert takes from here on: the deepest that match; none where this one does not.

        A route that does not go on (`continue`) keeps an alert from its later siblings.
        """
        if not matches(self.matchers, labels):
            return []
        found: list[Route] = []
        for route in self.routes:
            taken = route.leaves(labels)
            found += taken
            if taken and not route.goes_on:
                break
        return found or [self]

    def shared(self, labels: Mapping[str, str]) -> dict[str, str]:
        """The labels that an alert shares with its group.

        >>> Route(id="{}", receiver="a", group_by=("b", "x")).shared({"a": "1", "b": "2"})
        {'b': '2'}
        >>> Route(id="{}", receiver="a", group_by=None).shared({"a": "1"})
        {'a': '1'}
        """
        return {
            name: labels[name]
            for name in (sorted(labels) if self.group_by is None else self.group_by)
            if name in labels
        }

    def group_key(self, shared: Mapping[str, str]) -> str:
        """The key of the group with these labels.

        >>> Route(id="{}", receiver="a").group_key({"alertname": "Down", "service": "bank"})
        '{}:{alertname="Down",service="bank"}'
        """
        return plain_key(f"{self.id}:{in_braces(shared)}")

    def every(self) -> Iterator[Route]:
        """This route, and those below it."""
        yield self
        for route in self.routes:
            yield from route.every()


class InhibitRule(msgspec.Struct, frozen=True, kw_only=True):
    """While what `source` matches fires, what `target` matches with the same `equal` labels is muted."""

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...] = ()


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `resolve_after` None: as the manifest says. `warnings` are what its author should know."""

    root: Route
    receivers: dict[str, Receiver]
    inhibit: tuple[InhibitRule, ...] = ()
    intervals: dict[str, tuple[TimeInterval, ...]] = {}
    resolve_after: dt.timedelta | None = None
    warnings: tuple[str, ...] = ()

    def keys(self, labels: dict[str, str]) -> dict[str, tuple[Route, dict[str, str]]]:
        """The groups to which an alert belongs: route and shared labels by the group's key."""
        found = {}
        for route in self.root.leaves(labels):
            shared = route.shared(labels)
            found[route.group_key(shared)] = (route, shared)
        return found

    def mutes(self, route: Route, at: dt.datetime) -> bool:
        """Whether nobody is told at a moment: a mute interval holds, or it has active ones and none does."""
        named = [interval for name in route.muted for interval in self.intervals[name]]
        active = [interval for name in route.active for interval in self.intervals[name]]
        return within(named, at) or (bool(route.active) and not within(active, at))


def in_braces(labels: Mapping[str, str]) -> str:
    """Labels as Prometheus writes them.

    >>> in_braces({"a": "b", "c": ""})
    '{a="b",c=""}'
    """
    return "{" + ",".join(str(Matcher(name, "=", value)) for name, value in labels.items()) + "}"


def plain_key(text: str) -> str:
    """Text as a key that stands anywhere: visible ASCII, not long; what is cut or replaced is told apart by a digest.

    >>> plain_key('{}:{a="b"}'), plain_key('{}:{a="b c"}')
    ('{}:{a="b"}', '{}:{a="b_c"}~75d3ed77')
    """
    plain = re.sub(r"[^!-~]", "_", text)[:KEY_LENGTH_MAX]
    return text if plain == text else f"{plain}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def default_routing(manifest: Manifest) -> Routing:
    """Where no file says: the first policy is asked of everything, of what is critical at once.

    A graver alert mutes milder ones of the same name about the same thing: a cache that is gone is told beside a bank
    that is down because of it. Of one figure the worst is told: that its probe failed, else the farthest limit.
    """
    policies = manifest.oncall.policies
    receiver = policies[0].name if policies else _NOBODY
    group_by = (ALERTNAME, "service")
    critical = [
        Route(
            id=plain_key(f"{{}}/{in_braces({name: 'critical'})}"),
            receiver=receiver,
            matchers=(Matcher(name, "=~", _graded([Category.CRITICAL])),),
            group_by=group_by,
            group_wait=_AT_ONCE,
            group_interval=_CRITICAL_INTERVAL,
        )
        for name in CATEGORY_LABELS
    ]
    return Routing(
        root=Route(id="{}", receiver=receiver, group_by=group_by, routes=tuple(critical)),
        receivers={receiver: Receiver(name=receiver, opens=True, policy=policies[0].name if policies else "")},
        inhibit=(*(_graver(name) for name in CATEGORY_LABELS), *_WORST_OF_A_FIGURE),
    )


_LIMIT = Matcher(ALERTNAME, "=", LIMIT_EXCEEDED)
_WORST_OF_A_FIGURE = (
    InhibitRule(source=(Matcher(ALERTNAME, "=", PROBE_DOWN),), target=(_LIMIT,), equal=("probe",)),
    InhibitRule(
        source=(_LIMIT, Matcher("bound", "=", "critical")),
        target=(_LIMIT, Matcher("bound", "=", "warning")),
        equal=("probe",),
    ),
)


def _graver(label: str) -> InhibitRule:
    milder = [category for category in Category if category is not Category.CRITICAL]
    return InhibitRule(
        source=(Matcher(label, "=~", _graded([Category.CRITICAL])),),
        target=(Matcher(label, "=~", _graded(milder)),),
        equal=(ALERTNAME, "service", "instance", "probe", "slo"),
    )


def _graded(categories: Iterable[Category]) -> str:
    """A regular expression of the words for some categories, in any case."""
    return f"(?i:{'|'.join(sorted(word for category in categories for word in WORDS[category]))})"
