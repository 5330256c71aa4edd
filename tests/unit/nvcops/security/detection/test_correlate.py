"""Correlations remember little; counting everything again gives the same answer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.core.detections import Evidence, Level, Value
from nvcops.security.detection.correlate import Correlator
from nvcops.security.detection.rules import Correlation, Head, Place

SPAN = 10_000
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
Seen = tuple[int, str, str, str]  # when, which rule, whose, which value
STEPS = st.tuples(st.integers(0, 6_000), st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from("123"))

KINDS = [("event_count", "ab", 3), ("value_count", "ab", 2), ("temporal", "abc", 1), ("temporal_ordered", "abc", 1)]


def asked(kind: str, rules: str = "ab", least: int = 1) -> Correlation:
    head = Head(
        name="c", title="c", level=Level.HIGH, techniques=(), tactics=(), false_positives=(), place=Place("", 1)
    )
    return Correlation(
        head=head,
        kind=kind,
        rules=tuple(rules),
        group_by=("user.name",),
        span_ms=SPAN,
        least=least,
        field="file.path",
        aliases={},
    )


def again(correlation: Correlation, events: Sequence[Seen]) -> bool:
    """Whether the last event completes it, from all that happened."""
    now, rule, who, _ = events[-1]
    window = [(t, r, v) for t, r, w, v in events if w == who and r in correlation.rules and t > now - SPAN]
    if rule not in correlation.rules:
        return False
    if correlation.kind == "event_count":
        return len(window) >= correlation.least
    if correlation.kind == "value_count":
        return len({value for _, _, value in window}) >= correlation.least
    if correlation.kind == "temporal":
        return {r for _, r, _ in window} == set(correlation.rules)
    if rule != correlation.rules[-1]:
        return False
    ways = [[at for at, (_, r, _) in enumerate(window) if r == wanted] for wanted in correlation.rules]
    ways[-1] = [len(window) - 1]
    return any(all(a < b for a, b in pairwise(way)) for way in product(*ways))


@settings(max_examples=200, deadline=None, database=None)
@given(
    st.sampled_from(KINDS),
    st.lists(STEPS, max_size=25),
)  # fmt: skip
def test_little_memory_gives_the_full_answer(
    kind: tuple[str, str, int], steps: list[tuple[int, str, str, str]]
) -> None:
    correlation, correlator = asked(*kind), Correlator(asked(*kind))
    now, events = 0, []
    for wait, rule, who, value in steps:
        now += wait
        events.append((now, rule, who, value))
        fields: dict[str, Value] = {"user.name": who, "file.path": value}
        told = correlator.see([rule] if rule in correlation.rules else [], now, fields, line(now))
        assert (told is not None) == again(correlation, events)


def line(now: int) -> Evidence:
    return Evidence(EPOCH + dt.timedelta(milliseconds=now), "s", f"line {now}", "")


def test_what_goes_on_adds_only_what_is_new() -> None:
    correlator = Correlator(asked("event_count", least=3))
    told = [correlator.see(["a"], now, {"user.name": "x"}, line(now)) for now in range(0, 5_000, 1_000)]
    assert [None if each is None else len(each) for each in told] == [None, None, 3, 1, 1]


def test_an_event_without_the_group_is_left_out() -> None:
    assert Correlator(asked("event_count")).see(["a"], 0, {}, line(0)) is None


@pytest.mark.parametrize("kind", ["event_count", "value_count", "temporal", "temporal_ordered"])
def test_groups_are_bounded_and_what_was_forgotten_is_counted(kind: str) -> None:
    correlator = Correlator(asked(kind, least=2), groups_max=100)
    for number in range(1_000):
        correlator.see(["a"], number, {"user.name": f"u{number}", "file.path": "p"}, line(number))
    assert len(correlator._groups) == 100
    assert correlator.forgotten == 900


def test_one_event_that_fulfils_two_rules_is_no_order_of_two() -> None:
    correlator = Correlator(asked("temporal_ordered"))
    assert correlator.see(["a", "b"], 0, {"user.name": "x"}, line(0)) is None
    assert correlator.see(["b"], 1, {"user.name": "x"}, line(1)) is not None


def test_an_alias_names_the_field_of_one_rule() -> None:
    correlation = asked("temporal")
    aliased = Correlation(
        head=correlation.head,
        kind="temporal",
        rules=("a", "b"),
        group_by=("who",),
        span_ms=SPAN,
        least=1,
        field="",
        aliases={("who", "a"): "user.name", ("who", "b"): "actor.user.name"},
    )
    correlator = Correlator(aliased)
    assert correlator.see(["a"], 0, {"user.name": "x"}, line(0)) is None
    assert correlator.see(["b"], 1, {"actor.user.name": "x", "user.name": "y"}, line(1)) is not None
