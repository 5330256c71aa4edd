"""The engine: what is offered is taken, what is due is done, and records that cannot be written lose nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from desk import MemoryRecords
from nvcops.alerts.routing import default_routing
from nvcops.alerts.said import Said
from nvcops.core import schedule
from nvcops.core.alerts import Alert
from nvcops.core.errors import StateError, UsageError
from nvcops.core.incidents import Incident
from nvcops.core.manifest import Manifest, parse
from nvcops.core.oncall import Message
from nvcops.core.records import Desk
from nvcops.wiring.engine import Engine

TEXT = """
[platform]
name = "bank"
title = "A bank"
state = "state"

[[services]]
name = "bank"
url = "http://127.0.0.1:1"

[[people]]
name = "dana"
full_name = "Dana Whitfield"
roles = ["operator"]
contacts = [{ kind = "push", url = "json://127.0.0.1:1/dana" }]

[[oncall.rotations]]
name = "primary"
people = ["dana"]
starts = 2026-01-05

[[oncall.policies]]
name = "oncall"
steps = [{ rotation = "primary" }]

[evidence]
origin = "bank.example/operations"
"""
DOWN = Said(labels={"alertname": "Down", "category": "critical", "service": "bank"}, source="test")
OWN = Said(labels={"alertname": "Own"}, annotations={"nvcops_origin": "bank.example/operations"}, source="webhook")


class Failing(MemoryRecords):
    """Records that cannot be written for a while."""

    broken = False

    @contextmanager
    def changing(self) -> Iterator[Desk]:
        if self.broken:
            raise StateError("the records cannot be written")
        with super().changing() as desk:
            yield desk


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return parse(TEXT, tmp_path / "platform.toml")


@pytest.fixture
def records() -> Failing:
    return Failing()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def engine(manifest: Manifest, records: Failing, told: list[str]) -> Engine:
    return Engine(manifest, records, default_routing(manifest), notify=told.append)


@contextmanager
def running(engine: Engine) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=engine.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        engine.wake()
        thread.join(20)
    assert not thread.is_alive()


def until(there: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not there():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.01)


def count(records: MemoryRecords, kind: type) -> int:
    with records.reading() as reading:
        return reading.count(kind)


def test_an_alert_that_is_taken_has_its_incident_and_its_message(engine: Engine, records: Failing) -> None:
    assert engine.take([DOWN]) == 0
    assert (count(records, Alert), count(records, Incident)) == (1, 1)
    with records.reading() as reading:
        assert {message.to for message in reading.find(Message)} == {"dana"}


def test_what_is_offered_is_taken_while_it_runs(engine: Engine, records: Failing) -> None:
    with running(engine):
        engine.offer([DOWN])
        until(lambda: count(records, Incident))
        until(lambda: engine.alive(schedule.now()))


def test_what_cannot_be_written_now_is_written_later_and_said_once(
    engine: Engine, records: Failing, told: list[str]
) -> None:
    records.broken = True
    with running(engine):
        engine.offer([DOWN])
        until(lambda: told)
        assert not engine.alive(schedule.now())
        records.broken = False
        until(lambda: count(records, Message))
    assert told == ["the records cannot be written; trying again"]


def test_one_that_is_refused_takes_no_other_with_it(engine: Engine, records: Failing, told: list[str]) -> None:
    with running(engine):
        engine.offer([OWN, DOWN])
        until(lambda: count(records, Message))
    assert count(records, Alert) == 1
    assert any("our own notification" in sentence for sentence in told)


def test_records_that_break_down_while_one_is_refused_lose_no_other(
    engine: Engine, records: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, broke = engine.take, []

    def breaking(said: list[Said]) -> int:
        if said == [DOWN] and not broke:
            broke.append(True)
            raise StateError("the records cannot be written")
        return take(said)

    monkeypatch.setattr(engine, "take", breaking)
    with running(engine):
        engine.offer([OWN, DOWN])
        until(lambda: count(records, Message))
    assert broke


def test_what_is_taken_at_the_door_is_refused_whole(engine: Engine, records: Failing) -> None:
    with pytest.raises(UsageError, match="our own notification"):
        engine.take([DOWN, OWN])
    assert count(records, Alert) == 0


def test_records_that_cannot_be_written_are_the_senders_to_know(engine: Engine, records: Failing) -> None:
    records.broken = True
    with pytest.raises(StateError):
        engine.take([DOWN])
