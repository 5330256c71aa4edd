"""The failover test on a live pair with paying customers, of every kind: with the guard, and without it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/cluster"))

from cluster_world import World, wait_for, world

KINDS = ("switchover", "postmaster", "crash", "freeze", "partition")
GAP = "failover.gap"  # how long it took is the benchmark's: a machine that is busy otherwise proves nothing
pytestmark = [pytest.mark.drill, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def guarded() -> Iterator[World]:
    with world() as made, made.serving():
        yield made


@pytest.fixture(scope="module")
def alone() -> Iterator[World]:
    with world(guard=False) as made, made.serving():
        yield made


def taken_through(pair: World, kind: str) -> dict[str, Any]:
    """The failover test's record, all its lines but the gap as they should be."""
    pair.whole()
    record = pair.answer("run", "test-failover", "--kind", kind)
    lines = {line["check"]: line for line in record["findings"]}
    wrong = [line for line in record["findings"] if line["verdict"] != 0 and line["check"] != GAP]
    assert not wrong, wrong
    assert lines[GAP]["value"] > 0
    assert lines["failover.acknowledged"]["observed"].startswith("all ")
    return record


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.sample] if kind == "switchover" else []) for kind in KINDS]
)
def test_nothing_acknowledged_is_lost(guarded: World, kind: str) -> None:
    taken_through(guarded, kind)


def test_the_guard_has_its_failover_proved(guarded: World) -> None:
    before = guarded.whole().primary
    guarded.lab.run("host", "crash", before)
    try:
        found = wait_for(lambda: proofs(guarded, before), "the run that proves it", 120)
    finally:
        guarded.lab.run("host", "mend", before)
    record = guarded.answer("show", found[0]["id"])
    lines = {line["check"]: line for line in record["findings"]}
    assert lines["failover.taken_over"]["verdict"] == 0, lines
    assert lines["failover.fenced"]["verdict"] == 0, lines
    said = lines["failover.guard"]["observed"]
    assert "its lease freed at" in said or "the lease was free already" in said
    assert guarded.whole().primary != before


def proofs(pair: World, old: str) -> list[dict[str, Any]]:
    """Ended runs of fail-over, the newest first, of that server."""
    listed: Any = pair.answer("runs", "--procedure", "fail-over")
    shown = [pair.answer("show", run["id"]) for run in listed[:1]]
    return [run for run in shown if run["state"] == "concluded" and run["options"].get("old") == old]


@pytest.mark.parametrize("kind", ["crash", "freeze"])
def test_without_a_guard_the_test_itself_fences(alone: World, kind: str) -> None:
    taken_through(alone, kind)
