"""Every case of the rules in our own evaluator: over series in memory, and over the store that is really written."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from msgspec.structs import replace

from nvcops.adapters.metrics.store import MetricsStore
from nvcops.alerts.evaluate import Evaluator, labels_of
from nvcops.alerts.rules import Rule, rules_of
from nvcops.core.alerts import Category, category_of, fingerprint
from nvcops.core.manifest import parse
from nvcops.health.watch import probes_of
from rule_cases import BEGIN, Case, SeriesTwin, cases, feed, firing, manifest, probes, random_case, seconds_of

FAMILIES = ("burn", "high", "drop", "missing", "limit")
ALL = [case for family in FAMILIES for case in cases(family)]


def rules_for(case: Case) -> list[Rule]:
    found = [rule for rule in rules_of(manifest(), probes()) if rule.family == case.family]
    return [rule for rule in found if not case.only or rule.name.removeprefix("shop/") in case.only]


@pytest.mark.parametrize("family", FAMILIES)
def test_there_are_enough_cases_of_each_family_and_each_of_its_rules_fires_in_one(family: str) -> None:
    found = cases(family)
    fired = {name for case in found for names in case.fires.values() for name in names}
    names = {rule.name.removeprefix("shop/") for rule in rules_of(manifest(), probes()) if rule.family == family}
    assert len(found) >= 20
    assert fired <= names
    assert len({case.name for case in found}) == len(found)


@pytest.mark.parametrize("case", ALL, ids=str)
def test_a_case_over_series_in_memory(case: Case) -> None:
    rules = rules_for(case)
    evaluator, series = Evaluator(rules, []), SeriesTwin(case.values, case.interval_s)
    expected = {seconds_of(when): sorted(names) for when, names in case.fires.items()}
    for seconds in range(0, case.last_s + 1, case.interval_s):
        said = evaluator.evaluate(series, BEGIN + dt.timedelta(seconds=seconds))
        if seconds in expected:
            assert firing(said, rules) == expected[seconds], f"after {seconds / 60:g} minutes"


@pytest.mark.parametrize("case", [case for case in ALL if case.store], ids=str)
def test_a_case_over_the_real_store(case: Case, tmp_path: Path) -> None:
    store = MetricsStore(tmp_path / "metrics.sqlite", raw_s=48 * 3600, rollups_s=400 * 86400)
    rules = rules_for(case)
    evaluator = Evaluator(rules, [])
    expected = {seconds_of(when): sorted(names) for when, names in case.fires.items()}
    looked = set()
    for at in feed(store, case):
        seconds = int((at - BEGIN).total_seconds())
        said = evaluator.evaluate(store, at)
        if seconds in expected:
            assert firing(said, rules) == expected[seconds], f"after {seconds / 60:g} minutes"
            looked.add(seconds)
    assert looked == set(expected)


@pytest.mark.parametrize("seed", range(4))
def test_the_store_and_series_in_memory_give_the_same_verdicts_on_random_series(seed: int, tmp_path: Path) -> None:
    rules = [rule for rule in rules_of(manifest()) if rule.family in ("burn", "high", "drop")]
    case = random_case(seed, "any")
    store = MetricsStore(tmp_path / "metrics.sqlite", raw_s=48 * 3600, rollups_s=400 * 86400)
    real, memory, twin = Evaluator(rules, []), Evaluator(rules, []), SeriesTwin(case.values, case.interval_s)
    seen = set()
    for at in feed(store, case):
        said = memory.evaluate(twin, at)
        seen |= set(firing(said, rules))
        assert real.evaluate(store, at) == said
    assert seen


def test_the_categories_step_down_from_the_objectives_own() -> None:
    found = {rule.name: rule.category for rule in rules_of(manifest())}
    assert [found[f"shop/errors/burn-{pace}"] for pace in ("14.4", "6", "1")] == [
        Category.CRITICAL,
        Category.HIGH,
        Category.MEDIUM,
    ]
    assert [found[f"shop/latency/burn-{pace}"] for pace in ("14.4", "6", "1")] == [
        Category.HIGH,
        Category.MEDIUM,
        Category.LOW,
    ]
    assert found["shop/errors/high"] is Category.CRITICAL
    assert "shop/latency/high" not in found


def test_every_rule_is_one_alert_of_its_own_and_says_its_category() -> None:
    rules = rules_of(manifest(), probes())
    assert len({rule.name for rule in rules}) == len(rules)
    assert len({fingerprint(labels_of(rule)) for rule in rules}) == len(rules)
    assert all(category_of(rule.labels) is rule.category for rule in rules)
    assert not any("kind" in rule.labels for rule in rules), "`kind` says that a probe itself failed"


def test_a_limit_is_below_its_probe_and_what_has_no_limit_has_no_rule() -> None:
    limits = {rule.name: rule.category for rule in rules_of(manifest(), probes()) if rule.family == "limit"}
    assert len(limits) == len(probes())  # one has none, and the certificate two
    assert limits.pop("certificate.front/certificate_days/warning") is Category.MEDIUM
    assert set(limits.values()) == {Category.HIGH}


def test_a_pace_that_nothing_could_reach_is_no_rule() -> None:
    shop = manifest()
    loose = [slo for slo in shop.slos if slo.name == "errors"]
    rules = rules_of(replace(shop, slos=tuple(replace(slo, target=0.9) for slo in loose)))
    assert [rule.labels["burn"] for rule in rules if rule.family == "burn"] == ["6", "1"]


def test_the_example_has_rules_of_each_family() -> None:
    path = Path(__file__).parents[4] / "platforms" / "nvc-bank" / "platform.toml"
    example = parse(path.read_text(encoding="utf-8"), path)
    rules = rules_of(example, probes_of(example))
    assert {rule.family for rule in rules} == set(FAMILIES)
    assert {rule.labels["limit"] for rule in rules if rule.family == "limit"} == {
        "disk_used", "certificate_days", "replication_lag", "slot_retained", "connections", "lock_wait",
        "idle_in_transaction", "longest_query",
    }  # fmt: skip
    assert all(rule.labels["platform"] == "nvc-bank" for rule in rules)
