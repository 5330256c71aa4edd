"""What is exported: promtool accepts it and comes to the same verdicts; Alertmanager and OpenSLO read it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from msgspec import structs

import promtool
from nvcops.alerts.evaluate import Evaluator
from nvcops.alerts.export import alertmanager_config, openslo, prometheus_rules
from nvcops.alerts.rules import rules_of
from nvcops.core.errors import UsageError
from nvcops.core.manifest import AlertsEntry, Manifest, parse
from nvcops.core.units import Seconds
from rule_cases import BEGIN, Case, SeriesTwin, cases, firing, manifest, probes, random_case, seconds_of

RULES = rules_of(manifest(), probes())
SEEDS = 24


def example() -> Manifest:
    path = Path(__file__).parents[4] / "platforms" / "nvc-bank" / "platform.toml"
    return parse(path.read_text(encoding="utf-8"), path)


@pytest.mark.parametrize("of", [example, manifest], ids=["the example", "the shop"])
def test_promtool_accepts_the_rules(of: type[Manifest], tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(prometheus_rules(of(), probes()), encoding="utf-8")
    said = promtool.run("check", "rules", str(tmp_path / "rules.yml"))
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(rules_of(of(), probes()))} rules found" in said.stdout


@pytest.mark.parametrize("family", ["burn", "high", "drop", "missing", "limit"])
def test_promtool_comes_to_the_same_verdicts(family: str, tmp_path: Path) -> None:
    files = promtool.written_files(tmp_path, prometheus_rules(manifest(), probes()), RULES, cases(family))
    said = promtool.run("test", "rules", *files)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count("SUCCESS") == len(files)


def test_promtool_finds_a_wrong_expectation(tmp_path: Path) -> None:
    """Else the tests above would say nothing."""
    case = replace(cases("high")[0], fires={"5m": ["errors/high"]})
    files = promtool.written_files(tmp_path, prometheus_rules(manifest(), probes()), RULES, [case])
    assert promtool.run("test", "rules", *files).returncode == 1


def judged(case: Case) -> Case:
    """What fires each minute is what our evaluator says."""
    rules = [rule for rule in RULES if rule.name.removeprefix("shop/") in case.only]
    evaluator, twin, fires = Evaluator(rules, []), SeriesTwin(case.values, case.interval_s), {}
    for minute in range(case.last_s // 60 + 1):
        fires[f"{minute}m"] = firing(evaluator.evaluate(twin, BEGIN + dt.timedelta(minutes=minute)), rules)
    return replace(case, fires=fires)


@pytest.mark.parametrize("family", ["burn", "high", "drop"])
def test_promtool_agrees_each_minute_on_random_series(family: str, tmp_path: Path) -> None:
    promtool.promtool()
    counted = [rule.name.removeprefix("shop/") for rule in RULES if rule.labels.get("slo") in ("errors", "orders")]
    only = tuple(name for name in counted if name.split("/")[1].startswith(family))
    drawn = [judged(replace(random_case(seed, family), only=only)) for seed in range(SEEDS)]
    fired = {name for case in drawn for names in case.fires.values() for name in names}
    moved = sum(len({tuple(names) for names in case.fires.values()}) > 1 for case in drawn)
    assert fired
    assert moved >= SEEDS // 3, "series on which nothing happens compare nothing"
    files = promtool.written_files(tmp_path, prometheus_rules(manifest(), probes()), RULES, drawn)
    said = promtool.run("test", "rules", *files)
    assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]


def test_the_rule_file_has_our_labels_annotations_and_hold() -> None:
    (group,) = yaml.safe_load(prometheus_rules(manifest(), probes()))["groups"]
    for written, rule in zip(group["rules"], RULES, strict=True):
        assert (written["alert"], written["labels"], written["annotations"]) == (
            rule.alert,
            rule.labels,
            rule.annotations,
        )
        assert seconds_of(written.get("for", "0s")) == rule.hold


def test_an_alertmanager_routes_everything_to_us_and_says_it_again_in_time() -> None:
    config = yaml.safe_load(alertmanager_config(example()))
    (webhook,) = config["receivers"][0]["webhook_configs"]
    assert webhook["url"] == "http://127.0.0.1:9780/v1/webhook/alertmanager"
    assert webhook["send_resolved"] is True
    assert "http_config" not in webhook
    route = config["route"]
    assert route["receiver"] == config["receivers"][0]["name"]
    assert seconds_of(route["repeat_interval"]) + seconds_of(route["group_interval"]) < example().alerts.resolve_after


def test_an_alertmanager_shows_our_token_and_reaches_us_at_the_address_that_it_is_told() -> None:
    guarded = structs.replace(manifest(), alerts=AlertsEntry(token_file=Path("/etc/token")))
    config = yaml.safe_load(alertmanager_config(guarded, "https://ops.example.com/"))
    (webhook,) = config["receivers"][0]["webhook_configs"]
    assert webhook["url"] == "https://ops.example.com/v1/webhook/alertmanager"
    assert webhook["http_config"]["authorization"] == {"type": "Bearer", "credentials_file": "/etc/token"}


@pytest.mark.parametrize("alerts", [
    AlertsEntry(),
    AlertsEntry(listen="0.0.0.0:9780", token_file=Path("t")),
    AlertsEntry(listen="127.0.0.1:9780", resolve_after=Seconds(10)),
])  # fmt: skip
def test_a_configuration_that_could_not_work_is_not_written(alerts: AlertsEntry) -> None:
    with pytest.raises(UsageError) as caught:
        alertmanager_config(structs.replace(manifest(), alerts=alerts))
    assert caught.value.hint


def test_openslo_has_every_objective_with_its_budgeting_and_its_three_paces() -> None:
    documents = list(yaml.safe_load_all(openslo(manifest())))
    assert {document["apiVersion"] for document in documents} == {"openslo/v1"}
    kinds = [document["kind"] for document in documents]
    assert kinds == ["Service", "DataSource", "AlertNotificationTarget", *["SLO"] * 4]
    slos = {document["metadata"]["name"]: document["spec"] for document in documents if document["kind"] == "SLO"}
    errors = slos["shop-errors"]
    assert errors["budgetingMethod"] == "Occurrences"
    assert errors["timeWindow"] == [{"duration": "28d", "isRolling": True}]
    assert errors["objectives"][0]["target"] == 0.999
    assert set(errors["indicator"]["spec"]["ratioMetric"]) == {"counter", "bad", "total"}
    assert set(slos["shop-orders"]["indicator"]["spec"]["ratioMetric"]) == {"counter", "good", "total"}
    conditions = [policy["spec"]["conditions"][0]["spec"] for policy in errors["alertPolicies"]]
    assert [(one["condition"]["threshold"], one["condition"]["lookbackWindow"]) for one in conditions] == [
        (14.4, "1h"), (6.0, "6h"), (1.0, "3d"),
    ]  # fmt: skip
    assert [one["severity"] for one in conditions] == ["critical", "high", "medium"]
