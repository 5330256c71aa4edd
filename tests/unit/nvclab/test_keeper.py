from __future__ import annotations

import time
from pathlib import Path

import pytest

from nvclab.errors import LabError
from nvclab.keeper import RESTARTS_MAX, Keeper, Kept
from nvclab.parts.process import Process


class Sleeper:
    """A real process that does nothing."""

    def __init__(self, folder: Path, argv: list[str]) -> None:
        self.process = Process("sleeper", argv, folder / "sleeper.log")

    def launch(self) -> None:
        self.process.start()

    def ready(self) -> bool:
        return self.process.pid is not None

    def stop(self) -> None:
        self.process.stop()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def keeper(tmp_path: Path, said: list[str]) -> Keeper:
    keeper = Keeper(said.append)
    keeper.add("sleeper", Sleeper(tmp_path, ["sleep", "60"]))
    return keeper


def look_until(keeper: Keeper, deadline_s: float = 10.0) -> None:
    """Look as the supervisor does, until the sleeper runs again."""
    end = time.monotonic() + deadline_s
    while not keeper["sleeper"].running and time.monotonic() < end:
        keeper.look()
        time.sleep(0.02)


def test_what_dies_is_started_again_and_counted(keeper: Keeper, said: list[str]) -> None:
    keeper.start("sleeper")
    first = keeper["sleeper"].part.process.pid
    keeper["sleeper"].part.process.kill()
    look_until(keeper)
    assert keeper["sleeper"].running
    assert keeper["sleeper"].part.process.pid != first
    assert keeper["sleeper"].restarts == 1
    assert "ended with -9" in said[0]
    keeper.stop_all()


def test_what_was_stopped_on_purpose_stays_stopped(keeper: Keeper) -> None:
    keeper.start("sleeper")
    keeper.stop("sleeper")
    keeper.look()
    assert keeper.wait_s() is None
    assert not keeper["sleeper"].running
    keeper.start("sleeper")
    assert keeper["sleeper"].running
    keeper.stop_all()


def test_what_dies_again_and_again_is_given_up_with_a_reason(tmp_path: Path, said: list[str]) -> None:
    keeper = Keeper(said.append)
    keeper.add("sleeper", Sleeper(tmp_path, ["false"]))
    kept = keeper["sleeper"]
    kept.part.launch()
    kept.ends.extend([time.monotonic()] * RESTARTS_MAX)
    end = time.monotonic() + 10
    while not kept.problem and time.monotonic() < end:
        keeper.look()
        time.sleep(0.02)
    assert "not started again" in kept.problem
    assert keeper.wait_s() is None


def test_the_pauses_grow_and_have_a_limit(tmp_path: Path) -> None:
    kept = Kept(Sleeper(tmp_path, ["true"]))
    pauses = []
    for _ in range(RESTARTS_MAX):
        kept.ends.append(100.0)
        pauses.append(kept.pause_s(100.0))
    assert pauses[:3] == [0.2, 0.4, 0.8]
    assert pauses[-1] == 10.0
    kept.ends.append(100.0)
    assert kept.pause_s(100.0) is None
    assert kept.pause_s(1000.0) == 0.2


def test_an_unknown_part_is_refused_with_the_known_ones(keeper: Keeper) -> None:
    with pytest.raises(LabError, match="no part called 'mainframe'") as raised:
        keeper.stop("mainframe")
    assert raised.value.hint == "there are sleeper"
