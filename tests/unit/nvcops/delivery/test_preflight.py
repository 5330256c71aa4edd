"""What keeps a rollout from beginning: each reason is a sentence, and nothing was changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from rollout_run import Journal, carry, everywhere, line, rollout
from rollout_world import MANIFEST, NEW, OLD, Nature, World, release, world

from nvcops.core.checks import Verdict
from nvcops.core.errors import EvidenceError, Refused, UsageError
from nvcops.core.releases import Admission, Migration
from nvcops.core.rollouts import Phase
from nvcops.delivery.compatibility import Applied, breaks, compatible, known_by
from nvcops.delivery.deploy import deploy

STAGES = MANIFEST.replace(
    "[changes]", '[[delivery.stages]]\nname = "dev"\n[[delivery.stages]]\nname = "staging"\n[changes]'
)


def _unknown_schema(here: World) -> None:
    def rows(_: str) -> Any:
        raise Refused("permission denied")

    here.rows = rows  # type: ignore[method-assign]


def _changed(here: World) -> None:
    here.applied = [("0001_expand_base.sql", "another")]


def _too_new(here: World) -> None:
    here.applied.append(("0002_contract_more.sql", "x"))


def _not_kept(here: World) -> None:
    del here.releases[OLD]


def _down(here: World) -> None:
    here.slots["bank-2"].running = False


def _two(here: World) -> None:
    here.natures[NEW] = Nature()
    here.slots["bank-2"].digest = NEW


def _unsaid(here: World) -> None:
    here.natures[OLD] = Nature(says="")
    here.slots["bank-1"].digest = NEW


def _no_balancer(here: World) -> None:
    here.fails = lambda called, _: called == "balancer.look"


def _runs_already(here: World) -> None:
    for name in ("bank-1", "bank-2"):
        here.slots[name].digest = NEW


REFUSED: dict[str, tuple[Callable[[World], None], str, Verdict, str]] = {
    "schema cannot be read": (_unknown_schema, "delivery.schema", Verdict.UNKNOWN, "permission denied"),
    "a migration was changed": (_changed, "delivery.schema", Verdict.CRITICAL, "was changed since it was applied"),
    "schema too new": (_too_new, "delivery.schema", Verdict.CRITICAL, "no release here knows"),
    "the old release is not kept": (_not_kept, "delivery.release", Verdict.CRITICAL, "no way back"),
    "a main slot is down": (_down, "delivery.ready", Verdict.CRITICAL, "it does not run"),
    "two releases serve": (_two, "delivery.ready", Verdict.CRITICAL, "several releases"),
    "one does not say what it is": (_unsaid, "delivery.ready", Verdict.CRITICAL, "does not say"),
    "the balancer is silent": (_no_balancer, "delivery.ready", Verdict.UNKNOWN, "does not answer"),
    "it runs already": (_runs_already, "delivery.release", Verdict.CRITICAL, "runs already"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_sentence_and_nothing_is_changed(clock: dict[str, World], name: str) -> None:
    spoil, check, verdict, says = REFUSED[name]
    here = world()
    clock["world"] = here
    spoil(here)
    before = {name: (one.digest, one.running, one.weight) for name, one in here.slots.items()}
    section = carry(here, deploy, Journal(), version="2.0")
    assert section is not None
    assert section.verdict is Verdict.CRITICAL
    found = [one for one in section.findings if one.check == check and one.verdict is verdict]
    assert any(says in one.observed for one in found), section.findings
    assert not here.did
    assert before == {name: (one.digest, one.running, one.weight) for name, one in here.slots.items()}
    assert rollout(here).phase is Phase.REFUSED
    assert rollout(here).why


def test_every_stage_must_have_admitted_it(clock: dict[str, World]) -> None:
    here = world(text=STAGES)
    clock["world"] = here
    section = carry(here, deploy, Journal(), version="2.0")
    assert section is not None
    assert line(section, "delivery.admitted").observed == "it was not admitted to dev"
    here = world(text=STAGES)
    clock["world"] = here
    with here.records.changing() as desk:
        for stage in ("dev", "staging"):
            desk.put(Admission(id=f"{stage}/{NEW}", stage=stage, digest=NEW, time=here.now(), by="ci", run="r"))
    section = carry(here, deploy, Journal(), version="2.0")
    assert section is not None
    assert section.verdict is Verdict.OK


def test_an_artifact_that_does_not_fit_its_statement_is_an_error(clock: dict[str, World]) -> None:
    here = world()
    clock["world"] = here

    def verify(_: str) -> Any:
        raise EvidenceError("the artifact's digest is not that of its statement")

    here.verify = verify  # type: ignore[method-assign]
    with pytest.raises(EvidenceError, match="digest"):
        carry(here, deploy, Journal(), version="2.0")
    assert not here.did


def test_a_version_must_be_named_and_a_strategy_known(clock: dict[str, World]) -> None:
    here = world()
    clock["world"] = here
    with pytest.raises(UsageError, match="which release"):
        carry(here, deploy, Journal())
    with pytest.raises(UsageError, match="no strategy 'purple'"):
        carry(here, deploy, Journal(), version="2.0", strategy="purple")


def test_a_migration_that_the_program_did_not_apply_is_found(clock: dict[str, World]) -> None:
    here = world()
    clock["world"] = here
    here.migrate = lambda *_, **__: None  # type: ignore[method-assign]
    section = carry(here, deploy, Journal(), version="2.0")
    assert section is not None
    assert "is not applied, though the program ended well" in line(section, "delivery.rollout").observed
    assert everywhere(here) == OLD


def test_a_first_release_has_nothing_to_go_back_to(clock: dict[str, World]) -> None:
    here = world()
    clock["world"] = here
    for one in here.slots.values():
        one.digest, one.running, one.weight = "", False, 0
    section = carry(here, deploy, Journal(), version="2.0")
    assert section is not None
    assert section.verdict is Verdict.OK, section.findings
    assert everywhere(here) == NEW
    bad = world(nature=Nature(tested=False))
    clock["world"] = bad
    for one in bad.slots.values():
        one.digest, one.running, one.weight = "", False, 0
    section = carry(bad, deploy, Journal(), version="2.0")
    assert section is not None
    assert section.verdict is Verdict.CRITICAL
    assert rollout(bad).phase is Phase.ROLLED_BACK
    assert not any(one.weight for one in bad.slots.values())


def test_an_expansion_behind_a_contraction_waits_for_it() -> None:
    drop = Migration(name="2_contract", sha256="2", contract=True)
    add = Migration(name="3_expand", sha256="3")
    both = release(NEW, "2.0", drop, add)
    fits = compatible(both, [], known_by([both]))
    assert fits.refused == ("3_expand comes after 2_contract, which contracts: that is applied first, in its own time",)
    assert compatible(both, [Applied("2_contract", "2")], known_by([both])).expand == ("3_expand",)
    assert compatible(both, [Applied("2_contract", "2"), Applied("3_expand", "3")], known_by([both])).now


def test_an_expansion_that_only_others_know_hurts_nobody() -> None:
    base, more = Migration(name="1", sha256="1"), Migration(name="2", sha256="2")
    old, new = release(OLD, "1.0", base), release(NEW, "2.0", base, more)
    there = [Applied("1", "1"), Applied("2", "2")]
    assert compatible(old, there, known_by([old, new])).now
    contracting = msgspec.structs.replace(more, contract=True)
    assert not compatible(old, there, known_by([old, release(NEW, "2.0", base, contracting)])).now
    assert breaks(old, ["2"]) == ["2"]
