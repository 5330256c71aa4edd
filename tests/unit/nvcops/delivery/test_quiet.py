"""A slot that is given another release on purpose pages nobody; all else does, and so does a slot that stays away."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from rollout_run import Journal, carry, everywhere
from rollout_world import MAIN, NEW, OLD, SPARE, Killed, Nature, World, target_of, world
from tests.desk import MemoryRecords

from nvcops.alerts.signals import DOWN, labels_of
from nvcops.core import schedule
from nvcops.core.alerts import Silence
from nvcops.core.checks import Verdict
from nvcops.core.errors import StateError
from nvcops.core.records import Desk
from nvcops.delivery.deploy import deploy
from nvcops.delivery.quiet import longest, quiet, settled_after
from nvcops.health.watch import probes_of


def silences(here: World) -> list[Silence]:
    with here.records.reading() as reading:
        return reading.find(Silence)


def muted(here: World, at: dt.datetime) -> set[str]:
    """The probes of whose failure nobody would be told."""
    down = {one.name: labels_of(one, DOWN, one.category) for one in probes_of(here.manifest)}
    return {name for name, labels in down.items() if any(one.mutes(labels, at) for one in silences(here))}


def test_only_the_slot_that_is_restarted_is_silenced_and_only_meanwhile() -> None:
    here = world()
    with quiet(target_of(here), "bank-1", NEW):
        assert muted(here, schedule.now()) == {"instance.bank-1"}
    assert len(probes_of(here.manifest)) > 2, "there is more that could be silenced"
    after = schedule.now()
    assert muted(here, after) == {"instance.bank-1"}, "the watch needs some looks to see that it is well"
    assert not muted(here, after + settled_after(here.manifest))


def test_a_deployer_that_dies_leaves_no_silence_for_long() -> None:
    here = world()
    here.fails = lambda what, _: what == "put"

    class Desks(MemoryRecords):
        """They take the silence, and not its end: as for one who was killed."""

        @contextmanager
        def changing(self) -> Iterator[Desk]:
            if silences(here):
                raise StateError("the records are away")
            with super().changing() as desk:
                yield desk

    here.records = Desks()
    with quiet(target_of(here), "bank-1", NEW):
        pass
    assert muted(here, schedule.now())
    assert not muted(here, schedule.now() + longest(here.manifest))


def test_a_slot_is_replaced_though_the_records_are_away() -> None:
    here, done = world(), []

    class Away(MemoryRecords):
        """Nothing can be written."""

        def changing(self) -> Any:
            raise StateError("the records are away")

    here.records = Away()
    with quiet(target_of(here), "bank-1", NEW):
        done.append("replaced")
    assert done == ["replaced"]


def test_spare_slots_need_no_silence() -> None:
    here = world()
    with quiet(target_of(here), SPARE[0], NEW):
        assert not silences(here)


@pytest.mark.parametrize("nature", [Nature(), Nature(lasts=1.0)], ids=["good", "ends"])
def test_no_main_slot_is_stopped_without_its_silence(clock: dict[str, World], nature: Nature) -> None:
    """Whatever becomes of it: a main slot that does not run by our own hand is one that nobody is paged for."""
    here = world(nature=nature)
    clock["world"] = here
    seen: list[str] = []

    def looks(what: str, arguments: tuple[Any, ...]) -> bool:
        if what in ("put", "drain") and arguments[0] in MAIN:
            assert f"instance.{arguments[0]}" in muted(here, schedule.now()), what
            seen.append(what)
        return False

    here.fails = looks
    section = carry(here, deploy, Journal(), version="2.0")
    assert section is not None
    good = nature.lasts is None
    assert everywhere(here) == (NEW if good else OLD)
    assert (section.verdict is Verdict.OK) is good
    assert not good or len(seen) == 2 * len(MAIN)
    assert all(one.ends - one.created <= longest(here.manifest) for one in silences(here))


def test_a_killed_deployer_that_is_resumed_silences_again(clock: dict[str, World]) -> None:
    here, journal = world(), Journal()
    clock["world"] = here

    def killed(what: str, arguments: tuple[Any, ...]) -> bool:
        if what == "put" and arguments[0] == MAIN[0]:
            raise Killed(what)
        return False

    here.fails = killed
    with pytest.raises(Killed):
        carry(here, deploy, journal, version="2.0")
    here.fails = lambda *_: False
    section = carry(here, deploy, journal, version="2.0")
    assert section is not None
    assert section.verdict is Verdict.OK
    assert len([one for one in silences(here) if one.matchers[1].value == MAIN[0]]) == 2
