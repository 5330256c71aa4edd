"""Rules that cannot be used are refused with their place and a hint, and the others go on."""

from __future__ import annotations

import time

import pytest

from nvcops.core.detections import Event, Value
from nvcops.security.detection.conditions import holds, regex
from nvcops.security.detection.sigma import FILE_CHARACTERS_MAX, read

GOOD = """title: Good
name: good
logsource: {product: linux}
detection:
  s: {message|contains: x}
  condition: s
level: low
"""


def detection(body: str) -> str:
    return (
        f"title: T\nname: t\nlogsource: {{product: linux}}\ndetection:\n  s: {{{body}}}\n  condition: s\nlevel: low\n"
    )


def correlation(body: str) -> str:
    return f"title: C\nname: c\ncorrelation: {{timespan: 5m, {body}}}\nlevel: low\n"


BAD = {
    "no YAML": ("title: [", 2, "no YAML"),
    "a list": ("- a\n", 1, "no mapping"),
    "an alias": ("title: &a x\nname: *a\n", 1, "alias"),
    "an unknown modifier": (detection("message|sounds: x"), 4, "sounds"),
    "an unknown field": (detection("user: x"), 4, "'user'"),
    "a condition without a selection": (GOOD.replace("condition: s", "condition: q"), 4, ""),
    "no level": (GOOD.replace("level: low", ""), 1, "level"),
    "a wrong level": (GOOD.replace("level: low", "level: dreadful"), 7, "dreadful"),
    "a look-ahead": (detection("message|re: '(?=x)x'"), 4, "perl operator"),
    "a regex that grows": (detection("message|re: '((a{1,100}){1,100}){1,100}'"), 4, ""),
    "a number out of 64 bits": (detection(f"http_response.code|gt: {2**70}"), 4, "too large"),
    "a text compared": (detection("message|gt: 5"), 4, "message is a text"),
    "a network that is none": (detection("src_endpoint.ip|cidr: 300.0.0.0/8"), 4, ""),
    "an unknown category": (GOOD.replace("{product: linux}", "{category: toaster}"), 3, "toaster"),
    "a key that YAML takes for true": (GOOD.replace("  s:", "  on:"), 4, ""),
    "a placeholder": (detection("message|expand: '%x%'"), 4, "placeholder"),
    "a mean": (correlation("type: value_avg, condition: {gt: 5, field: duration}, rules: [good]"), 3, "value_avg"),
    "a count below": (correlation("type: event_count, condition: {lt: 5}, rules: [good]"), 3, "lt"),
    "nobody to listen to": (correlation("type: temporal, rules: [nobody]"), 1, "nobody"),
    "itself to listen to": (correlation("type: temporal, rules: [c]"), 1, "itself"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_rule_is_refused_and_the_good_one_stays(name: str) -> None:
    text, line, word = BAD[name]
    pack = read({"bad.yml": text, "good.yml": GOOD})
    assert [rule.head.name for rule in pack.rules] == ["good"]
    assert not pack.correlations
    (refusal,) = pack.refusals
    assert (refusal.place.file, refusal.place.line) == ("bad.yml", line)
    assert word in refusal.sentence
    assert refusal.hint
    assert "\n" not in str(refusal)


def test_a_bad_document_leaves_the_others_of_its_file() -> None:
    pack = read({"a.yml": GOOD + "---\ntitle: [\n---\n" + GOOD.replace("name: good", "name: other")})
    assert [rule.head.name for rule in pack.rules] == ["good", "other"]
    assert str(pack.refusals[0]).startswith("a.yml:1")


def test_a_name_stands_once() -> None:
    pack = read({"a.yml": GOOD, "b.yml": GOOD})
    assert [str(refusal) for refusal in pack.refusals] == [
        "b.yml:1: a.yml:1 has the name 'good' too (names are unique)"
    ]


def test_a_large_file_is_refused_unread() -> None:
    pack = read({"a.yml": GOOD + "#" * FILE_CHARACTERS_MAX, "b.yml": GOOD})
    assert len(pack.rules) == len(pack.refusals) == 1


def test_an_expression_that_explodes_elsewhere_ends_in_linear_time() -> None:
    evil = regex("(a+)+$")
    began = time.process_time()
    assert evil.search("a" * 50_000 + "b") is None
    assert time.process_time() - began < 5  # a backtracking engine would not end at all


MEANINGS: list[tuple[str, dict[str, Value], bool]] = [
    ("message|contains|all: [a, b]", {"message": "B and A"}, True),
    ("message|contains|all: [a, b]", {"message": "a"}, False),
    ("message|cased: Abc", {"message": "abc"}, False),
    (r"message: 'a\*b'", {"message": "a*b"}, True),
    (r"message: 'a\*b'", {"message": "axb"}, False),
    ("message: 'a?c*'", {"message": "ABC\nD"}, True),
    ("message|base64: 'foo'", {"message": "Zm9v"}, True),
    ("http_response.code: [200, 201]", {"http_response.code": 201}, True),
    ("http_response.code: '20*'", {"http_response.code": 201}, True),
    ("http_response.code|gte: 500", {"http_response.code": 499}, False),
    ("user.name: null", {}, True),
    ("user.name|exists: false", {"user.name": "x"}, False),
    ("src_endpoint.ip|cidr: 'fd00::/8'", {"src_endpoint.ip": "fd12::1"}, True),
    ("src_endpoint.ip|cidr: '10.0.0.0/8'", {"src_endpoint.ip": "::ffff:10.1.1.1"}, True),
    ("actor.user.name|fieldref: user.name", {"actor.user.name": "A", "user.name": "a"}, True),
    ("unmapped.x|startswith: ab", {"unmapped.x": "ABC"}, True),
    ("message|neq: x", {"message": "y"}, True),
    ("message: true", {"message": "true"}, True),
]


@pytest.mark.parametrize(("body", "fields", "expected"), MEANINGS)
def test_what_a_modifier_means(body: str, fields: dict[str, Value], expected: bool) -> None:
    pack = read({"r.yml": detection(body)})
    assert not pack.refusals
    event = Event(time=0, source="s", route=("linux", "x"), fields=fields)
    assert holds(pack.rules[0].condition, event) == expected
