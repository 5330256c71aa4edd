"""Silences: made with a reason, heard to end by their author, and gone."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from alerts_world import Office, at, platform, routing_of, said
from msgspec.structs import replace

from nvcops.alerts import silences
from nvcops.core.alerts import Matcher, Silence
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.oncall import Message

HOOK = """
route: {receiver: hook, group_wait: 0s, group_interval: 1m, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: "http://127.0.0.1:1/"}]}]
"""


def silence(office: Office, **other: Any) -> Silence:
    given = {"matchers": 'alertname="Down"', "ends": at(7200), "author": "dana", "reason": "a new disk", "at": at(0)}
    return silences.silence(office.desk, manifest=office.manifest, **{**given, **other})


def firing(office: Office, seconds: float) -> list[str]:
    return [
        a["labels"]["alertname"] for post in office.posted(seconds) for a in post["alerts"] if a["status"] == "firing"
    ]


def test_what_is_silenced_is_not_told_until_the_silence_ends() -> None:
    office = Office(routing_of(HOOK))
    made = silence(office, ends=at(90))
    office.take(0, said(), said("Slow"))
    office.tick(0)
    assert firing(office, 0) == ["Slow"]
    office.tick(60)
    assert firing(office, 60) == []
    office.tick(120)
    assert sorted(firing(office, 120)) == ["Down", "Slow"]
    assert office.desk.notes[0].body == {
        "matchers": ['alertname="Down"'],
        "reason": "a new disk",
        "until": "2026-11-23T12:01:30.000000Z",
    }
    assert made.author == office.desk.notes[0].actor


def test_the_end_of_what_was_told_is_told_though_it_is_silenced() -> None:
    office = Office(routing_of(HOOK))
    office.take(0, said())
    office.tick(0)
    silence(office, at=at(1))
    office.take(2, said(over=True))
    office.tick(60)
    assert [post["status"] for post in office.posted(60)] == ["resolved"]


def test_its_author_is_told_once_before_it_ends() -> None:
    office = Office(routing_of(HOOK))
    silence(office)
    assert office.tick(0) == at(5400)
    office.tick(5399)
    assert not office.desk.every(Message)
    office.tick(5400)
    office.tick(5401)
    (message,) = office.desk.every(Message)
    assert (message.to, message.purpose) == ("dana", "expiry")
    assert 'your silence ends at 14:00 UTC: {alertname="Down"}' in message.subject


def test_one_that_was_expired_mutes_no_more_and_is_forgotten_after_a_while() -> None:
    office = Office(routing_of(HOOK))
    made = silence(office)
    silences.expire(office.desk, made.id, manifest=office.manifest, person="dana", at=at(10))
    office.take(20, said())
    office.tick(20)
    assert firing(office, 20) == ["Down"]
    with pytest.raises(NotFoundError, match="no silence"):
        silences.expire(office.desk, made.id, manifest=office.manifest, person="dana", at=at(30))
    assert [note.kind for note in office.desk.notes] == ["silence.made", "silence.expired"]
    office.tick(10 + silences.KEPT.total_seconds())
    assert office.desk.count(Silence) == 1
    office.tick(11 + silences.KEPT.total_seconds())
    assert office.desk.count(Silence) == 0


def test_one_that_has_not_begun_never_does_when_it_is_expired() -> None:
    office = Office()
    made = silence(office, starts=at(3600))
    ended = silences.expire(office.desk, made.id, manifest=office.manifest, person="dana", at=at(60))
    assert not any(ended.mutes({"alertname": "Down"}, at(seconds)) for seconds in (0, 60, 61, 3600, 7000))
    assert silences.silences(office.desk, at(60)) == []


def test_the_same_said_twice_is_one() -> None:
    office = Office()
    assert silence(office) == silence(office)
    assert silences.silences(office.desk, at(0)) == office.desk.every(Silence)
    assert len(office.desk.notes) == 1


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ({"matchers": ""}, "silence everything"),
        ({"matchers": 'a=~".*"'}, "silence everything"),
        ({"matchers": 'a!="b"'}, "silence everything"),
        ({"matchers": 'a=~"("'}, "no regular expression"),
        ({"matchers": ", ".join(f"a{n}=b" for n in range(33))}, "33 matchers are more than 32"),
        ({"ends": at(0)}, "ends before it begins"),
        ({"starts": at(8000)}, "ends before it begins"),
        ({"ends": at(0) + dt.timedelta(days=31)}, "lasts 31 days"),
        ({"reason": "  "}, "has a reason"),
        ({"author": "mallory"}, "'mallory' is nobody of the roster"),
    ],
)
def test_what_cannot_be_silenced_is_refused(other: dict[str, Any], error: str) -> None:
    office = Office()
    with pytest.raises((UsageError, NotFoundError), match=error):
        silence(office, **other)
    assert not office.desk.every(Silence)


def test_there_are_not_more_than_anybody_can_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silences, "SILENCES_MAX", 2)
    office = Office(manifest=platform())
    silence(office, reason="one")
    silence(office, reason="two", ends=at(60))
    with pytest.raises(UsageError, match="there are 2 silences already"):
        silence(office, reason="three")
    silence(office, reason="three", at=at(61))


def test_a_pattern_that_nobody_can_read_is_refused_wherever_it_stands() -> None:
    office = Office()
    with pytest.raises(UsageError, match="no regular expression"):
        silence(office, matchers=[Matcher("alertname", "=", "Down"), Matcher("service", "=~", "(")])


def test_one_of_an_older_release_that_nobody_can_read_mutes_nothing_and_stops_nothing() -> None:
    office = Office(routing_of(HOOK))
    made = silence(office)
    office.desk.put(replace(made, matchers=(*made.matchers, Matcher("service", "!~", "(?=bank)"))))
    office.take(0, said())
    office.tick(0)
    assert firing(office, 0) == ["Down"]
