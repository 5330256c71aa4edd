"""Severity by the runbook's levels, and what may lower it."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from hypothesis import example as of
from hypothesis import given
from hypothesis import strategies as st
from incident_world import DOOR, NOON, ONE, TWO, alert, example, notice

from nvcops.alerts.signals import Watchman
from nvcops.core.alerts import Alert, Category
from nvcops.core.incidents import Severity, Signal
from nvcops.core.manifest import ClusterEntry
from nvcops.core.watch import Look
from nvcops.health.watch import probes_of
from nvcops.incidents.correlation import row_of
from nvcops.incidents.impact import Rates, figure_sources, signs_of_rates
from nvcops.incidents.severity import RULES, Sign, again, infer, signs_of, worse

MANIFEST = example()
OURS = ("alertname", "category")
HIGH, MEDIUM, LOW = Category.HIGH, Category.MEDIUM, Category.LOW


def severity_of(*alerts: Alert) -> str:
    return infer(signs_of([row_of(1, one) for one in alerts], MANIFEST))[0].value


def part(role: str, name: str, signal: str, category: Category = Category.CRITICAL) -> Alert:
    return alert(kind="http", service="bank", role=role, part=name, signal=signal, category=category, probe=name)


@pytest.mark.parametrize(
    ("alerts", "severity"),
    [
        # P0: complete outage, breach, corruption, payments failing
        ([DOOR], "P0"),
        ([ONE, TWO], "P0"),
        ([alert(kind="sql", probe="db-1")], "P0"),
        ([alert(kind="payment", probe="payment")], "P0"),
        ([alert("HighErrorRatio", indicator="outcomes", service="bank", value=0.12)], "P0"),
        ([alert("HighErrorRatio", indicator="errors", service="bank", value=0.5)], "P0"),
        ([alert("Books", signal="corruption", category=LOW)], "P0"),
        ([alert("Leak", signal="breach", category=HIGH)], "P0"),
        # P1: partial outage, performance down more than half, sign-in, compliance
        ([ONE], "P1"),
        ([alert(kind="cache", probe="cache")], "P1"),
        ([alert("HighErrorRatio", indicator="outcomes", service="bank", value=0.09)], "P1"),
        ([alert("HighErrorRatio", indicator="errors", service="bank", value=0.49)], "P1"),
        ([alert("ErrorBudgetBurn", indicator="latency", service="bank", value=0.51, category=MEDIUM)], "P1"),
        ([alert(signal="sign-in", category=LOW)], "P1"),
        ([alert(signal="compliance", category=LOW)], "P1"),
        # P2: what is not critical, performance down less than half, minor security, lost redundancy
        ([alert("ErrorBudgetBurn", indicator="latency", service="bank", value=0.5, category=HIGH)], "P2"),
        ([alert("ErrorBudgetBurn", indicator="errors", service="bank", value=0.01, category=HIGH)], "P2"),
        ([alert(kind="sql", probe="db-2", category=HIGH)], "P2"),
        ([alert(kind="replication", probe="db-2", category=LOW)], "P2"),
        ([alert(signal="security", category=LOW)], "P2"),
        ([alert("Odd", category=HIGH)], "P2"),
        # P3: the rest
        ([alert("ErrorBudgetBurn", indicator="errors", service="bank", value=0.002, category=MEDIUM)], "P3"),
        ([alert("ErrorBudgetBurn", indicator="latency", service="bank", value=0.02, category=MEDIUM)], "P3"),
        ([alert("Cosmetic", category=LOW)], "P3"),
        ([alert(signal="request")], "P3"),
        # as our own probes say it
        ([part("front-door", "bank", "outage")], "P0"),
        ([part("instance", "bank-1", "redundancy", HIGH)], "P2"),
        ([part("instance", "bank-1", "redundancy", HIGH), part("instance", "bank-2", "redundancy", HIGH)], "P0"),
        ([part("instance", "bank-1", "feature", HIGH), part("instance", "bank-2", "redundancy", HIGH)], "P2"),
        ([], "P3"),
    ],
)
def test_the_levels_of_the_runbook(alerts: list[Alert], severity: str) -> None:
    assert severity_of(*alerts) == severity


def test_every_signal_has_its_rule() -> None:
    assert set(RULES) == set(Signal)


def test_a_probes_figure_is_no_share() -> None:
    slow = alert(kind="payment", probe="payment", value=0.001)
    assert severity_of(slow) == "P0"


def test_with_a_cluster_one_server_is_a_part_of_the_whole() -> None:
    clustered = msgspec.structs.replace(MANIFEST, cluster=ClusterEntry(scope="s", members=(), etcd=()))
    rows = [row_of(1, alert(kind="sql", probe="db-1"))]
    assert infer(signs_of(rows, clustered))[0] is Severity.P1


SIGNS = st.builds(
    Sign,
    signal=st.sampled_from(Signal),
    seen=st.just("seen"),
    source=st.sampled_from([f"alert:{n}" for n in range(5)]),
    share=st.none() | st.floats(0, 1),
    category=st.sampled_from(Category),
)
SOURCES = st.sets(st.sampled_from([f"alert:{n}" for n in range(5)]))


PAID = Sign(signal=Signal.PAYMENTS, seen="", source="alert:1", category=Category.CRITICAL)


@of(signs=[PAID], more=msgspec.structs.replace(PAID, category=Category.HIGH))
@given(signs=st.lists(SIGNS, max_size=6), more=SIGNS)
def test_another_sign_never_makes_it_milder(signs: list[Sign], more: Sign) -> None:
    before, _ = infer(signs)
    after, reasons = infer([*signs, more])
    assert not worse(before, after)
    assert reasons[0].severity is after


@given(st.lists(SIGNS, max_size=6), st.lists(SIGNS, max_size=6), SOURCES)
def test_it_falls_only_by_what_was_looked_at(before: list[Sign], now: list[Sign], looked_at: set[str]) -> None:
    severity, reasons = infer(before)
    result = again(reasons, now, looked_at)
    assert all(reason.source in looked_at for reason in result.over)
    if worse(severity, result.severity):
        worst = [reason for reason in reasons if reason.severity is severity]
        there = {(reason.rule, reason.source) for reason in result.reasons}
        for reason in worst:  # each is over, or says something milder of itself now
            assert reason in result.over or (reason.rule, reason.source) in there
    assert again(reasons, before, set()).reasons == reasons


def test_figures_of_a_window_are_signs_only_beyond_their_objective_and_of_enough_events() -> None:
    fine = Rates(service="bank", requests=1000, failed=1, outcomes=1000, outcomes_failed=5, mean_s=0.2)
    assert signs_of_rates([fine], MANIFEST) == []
    few = Rates(service="bank", requests=19, failed=19, outcomes=19, outcomes_failed=19, mean_s=9.0)
    assert signs_of_rates([few], MANIFEST) == []
    assert figure_sources([few, Rates(service="bank", trouble="no answer")], 20) == set()
    bad = Rates(service="bank", requests=1000, failed=501, outcomes=1000, outcomes_failed=6, mean_s=0.31)
    signs = signs_of_rates([bad], MANIFEST)
    assert [sign.signal for sign in signs] == [Signal.PAYMENTS, Signal.ERRORS, Signal.PERFORMANCE]
    assert [reason.severity.value for reason in infer(signs)[1]] == ["P0", "P1", "P1"]


def test_a_notice_knows_its_worst_category() -> None:
    assert notice(DOOR.starts, [alert(category=LOW), alert(category=HIGH)]).category is HIGH


def test_what_could_not_be_looked_at_is_no_outage() -> None:
    probe = next(one for one in probes_of(MANIFEST) if one.name == "front-door.bank")
    watchman, said = Watchman([probe], MANIFEST), []
    for second in range(0, 900, 30):
        look = Look(probe=probe.name, time=NOON + dt.timedelta(seconds=second), why="no descriptors", known=False)
        said += watchman.hear([look])
    blind = alert(said[-1].labels["alertname"], **{k: v for k, v in said[-1].labels.items() if k not in OURS})
    assert severity_of(msgspec.structs.replace(blind, category=HIGH)) == "P2"
