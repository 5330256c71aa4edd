"""What stops customers is paged within a few looks, by its name, and resolves when it is healed; else nobody is paged.

How many seconds it takes is the benchmark's: here the bound is made of the configured interval and deadline, with room
for a machine that is busy otherwise.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # its faults, and its lab that is watched

import _watched as detection
from _watched import FAULTS, Fault, Watched
from nvcops import wiring

SAMPLE = {"stop-cache", "freeze db-1"}
RESOLVED_S = 60
ROOM = 4  # times what the looks that must fail, and their deadlines, add up to
pytestmark = [pytest.mark.drill, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def watch() -> Iterator[Watched]:
    with detection.watched(objectives=False) as made:
        yield made


def within_s(watch: Watched) -> float:
    """The bound on the time from a fault to its page."""
    setting = wiring.load(watch.platform).watch
    return float(ROOM * setting.failures * (setting.interval + setting.deadline))


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=[pytest.mark.sample] if fault.name in SAMPLE else [], id=fault.name)
        for fault in FAULTS
    ],
)
def test_a_fault_is_paged_by_its_name_and_resolves_when_it_is_healed(watch: Watched, fault: Fault) -> None:
    assert not watch.firing()
    moment = detection.broken(watch, fault)
    try:
        first = detection.until(lambda: watch.pages(moment), within_s(watch), f"a page about {fault.name}")[0]
        assert first.status == 200
        number = detection.until(lambda: detection.opened(watch), 10, "an incident")[0]["number"]
        detection.until(lambda: fault.part in detection.parts(watch, number), 30, f"{fault.part} in incident {number}")
    finally:
        detection.healed(watch, fault)
    detection.until(lambda: not watch.firing(), RESOLVED_S, "nothing fires any more")
    assert {part["state"] for part in watch.lab.status()["parts"]} == {"ready"}
    detection.closed(watch)
    assert not detection.opened(watch)


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(60, marks=pytest.mark.sample, id="a minute"),
        pytest.param(3600, marks=pytest.mark.timeout(4200), id="an hour"),
    ],
)
def test_nothing_pages_while_all_is_well(seconds: float) -> None:
    # At the runbook's pace, a request each 10 s: ten times as quick, an hour is a day's spending, and then
    # customers decline each other for want of money, which is rightly a page.
    with detection.watched(objectives=True, think_s=10.0) as watch:
        began = time.time()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert not watch.told(began)
            assert not watch.firing()
            time.sleep(1)
        assert watch.lab.status()["customers"]["window_requests"], "customers came meanwhile"
