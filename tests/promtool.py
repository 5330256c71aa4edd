"""promtool, where it is: Debian's package `prometheus` has it. It need not be installed, only found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml

from nvcops.alerts.rules import Rule
from rule_cases import Case

DEADLINE_S = 240


def promtool() -> str:
    """Its path, from PROMTOOL, PATH or /usr/bin; a test that needs it is skipped where there is none."""
    found = os.environ.get("PROMTOOL") or shutil.which("promtool") or shutil.which("/usr/bin/promtool")
    if not found:
        pytest.skip("promtool is not there: Debian's package `prometheus` has it, or name it in PROMTOOL")
    return found


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it, with what it says."""
    return subprocess.run(
        [promtool(), *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )  # fmt: skip


def rule_file(exported: str, rules: Sequence[Rule], wanted: Sequence[Rule]) -> str:
    """The exported file with only those rules; the order of the rules is the file's."""
    document = yaml.safe_load(exported)
    (group,) = document["groups"]
    group["rules"] = [one for one, rule in zip(group["rules"], rules, strict=True) if rule in wanted]
    return yaml.safe_dump(document)


def written_files(folder: Path, exported: str, rules: Sequence[Rule], cases: Sequence[Case]) -> list[str]:
    """Write the cases as promtool has them, those with the same rules and interval into one file; their paths."""
    written = []
    for number, ((only, interval), group) in enumerate(groupby(sorted(cases, key=_alike), key=_alike)):
        alike = list(group)
        wanted = [rule for rule in rules if _is_meant(rule, alike[0].family, only)]
        (folder / f"rules-{number}.yml").write_text(rule_file(exported, rules, wanted), encoding="utf-8")
        tests = [_test(case, wanted) for case in alike]
        document = {"rule_files": [f"rules-{number}.yml"], "evaluation_interval": interval, "tests": tests}
        path = folder / f"test-{number}.yml"
        path.write_text(json.dumps(document), encoding="utf-8")  # every JSON is YAML
        written.append(str(path))
    return written


def _alike(case: Case) -> tuple[tuple[str, ...], str]:
    return case.only, case.interval


def _is_meant(rule: Rule, family: str, only: tuple[str, ...]) -> bool:
    return rule.family == family and (not only or rule.name.removeprefix("shop/") in only)


def _test(case: Case, rules: Sequence[Rule]) -> dict[str, Any]:
    """Of every alert name: exactly those alerts, with all their labels and annotations."""
    return {
        "name": case.name,
        "interval": case.interval,
        "input_series": [{"series": key, "values": values} for key, values in case.prometheus().items()],
        "alert_rule_test": [
            {
                "eval_time": moment,
                "alertname": alert,
                "exp_alerts": [
                    {"exp_labels": rule.labels, "exp_annotations": rule.annotations}
                    for rule in rules
                    if rule.alert == alert and rule.name.removeprefix("shop/") in names
                ],
            }
            for moment, names in case.fires.items()
            for alert in sorted({rule.alert for rule in rules})
        ],
    }
