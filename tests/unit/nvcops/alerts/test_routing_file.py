"""Alertmanager's file is read as it is, and its mistakes with their line."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alerts_world import NOON, platform, routing_of
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.alerts.routing import Receiver, Routing, Webhook, default_routing
from nvcops.alerts.routing_file import read_routing
from nvcops.alerts.routing_file import routing_of as of_platform
from nvcops.core.errors import ManifestError

MISTAKES = json.loads((Path(__file__).parent / "routing_mistakes.json").read_text(encoding="utf-8"))
FILE = """
# As an operator has it today.
global:
  resolve_timeout: 3m
  smtp_smarthost: "localhost:25"
templates: ["/etc/alertmanager/*.tmpl"]
route:
  receiver: oncall
  group_by: [alertname, cluster]
  group_wait: 20s
  repeat_interval: 3h
  routes:
    - matchers: ['service=~"foo1|foo2|baz"', "{team!=\\"none\\"}"]
      receiver: hook
      continue: true
      active_time_intervals: [office]
      routes:
        - match: {severity: critical}
          receiver: database
          group_by: ["..."]
          group_wait: 0s
    - match_re: {service: ^(foo1|x)$}
      group_by: []
      mute_time_intervals: [nights, weekends]
    - matchers: [alertname = Watchdog]
      receiver: "null"
receivers:
  - name: oncall
  - name: database
    webhook_configs: [{url_file: hook-url, send_resolved: false, max_alerts: 10}]
  - name: hook
    webhook_configs:
      - {url: "https://chat.example.com/hook", http_config: {follow_redirects: true}, timeout: 5s}
  - name: "null"
inhibit_rules:
  - source_match: {severity: critical}
    target_match_re: {severity: warning|info}
    equal: [alertname, cluster]
mute_time_intervals:
  - name: nights
    time_intervals: [{times: [{start_time: "22:00", end_time: "24:00"}], location: Europe/Berlin}]
time_intervals:
  - name: weekends
    time_intervals: [{weekdays: ["saturday:sunday"]}]
  - name: office
    time_intervals: [{weekdays: ["monday:friday"], times: [{start_time: "08:00", end_time: "18:00"}]}]
"""


@pytest.fixture
def routing() -> Routing:
    return routing_of(FILE)


def receivers(routing: Routing, **labels: str) -> list[str]:
    return [route.receiver for route in routing.root.leaves(labels)]


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case["error"][:60])
def test_a_mistake_is_told_with_its_line(case: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match=case["error"]):
        routing_of("\n".join(case["text"]))


def test_who_gets_what(routing: Routing) -> None:
    assert receivers(routing) == ["oncall"]
    assert receivers(routing, service="baz") == ["hook"]
    assert receivers(routing, service="foo1") == ["hook", "oncall"]
    assert receivers(routing, service="foo1", severity="critical") == ["database", "oncall"]
    assert receivers(routing, service="foo1", team="none") == ["oncall"]
    assert receivers(routing, alertname="Watchdog") == ["null"]


def test_what_a_route_inherits(routing: Routing) -> None:
    hook, plain, null = routing.root.routes
    (critical,) = hook.routes
    assert (hook.group_by, hook.group_wait, hook.repeat_interval) == (
        ("alertname", "cluster"),
        dt.timedelta(seconds=20),
        dt.timedelta(hours=3),
    )
    assert (critical.group_by, critical.group_wait, critical.active) == (None, dt.timedelta(0), ())
    assert (plain.group_by, null.group_by) == ((), ("alertname", "cluster"))
    assert critical.id == '{}/{service=~"foo1|foo2|baz",team!="none"}/{severity="critical"}'


def test_who_is_behind_a_receiver(routing: Routing) -> None:
    assert routing.receivers["oncall"] == Receiver(name="oncall", opens=True, policy="oncall")
    assert routing.receivers["hook"].webhooks == (Webhook(url="https://chat.example.com/hook"),)
    assert routing.receivers["database"] == Receiver(
        name="database",
        opens=True,
        policy="database",
        webhooks=(Webhook(url_file=Path("hook-url"), send_resolved=False, alerts_max=10),),
    )
    assert routing.resolve_after == dt.timedelta(minutes=3)
    assert [warning.partition(": ")[0] for warning in routing.warnings] == ["alertmanager.yml:6", "alertmanager.yml:34"]


def test_when_nobody_is_told(routing: Routing) -> None:
    hook, plain, _ = routing.root.routes
    sunday, night = NOON - dt.timedelta(days=1), NOON.replace(hour=21, minute=30)
    assert [routing.mutes(hook, moment) for moment in (NOON, sunday, night)] == [False, True, True]
    assert [routing.mutes(plain, moment) for moment in (NOON, sunday, night)] == [False, True, True]
    assert not any(routing.mutes(routing.root, moment) for moment in (NOON, sunday, night))


def test_routes_alike_are_told_apart() -> None:
    routing = routing_of("""
route: {receiver: a, routes: [{match: {b: c}, continue: true}, {match: {b: c}}, {match: {b: d e}}]}
receivers: [{name: a}]
""")
    keys = [route.id for route in routing.root.routes]
    assert len(set(keys)) == 3
    assert all(key.isascii() and " " not in key for key in keys)


def test_merge_keys_and_anchors_are_understood() -> None:
    routing = routing_of("""
route:
  receiver: a
  routes:
    - &critical {match: {severity: critical}, group_wait: 1s}
    - {<<: *critical, match: {severity: page}}
receivers: [{name: a}]
""")
    assert [route.group_wait.seconds for route in routing.root.routes] == [1, 1]
    assert [str(route.matchers[0]) for route in routing.root.routes] == ['severity="critical"', 'severity="page"']


def test_without_a_file_the_first_policy_is_asked_of_what_is_critical_at_once() -> None:
    routing = of_platform(platform(), None)
    assert routing == default_routing(platform())
    for labels, wait in (
        ({"severity": "Page"}, 0),
        ({"category": "critical"}, 0),
        ({"priority": "P1"}, 0),
        ({"severity": "warning"}, 30),
        ({}, 30),
    ):
        (route,) = routing.root.leaves(labels)
        assert (route.receiver, route.group_by, route.group_wait.seconds) == ("oncall", ("alertname", "service"), wait)


def test_the_file_that_the_manifest_names_is_read_with_its_policies(tmp_path: Path) -> None:
    manifest = platform(routing=tmp_path / "alertmanager.yml")
    text = "route: {receiver: oncall}\nreceivers: [{name: oncall}]"
    assert of_platform(manifest, text).receivers["oncall"].policy == "oncall"
    with pytest.raises(ManifestError, match=f"{tmp_path}/alertmanager.yml:1: "):
        of_platform(manifest, "route: {receiver: x}\nreceivers: [{name: oncall}]")


def test_a_webhook_that_leads_back_to_us_is_a_mistake() -> None:
    manifest = platform(routing=Path("alertmanager.yml"))
    webhook = f"webhook_configs:\n  - url: http://u:p@{manifest.alerts.listen}/v1/alerts"
    text = f"route: {{receiver: a}}\nreceivers:\n- name: a\n  {webhook}"
    with pytest.raises(ManifestError, match=r"alertmanager\.yml:5: the webhook leads back to nvcops itself"):
        of_platform(manifest, text)
    assert of_platform(manifest, text.replace(":9780", ":9781")).receivers["a"].webhooks


@settings(deadline=None)
@given(st.data())
def test_whatever_is_changed_in_a_file_it_is_read_or_its_line_is_told(data: st.DataObject) -> None:
    lines = FILE.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.integers(0, len(lines) - 1))
        junk = st.sampled_from(
            ["", "- x", "  a: [", "*r", "? {a: b}", "receiver: [a]", "null", "http://[", "'", "9", "\t"]
        )
        cut = data.draw(st.integers(0, len(lines[number])))
        lines[number] = lines[number][:cut] + data.draw(junk | st.text(max_size=5))
    try:
        assert routing_of("\n".join(lines)).receivers
    except ManifestError as error:
        assert error.sentence.startswith("alertmanager.yml")  # noqa: PT017 - it may as well be read


def test_too_much_is_refused() -> None:
    route = "{match: {a: b}}"
    with pytest.raises(ManifestError, match="more than 1,000 routes"):
        routing_of(f"route: {{receiver: a, routes: [{', '.join([route] * 1_000)}]}}\nreceivers: [{{name: a}}]")
    with pytest.raises(ManifestError, match="characters are more than"):
        read_routing("#" * (1 << 21), Path("a.yml"))
    with pytest.raises(ManifestError, match=r"not YAML|too much"):
        read_routing("[" * 10_000, Path("a.yml"))


def test_it_survives_json(routing: Routing) -> None:
    assert msgspec.json.decode(msgspec.json.encode(routing.root), type=type(routing.root)) == routing.root
