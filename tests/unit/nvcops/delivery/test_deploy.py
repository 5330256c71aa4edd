"""A rollout in memory: it ends with one release everywhere, whatever fails, and wherever its deployer is killed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from rollout_run import Journal, carry, everywhere, line, one_release_serves, rollout
from rollout_world import MAIN, MANIFEST, NEW, NEXT, OLD, SPARE, Killed, Nature, World, world
from tests.desk import MemoryRecords

from nvcops.core.checks import Verdict
from nvcops.core.errors import NotFoundError, StateError, Unreachable
from nvcops.core.rollouts import Phase
from nvcops.core.runs import StepRecord
from nvcops.delivery.deploy import deploy


def deployed(clock: dict[str, World], here: World, **options: Any) -> Any:
    clock["world"] = here
    return carry(here, deploy, Journal(), **{"version": "2.0", **options})


def test_a_good_release_comes_everywhere_and_the_old_one_stays_warm(clock: dict[str, World]) -> None:
    here = world()
    section = deployed(clock, here)
    assert section.verdict is Verdict.OK, section.findings
    assert everywhere(here) == NEW
    assert all(here.slots[name].digest == OLD and here.ready(here.slots[name]) for name in SPARE)
    record = rollout(here)
    assert (record.phase, record.weight, record.version, record.old_version) == (Phase.HEALTHY, 100, "2.0", "1.0")
    assert record.warm_until is not None
    assert record.rollback_s is not None
    assert here.applied[-1][0] == "0002_expand_more.sql"
    assert here.served_by_none == 0


def points(clock: dict[str, World], **options: Any) -> int:
    """At how many places a rollout could be killed, or fail."""
    here = world()
    deployed(clock, here, **options)
    return here.passed


STRATEGIES = ("quick", "canary", "blue-green", "rolling")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_killed_anywhere_it_goes_on_when_it_is_resumed(clock: dict[str, World], strategy: str) -> None:
    for kill_at in _some(range(1, points(clock, strategy=strategy) + 1)):
        here, journal = world(kill_at=kill_at), Journal()
        clock["world"] = here
        with pytest.raises(Killed):
            carry(here, deploy, journal, version="2.0", strategy=strategy)
        one_release_or_both_by_weight(here)
        here.advance(3.0)
        section = carry(here, deploy, journal, version="2.0", strategy=strategy)
        assert section is not None
        assert section.verdict is Verdict.OK, (kill_at, section.findings)
        assert everywhere(here) == NEW, kill_at
        assert rollout(here).phase is Phase.HEALTHY
        assert here.served_by_none == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_whatever_fails_once_ends_with_one_release(clock: dict[str, World], strategy: str) -> None:
    for at in _some(range(1, points(clock, strategy=strategy) + 1)):
        here = world(fail_at={at: lambda: Unreachable("the line was cut")})
        section = deployed(clock, here, strategy=strategy)
        digest = everywhere(here)
        record = rollout(here)
        assert (digest == NEW) == (record.phase is Phase.HEALTHY), (at, here.did)
        assert (section.verdict is Verdict.OK) == (digest == NEW), (at, section.findings)
        assert here.served_by_none == 0, at


@pytest.mark.parametrize("what", ["lay", "put", "self_test", "share", "drain", "migrate", "append"])
@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
def test_whatever_does_not_work_any_more_with_the_new_release_is_taken_back(
    clock: dict[str, World], what: str, after: int
) -> None:
    here, seen = world(), 0

    def fails(called: str, arguments: tuple[Any, ...]) -> bool:
        nonlocal seen
        about_new = NEW in arguments or called in ("drain", "append")
        about_new = about_new or (called == "share" and any(arguments[0][name] for name in SPARE))
        if called != what or not about_new:
            return False
        seen += 1
        return seen > after

    here.fails = fails
    section = deployed(clock, here)
    assert everywhere(here) == (OLD if section.verdict is not Verdict.OK else NEW), section.findings
    assert rollout(here).phase is (Phase.ROLLED_BACK if section.verdict is not Verdict.OK else Phase.HEALTHY)
    assert section.verdict is Verdict.OK or line(section, "delivery.rollout").observed.startswith("rolled back: ")


def test_killed_while_it_is_taken_back_it_is_taken_back(clock: dict[str, World]) -> None:
    bad = Nature(tested=False)
    here = world(nature=bad)
    deployed(clock, here)
    for kill_at in range(1, here.passed + 1):
        here, journal = world(nature=bad, kill_at=kill_at), Journal()
        clock["world"] = here
        with pytest.raises(Killed):
            carry(here, deploy, journal, version="2.0")
        carry(here, deploy, journal, version="2.0")
        assert everywhere(here) == OLD, kill_at
        assert rollout(here).phase is Phase.ROLLED_BACK


def one_release_or_both_by_weight(here: World) -> None:
    """In the middle of it: somebody is served, and everybody who gets traffic is ready."""
    serving = [one for one in here.slots.values() if one.weight]
    assert serving
    assert all(here.ready(one) for one in serving)


def _some(points_: range) -> list[int]:
    """All points of short rollouts; of those that append a look each second, the first and last ones, and some."""
    return [n for n in points_ if n <= 60 or n > len(points_) - 40 or n % 29 == 0]


BAD = {
    "never ready": Nature(ready=None),
    "fails its self-test": Nature(tested=False),
    "says it is another": Nature(says="d" * 64),
    "does not say what it is": Nature(says=""),
    "errors x 5": Nature(errors=0.05),
    "fails half its requests": Nature(errors=0.5),
    "dies after 30 s": Nature(lasts=30.0),
    "leaks memory": Nature(growth=16 << 20),
    "metrics gone": Nature(metrics=False),
}


@pytest.mark.parametrize("strategy", ["canary", "blue-green", "rolling"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_release_is_taken_back(clock: dict[str, World], name: str, strategy: str) -> None:
    here = world(nature=BAD[name], text=MANIFEST.replace('warm_up = "5 s"', 'warm_up = "40 s"'))
    section = deployed(clock, here, strategy=strategy)
    assert section.verdict is Verdict.CRITICAL
    assert everywhere(here) == OLD
    assert rollout(here).phase is Phase.ROLLED_BACK
    assert not any(one.running for name, one in here.slots.items() if name in SPARE)


def test_a_release_that_cannot_be_started_again_leaves_the_other_one_serving(clock: dict[str, World]) -> None:
    """The old one cannot be started any more when the new one fails in its last main slot: one serves, not neither."""
    here, puts = world(), 0

    def fails(called: str, arguments: tuple[Any, ...]) -> bool:
        nonlocal puts
        puts += called == "put" and arguments == ("bank-2", NEW)
        return (called == "put" and OLD in arguments and puts > 0) or (called == "put" and arguments == ("bank-2", NEW))

    here.fails = fails
    section = deployed(clock, here)
    assert section.verdict is Verdict.CRITICAL
    assert one_release_serves(here) in (OLD, NEW)
    assert here.served_by_none == 0


def test_a_wish_to_abort_is_heard_in_a_pause(clock: dict[str, World]) -> None:
    here = world()
    here.on_second = lambda it: _wished(it, "abort") if it.seconds > 20 else None
    section = deployed(clock, here, strategy="asks")
    assert everywhere(here) == OLD
    assert "a person" in line(section, "delivery.rollout").observed


@pytest.mark.parametrize(
    ("at", "not_after"),
    [("lay", "migrate"), ("migrate", "put"), ("self_test", "put bank-4"), ("drain", "drain bank-2")],
)
def test_a_wish_to_abort_is_heard_after_whatever_is_done_just_now(
    clock: dict[str, World], at: str, not_after: str
) -> None:
    here, strategy = world(), "rolling" if at == "drain" else ""

    def wished(what: str, _: tuple[Any, ...]) -> bool:
        if what == at:
            _wished(here, "abort")
        return False

    here.fails = wished
    section = deployed(clock, here, strategy=strategy)
    assert everywhere(here) == OLD
    assert line(section, "delivery.rollout").observed == "rolled back: a person wished it to be aborted"
    assert not [done for done in here.did if done.startswith(not_after)], here.did
    assert here.served_by_none == 0


def test_a_pause_ends_when_a_person_promotes(clock: dict[str, World]) -> None:
    here = world()
    here.on_second = lambda it: _wished(it, "promote") if 20 < it.seconds < 23 else None
    assert deployed(clock, here, strategy="asks").verdict is Verdict.OK
    assert everywhere(here) == NEW


def test_what_was_approved_for_another_release_before_is_refused_and_says_why(clock: dict[str, World]) -> None:
    here = world()
    clock["world"] = here
    here.releases[NEXT] = msgspec.structs.replace(here.releases[OLD], digest=NEXT, version="1.5")

    class Meanwhile(Journal):
        """Until somebody answers, somebody else puts another release into the main slots by hand."""

        def person(self, step: StepRecord) -> str:
            for name in MAIN:
                here.slots[name].digest = NEXT
            return super().person(step)

    section = carry(here, deploy, Meanwhile(), version="2.0")
    assert section is not None
    assert section.verdict is Verdict.CRITICAL
    why = "release cccccccc serves, and it was release aaaaaaaa when this was asked for"
    assert why in [one.observed for one in section.findings]
    assert not here.did
    assert rollout(here).phase is Phase.REFUSED
    assert why in rollout(here).why


class Blinking(MemoryRecords):
    """They are away for a moment, as a database that is restarted."""

    away = False
    missed = 0

    def reading(self) -> Any:
        if self.away:
            self.missed += 1
            raise StateError("the records are away")
        return super().reading()


def test_records_that_are_away_for_a_moment_take_no_good_release_back(clock: dict[str, World]) -> None:
    records = Blinking()
    here = world(records=records)

    def second(it: World) -> None:
        records.away = 20 < it.seconds < 23
        if 25 < it.seconds < 28:
            _wished(it, "promote")

    here.on_second = second
    assert deployed(clock, here, strategy="asks").verdict is Verdict.OK
    assert everywhere(here) == NEW
    assert records.missed


@pytest.mark.parametrize("slot", [MAIN[0], *SPARE])
def test_a_release_that_ends_and_is_started_again_meanwhile_is_taken_back(clock: dict[str, World], slot: str) -> None:
    """Who starts programs again does it within a second: by the next look it is ready, and only its start tells."""
    here = world()
    ended: list[str] = []

    def ends(what: str, arguments: tuple[Any, ...]) -> bool:
        one = here.slots[slot]
        if what == "drain" and arguments[0] != slot and one.digest == NEW and one.weight and not ended:
            ended.append(slot)
            one.started = "again"
        return False

    here.fails = ends
    section = deployed(clock, here)
    assert ended
    assert section.verdict is Verdict.CRITICAL
    assert f"{slot}: its program ended" in line(section, "delivery.rollout").observed
    assert everywhere(here) == OLD
    assert here.served_by_none == 0


def test_a_release_that_dies_in_a_pause_is_taken_back(clock: dict[str, World]) -> None:
    here = world(nature=Nature(lasts=30.0))
    assert deployed(clock, here, strategy="asks").verdict is Verdict.CRITICAL
    assert everywhere(here) == OLD


def _wished(here: World, wanted: str) -> None:
    from nvcops.delivery.standing import under_way, wish

    with here.records.changing() as desk:
        if under_way(desk):
            wish(desk, here.manifest, wanted, "dana", here.now())


def test_nothing_is_done_in_a_rehearsal(clock: dict[str, World]) -> None:
    here = world()
    clock["world"] = here
    carry(here, deploy, Journal(), dry_run=True, version="2.0")
    assert not here.did
    assert everywhere(here) == OLD


def test_an_unknown_version_is_an_error(clock: dict[str, World]) -> None:
    with pytest.raises(NotFoundError, match="no release"):
        deployed(clock, world(), version="9.9")


def test_every_transition_leaves_evidence(clock: dict[str, World]) -> None:
    here = world()
    deployed(clock, here, strategy="canary")
    kinds = [entry.kind for entry in here.records._notes]
    for kind in ("preflight", "migrating", "rehearsing", "progressing", "analysis", "promoting", "healthy"):
        assert f"rollout.{kind}" in kinds
    assert len({entry.id for entry in here.records._notes}) == len(kinds)


def test_a_wish_to_abort_is_heard_between_the_moves_of_the_promotion(clock: dict[str, World]) -> None:
    here = world()

    def wishes(called: str, arguments: tuple[Any, ...]) -> bool:
        if called == "put" and arguments == ("bank-1", NEW):
            _wished(here, "abort")
        return False

    here.fails = wishes
    section = deployed(clock, here)
    assert "a person" in line(section, "delivery.rollout").observed
    assert everywhere(here) == OLD


def test_a_slot_that_was_not_empty_is_told(clock: dict[str, World]) -> None:
    here = world(lingers=True)
    section = deployed(clock, here)
    assert section.verdict is Verdict.WARNING
    assert "had requests still" in line(section, "delivery.slot").observed
    assert everywhere(here) == NEW
