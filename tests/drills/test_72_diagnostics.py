"""A live lab with its faults: the right root is named, and nothing is invented before and after."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from nvclab import running
from nvcops.adapters.target import connect
from nvcops.core.checks import Finding, Verdict
from nvcops.core.target import Target
from nvcops.wiring import load

if TYPE_CHECKING:
    from conftest import Rehearse

SEEN_S = 90.0
# By fault: how the worst cause reads; the application of the lab's own sessions says what each is for.
EXPECTED = {
    "hold-lock": ("1 session waits for pid", "nvclab lock holder", "it holds RowShareLock on bank.account"),
    "pause-replay": ("the standby db-2 does not replay: it is paused",),
    "exhaust-connections": ("connections are taken", "by nvclab greedy client (idle)"),
    "stop-wal-receiver": ("db-2", "standby"),
    "stop-standby": ("db-2", "standby"),
}
pytestmark = [pytest.mark.drill]


@pytest.fixture(scope="module")
def lab() -> Iterator[running.Lab]:
    with running.temporary(users=20) as lab:
        yield lab


@pytest.fixture(scope="module")
def target(lab: running.Lab) -> Target:
    return connect(load(lab.folder / "platform.toml"))


@contextmanager
def injected(lab: running.Lab, fault: str) -> Iterator[None]:
    lab.run("fault", fault)
    try:
        yield
    finally:
        lab.run("heal", fault)


def look(rehearse: Rehearse, target: Target) -> list[Finding]:
    return list(rehearse("db-diagnostics", target).findings)


def until(rehearse: Rehearse, target: Target, *words: str) -> Finding:
    end = time.monotonic() + SEEN_S
    while True:
        lines = look(rehearse, target)
        if all(word in lines[0].observed for word in words):
            return lines[0]
        assert time.monotonic() < end, f"{words} in none of {[line.observed for line in lines]}"
        time.sleep(0.2)


def well(rehearse: Rehearse, target: Target) -> None:
    """The look of a healthy lab; a commit or a lock of its customers may just take a second, on a busy machine."""
    until(rehearse, target, "nobody waits, and nothing is wrong")


@pytest.mark.sample
@pytest.mark.parametrize("fault", ["hold-lock"])
def test_a_held_lock_leads_to_its_holder(lab: running.Lab, target: Target, rehearse: Rehearse, fault: str) -> None:
    named(lab, target, rehearse, fault)


@pytest.mark.parametrize("fault", sorted(set(EXPECTED) - {"hold-lock"}))
def test_each_fault_is_named(lab: running.Lab, target: Target, rehearse: Rehearse, fault: str) -> None:
    named(lab, target, rehearse, fault)


def named(lab: running.Lab, target: Target, rehearse: Rehearse, fault: str) -> None:
    well(rehearse, target)
    with injected(lab, fault):
        line = until(rehearse, target, *EXPECTED[fault])
        assert line.check == "diagnosis.cause"
        assert line.verdict in (Verdict.WARNING, Verdict.CRITICAL)
        assert line.next_step
    well(rehearse, target)
