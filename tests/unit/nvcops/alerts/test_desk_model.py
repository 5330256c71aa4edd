"""Grouping, waiting, inhibition and resolution against a plain model that looks at everything each time."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from alerts_world import Office, at, routing_of, said
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.alerts.routing import Routing
from nvcops.alerts.said import Said
from nvcops.core.alerts import Alert, Matcher

ROUTING = routing_of("""
route:
  receiver: all
  group_by: [alertname]
  group_interval: 2m
  repeat_interval: 10m
  routes:
    - matchers: [severity="critical"]
      receiver: graver
      group_wait: 0s
      group_by: ["..."]
      continue: true
    - matchers: [service=~"a|b"]
      group_by: [service]
      mute_time_intervals: [quiet]
      routes: [{match: {service: b}, group_wait: 10s, group_interval: 1m}]
receivers:
  - name: all
    webhook_configs: [{url: "http://127.0.0.1:1/all"}]
  - name: graver
    webhook_configs: [{url: "http://127.0.0.1:1/graver"}]
inhibit_rules:
  - {source_matchers: [severity=critical], target_matchers: [severity=~"warning|info"], equal: [service]}
  - {source_matchers: [alertname=Down], target_matchers: [alertname=~"Slow|Down", severity!=critical], equal: [service]}
time_intervals: [{name: quiet, time_intervals: [{times: [{start_time: "12:03", end_time: "12:08"}]}]}]
""")
PATIENCE = dt.timedelta(minutes=5)
Labels = frozenset[tuple[str, str]]


@dataclass
class Fired:
    starts: dt.datetime
    expires: dt.datetime | None
    ends: dt.datetime | None = None


@dataclass
class Circle:
    route: Any
    opened: dt.datetime
    due: dt.datetime
    members: set[Labels] = field(default_factory=set)
    told: dict[Labels, dt.datetime] = field(default_factory=dict)
    told_at: dt.datetime | None = None


class Model:
    """Alertmanager in sixty lines: no store, no index; sources say no start, so each arrival is new or a repetition."""

    def __init__(self, routing: Routing) -> None:
        self.routing = routing
        self.alerts: dict[Labels, Fired] = {}
        self.circles: dict[tuple[str, Labels], Circle] = {}

    def fires(self, one: Labels, now: dt.datetime) -> bool:
        fired = self.alerts.get(one)
        return fired is not None and fired.ends is None and (fired.expires is None or now < fired.expires)

    def take(self, labels: Labels, now: dt.datetime, *, over: bool, lasts: bool) -> None:
        if over:
            if self.fires(labels, now):
                self.alerts[labels].ends = now
            return
        expires = None if lasts else now + PATIENCE
        if self.fires(labels, now):
            self.alerts[labels].expires = expires
        else:
            self.alerts[labels] = Fired(now, expires)

    def group(self, labels: Labels, now: dt.datetime) -> None:
        """What began and ended in one message belongs to no group."""
        for route in self.leaves(self.routing.root, dict(labels)) if self.fires(labels, now) else ():
            names = {name for name, _ in labels} if route.group_by is None else set(route.group_by)
            key = (route.id, frozenset((name, value) for name, value in labels if name in names))
            circle = self.circles.setdefault(key, Circle(route, now, now + route.group_wait))
            circle.members.add(labels)

    def leaves(self, route: Any, labels: dict[str, str]) -> list[Any]:
        found: list[Any] = []
        for child in route.routes:
            if not all(matcher.matches(labels) for matcher in child.matchers):
                continue
            found += self.leaves(child, labels)
            if not child.goes_on:
                break
        return found or [route]

    def muted(self, target: Labels, route: Any, now: dt.datetime) -> bool:
        if route.muted and 3 <= (now - at(0)).total_seconds() // 60 < 8:
            return True
        return any(
            self.side(rule.target, target)
            and any(
                self.fires(source, now)
                and self.side(rule.source, source)
                and not (self.side(rule.source, target) and self.side(rule.target, source))
                and all(dict(source).get(name, "") == dict(target).get(name, "") for name in rule.equal)
                for source in self.alerts
            )
            for rule in self.routing.inhibit
        )

    @staticmethod
    def side(matchers: tuple[Matcher, ...], labels: Labels) -> bool:
        return all(matcher.matches(dict(labels)) for matcher in matchers)

    def tick(self, now: dt.datetime) -> list[Any]:
        said = []
        for key, circle in sorted(self.circles.items(), key=lambda item: item[1].due):
            if circle.due > now:
                continue
            firing = {one for one in circle.members if self.fires(one, now)}
            heard = {one for one in firing if not self.muted(one, circle.route, now)}
            over = {one for one in circle.members - firing if one in circle.told}
            new = {one for one in heard if circle.told.get(one) != self.alerts[one].starts}
            again = heard and circle.told_at and now - circle.told_at >= circle.route.repeat_interval
            if new or over or again:
                said.append((circle.route.receiver, frozenset(heard), frozenset(over)))
                circle.told_at = now
            circle.members = firing
            circle.told = {one: when for one, when in circle.told.items() if one in firing}
            circle.told |= {one: self.alerts[one].starts for one in heard}
            circle.due = now + circle.route.group_interval
            if not firing:
                del self.circles[key]
        return said


def as_labels(labels: dict[str, str]) -> Labels:
    return frozenset(labels.items())


def posts(office: Office, seconds: float) -> list[Any]:
    found = []
    for post in office.posted(seconds):
        by_status: dict[str, set[Labels]] = {"firing": set(), "resolved": set()}
        for alert in post["alerts"]:
            by_status[alert["status"]].add(as_labels(alert["labels"]))
        found.append((post["receiver"], frozenset(by_status["firing"]), frozenset(by_status["resolved"])))
    return found


def order(said: list[Any]) -> list[Any]:
    return sorted(said, key=lambda one: (one[0], sorted(map(sorted, one[1])), sorted(map(sorted, one[2]))))


LABELS = st.builds(
    lambda name, severity, service: {
        "alertname": name,
        "severity": severity,
        **({"service": service} if service else {}),
    },
    st.sampled_from(["Down", "Slow"]),
    st.sampled_from(["critical", "warning", "info"]),
    st.sampled_from(["a", "b", "c", ""]),
)
SAYING = st.tuples(LABELS, st.booleans(), st.booleans())
STEPS = st.lists(
    st.tuples(st.sampled_from([1, 9, 10, 30, 31, 60, 120, 299, 300, 600]), st.lists(SAYING, max_size=6)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_desk_says_what_the_model_says(steps: list[tuple[int, list[tuple[dict[str, str], bool, bool]]]]) -> None:
    office, model, seconds = Office(ROUTING), Model(ROUTING), 0
    for wait, sayings in steps:
        seconds += wait
        these: list[Said] = []
        for labels, over, lasts in sayings:
            model.take(as_labels(labels), at(seconds), over=over, lasts=lasts)
            rest = {name: value for name, value in labels.items() if name != "alertname"}
            these.append(said(labels["alertname"], over=over, lasts=lasts, **rest))
        for labels, _, _ in sayings:
            model.group(as_labels(labels), at(seconds))
        office.take(seconds, *these)
        office.tick(seconds)
        assert order(posts(office, seconds)) == order(model.tick(at(seconds)))
    firing = {one for one in model.alerts if model.fires(one, at(seconds))}
    kept = [alert for alert in office.desk.every(Alert) if alert.firing(at(seconds))]
    assert {as_labels(alert.labels) for alert in kept} == firing
