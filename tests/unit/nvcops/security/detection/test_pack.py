"""Our own rules: each is told by its positive stories, keeps quiet at its negative ones, and says what it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from detection_cases import Case, cases
from nvcops.security.detection.engine import Engine
from nvcops.security.detection.matcher import Matcher, required_class
from nvcops.security.detection.pack import own_pack
from nvcops.security.detection.rules import Head, Pack

CASES = cases()
HEADS = [rule.head for rule in (*own_pack().rules, *own_pack().correlations)]


@pytest.fixture(scope="module")
def spoken() -> Pack:
    """The pack with every rule heard, those for correlations too."""
    pack = own_pack()
    return Pack(
        tuple(replace(rule, silent=False) for rule in pack.rules),
        tuple(replace(rule, silent=False) for rule in pack.correlations),
        (),
    )


@pytest.fixture(scope="module")
def matcher(spoken: Pack) -> Matcher:
    return Matcher(spoken.rules)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}-{'match' if case.matches else 'clean'}")
def test_a_rule_tells_its_stories_and_no_others(case: Case, spoken: Pack, matcher: Matcher) -> None:
    told = {detection.rule for detection in case.detections(Engine(spoken, matcher))}
    assert (case.rule in told) == case.matches


def test_no_rule_is_refused() -> None:
    assert [str(refusal) for refusal in own_pack().refusals] == []


def test_every_rule_has_stories_of_both_kinds() -> None:
    told = Counter((case.rule, case.matches) for case in CASES)
    assert {rule for rule, _ in told} == {head.name for head in HEADS}
    assert all(told[head.name, kind] for head in HEADS for kind in (True, False))
    assert len(HEADS) >= 80


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.name)
def test_a_rule_says_what_it_is(head: Head) -> None:
    assert head.techniques
    assert head.tactics
    assert head.false_positives


def test_no_rule_is_asked_at_every_line() -> None:
    pack = own_pack()
    witnesses = Matcher(pack.rules).witnesses
    asked = [rule.head.name for rule, found in zip(pack.rules, witnesses, strict=True) if found is None
             and required_class(rule.condition) is None]  # fmt: skip
    assert asked == []
