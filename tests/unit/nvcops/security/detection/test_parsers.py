"""Lines of every kind, and what is no line at all."""

from __future__ import annotations

import datetime as dt
import json
import random
import time
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection_cases import NOON, PARSERS, UTC, WRITERS
from nvcops.core.detections import FIELDS, RAW, UNMAPPED, Event, instant, milliseconds
from nvcops.security.detection.engine import Engine
from nvcops.security.detection.matcher import Matcher
from nvcops.security.detection.pack import own_pack
from nvcops.security.detection.parsers.haproxy import HaproxyParser
from nvcops.security.detection.parsers.lines import KEPT_BYTES, LINE_BYTES_MAX
from nvcops.security.detection.parsers.postgres import PostgresParser, csv_records
from nvcops.security.detection.parsers.syslog import SyslogParser

NEW_YEAR = dt.datetime(2027, 1, 1, 0, 5, tzinfo=dt.UTC)
GOOD = {
    "postgresql": WRITERS["postgresql"](NOON, "connection received", 0),
    "valkey": WRITERS["valkey"](NOON, {"log": "Ready"}, 0),
    "bank": WRITERS["bank"](NOON, {"event": "request"}, 0),
    "nvcops": WRITERS["nvcops"](NOON, {"kind": "refusal"}, 0),
    "web": WRITERS["web"](NOON, "GET / 200", 0),
    "linux": WRITERS["linux"](NOON, "sshd: Accepted publickey for dana from 10.0.0.1 port 5 ssh2", 0),
    "audit": WRITERS["audit"](NOON, 'EXECVE argc=1 a0="ls"', 0),
}
JUNK = {
    "empty": b"",
    "zeros": b"\x00" * 100,
    "binary": random.Random(1).randbytes(5_000),
    "a bare brace": b"{",
    "deep": b"[" * 100_000,
    "a number": b"1e999",
    "not UTF-8": "äöü".encode("latin-1"),
    "too long": b'{"time":"' + b"x" * (LINE_BYTES_MAX + 1),
    "the wrong kind": b'{"time": 5, "timestamp": {}, "message": [], "event": null}',
    "a time that is none": b'{"time": "2026-99-99T00:00:00Z", "event": "x"}',
}


def syslog(line: str, near: dt.datetime = NEW_YEAR, zone: str = "UTC") -> Event:
    return SyslogParser("host", ZoneInfo(zone), near).parse(line.encode())


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_line_is_read_at_its_time(kind: str) -> None:
    event = PARSERS[kind]().parse(GOOD[kind].encode() + b"\r\n")
    assert not event.trouble
    assert instant(event.time) == NOON
    assert event.fields[RAW] == GOOD[kind]


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("name", JUNK)
def test_junk_is_kept_and_counted_and_stops_nobody(kind: str, name: str) -> None:
    parser = PARSERS[kind]()
    before = parser.parse(GOOD[kind].encode())
    event = parser.parse(JUNK[name])
    assert event.trouble
    assert event.time == before.time
    assert len(str(event.fields[RAW])) <= KEPT_BYTES
    assert "\x00" not in str(event.fields[RAW])
    assert not parser.parse(GOOD[kind].encode()).trouble


def test_a_line_of_100_mb_costs_what_its_beginning_costs() -> None:
    line = b'{"time":"2026-07-01T12:00:00Z","event":"' + b"x" * 100_000_000 + b'"}'
    event = PARSERS["bank"]().parse(line)
    assert "or longer" in event.trouble
    assert len(str(event.fields[RAW])) == KEPT_BYTES


@pytest.mark.parametrize("kind", GOOD)
@settings(max_examples=60, deadline=None, database=None)
@given(data=st.data())
def test_whatever_is_done_to_a_line_it_is_an_event_of_the_schema(kind: str, data: st.DataObject) -> None:
    line = bytearray(GOOD[kind].encode())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(line)))
        line[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
    event = PARSERS[kind]().parse(bytes(line))
    for name, value in event.fields.items():
        assert isinstance(value, FIELDS.get(name, str))
        assert name in FIELDS or name.startswith(UNMAPPED)
        assert not isinstance(value, str) or "\x00" not in value
    Engine(own_pack(), MATCHER).see(event, bytes(line))


MATCHER = Matcher(own_pack().rules)


HOSTILE = {
    "web": [b"1.1.1.1:1 [01/Jul/2026:12:00:00.000] f b/s 0/0/0/0/0 200 1 - - ---- 1/1/1/1/1 0/0 " + b"{a} " * 200_000],
    "linux": [
        b"Jul  1 12:00:00 h useradd: " + b"add " * 250_000,
        b"Jul  1 12:00:00 h sshd: Failed password for " + b" from" * 200_000,
        b"Jul  1 12:00:00 h sudo: a : PWD=" + b" ; PWD=/" * 120_000,
        b"Jul  1 12:00:00 h sshd: error: PAM: " + b" for a" * 150_000,
    ],
    "audit": [
        b"type=EXECVE msg=audit(1.000:1): " + b"a" * 1_000_000,
        b"type=X msg=audit(1.000:1): " + b"a='b " * 200_000,
    ],
    "valkey": [b'1782907200.000000 [0 1.1.1.1:1] "' + b'\\"' * 500_000],
    "postgresql": [
        WRITERS["postgresql"](NOON, "statement: " + piece * (900_000 // len(piece)), 0).encode()
        for piece in ("$a$b", "$", "E'x", "/*", "--", "create role a ", "as $$x$$ ")
    ],
    "bank": [b'{"time":"2026-07-01T12:00:00Z","event":"' + b"a." * 500_000 + b'"}'],
    "nvcops": [b'{"id":"' + b"a" * 1_000_000 + b'"}'],
}


@pytest.mark.parametrize("kind", GOOD)
def test_a_line_that_wants_to_take_long_does_not(kind: str) -> None:
    began = time.process_time()
    for line in HOSTILE[kind]:
        assert len(line) < LINE_BYTES_MAX
        event = PARSERS[kind]().parse(line)
        Engine(own_pack(), MATCHER).see(event, line)
    assert time.process_time() - began < 60  # in quadratic time it would be hours


def test_the_31st_of_december_read_on_the_1st_of_january() -> None:
    parser = SyslogParser("host", UTC, NEW_YEAR)
    events = [parser.parse(f"{text} db-1 sshd[1]: x".encode()) for text in ("Dec 31 23:59:59", "Jan  1 00:00:01")]
    assert [instant(event.time).isoformat() for event in events] == [
        "2026-12-31T23:59:59+00:00",
        "2027-01-01T00:00:01+00:00",
    ]


@pytest.mark.parametrize(
    ("text", "near", "expected"),
    [
        ("Feb 29 12:00:00", dt.datetime(2027, 3, 1, tzinfo=dt.UTC), "2024-02-29T12:00:00+00:00"),
        ("Jan  2 00:00:00", dt.datetime(2026, 12, 31, 23, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
        ("Jan  1 00:00:30", dt.datetime(2026, 12, 31, 23, 59, tzinfo=dt.UTC), "2027-01-01T00:00:30+00:00"),
        ("Jul  1 12:00:60", dt.datetime(2026, 7, 2, tzinfo=dt.UTC), "2026-07-01T12:00:59+00:00"),
    ],
)
def test_a_year_that_is_not_written_is_found(text: str, near: dt.datetime, expected: str) -> None:
    assert instant(syslog(f"{text} h sshd[1]: x", near).time).isoformat() == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Jul  1 14:00:00 h sshd[1]: x", NOON),
        ("2026-07-01T14:00:00.5+02:00 h sshd[1]: x", NOON + dt.timedelta(seconds=0.5)),
        ("<34>1 2026-07-01T12:00:00Z h sshd[1]: x", NOON),
        ("<34>Jul  1 14:00:00 h sshd: x", NOON),
    ],
)
def test_a_zone_that_is_written_or_known(line: str, expected: dt.datetime) -> None:
    assert instant(syslog(line, NOON, "Europe/Berlin").time) == expected


def test_the_hour_that_exists_twice_goes_on() -> None:
    near = dt.datetime(2026, 10, 26, tzinfo=dt.UTC)
    parser = SyslogParser("host", ZoneInfo("Europe/Berlin"), near)
    clocks = ["02:10:00", "02:50:00", "02:10:00", "02:50:00", "03:10:00"]
    times = [parser.parse(f"Oct 25 {clock} h x: y".encode()).time for clock in clocks]
    assert [(b - a) // 60_000 for a, b in pairwise(times)] == [40, 20, 40, 20]


def csv_line(**columns: str) -> bytes:
    order = {"time": 0, "user": 1, "dbname": 2, "remote": 4, "severity": 11, "code": 12, "message": 13, "statement": 19}
    values = [""] * 26
    for name, value in columns.items():
        values[order[name]] = '"' + value.replace('"', '""') + '"'
    return ",".join(values).encode() + b"\n"


def test_csvlog_says_what_jsonlog_says() -> None:
    told = {
        "user": "eve",
        "dbname": "bank",
        "code": "28P01",
        "message": 'password authentication failed for user "eve"',
    }
    line = csv_line(time="2026-07-01 12:00:00.000 UTC", remote="192.0.2.9:50000", severity="FATAL", **told)
    parser = PostgresParser("db-1", UTC)
    csv, js = parser.parse(line), parser.parse(WRITERS["postgresql"](NOON, told, 0).encode())
    names = set(js.fields) - {RAW, "actor.process.pid"}
    assert {name: csv.fields.get(name) for name in names} == {name: js.fields[name] for name in names}
    assert csv.time == js.time == milliseconds(NOON)


def test_a_record_of_csv_over_several_lines_is_one_event() -> None:
    whole = csv_line(time="2026-07-01 12:00:00 UTC", message='statement: COPY t\nFROM PROGRAM\n"id"')
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 3
    (record,) = csv_records(lines)
    event = PostgresParser("db-1", UTC).parse(record)
    assert event.fields["query_info.data"] == "copy t from program id"


def test_a_quote_that_never_ends_does_not_eat_the_log() -> None:
    records = list(csv_records([b'a,"x\n', *[b"y" * 999 + b"\n"] * 2_000]))
    assert len(records) > 1
    assert max(map(len, records)) <= LINE_BYTES_MAX + 1_000


def test_a_quote_that_never_ends_costs_what_its_lines_cost() -> None:
    began = time.process_time()
    assert sum(map(len, csv_records([b'"\n', *[b"\n"] * 2_000_000]))) == 2_000_002
    assert time.process_time() - began < 60


def test_what_is_hidden_in_escapes_is_seen() -> None:
    line = GOOD["postgresql"].replace("connection received", "statement: \\u0063opy t from \\u0070rogram 'id'")
    event = PARSERS["postgresql"]().parse(line.encode())
    assert "postgresql-copy-program" in {d.rule for d in Engine(own_pack(), MATCHER).see(event, line.encode())}


def test_haproxys_own_notices_are_no_trouble() -> None:
    parser = HaproxyParser("proxy", UTC, NOON)
    event = parser.parse(b"[NOTICE]   (12) : New worker (14) forked")
    assert not event.trouble


def test_a_login_of_a_user_whose_name_lies_is_read_to_its_end() -> None:
    event = syslog(
        "Jul  1 12:00:00 h sshd[1]: Failed password for invalid user x from 1.1.1.1 from 192.0.2.1 port 5 ssh2", NOON
    )
    assert json.dumps(event.fields["user.name"]) == '"x from 1.1.1.1"'
    assert event.fields["src_endpoint.ip"] == "192.0.2.1"
