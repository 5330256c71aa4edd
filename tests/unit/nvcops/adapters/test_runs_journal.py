"""What steps returned, as the journal keeps it."""

from __future__ import annotations

import datetime as dt
import functools
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from nvcops.adapters.runs import journal
from nvcops.adapters.runs.conduct import Parked, TooLate, within
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import DeadlineExceeded, NvcopsError, RunError, StepFailed, Unreachable
from nvcops.core.schedule import When
from nvcops.core.units import Bytes, Count, Seconds


class Table(msgspec.Struct, frozen=True):
    name: str
    lag: Seconds | None
    rows: Count


@dataclass(frozen=True)
class Point:
    at: dt.datetime
    labels: dict[str, str]


MOMENT = dt.datetime(2026, 11, 23, 13, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, None),
        (3, int),
        ([Table("a", Seconds(0.2), Count(3)), Table("b", None, Count(0))], list[Table]),
        ({"a": (1, 2.5)}, dict[str, tuple[int, float]]),
        (Point(MOMENT, {"a": "b"}), Point),
        (b"\x00\xff", bytes),
        (Bytes(64), Bytes),
        (Path("/var/lib/data"), Path),
        (When.read("daily 08:00"), When),
        (Finding(check="a", title="b", verdict=Verdict.WARNING, value=1.5), Finding),
        (dt.timedelta(seconds=1.5), dt.timedelta),
        (frozenset({1}), frozenset[int]),
    ],
    ids=str,
)
def test_data_comes_back_as_what_it_was(value: object, kind: object) -> None:
    back = journal.read_back(journal.returned(value), kind)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "value", [object(), threading.Lock(), (n for n in "ab")], ids=lambda value: type(value).__name__
)
def test_live_objects_are_not_kept(value: object) -> None:
    with pytest.raises(RunError, match="the journal cannot keep a"):
        journal.returned(value)


def test_a_value_of_another_type_than_annotated_is_said() -> None:
    with pytest.raises(RunError, match="holds something else"):
        journal.read_back(journal.returned("x"), int)


@pytest.mark.parametrize("kind", [Unreachable, DeadlineExceeded, RunError])
def test_our_errors_come_back_as_what_they_were(kind: type[NvcopsError]) -> None:
    kept = journal.raised(kind("the tank does not answer", hint="look at it"))
    assert journal.error_in(kept) == "the tank does not answer"
    with pytest.raises(kind, match="the tank does not answer") as raised:
        journal.read_back(kept, int)
    assert raised.value.hint == "look at it"


def test_other_errors_come_back_as_a_failed_step() -> None:
    with pytest.raises(StepFailed, match="KeyError: 'a'"):
        journal.read_back(journal.raised(KeyError("a")), int)


def test_an_act_that_was_not_carried_out_returns_nothing() -> None:
    assert journal.read_back(journal.assumed(), int) is None


class Pump:
    def start(self, name: str) -> int:
        """Start it. And more."""
        return len(name)


def test_functions_methods_and_partials_have_a_name_a_title_and_a_type() -> None:
    part = functools.partial(Pump().start, "a")
    assert (journal.name_of(part), journal.title_of(part), journal.return_type(part)) == (
        "start",
        "Start it. And more",
        int,
    )
    with pytest.raises(RunError, match="does not say what it returns"):
        journal.return_type(lambda: 1)


def test_a_call_has_a_deadline_and_may_be_left() -> None:
    leave, stuck = threading.Event(), threading.Event()
    assert within(5, lambda: 1, leave) == 1
    with pytest.raises(KeyError):
        within(5, lambda: {}["a"], leave)
    with pytest.raises(TooLate):
        within(0.05, stuck.wait, leave)
    leave.set()
    began = time.monotonic()
    with pytest.raises(Parked):
        within(60, stuck.wait, leave)
    assert time.monotonic() - began < 30
    stuck.set()
