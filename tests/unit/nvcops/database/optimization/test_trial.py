"""What a trial of a proposal says, from rounds of made-up seconds."""

from __future__ import annotations

import pytest

from nvcops.core.clones import Load
from nvcops.core.units import Ratio
from nvcops.database.optimization.db_optimization import best
from nvcops.database.optimization.proposals import Churned, Kind, Proposal, Setting, Signs, proposals
from nvcops.database.optimization.trial import Round, Sessions, Trial, enough, gain, told

PROPOSAL = Proposal(kind=Kind.SESSION, subject="jit", was="on", to="off", sign="short statements")


def trial(*after: tuple[float, float]) -> Trial:
    """Two statements of 10 and 100 ms, called 10 times and once."""
    rounds = tuple(Round({1: 0.010, 2: 0.100}, {1: one, 2: two}) for one, two in after)
    return Trial(proposal=PROPOSAL, weights={1: 10.0, 2: 1.0}, rounds=rounds)


def test_a_gain_is_weighed_with_the_calls_and_must_hold_in_every_round() -> None:
    found = gain(trial((0.005, 0.100), (0.006, 0.100), (0.005, 0.101)))
    assert found is not None
    assert found.share == pytest.approx(0.245, abs=0.01)
    assert found.worth
    unsteady = gain(trial((0.005, 0.100), (0.0101, 0.100), (0.005, 0.100)))
    assert unsteady is not None
    assert unsteady.share > 0.2
    assert not unsteady.worth, "one round was slower"


def test_a_gain_for_which_one_statement_pays_is_none() -> None:
    found = gain(trial(*[(0.005, 0.120)] * 3))
    assert found is not None
    assert found.share > 0.1
    assert found.slower == {2: 1.2}
    assert not found.worth
    assert "but one takes 1.2 times as long: statement 2" in told(trial(*[(0.005, 0.120)] * 3))


def test_a_gain_for_which_one_statement_fails_is_none() -> None:
    rounds = tuple(Round({1: 0.010, 2: 0.001}, {1: 0.001}) for _ in range(3))
    failing = Trial(proposal=PROPOSAL, rounds=rounds, weights={1: 10.0, 2: 1.0}, texts={2: "SELECT hungry"})
    found = gain(failing)
    assert found is not None
    assert not found.worth
    assert told(failing).endswith("but one is not carried out any more: SELECT hungry")


def test_of_one_table_two_options_may_be_worth_a_change_and_of_one_setting_one_value() -> None:
    busy = Churned(schema="a", table="t", live=1e5, dead=2e4, updates=2e4, hot=1e4)
    tables = proposals(Signs(churned=(busy,)))
    settings = proposals(Signs(settings=(Setting("work_mem", "4096", "kB", "user"),), temp_bytes=1.0))
    rounds = tuple(Round({1: 0.010}, {1: 0.005}) for _ in range(3))
    found = best([Trial(proposal=one, rounds=rounds, weights={1: 1.0}) for one in (*tables, *settings)])
    assert [one.proposal.to for one in found] == ["autovacuum_vacuum_scale_factor=0.02", "fillfactor=85", "16 MiB"]


@pytest.mark.parametrize(("factor", "worth"), [(0.97, True), (0.98, False), (1.0, False), (1.05, False)])
def test_less_than_three_percent_is_not_worth_a_change(factor: float, worth: bool) -> None:
    found = gain(trial(*[(0.0099999 * factor, 0.099999 * factor)] * 3))
    assert found is not None
    assert found.worth is worth


def test_what_could_not_be_measured_says_why_and_gains_nothing() -> None:
    assert gain(Trial(proposal=PROPOSAL)) is None
    assert told(Trial(proposal=PROPOSAL, trouble="it does not come up")) == "it does not come up"
    assert told(Trial(proposal=PROPOSAL, rounds=(Round({1: 1.0}, {}),), weights={1: 1})) == (
        "no statement could be measured"
    )


def test_the_fewest_sessions_that_do_almost_as_much_are_enough() -> None:
    def load(calls: int) -> Load:
        return Load(calls=calls, seconds=1, p50_s=0.001, p99_s=0.01)

    measured = [Sessions(1, load(100)), Sessions(2, load(190)), Sessions(4, load(199)), Sessions(8, load(200))]
    assert enough(measured) == 2
    assert enough([]) is None


def test_a_healthy_server_with_quick_disks_proposes_next_to_nothing() -> None:
    well = Signs(
        settings=(
            Setting("jit", "off", "", "user"),
            Setting("random_page_cost", "1.1", "", "user"),
            Setting("wal_compression", "lz4", "", "superuser"),
            Setting("work_mem", "4096", "kB", "user"),
            Setting("shared_buffers", "16384", "8kB", "postmaster"),
        ),
        hit=1e6,
        read=1e3,
    )
    assert proposals(well) == []


def test_signs_propose_what_may_help_and_say_from_what() -> None:
    signs = Signs(
        settings=(Setting("work_mem", "4096", "kB", "user"), Setting("shared_buffers", "16384", "8kB", "postmaster")),
        temp_bytes=2**30,
        hit=9e5,
        read=1e5,
        churned=(Churned(schema="bank", table='od"d', live=1e5, dead=2e4),),
    )
    found = proposals(signs)
    assert [(one.kind, one.subject, one.to) for one in found] == [
        (Kind.SESSION, "work_mem", "16 MiB"),
        (Kind.SESSION, "work_mem", "64 MiB"),
        (Kind.RESTART, "shared_buffers", "256 MiB"),
        (Kind.TABLE, 'bank.od"d', "autovacuum_vacuum_scale_factor=0.02"),
    ]
    assert found[0].sign == "1 GiB of temporary files were written"
    assert found[2].sign == f"{Ratio(0.9)} of the blocks were found in memory"
    assert found[3].apply == ('ALTER TABLE "bank"."od""d" SET (autovacuum_vacuum_scale_factor = 0.02)',)
