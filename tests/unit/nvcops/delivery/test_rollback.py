"""Back to a kept version in memory: the schema first, then the traffic, then the slots; from wherever it was killed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from rollout_run import Journal, carry, everywhere, line, one_release_serves, rollout
from rollout_world import MAIN, NEW, NOW, OLD, SPARE, Killed, Nature, World, release, target_of, world
from tests.desk import MemoryRecords

from nvcops.core.checks import Verdict
from nvcops.core.errors import NotFoundError, Refused, StateError, TargetError, Unreachable
from nvcops.core.releases import Migration
from nvcops.core.rollouts import Occupied, Phase, Rollout
from nvcops.core.target import Answer, Question
from nvcops.delivery.cleanup import contract_migrations, release_cleanup
from nvcops.delivery.deploy import deploy
from nvcops.delivery.rollback import restore_application
from nvcops.delivery.standing import ROLLBACK, begin, under_way
from nvcops.delivery.taking_back import given_up

RUN = "restore-application@1"


def after_a_deployment(clock: dict[str, World]) -> World:
    """The new release serves, the old one is warm."""
    here = world()
    clock["world"] = here
    section = carry(here, deploy, Journal(), version="2.0")
    assert section is not None
    assert section.verdict is Verdict.OK
    here.passed, here.did = 0, []
    return here


def restored(here: World, **options: Any) -> Any:
    return carry(here, restore_application, Journal(), **options)


def test_a_warm_release_gets_the_traffic_first_and_within_five_seconds(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    began = here.seconds
    moved: list[float] = []
    here.on_second = lambda it: moved.append(it.seconds) if one_release_serves(it) == OLD else None
    section = restored(here, version="1.0")
    assert section.verdict is Verdict.OK, section.findings
    assert everywhere(here) == OLD
    assert here.did[0] == "share 0 0 100 100", "the traffic before anything else"
    assert not moved or moved[0] - began < 5
    assert rollout(here, RUN).phase is Phase.HEALTHY
    assert not any(here.slots[name].running for name in SPARE)
    assert here.served_by_none == 0


def test_without_a_version_it_is_the_one_that_was_replaced(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    assert restored(here).verdict is Verdict.OK
    assert everywhere(here) == OLD


def test_without_any_rollout_nobody_knows_what_was_before(clock: dict[str, World]) -> None:
    here = world()
    clock["world"] = here
    with pytest.raises(NotFoundError, match="no rollout is known"):
        restored(here)


def test_a_version_that_is_warm_nowhere_is_started_in_the_spare_slots_first(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    for name in SPARE:
        here.slots[name].running = False
    assert restored(here, version="1.0").verdict is Verdict.OK
    assert everywhere(here) == OLD
    puts = [one for one in here.did if one.startswith("put")]
    assert puts[0] == "put bank-3 a"
    assert here.served_by_none == 0


def test_killed_anywhere_it_ends_when_it_is_resumed(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    restored(here, version="1.0")
    for kill_at in range(1, here.passed + 1):
        here, journal = after_a_deployment(clock), Journal()
        here.kill_at = kill_at
        with pytest.raises(Killed):
            carry(here, restore_application, journal, version="1.0")
        section = carry(here, restore_application, journal, version="1.0")
        assert section is not None
        assert section.verdict is Verdict.OK, kill_at
        assert everywhere(here) == OLD
        assert here.served_by_none == 0


def test_whatever_fails_once_it_ends_with_the_version(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    restored(here, version="1.0")
    for at in range(1, here.passed + 1):
        here = after_a_deployment(clock)
        here.fail_at = {at: lambda: Unreachable("the line was cut")}
        section = restored(here, version="1.0")
        assert everywhere(here) == OLD, at
        assert section.verdict in (Verdict.OK, Verdict.WARNING)


def test_a_version_that_does_not_start_leaves_what_serves(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    for name in SPARE:
        here.slots[name].running = False
    here.natures[OLD] = Nature(ready=None)
    section = restored(here, version="1.0")
    assert section.verdict is Verdict.CRITICAL
    assert one_release_serves(here) == NEW
    assert {here.slots[name].digest for name in MAIN} == {NEW}
    assert rollout(here, RUN).phase is Phase.ROLLED_BACK


def test_a_dead_host_does_not_keep_the_others_from_serving(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    here.fails = lambda called, arguments: called in ("put", "lay", "self_test") and "bank-1" in arguments
    section = restored(here, version="1.0")
    assert section.verdict is Verdict.CRITICAL
    assert one_release_serves(here) == OLD
    assert here.slots["bank-2"].digest == OLD
    assert rollout(here, RUN).phase is Phase.HEALTHY


@pytest.mark.parametrize("serves", [True, False])
def test_a_balancer_that_takes_no_weights_does_not_keep_a_bad_release_serving(
    clock: dict[str, World], serves: bool
) -> None:
    """Then what runs it is stopped: the balancer's own checks send nobody there."""
    here = after_a_deployment(clock)
    if not serves:
        for name in SPARE:
            here.slots[name].running = False
    here.fails = lambda called, _: called == "share"
    section = restored(here, version="1.0")
    assert section.verdict is Verdict.CRITICAL
    assert not any(one.running and one.digest == NEW and one.weight for one in here.slots.values()) or not serves


def test_a_schema_that_is_too_new_is_refused_before_anything_is_done(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    drop = Migration(name="0003_contract_drop.sql", sha256="3", contract=True)
    here.releases[NEW] = release(NEW, "2.0", *here.releases[NEW].migrations, drop, built=1)
    here.applied.append((drop.name, drop.sha256))
    section = restored(here, version="1.0")
    assert section.verdict is Verdict.CRITICAL
    assert "too new" in line(section, "delivery.schema").observed
    assert not here.did
    assert everywhere(here) == NEW


def test_a_schema_that_cannot_be_read_is_no_yes(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)

    def rows(_: str) -> Any:
        raise Refused("permission denied for table applied_migration")

    here.rows = rows  # type: ignore[method-assign]
    section = restored(here, version="1.0")
    assert section.verdict is Verdict.CRITICAL
    assert line(section, "delivery.schema").verdict is Verdict.UNKNOWN
    assert not here.did


def test_a_run_that_was_given_up_is_taken_back_at_once(clock: dict[str, World]) -> None:
    here = world()
    clock["world"] = here
    carry(here, deploy, Journal(), version="2.0")
    for kill_at in range(1, here.passed + 1, 3):
        here = world(kill_at=kill_at)
        clock["world"] = here
        with pytest.raises(Killed):
            carry(here, deploy, Journal(), version="2.0")
        with here.records.reading() as reading:
            going = bool(under_way(reading))
        said = given_up(target_of(here), "deploy@1")
        assert bool(said) == going
        if going:
            assert everywhere(here) == OLD, kill_at
            assert rollout(here).phase is Phase.ROLLED_BACK


def test_a_rollback_that_was_given_up_does_not_bring_the_bad_release_back(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    restored(here, version="1.0")
    passed = here.passed
    assert passed > 2
    for kill_at in range(1, passed + 1):
        here = after_a_deployment(clock)
        here.kill_at = kill_at
        with pytest.raises(Killed):
            restored(here, version="1.0")
        here.kill_at = 0
        said = given_up(target_of(here), RUN)
        assert everywhere(here) == OLD, (kill_at, said)
        assert rollout(here, RUN).phase is Phase.HEALTHY
        assert here.served_by_none == 0


def test_a_rollback_that_was_given_up_keeps_what_serves_where_the_version_starts_nowhere(
    clock: dict[str, World],
) -> None:
    here = after_a_deployment(clock)
    for name in SPARE:
        here.slots[name].running = False
    here.natures[OLD] = Nature(ready=None)
    here.fails = lambda what, _: what == "put"
    begin(
        target_of(here), Rollout(id=RUN, service="bank", new=OLD, version="1.0", old=NEW, strategy=ROLLBACK, began=NOW)
    )
    said = given_up(target_of(here), RUN)
    assert said
    assert one_release_serves(here) == NEW
    assert rollout(here, RUN).phase is Phase.ROLLED_BACK
    assert here.served_by_none == 0


def test_a_frozen_slot_is_stopped_and_never_taken_for_one_that_does_not_run(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    frozen = SPARE[1]
    asked, looked = here.ask, here.look

    def ask(questions: Sequence[Question]) -> list[Answer | TargetError]:
        silent = here.slots[frozen].running
        pairs = zip(questions, asked(questions), strict=True)
        return [Unreachable("no answer") if silent and q.instance == frozen else answer for q, answer in pairs]

    def look(slot: str) -> Occupied:
        if slot == frozen and here.slots[frozen].running:
            raise Unreachable("it runs, and does not say what")
        return looked(slot)

    here.ask, here.look = ask, look  # type: ignore[method-assign]
    section = restored(here, version="1.0")
    assert everywhere(here) == OLD
    assert f"stop {frozen}" in here.did
    assert not here.slots[frozen].running
    assert section.verdict is Verdict.OK, section.findings


def test_a_frozen_slot_that_cannot_be_stopped_is_said_to_run(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    frozen, looked = SPARE[1], here.look
    here.fails = lambda what, arguments: what == "stop" and arguments[0] == frozen

    def look(slot: str) -> Occupied:
        if slot == frozen:
            raise Unreachable("its host does not answer")
        return looked(slot)

    here.look = look  # type: ignore[method-assign]
    section = restored(here, version="1.0")
    assert everywhere(here) == OLD
    said = [one.observed for one in section.findings if one.subject == frozen]
    assert said == ["runs still: its host does not answer"]
    assert section.verdict is Verdict.WARNING


class Away(MemoryRecords):
    """The records' database does not answer."""

    def changing(self) -> Any:
        raise StateError("the records are away")

    def reading(self) -> Any:
        raise StateError("the records are away")


def test_it_does_not_wait_for_our_own_records(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    here.records = Away()
    section = restored(here, version="1.0")
    assert section.verdict is Verdict.WARNING, section.findings
    assert everywhere(here) == OLD
    assert here.served_by_none == 0
    assert any("the records are away" in one.observed for one in section.findings)


def test_without_records_a_version_must_be_named(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    here.records = Away()
    with pytest.raises(StateError, match="nobody knows what was replaced last") as caught:
        restored(here)
    assert caught.value.hint == "--version V"
    assert not here.did


def test_called_for_twice_it_stays_with_the_version_that_was_put_back(clock: dict[str, World]) -> None:
    """Whoever is not sure that it was heard says it again: that must not bring the bad release back."""
    here = after_a_deployment(clock)
    for _ in range(3):
        assert restored(here).verdict is Verdict.OK
        assert everywhere(here) == OLD


def test_of_two_rollouts_at_once_the_second_is_refused_with_a_sentence(clock: dict[str, World]) -> None:
    here = world()
    clock["world"] = here
    other = Rollout(id="deploy@0", service="bank", new=NEW, version="2.0", began=NOW)
    begin(target_of(here), other)
    section = carry(here, deploy, Journal(), version="2.0")
    assert section is not None
    assert "is being rolled out: preflight, deploy@0" in line(section, "delivery.alone").observed
    assert rollout(here).phase is Phase.REFUSED
    assert not here.did
    with pytest.raises(Refused, match=r"bank 2\.0 is being rolled out already \(deploy@0, preflight\)"):
        begin(target_of(here), Rollout(id="deploy@2", service="bank", new=OLD, version="1.0", began=NOW))


# --- afterwards ---


def test_in_the_window_nothing_is_stopped_and_after_it_the_old_release_is(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    section = carry(here, release_cleanup, Journal())
    assert section is not None
    assert section.verdict is Verdict.OK
    assert not here.did
    here.seconds += 86_400
    carry(here, release_cleanup, Journal())
    assert here.did == ["stop bank-3", "stop bank-4"]
    assert everywhere(here) == NEW


def test_releases_beyond_those_that_are_kept_are_removed(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    strange = [f"{n:064x}" for n in range(9)]
    for name in (*MAIN, *SPARE):
        here.laid_[name].update(strange)
    for n, digest in enumerate(strange):
        here.releases[digest] = release(digest, f"0.{n}", built=-n - 1)
    carry(here, release_cleanup, Journal())
    left = {name: set(digests) for name, digests in here.laid_.items()}
    assert all({OLD, NEW} <= digests and len(digests) == 5 for digests in left.values())
    assert everywhere(here) == NEW


def contracting(here: World) -> None:
    drop = Migration(name="0003_contract_drop.sql", sha256="3", contract=True)
    here.releases[NEW] = release(NEW, "2.0", *here.releases[NEW].migrations, drop, built=1)


def test_the_schema_is_contracted_only_after_the_window_and_after_an_approval(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    contracting(here)
    section = carry(here, contract_migrations, Journal())
    assert section is not None
    assert "window is open" in line(section, "delivery.contracted").observed
    here.seconds += 86_400
    section = carry(here, contract_migrations, Journal())
    assert section is not None
    assert "bank-3, bank-4 could not run" in line(section, "delivery.contracted").observed
    carry(here, release_cleanup, Journal())
    section = carry(here, contract_migrations, Journal())
    assert section is not None
    assert section.verdict is Verdict.OK
    assert here.applied[-1][0] == "0003_contract_drop.sql"
    refused = restored(here, version="1.0")
    assert "too new" in line(refused, "delivery.schema").observed


def test_nothing_is_done_in_rehearsals(clock: dict[str, World]) -> None:
    here = after_a_deployment(clock)
    carry(here, restore_application, Journal(), dry_run=True, version="1.0")
    here.seconds += 86_400
    carry(here, release_cleanup, Journal(), dry_run=True)
    for name in SPARE:
        here.slots[name].running = False
    contracting(here)
    section = carry(here, contract_migrations, Journal(), dry_run=True)
    assert section is not None
    assert section.summary == "Would contract the schema: 0003_contract_drop.sql."
    assert not here.did
    assert everywhere(here) == NEW
