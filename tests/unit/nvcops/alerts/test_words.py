"""Matchers and times as people write them, and notices as they read them."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from alerts_world import NOON, at
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.alerts import timing
from nvcops.alerts.matchers import parse_matchers
from nvcops.alerts.notices import body_of, of_one_incident, payload_of, summary_of, together
from nvcops.alerts.routing import Webhook
from nvcops.core.alerts import Alert, Category, Group, Matcher, Notice, category_of, fingerprint


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("a=b", ['a="b"']),
        ("{a=b}", ['a="b"']),
        (' { a = "b" , c!~"d.*" , } ', ['a="b"', 'c!~"d.*"']),
        ('a=""', ['a=""']),
        ("a=", ['a=""']),
        ("a=b c", ['a="b c"']),
        (r'a=~"x\.y"', [r'a=~"x\\.y"']),
        (r'a="x\\y\"z\n"', [r'a="x\\y\"z\n"']),
        ('"a b"="c"', ['a b="c"']),
        ("größe=1", ['größe="1"']),
        ("", []),
        ("{}", []),
    ],
)
def test_matchers_are_read(written: str, said: list[str]) -> None:
    assert [str(matcher) for matcher in parse_matchers(written)] == said


@pytest.mark.parametrize(
    ("written", "error"),
    [
        ("a", "no operator"),
        ("=b", "no label name"),
        ("{a=b", "a brace without its other one"),
        ("a=b}", "a brace without its other one"),
        ('a="b', "a quote that does not end"),
        ('a="b" c=d', "goes on with"),
        ("a=~(", "no regular expression"),
        (r'a=~"(x)\\1"', "no regular expression of RE2: invalid escape sequence"),
        ('a=~"(?:x{0,1000}){0,1000}"', "no regular expression of RE2"),
        (",a=b", "no label name"),
        ('a=~"' + "x" * 1001 + '"', "longer than"),
    ],
)
def test_what_is_no_matcher_is_refused_in_a_sentence(written: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse_matchers(written)


NAMES = st.text(st.characters(categories=["L", "Nd"], include_characters="_"), min_size=1, max_size=10)
VALUES = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" \n"), max_size=20)


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("[[:alpha:]]+", "bank", True),
        ("(?i:page)", "PAGE", True),
        ("bank", "bank-2", False),
        ("a.*", "a\nb", False),
        ("", "", True),
    ],
)
def test_a_regular_expression_means_what_it_means_in_alertmanager(pattern: str, value: str, matches: bool) -> None:
    assert Matcher("a", "=~", pattern).matches({"a": value}) is matches
    assert Matcher("a", "!~", pattern).matches({"a": value}) is not matches


def test_no_label_keeps_a_regular_expression_busy() -> None:
    """A program that backtracks needs more steps for it than there are atoms."""
    assert not Matcher("a", "=~", "((a+)+)+b").matches({"a": "a" * 4_000})


@settings(deadline=None)
@given(st.lists(st.builds(Matcher, NAMES, st.sampled_from(["=", "!="]), VALUES), max_size=5))
def test_what_is_written_is_read_back(matchers: list[Matcher]) -> None:
    assert parse_matchers("{" + ",".join(map(str, matchers)) + "}") == tuple(matchers)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_whatever_is_written_is_read_or_refused(written: str) -> None:
    try:
        found = parse_matchers(written)
    except ValueError:
        return
    assert all(matcher.name for matcher in found)


@pytest.mark.parametrize(
    ("interval", "moments"),
    [
        ({"weekdays": ((5, 6),)}, {"2026-11-21T12:00": True, "2026-11-23T00:00": False}),
        ({"days": ((-1, -1),)}, {"2026-02-28T12:00": True, "2024-02-28T12:00": False, "2024-02-29T12:00": True}),
        ({"days": ((30, 31),)}, {"2026-02-28T12:00": False, "2026-11-30T12:00": True}),
        ({"days": ((-31, -29),)}, {"2026-11-01T12:00": True, "2026-11-03T12:00": False, "2026-02-01T12:00": False}),
        ({"months": ((12, 12),), "years": ((2026, 2026),)}, {"2026-12-01T00:00": True, "2027-12-01T00:00": False}),
        ({"minutes": ((1320, 1440),)}, {"2026-11-23T21:59": False, "2026-11-23T22:00": True, "2026-11-23T23:59": True}),
        ({}, {"2026-11-23T12:00": True}),
    ],
)
def test_what_belongs_to_an_interval(interval: dict[str, timing.Span], moments: dict[str, bool]) -> None:
    held = msgspec.convert(interval, timing.TimeInterval)
    assert {moment: held.holds(dt.datetime.fromisoformat(f"{moment}+00:00")) for moment in moments} == moments


def test_an_interval_holds_by_the_wall_clock_of_its_zone_also_when_the_clocks_change() -> None:
    early = timing.TimeInterval(minutes=((60, 120),), zone="America/New_York")  # 01:00 to 02:00, twice on 1 November
    start = dt.datetime(2026, 11, 1, 4, tzinfo=dt.UTC)
    held = [minute for minute in range(300) if early.holds(start + dt.timedelta(minutes=minute))]
    assert held == list(range(60, 180))


def alert(name: str, ends: float | None = None, **labels: str) -> Alert:
    every = {"alertname": name, **labels}
    return Alert(
        fingerprint=fingerprint(every),
        labels=every,
        annotations={"summary": f"{name} is bad", "runbook": "system-status"},
        source="test",
        category=category_of(every),
        starts=NOON,
        noticed=NOON,
        updated=NOON,
        ends=None if ends is None else at(ends),
    )


def notice(firing: list[Alert], resolved: list[Alert], key: str = "{}") -> Notice:
    group = Group(key=key, route="{}", receiver="hook", labels={"service": "bank"}, opened=NOON, due=NOON)
    return Notice(group=group, receiver="hook", at=at(60), firing=tuple(firing), resolved=tuple(resolved))


def test_a_person_reads_the_gravest_first_and_not_more_than_a_screen() -> None:
    many = [alert("Slow", severity="warning", instance=str(number)) for number in range(30)]
    said = notice([*many, alert("Down", severity="critical", service="bank")], [alert("Late", ends=30)])
    assert said.category is Category.CRITICAL
    assert summary_of(said) == "Down is bad (and 30 more)"
    lines = body_of(said).splitlines()
    assert len(lines) == 22
    assert lines[0] == "[medium] Slow (0): Slow is bad; runbook: system-status"
    assert lines[20:] == ["and 11 more", "over: [high] Late: Late is bad; runbook: system-status"]


def test_a_webhook_gets_what_an_alertmanager_would_send() -> None:
    said = notice([alert("Down", service="bank", a="1")], [alert("Down", ends=30, service="bank", a="2")])
    post = msgspec.json.decode(payload_of(said, Webhook(), origin="here.example", address="http://127.0.0.1:9780"))
    assert {name: post[name] for name in ("version", "status", "receiver", "groupKey", "truncatedAlerts")} == {
        "version": "4",
        "status": "firing",
        "receiver": "hook",
        "groupKey": "{}",
        "truncatedAlerts": 0,
    }
    assert (post["groupLabels"], post["commonLabels"]) == (
        {"service": "bank"},
        {"alertname": "Down", "service": "bank"},
    )
    assert post["commonAnnotations"] == {"summary": "Down is bad", "runbook": "system-status"}
    assert [(one["status"], one["endsAt"]) for one in post["alerts"]] == [
        ("firing", "0001-01-01T00:00:00Z"),
        ("resolved", "2026-11-23T12:00:30.000000Z"),
    ]
    assert post["alerts"][0]["annotations"]["nvcops_origin"] == "here.example"


def test_a_webhook_that_wants_no_ends_gets_none_and_one_that_wants_few_gets_few() -> None:
    over = notice([], [alert("Down", ends=30)])
    assert payload_of(over, Webhook(send_resolved=False), origin="o", address="") == ""
    assert msgspec.json.decode(payload_of(over, Webhook(), origin="o", address=""))["status"] == "resolved"
    many = notice([alert("Down", a=str(number)) for number in range(5)], [])
    post = msgspec.json.decode(payload_of(many, Webhook(alerts_max=2), origin="o", address=""))
    assert (len(post["alerts"]), post["truncatedAlerts"]) == (2, 3)


def test_notices_of_one_service_are_one_thing_that_happened() -> None:
    slow = notice([alert("Slow", service="bank")], [], "1")
    down = notice([alert("Down", service="bank")], [alert("Late", 30)], "2")
    odd, strange = notice([alert("Odd")], [], "3"), notice([alert("Strange")], [], "4")
    both = notice([alert("A", service="a"), alert("B", service="b")], [], "5")
    again = notice([alert("Slow", service="bank")], [], "6")
    assert of_one_incident([slow, odd, again, both, strange]) == [[slow, again], [odd], [both], [strange]]
    assert of_one_incident([slow, down]) == [[slow], [down]], "one of its alerts names no service"
    whole = together([slow, down, again])
    assert ([a.name for a in whole.firing], [a.name for a in whole.resolved]) == (["Slow", "Down"], ["Late"])
