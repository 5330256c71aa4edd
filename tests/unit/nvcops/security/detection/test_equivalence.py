"""The fast matcher, the plain answer and SQL say the same, whatever the rule, the line and the order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detection_cases import NOON, PARSERS, UTC, WRITERS, cases
from nvcops.adapters.lookback import Lookback
from nvcops.core.detections import RAW, UNMAPPED, Event, Level
from nvcops.core.errors import StateError
from nvcops.security.detection.conditions import (
    Absent,
    All,
    Cidr,
    Compare,
    Condition,
    Equal,
    Match,
    Not,
    Present,
    Regex,
    SameAs,
    Some,
    Text,
    Wild,
    folded,
    holds,
)
from nvcops.security.detection.matcher import Matcher
from nvcops.security.detection.pack import own_pack
from nvcops.security.detection.parsers.lines import Parser
from nvcops.security.detection.parsers.postgres import PostgresParser
from nvcops.security.detection.parsers.service import ServiceParser
from nvcops.security.detection.rules import Head, Place, Rule
from nvcops.security.detection.sql import FUNCTIONS, where
from nvcops.security.detection.witness import needle, searched

LETTERS = "aAbB.*?[]%_\\'\"ÄäKkſ –\n\x00"
WORDS = st.text(LETTERS, max_size=5) | st.sampled_from(["GRANT", "grant all", "Failed", "10.1.2.3", "::1", "7", "42"])
NAMES = ["message", "user.name", "status_detail", "src_endpoint.ip", "unmapped.why", RAW, "status"]
NUMBERS = ["http_response.code", "src_endpoint.port", "duration"]
SMALL = st.integers(-3, 50)


@st.composite
def texts(draw: st.DrawFn) -> Text:
    cased = draw(st.booleans())
    pieces: list[str | Wild] = []
    for piece in draw(st.lists(st.one_of(WORDS, st.sampled_from(list(Wild))), max_size=4)):
        if isinstance(piece, str):
            letters = piece.replace("\x00", "␀")
            letters = letters if cased else folded(letters)
            if letters and not (pieces and isinstance(pieces[-1], str)):
                pieces.append(letters)
        else:
            pieces.append(piece)
    return Text(tuple(pieces), cased)


OTHERS = [Absent(), Present(), Regex("[ab]+.", "i"), Regex("^a", "m")]
HOW = st.sampled_from(["equal", "start", "end"])
MATCHES = st.one_of(
    st.builds(Match, st.sampled_from(NAMES), texts()),
    st.builds(Match, st.sampled_from(NAMES), st.sampled_from(OTHERS)),
    st.builds(Match, st.sampled_from(NUMBERS), st.builds(Equal, SMALL)),
    st.builds(Match, st.sampled_from(NUMBERS), st.builds(Compare, st.sampled_from(["<", "<=", ">", ">="]), SMALL)),
    st.builds(Match, st.just("src_endpoint.ip"), st.builds(Cidr, st.sampled_from(["10.0.0.0/8", "::/0"]))),
    st.builds(Match, st.sampled_from(NAMES), st.builds(SameAs, st.sampled_from(NAMES), HOW)),
    st.builds(Match, st.just("http_response.code"), st.builds(Text, st.tuples(st.sampled_from(["7", "42"])))),
)  # fmt: skip
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    MATCHES,
    lambda inner: st.one_of(
        st.builds(All, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Some, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)
LINES = st.fixed_dictionaries(
    {},
    optional={
        "event": WORDS,
        "customer": WORDS,
        "why": WORDS | SMALL | st.floats(allow_nan=False, allow_infinity=False) | st.lists(SMALL, max_size=2),
        "message": WORDS,
        "status": SMALL | WORDS,
        "seconds": SMALL,
        "address": WORDS,
        "port": SMALL,
    },
)


def rule(condition: Condition, name: str = "r") -> Rule:
    head = Head(
        name=name, title=name, level=Level.LOW, techniques=(), tactics=(), false_positives=(), place=Place("", 1)
    )
    return Rule(head=head, product="", service="", condition=condition)


def check(rules: Sequence[Rule], lines: Sequence[bytes], events: Sequence[Event]) -> int:
    """Ask all three; how often something was found."""
    matcher, found = Matcher(rules, lines[:2]), 0
    quick = [{each.head.name for each in matcher.match(event, line)} for event, line in zip(events, lines, strict=True)]
    with Lookback(None, FUNCTIONS) as store:
        store.add(
            Event(time=at, source="s", route=e.route, fields=e.fields, verbatim=e.verbatim)
            for at, e in enumerate(events)
        )
        for each in rules:
            plain = [at for at, e in enumerate(events) if of_route(each, e) and holds(each.condition, e)]
            sql = [event.time for event in store.find(where(each), 0, len(events))]
            assert [at for at, names in enumerate(quick) if each.head.name in names] == plain == sql, each
            assert store.count(where(each), 0, len(events)) == len(plain)
            found += len(plain)
    return found


def of_route(asked: Rule, event: Event) -> bool:
    return asked.product in ("", event.route[0]) and asked.service in ("", event.route[1])


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(CONDITIONS, min_size=1, max_size=4), st.lists(LINES, min_size=1, max_size=6), st.booleans())
def test_three_ways_give_one_answer(conditions: list[Condition], told: list[dict[str, object]], escaped: bool) -> None:
    lines = [json.dumps({"time": "2026-07-01T12:00:00Z", **line}, ensure_ascii=escaped).encode() for line in told]
    parser = ServiceParser("s")
    check([rule(each, f"r{at}") for at, each in enumerate(conditions)], lines, [parser.parse(line) for line in lines])


def stories() -> Iterator[tuple[Parser, bytes]]:
    for case in cases():
        parser = PARSERS[case.file]()
        yield from ((parser, line) for line in case.lines())


def test_three_ways_give_one_answer_for_our_own_rules() -> None:
    pairs = list(stories())
    assert check(own_pack().rules, [line for _, line in pairs], [parser.parse(line) for parser, line in pairs]) > 500


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["message", "user", "application_name", "detail"]), st.text(LETTERS + "xyz1", max_size=20))
def test_what_is_verbatim_stands_in_the_line(name: str, value: str) -> None:
    told = json.loads(WRITERS["postgresql"](NOON, "connection received", 0)) | {name: value}
    for line in (json.dumps(told).encode(), json.dumps(told, ensure_ascii=False).encode()):
        event = PostgresParser("db", UTC).parse(line)
        if event.verbatim:
            texts_of = [v for k, v in event.fields.items() if isinstance(v, str) and not k.startswith(UNMAPPED)]
            texts_of = [v for v in texts_of if v not in ("Success", "Failure", "Logon", "Logoff")]
            assert all(needle(v) in searched(line) for v in texts_of)


def test_looking_back_survives_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(StateError):
        Lookback(tmp_path / "no" / "file", {})
