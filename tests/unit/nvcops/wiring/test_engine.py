"""The engine: what is offered is taken, what is due is done, and records that cannot be written lose nothing."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from desk import MemoryRecords
from nvcops.alerts import desk as alerts
from nvcops.alerts import notices
from nvcops.alerts.routing import default_routing
from nvcops.alerts.said import Said
from nvcops.core import schedule
from nvcops.core.alerts import Alert, Group, Notice
from nvcops.core.errors import StateError, UsageError
from nvcops.core.incidents import Incident
from nvcops.core.manifest import Manifest, parse
from nvcops.core.oncall import Message, Page
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


def firing(records: MemoryRecords) -> list[str]:
    with records.reading() as reading:
        return [alert.name for alert in reading.find(Alert, ends__isnull=True)]


def told_of(records: MemoryRecords) -> set[str]:
    """The alerts of which people were told: paged, or in the timeline of the incident for which they were."""
    with records.reading() as reading:
        return {group.labels["alertname"] for group in reading.find(Group, told_at__isnull=False)}


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
    take, broke = alerts.take, []

    def breaking(desk: Desk, said: Sequence[Said], *rest: Any, **more: Any) -> Any:
        if list(said) == [DOWN] and not broke:
            broke.append(True)
            raise StateError("the records cannot be written")
        return take(desk, said, *rest, **more)

    monkeypatch.setattr(alerts, "take", breaking)
    with running(engine):
        engine.offer([OWN, DOWN])
        until(lambda: count(records, Message))
    assert broke


def test_an_alert_that_nobody_can_take_keeps_no_other_is_kept_and_is_an_alert_itself(
    engine: Engine, records: Failing, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [True]
    take = alerts.take

    def taking(desk: Desk, said: Sequence[Said], *rest: Any, **more: Any) -> Any:
        if broken and any(one.labels["alertname"] == "Odd" for one in said):
            raise KeyError("odd")
        return take(desk, said, *rest, **more)

    monkeypatch.setattr(alerts, "take", taking)
    monkeypatch.setattr("nvcops.wiring.engine._ASIDE_FOR", dt.timedelta(seconds=1))
    with running(engine):
        engine.offer([Said(labels={"alertname": "Odd"}, source="test"), DOWN])
        until(lambda: told_of(records) == {"EngineMistake", "Down"})
        assert any("a mistake of nvcops: KeyError: 'odd'" in sentence for sentence in told)
        broken.clear()
        until(lambda: "Odd" in firing(records))


def test_a_group_that_cannot_speak_keeps_no_other_from_speaking(
    engine: Engine, records: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary_of = notices.summary_of

    def words(notice: Notice) -> str:
        if any(alert.name == "Odd" for alert in notice.firing):
            raise ZeroDivisionError
        return summary_of(notice)

    monkeypatch.setattr(notices, "summary_of", words)
    odd = Said(labels={"alertname": "Odd", "category": "critical"}, source="test")
    with running(engine):
        assert engine.take([odd]) == 0  # taken, though what follows from it raises
        engine.offer([DOWN])
        until(lambda: told_of(records) == {"EngineMistake", "Down"})
        until(lambda: engine.alive(schedule.now()))
    assert set(firing(records)) == {"Odd", "Down", "EngineMistake"}


def test_after_the_records_were_away_nothing_ends_that_could_not_be_said_again(
    engine: Engine, records: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [schedule.now()]
    monkeypatch.setattr(schedule, "now", lambda: moment[0])
    short = Said(labels={"alertname": "Short"}, source="test", lasts=False)
    with running(engine):
        engine.offer([short])
        until(lambda: firing(records) == ["Short"])
        records.broken = True
        until(lambda: not engine.alive(moment[0] + dt.timedelta(minutes=10)))
        moment[0] += dt.timedelta(minutes=10)
        records.broken = False
        until(lambda: engine.alive(moment[0]))
        assert firing(records) == ["Short"]


def test_a_clock_that_is_put_back_keeps_nobody_waiting(
    engine: Engine, records: Failing, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [schedule.now()]
    monkeypatch.setattr(schedule, "now", lambda: moment[0])
    high = Said(labels={"alertname": "Slow", "category": "high", "service": "bank"}, source="test")
    with running(engine):
        engine.offer([DOWN, high])
        until(lambda: told_of(records) == {"Down"} and len(firing(records)) == 2)
        moment[0] -= dt.timedelta(hours=1)
        until(lambda: told_of(records) == {"Down", "Slow"})
    within = manifest.alerts.acknowledge.critical
    with records.reading() as reading:
        assert all(page.next <= moment[0] + dt.timedelta(seconds=within) for page in reading.find(Page) if page.next)
        assert all(message.due <= moment[0] for message in reading.find(Message))


def test_what_is_taken_at_the_door_is_refused_whole(engine: Engine, records: Failing) -> None:
    with pytest.raises(UsageError, match="our own notification"):
        engine.take([DOWN, OWN])
    assert count(records, Alert) == 0


def test_records_that_cannot_be_written_are_the_senders_to_know(engine: Engine, records: Failing) -> None:
    records.broken = True
    with pytest.raises(StateError):
        engine.take([DOWN])
