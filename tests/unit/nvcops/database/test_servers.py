"""Roles, followers and slots: both sides of each decision."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from nvcops.core.checks import Finding, Verdict
from nvcops.core.manifest import Limits
from nvcops.database.servers import Sender, ServerReading, ServerState, Slot, server_findings

NOW = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
WELL = ServerState(
    in_recovery=False,
    now=NOW,
    version="17.10",
    connections=20,
    connections_max=100,
    position=1_000,
    paused=False,
    receiver="",
    replayed_s=None,
)


def primary(**changes: Any) -> ServerReading:
    senders = changes.pop("senders", (Sender("db_2", "streaming", "async"),))
    slots = changes.pop("slots", (Slot("db_2", active=True, wal_status="reserved", kept_bytes=0),))
    state = msgspec.structs.replace(WELL, **changes)
    return ServerReading(name="db-1", standby=False, state=state, senders=senders, slots=slots)


def standby(**changes: Any) -> ServerReading:
    state = msgspec.structs.replace(WELL, in_recovery=True, receiver="streaming", replayed_s=0.1, **changes)
    return ServerReading(name="db-2", standby=True, state=state)


def silent(name: str, trouble: str = "db does not answer") -> ServerReading:
    return ServerReading(name=name, standby=name == "db-2", trouble=trouble)


def lines(*readings: ServerReading) -> dict[tuple[str, str], Finding]:
    found = server_findings(readings, Limits())
    keyed = {(line.check, line.subject): line for line in found}
    assert len(keyed) == len(found), "each line stands once"
    return keyed


def wrong(*readings: ServerReading) -> dict[tuple[str, str], str]:
    return {key: line.verdict.name for key, line in lines(*readings).items() if line.verdict is not Verdict.OK}


def test_a_pair_that_does_well_is_well() -> None:
    assert wrong(primary(), standby()) == {}
    assert lines(primary(), standby())["database.standbys", "db-1"].observed == "1 of 1"


def test_no_database_no_lines() -> None:
    assert server_findings([], Limits()) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"connections": 79}, {}),
        ({"connections": 80}, {("database.connections", "db-1"): "WARNING"}),
        ({"connections": 95}, {("database.connections", "db-1"): "CRITICAL"}),
        ({"in_recovery": True}, {("database.role", "db-1"): "CRITICAL"}),
        ({"senders": ()}, {("database.standbys", "db-1"): "CRITICAL"}),
        ({"senders": (Sender("db_2", "catchup", "async"),)}, {("database.standbys", "db-1"): "CRITICAL"}),
        (
            {"slots": (Slot("old", active=False, wal_status="extended", kept_bytes=9),)},
            {("database.slots", "db-1"): "WARNING"},
        ),
        (
            {"slots": (Slot("db_2", active=True, wal_status="unreserved", kept_bytes=9),)},
            {("database.slots", "db-1"): "CRITICAL"},
        ),
    ],
)
def test_of_a_primary(changed: dict[str, Any], expected: dict[tuple[str, str], str]) -> None:
    assert wrong(primary(**changed), standby()) == expected


@pytest.mark.parametrize(
    ("changed", "check", "verdict"),
    [
        ({"in_recovery": False}, "database.role", "CRITICAL"),
        ({"receiver": ""}, "database.receiver", "CRITICAL"),
        ({"receiver": "waiting"}, "database.receiver", "CRITICAL"),
        ({"paused": True}, "database.replay", "WARNING"),
        ({"position": 999, "replayed_s": 9.9}, "database.replication_lag", None),
        ({"position": 999, "replayed_s": 10.0}, "database.replication_lag", "WARNING"),
        ({"position": 999, "replayed_s": 60.0}, "database.replication_lag", "CRITICAL"),
        ({"position": 1_000, "replayed_s": 9_999.0}, "database.replication_lag", None),
        ({"position": 1, "replayed_s": None}, "database.replication_lag", "CRITICAL"),
    ],
)
def test_of_a_standby(changed: dict[str, Any], check: str, verdict: str | None) -> None:
    reading = standby()
    assert reading.state is not None
    changed_reading = msgspec.structs.replace(reading, state=msgspec.structs.replace(reading.state, **changed))
    assert wrong(primary(), changed_reading) == ({(check, "db-2"): verdict} if verdict else {})


def test_of_a_silent_standby_nothing_else_is_known() -> None:
    found = wrong(primary(senders=()), silent("db-2"))
    assert found.pop(("database.server", "db-2")) == "CRITICAL"
    assert found.pop(("database.standbys", "db-1")) == "CRITICAL"
    assert set(found.values()) == {"UNKNOWN"}
    assert {check for check, _ in found} == {
        "database.role",
        "database.connections",
        "database.clock",
        "database.receiver",
        "database.replay",
        "database.replication_lag",
    }


def test_of_a_silent_primary_the_lag_is_not_known() -> None:
    found = wrong(silent("db-1"), standby())
    assert found.pop(("database.server", "db-1")) == "CRITICAL"
    assert set(found.values()) == {"UNKNOWN"}
    assert ("database.replication_lag", "db-2") in found
    assert ("database.standbys", "db-1") in found


@pytest.mark.parametrize(
    "words",
    [
        "db-1 refused: sorry, too many clients already",
        "db-1 refused: remaining connection slots are reserved for roles with the SUPERUSER attribute",
    ],
)
def test_a_server_without_a_free_connection_says_so(words: str) -> None:
    found = lines(silent("db-1", words), standby())
    assert found["database.connections", "db-1"].verdict is Verdict.CRITICAL
    assert found["database.server", "db-1"].observed == words


@pytest.mark.parametrize(("offset_s", "verdict"), [(1.99, "OK"), (-2.0, "WARNING"), (30.0, "CRITICAL")])
def test_a_clock_may_be_wrong_in_both_directions(offset_s: float, verdict: str) -> None:
    reading = msgspec.structs.replace(primary(), offset_s=offset_s)
    assert lines(reading)["database.clock", "db-1"].verdict.name == verdict
