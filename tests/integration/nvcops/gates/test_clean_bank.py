"""Each gate refuses its own seeded fault, and lets the real bank pass."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any

import pytest
from gates_world import ACCEPTED, BESIDE, KNOWN, Bank, Histories, advisories, gate, git, said

from nvcops.core.checks import Verdict
from nvcops.core.gates import GateVerdict
from nvcops.core.manifest.delivery import GATE_KINDS
from scripts_of_ours import script

MEASURE = """
import sys, time, json
sys.path.insert(0, sys.argv[1] + "/app")
import nvcbank.errors
began = time.perf_counter()
sum(number * number for number in range(600_000))
print(json.dumps({"work_s": time.perf_counter() - began}))
"""
HISTORY = Histories({"database-backup": (dt.timedelta(hours=5), Verdict.OK)})


def configured(kind: str, folder: Path, *, seeded: bool = False) -> dict[str, Any]:
    """The options with which the manifest asks a gate of the bank."""
    options: dict[str, dict[str, Any]] = {
        "vulnerabilities": {"advisories": advisories(folder / "advisories.json")},
        "secrets": {"accepted": ACCEPTED},
        "licence": {"known": KNOWN, "accepted": BESIDE},
        "performance": {"worse": "50 %" if seeded else "400 %"},  # this machine has other work to do
        "compliance": {"database-backup": "6 h"},
    }
    more: dict[str, Any] = {"options": options.get(kind, {})}
    if kind == "performance":
        more["program"] = (sys.executable, "-S", str(script(folder / "measure", MEASURE)), "{release}")
    if kind == "program":
        fault = folder / "fault"
        fault.mkdir()
        (fault / "fault.txt").write_text("fault")
        more["program"] = (str(script(folder / "look", "import os, sys; sys.exit(os.path.exists(sys.argv[1]))")),)
        more["program"] += ("{release}/fault.txt",)
        more["control"] = fault
    return more


@pytest.mark.parametrize("kind", list(GATE_KINDS))
def test_a_gate_refuses_its_seeded_fault(kind: str, bank: Bank, tmp_path: Path) -> None:
    asked = gate(kind, **configured(kind, tmp_path, seeded=True))
    report = bank.runner(tmp_path / "work", HISTORY).control(asked, bank.subject(bank.one))
    assert report.verdict is GateVerdict.REFUSED, said(report)
    assert not list((tmp_path / "work").iterdir()), "what a gate worked in is gone"


@pytest.mark.parametrize("kind", list(GATE_KINDS))
def test_a_gate_lets_the_real_bank_pass(kind: str, bank: Bank, tmp_path: Path) -> None:
    asked = gate(kind, **configured(kind, tmp_path))
    subject = bank.subject(bank.two, previous=bank.one.digest, checkout=str(bank.checkout))
    report = bank.runner(tmp_path / "work", HISTORY).judge(asked, subject)
    assert report.verdict is GateVerdict.PASS, said(report)
    assert report.checked > 0


def test_the_first_release_of_all_passes_without_one_before(bank: Bank, tmp_path: Path) -> None:
    for kind in ("migrations", "performance"):
        folder = tmp_path / kind
        folder.mkdir()
        report = bank.runner(folder / "work").judge(gate(kind, **configured(kind, folder)), bank.subject(bank.one))
        assert report.verdict is GateVerdict.PASS, said(report)


def test_a_slower_release_is_refused(bank: Bank, tmp_path: Path) -> None:
    slower = MEASURE.replace("600_000", '6_000_000 if sys.argv[1].endswith("/release") else 600_000')
    program = (sys.executable, "-S", str(script(tmp_path / "measure", slower)), "{release}")
    asked = gate("performance", program=program, options={"worse": "50 %"})
    report = bank.runner(tmp_path / "work").judge(asked, bank.subject(bank.two, previous=bank.one.digest))
    assert report.verdict is GateVerdict.REFUSED, said(report)


def test_a_vulnerable_package_of_the_real_lock_is_found_in_the_file(bank: Bank, tmp_path: Path) -> None:
    file = advisories(tmp_path / "advisories.json", package="Django")
    runner, subject = bank.runner(tmp_path / "work"), bank.subject(bank.one)
    report = runner.judge(gate("vulnerabilities", options={"advisories": file}), subject)
    assert report.verdict is GateVerdict.REFUSED, said(report)
    assert [line.rule for line in report.lines] == ["TEST-2026-1"]
    for until, verdict in (("2026-11-24", GateVerdict.PASS), ("2026-11-23", GateVerdict.REFUSED)):
        options = {"advisories": file, "ignore": f"TEST-2026-1 until {until}"}
        assert runner.judge(gate("vulnerabilities", options=options), subject).verdict is verdict


@pytest.mark.parametrize("age_days", [8, -1])
def test_advisories_of_long_ago_or_of_tomorrow_tell_nothing(age_days: int, bank: Bank, tmp_path: Path) -> None:
    file = advisories(tmp_path / "advisories.json", age=dt.timedelta(days=age_days))
    asked = gate("vulnerabilities", options={"advisories": file})
    for report in (
        bank.runner(tmp_path / "work").judge(asked, bank.subject(bank.one)),
        bank.runner(tmp_path / "work").control(asked, bank.subject(bank.one)),
    ):
        assert report.verdict is GateVerdict.UNKNOWN, said(report)


def test_without_the_network_nothing_is_known(bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    report = bank.runner(tmp_path / "work").judge(gate("vulnerabilities"), bank.subject(bank.one))
    assert report.verdict is GateVerdict.UNKNOWN, said(report)


def test_a_checkout_counts_only_at_the_releases_commit_and_clean(bank: Bank, tmp_path: Path) -> None:
    runner, other = bank.runner(tmp_path / "work"), tmp_path / "other"
    git(bank.checkout, "clone", "-q", str(bank.checkout), str(other))
    assert runner.judge(gate("tests"), bank.subject(bank.two, checkout=str(other))).verdict is GateVerdict.PASS
    cases = {"": "no checkout", str(tmp_path): "git cannot tell"}
    (other / "tests" / "test_passwords.py").write_text("def test_nothing(): pass\n")
    cases[str(other)] = "has changes"
    for checkout, says in cases.items():
        report = runner.judge(gate("tests"), bank.subject(bank.two, checkout=checkout))
        assert (report.verdict, says in report.sentence) == (GateVerdict.UNKNOWN, True), said(report)
    git(other, "commit", "-q", "-a", "-m", "other")
    report = runner.judge(gate("tests"), bank.subject(bank.two, checkout=str(other)))
    assert "was built of" in report.sentence
    assert report.verdict is GateVerdict.UNKNOWN


@pytest.mark.parametrize(
    ("ago", "verdict", "expected"),
    [
        (dt.timedelta(hours=6), Verdict.OK, GateVerdict.PASS),
        (dt.timedelta(hours=6), Verdict.WARNING, GateVerdict.PASS),
        (dt.timedelta(hours=6, seconds=1), Verdict.OK, GateVerdict.REFUSED),
        (dt.timedelta(hours=1), Verdict.CRITICAL, GateVerdict.REFUSED),
        (dt.timedelta(hours=1), Verdict.UNKNOWN, GateVerdict.REFUSED),
        (dt.timedelta(hours=-1), Verdict.OK, GateVerdict.REFUSED),
        (None, Verdict.OK, GateVerdict.REFUSED),
    ],
)
def test_a_control_has_young_and_good_evidence(
    ago: dt.timedelta | None, verdict: Verdict, expected: GateVerdict, bank: Bank, tmp_path: Path
) -> None:
    history = Histories({"database-backup": (ago, verdict)} if ago is not None else {})
    asked = gate("compliance", options={"database-backup": "6 h"})
    report = bank.runner(tmp_path / "work", history).judge(asked, bank.subject(bank.one))
    assert report.verdict is expected, said(report)


def test_what_nobody_keeps_is_no_evidence(bank: Bank, tmp_path: Path) -> None:
    report = bank.runner(tmp_path / "work").judge(gate("compliance", options={"a": "1 h"}), bank.subject(bank.one))
    assert report.verdict is GateVerdict.UNKNOWN


def test_a_migration_that_is_pending_is_looked_at_closely(bank: Bank, tmp_path: Path) -> None:
    """Against the release before the bank's own migrations are known, and only the new one is squawk's affair."""
    runner = bank.runner(tmp_path / "work")
    report = runner.judge(gate("migrations"), bank.subject(bank.two, previous=bank.one.digest))
    assert "1 of them pending" in report.sentence
    back = runner.judge(gate("migrations"), bank.subject(bank.one, previous=bank.two.digest))
    assert (back.verdict, [line.rule for line in back.lines]) == (GateVerdict.REFUSED, ["withdrawn"])
