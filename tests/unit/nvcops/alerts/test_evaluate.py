"""The evaluator over time: restarts, ends, what cannot be read, approved changes, and how soon ten percent page."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest

from nvcops.alerts.evaluate import RESOLVED_FOR, SOURCE, Evaluator, labels_of
from nvcops.alerts.readings import budgets
from nvcops.alerts.rules import Rule, rules_of
from nvcops.alerts.said import Said
from nvcops.core.alerts import Alert, category_of, fingerprint
from nvcops.core.errors import DeadlineExceeded, StateError, Unreachable
from nvcops.core.slo import EXCLUSIONS_MAX, Events, Exclusion, left_out
from nvcops.core.target import Increase, Sample, ScrapeSummary
from rule_cases import BEGIN, SeriesTwin, expand, manifest, probes

GOOD = 'requests_total{route="/buy",status="200"}'
BAD = 'requests_total{route="/buy",status="500"}'
DISK = 'nvcops_probe_value{kind="disk",probe="disk.data"}'
RULES = {rule.name.removeprefix("shop/"): rule for rule in rules_of(manifest(), probes())}
MINUTE = dt.timedelta(minutes=1)


def at(minutes: float) -> dt.datetime:
    return BEGIN + minutes * MINUTE


def series(**values: str) -> SeriesTwin:
    names = {"good": GOOD, "bad": BAD, "disk": DISK, "ready": "probe_success", "up": "up"}
    return SeriesTwin({names[name]: expand(written) for name, written in values.items()}, 60)


def alert_of(said: Said, **changes: Any) -> Alert:
    """As the desk would keep it."""
    kept: dict[str, Any] = {
        "fingerprint": said.fingerprint,
        "labels": said.labels,
        "annotations": said.annotations,
        "source": said.source,
        "category": category_of(said.labels),
        "starts": said.starts,
        "noticed": said.starts,
        "updated": said.starts,
    }
    return Alert(**{**kept, **changes})


def until(evaluator: Evaluator, metrics: Any, minutes: int, begin: int = 0) -> list[Said]:
    said: list[Said] = []
    for minute in range(begin, minutes + 1):
        said = evaluator.evaluate(metrics, at(minute))
    return said


def only(*names: str) -> list[Rule]:
    return [RULES[name] for name in names]


# --- Firing, ending, beginning again ---


def test_an_alert_says_since_when_and_what_was_seen() -> None:
    (said,) = until(Evaluator(only("errors/high"), []), series(good="0+90x20", bad="0+10x20"), 6)
    assert said.labels == labels_of(RULES["errors/high"])
    assert said.annotations["value"] == "0.1"
    assert said.annotations["seen"] == "10 % of 500 over 5 min"
    assert (said.starts, said.ends, said.source) == (at(1), None, SOURCE)


def test_the_hold_counts_from_when_it_began_and_the_alert_starts_there() -> None:
    evaluator, metrics = Evaluator(only("disk.data/disk_used/warning"), []), series(disk="0.5+0x3 0.85+0x20")
    assert until(evaluator, metrics, 8) == []
    (said,) = evaluator.evaluate(metrics, at(9))
    assert said.starts == at(4)


def test_an_end_is_said_for_five_minutes_and_then_no_more() -> None:
    evaluator, metrics = Evaluator(only("errors/high"), []), series(good="0+100x40", bad="0+100x5 500+0x40")
    until(evaluator, metrics, 9)
    ends = [evaluator.evaluate(metrics, at(minute)) for minute in range(10, 18)]
    assert [[said.ends for said in one] for one in ends] == [[at(10)]] * 5 + [[]] * 3
    assert RESOLVED_FOR == 5 * MINUTE


def test_what_fires_again_is_a_new_firing() -> None:
    metrics = series(good="0+100x40", bad="0+100x5 500+0x5 600+100x20")
    evaluator = Evaluator(only("errors/high"), [])
    first, second = until(evaluator, metrics, 6)[0], until(evaluator, metrics, 14, begin=7)[0]
    assert (first.starts, second.starts, second.ends) == (at(1), at(12), None)
    assert first.fingerprint == second.fingerprint


# --- Restarts ---


def test_after_a_restart_what_fires_goes_on_with_its_beginning() -> None:
    metrics = series(good="0+90x60", bad="0+10x60")
    before = until(Evaluator(only("errors/high"), []), metrics, 20)
    (said,) = Evaluator(only("errors/high"), [alert_of(one) for one in before]).evaluate(metrics, at(30))
    assert (said.starts, said.ends) == (at(1), None)


def test_after_a_restart_a_hold_is_not_waited_for_again() -> None:
    metrics = series(disk="0.85+0x60")
    before = until(Evaluator(only("disk.data/disk_used/warning"), []), metrics, 10)
    (said,) = Evaluator(only("disk.data/disk_used/warning"), [alert_of(one) for one in before]).evaluate(
        metrics, at(11)
    )
    assert (said.starts, said.ends) == (at(0), None)


def test_after_a_restart_what_nothing_is_known_of_goes_on_with_what_was_seen() -> None:
    metrics = series(good="0+90x20 1800+0x60", bad="0+10x20 200+0x60")
    before = until(Evaluator(only("errors/high"), []), metrics, 20)
    after = Evaluator(only("errors/high"), [alert_of(one) for one in before])
    (said,) = until(after, metrics, 60, begin=40)
    assert said.ends is None
    assert said.annotations == before[0].annotations


def test_what_ended_while_nobody_evaluated_ends() -> None:
    metrics = series(good="0+100x60", bad="0+100x20 2000+0x40")
    before = until(Evaluator(only("errors/high"), []), metrics, 20)
    (said,) = Evaluator(only("errors/high"), [alert_of(one) for one in before]).evaluate(metrics, at(40))
    assert said.ends == at(40)


def test_an_alert_whose_rule_is_gone_ends_and_those_of_others_are_left_alone() -> None:
    metrics = series(good="0+90x60", bad="0+10x60")
    before = until(Evaluator(only("errors/high"), []), metrics, 20)
    foreign = alert_of(before[0], source="prometheus", fingerprint="0" * 16)
    after = Evaluator(only("orders/high"), [*map(alert_of, before), foreign])
    (said,) = after.evaluate(metrics, at(21))
    assert (said.fingerprint, said.ends) == (before[0].fingerprint, at(21))
    assert after.evaluate(metrics, at(22)) == []


# --- What cannot be read ---


class Broken:
    """A metrics server that is gone."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def increases(self, *_: Any) -> list[Increase]:
        raise self.error

    def samples(self, *_: Any) -> list[Sample]:
        raise self.error

    def scrapes(self, *_: Any) -> ScrapeSummary:
        raise self.error


@pytest.mark.parametrize("error", [Unreachable("prometheus does not answer"), StateError("the file is locked")])
def test_what_cannot_be_read_freezes_the_verdicts_and_is_alerted(error: Exception) -> None:
    rules = only("errors/high", "orders/high", "metrics-missing", "availability/uncounted")
    evaluator = Evaluator(rules, [])
    healthy = series(good="0+90x60", bad="0+10x60", up="1+0x60", ready="1+0x60", disk="0.5+0x60")
    assert [said.labels["alertname"] for said in until(evaluator, healthy, 20)] == ["HighErrorRatio"]
    said = until(evaluator, Broken(error), 22, begin=21)
    names = sorted(one.labels["alertname"] for one in said if one.ends is None)
    assert names == ["HighErrorRatio", "MetricsMissing", "ObjectiveUnmeasured"]
    assert next(one for one in said if one.labels["alertname"] == "MetricsMissing").annotations["seen"] == str(error)


def test_a_server_that_does_not_answer_is_waited_for_once() -> None:
    waited: list[str] = []

    class Hanging(Broken):
        def increases(self, service: str, *_: Any) -> list[Increase]:
            waited.append(service)
            raise self.error

        samples = increases  # type: ignore[assignment]

    Evaluator(list(RULES.values()), []).evaluate(Hanging(DeadlineExceeded("no answer within 10 s")), at(0))
    assert sorted(waited) == ["nvcops", "shop"]


def test_no_data_from_the_beginning_fires_no_verdict() -> None:
    said = until(Evaluator(list(RULES.values()), []), series(), 40)
    assert {one.labels["alertname"] for one in said} == {"MetricsMissing", "ObjectiveUnmeasured"}


# --- Approved changes ---


def change(begin: float, end: float, **changes: Any) -> Exclusion:
    given = {"change": "C-7", "approved_by": "omar", "approved": at(begin), "service": "shop"}
    return Exclusion(start=at(begin), end=at(end), **{**given, **changes})


FAULT = {"good": "0+100x60 6000+0x9 6100+100x60", "bad": "0+0x60 100+100x9 1000+0x60"}  # minutes 61 to 70


def burning(exclusions: Sequence[Exclusion], minute: int = 74) -> list[Said]:
    evaluator, metrics = Evaluator(only("errors/burn-14.4", "errors/high"), []), series(**FAULT)
    for number in range(minute):
        evaluator.evaluate(metrics, at(number), exclusions)
    return [said for said in evaluator.evaluate(metrics, at(minute), exclusions) if said.ends is None]


def test_what_an_approved_change_took_burns_no_budget_and_a_real_fault_in_it_still_pages() -> None:
    said = burning([change(60, 71)], 68)
    assert [one.labels["alertname"] for one in said] == ["HighErrorRatio"]
    assert len(burning([], 68)) == 2


def test_only_the_time_after_the_approval_is_left_out() -> None:
    assert len(burning([change(60, 71, approved=at(66))], 65)) == 2


def test_a_change_of_another_service_takes_nothing_and_one_of_all_takes_all() -> None:
    assert len(burning([change(60, 71, service="bank")], 68)) == 2
    assert len(burning([change(60, 71, service="")], 68)) == 1


def test_the_raw_figure_stands_beside_the_corrected_one() -> None:
    said = {one.labels.get("burn"): one for one in burning([change(60, 65)], 70)}
    assert said["14.4"].annotations["seen"] == (
        "9.09 % of 5,500 over 1 h; 100 % of 500 over 5 min; with what C-7 took 16.7 % of 6,000 over 1 h"
    )


def test_a_budget_keeps_both_figures_and_the_changes() -> None:
    objective = next(
        one for one in budgets(manifest(), series(**FAULT), at(120), [change(60, 65)]) if one.objective == "errors"
    )
    assert (objective.raw, objective.corrected) == (Events(12_000.0, 1_000.0), Events(11_500.0, 500.0))
    assert (objective.changes, objective.left_out_s) == (("C-7",), 300.0)
    assert str(objective.raw_left) == "-8,233 %"
    assert str(objective.corrected_left) == "-4,248 %"


def test_overlapping_changes_are_taken_once() -> None:
    both = budgets(manifest(), series(**FAULT), at(120), [change(60, 65), change(62, 65, change="C-8")])
    objective = next(one for one in both if one.objective == "errors")
    assert objective.corrected == Events(11_500.0, 500.0)
    assert objective.changes == ("C-7", "C-8")


def test_nothing_counted_is_no_budget_used_and_none_left() -> None:
    objective = budgets(manifest(), series(), at(10))[1]
    assert (objective.raw_left, objective.corrected_left) == (None, None)


@pytest.mark.parametrize("wrong", [{"change": ""}, {"approved_by": ""}])
def test_time_is_left_out_under_an_approved_change_only(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="only under an approved change"):
        change(0, 10, **wrong)


def test_a_change_has_a_duration_and_there_are_not_thousands() -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        change(10, 10)
    with pytest.raises(ValueError, match="more than the"):
        left_out([change(0, 10)] * (EXCLUSIONS_MAX + 1), "shop", at(0), at(20))


# --- How soon ---


def test_ten_percent_page_by_the_ratio_long_before_the_budget_tells(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A clean day at 200 requests a minute, then one in ten fails; looked at each 15 seconds."""
    clean, wrong, interval_s = 24 * 240, 15 * 4, 15
    good = [50.0 * tick for tick in range(clean)]
    values = {
        GOOD: [*good, *(good[-1] + 45.0 * (tick + 1) for tick in range(wrong))],
        BAD: [*[0.0] * clean, *(5.0 * (tick + 1) for tick in range(wrong))],
    }
    rules = {rule.name.removeprefix("shop/"): rule for rule in rules_of(manifest(interval_s), probes())}
    metrics = SeriesTwin(dict(values), interval_s)
    evaluator = Evaluator([rules["errors/high"], rules["errors/burn-14.4"]], [])
    begin, paged = (clean - 1) * interval_s, dict[str, float]()
    for tick in range(clean - 240, clean + wrong):
        for said in evaluator.evaluate(metrics, BEGIN + dt.timedelta(seconds=tick * interval_s)):
            paged.setdefault(said.labels["alertname"], tick * interval_s - begin)
    with capsys.disabled():
        print(
            f"\n10 % errors page after: ratio {paged['HighErrorRatio']:g} s, burn rate {paged['ErrorBudgetBurn']:g} s"
        )
    assert paged["HighErrorRatio"] == 165  # 5 % of 5 minutes: more than half of the window is bad
    assert paged["ErrorBudgetBurn"] == 525  # 14.4 times 0.1 % of an hour: more than 14.4 % of the window is bad


def test_the_fingerprint_that_is_said_is_that_of_the_labels() -> None:
    (said,) = until(Evaluator(only("errors/high"), []), series(good="0+90x20", bad="0+10x20"), 6)
    assert said.fingerprint == fingerprint(labels_of(RULES["errors/high"]))
