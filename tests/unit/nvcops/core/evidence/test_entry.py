"""Entries: canonical bytes, what is refused, secrets, commitments."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvcops.core.errors import EvidenceError, UsageError
from nvcops.core.evidence import Entry, Redactor, commitment, utc
from nvcops.core.evidence.entry import decode, encode, microseconds
from nvcops.core.evidence.verify_evidence import FIELDS, TIME

ENTRY = Entry(
    id="r1/3", time="2026-01-05T13:00:00Z", kind="step.finished", run="r1", body={"b": 1, "a": "ü", "c": 1e-7}
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def test_the_bytes_are_canonical() -> None:
    assert (
        encode(ENTRY)
        == (
            '{"actor":"","body":{"a":"ü","b":1,"c":1e-7},"id":"r1/3","kind":"step.finished","platform":"","procedure":"",'
            '"run":"r1","subject":"","time":"2026-01-05T13:00:00Z"}'
        ).encode()
    )
    assert set(json.loads(encode(ENTRY))) == FIELDS


@given(st.dictionaries(st.text(max_size=9), JSON, max_size=4))
def test_an_entry_is_read_back_and_written_alike(body: dict[str, Any]) -> None:
    try:
        data = encode(msgspec.structs.replace(ENTRY, body=body))
    except UsageError as error:
        assert "cannot be written as JSON" in error.sentence  # noqa: PT017 - the only reason there is
        return
    assert encode(decode(data)) == data
    assert b"\n" not in data


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"id": ""}, "an entry's id is ''"),
        ({"id": "with space"}, "an entry's id"),
        ({"id": "x" * 201}, "an entry's id"),
        ({"kind": "Run Started"}, "is of the kind 'Run Started'"),
        ({"time": "2026-01-05 13:00:00"}, "has the time"),
        ({"time": "2026-01-05T13:00:00+00:00"}, "has the time"),
        ({"time": "2026-02-30T13:00:00Z"}, "has the time"),
        ({"body": {"n": 2**53}}, "cannot be written as JSON"),
        ({"body": {"n": float("nan")}}, "cannot be written as JSON"),
        ({"body": {"n": "\ud800"}}, "cannot be written as JSON"),
        ({"body": {"n": {1, 2}}}, "cannot be written as JSON"),
        ({"body": {"text": "x" * 70_000}}, "bytes, more than 65,535"),
    ],
)
def test_a_malformed_entry_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        encode(msgspec.structs.replace(ENTRY, **change))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"id":"x"}', b"\xff", encode(ENTRY)[:-1], encode(ENTRY)[:-1] + b',"x":1}']
)
def test_what_is_no_entry_is_not_read(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="not an entry"):
        decode(data)


def test_times_are_utc_and_compare() -> None:
    east = dt.datetime(2026, 1, 5, 8, tzinfo=dt.timezone(dt.timedelta(hours=-5)))
    assert TIME.fullmatch(utc(east))
    assert microseconds(utc(east)) == int(east.timestamp() * 1_000_000)
    assert microseconds("2026-01-05T13:00:05Z") < microseconds("2026-01-05T13:00:05.5Z")
    with pytest.raises(UsageError, match="no time zone"):
        utc(dt.datetime(2026, 1, 5))  # noqa: DTZ001 - that is the mistake


SECRET = 'correct"horse/battery'


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"postgres://app:{SECRET}@db",
        "postgres://app:correct%22horse%2Fbattery@db",
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"Basic {SECRET}".encode()).decode()[8:],
    ],
)
def test_an_entry_with_a_secret_in_it_is_refused(text: str) -> None:
    entry = msgspec.structs.replace(ENTRY, body={"deep": [{"output": text}]})
    with pytest.raises(EvidenceError, match="holds a secret") as refused:
        Redactor([SECRET]).check(entry.id, encode(entry))
    assert SECRET not in str(refused.value) + refused.value.hint


def test_a_short_secret_is_found_as_a_whole_value_only() -> None:
    redactor = Redactor(["test", ""])
    redactor.check("e", b'{"output":"the latest test passed"}')
    with pytest.raises(EvidenceError):
        redactor.check("e", b'{"password":"test"}')


def test_a_commitment_hides_the_value_and_binds_to_it() -> None:
    salt, other = bytes(32), bytes([1]) * 32
    assert commitment("ann@bank.example", salt) == commitment("ann@bank.example", salt)
    assert (
        len({commitment("ann@bank.example", salt), commitment("ann@bank.example", other), commitment("x", salt)}) == 3
    )
