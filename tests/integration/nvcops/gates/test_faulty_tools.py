"""Tools that hang, crash, print garbage or are not installed: a gate that could not run has not let anything pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from gates_world import Bank, advisories, gate, said

from nvcops.adapters.gates.runner import GateRunner
from nvcops.core.gates import GateReport, GateVerdict
from nvcops.core.manifest.delivery import Gate
from scripts_of_ours import script

WITH_A_TOOL = ("lint", "secrets", "migrations", "vulnerabilities")
FAULTS = {
    "prints nothing and ends well": "",
    "prints garbage and ends well": "print('All good! 100 %')",
    "prints an empty object": "print('{}')",
    "prints null": "print('null')",
    "ends with 2": "import sys; print('[]'); sys.exit(2)",
    "ends with 1 and says nothing": "import sys; sys.exit(1)",
    "kills itself": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "raises": "raise RuntimeError('broken')",
    "cannot find itself": "import sys; print('command not found', file=sys.stderr); sys.exit(127)",
}

HANG = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({pids!r} + ".new", "w").write(f"{{os.getpid()}} {{child.pid}}")
os.rename({pids!r} + ".new", {pids!r})
time.sleep(600)"""
ASKER = """
import datetime as dt, sys
from pathlib import Path
from nvcops.adapters.gates.runner import ask
from nvcops.adapters.gates.asked import Asked
from nvcops.core.manifest.delivery import Gate
from nvcops.core.units import Seconds
work = Path(sys.argv[1])
(work / "work").mkdir(parents=True)
gate = Gate(name="gate", deadline=Seconds(600), program=(sys.argv[2],))
ask(Asked(kind="program", work=str(work / "work"), now=dt.datetime.now(dt.UTC), program=gate.program), gate, work)
"""


def judged(bank: Bank, work: Path, asked: Gate) -> GateReport:
    return bank.runner(work).judge(asked, bank.subject(bank.two, previous=bank.one.digest))


def with_tool(kind: str, tool: Path, folder: Path, deadline_s: float = 30) -> Gate:
    options: dict[str, Any] = {"tool": tool}
    if kind == "vulnerabilities":
        options["advisories"] = advisories(folder / "advisories.json")
    return gate(kind, deadline_s, options=options)


@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("kind", WITH_A_TOOL)
def test_a_tool_that_fails_tells_nothing(kind: str, fault: str, bank: Bank, tmp_path: Path) -> None:
    tool = script(tmp_path / "tool", FAULTS[fault])
    report = judged(bank, tmp_path / "work", with_tool(kind, tool, tmp_path))
    assert report.verdict is GateVerdict.UNKNOWN, said(report)


@pytest.mark.parametrize("kind", WITH_A_TOOL)
def test_a_tool_that_is_not_installed_tells_nothing(kind: str, bank: Bank, tmp_path: Path) -> None:
    report = judged(bank, tmp_path / "work", with_tool(kind, tmp_path / "nowhere", tmp_path))
    assert (report.verdict, "is not installed" in report.sentence) == (GateVerdict.UNKNOWN, True), said(report)


@pytest.mark.parametrize("kind", ["migrations", "program"])
def test_a_tool_that_hangs_is_ended_with_all_that_it_started(kind: str, bank: Bank, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    tool = script(tmp_path / "tool", HANG.format(pids=str(pids)))
    asked = with_tool(kind, tool, tmp_path, 8)
    if kind == "program":
        asked = gate("program", 8, program=(str(tool),))
    began = time.monotonic()
    report = judged(bank, tmp_path / "work", asked)
    assert (report.verdict, report.sentence) == (GateVerdict.UNKNOWN, "it did not end within 8 s")
    assert time.monotonic() - began < 60
    for pid in map(int, pids.read_text().split()):
        gone(pid)


def test_who_asks_and_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    tool = script(tmp_path / "tool", HANG.format(pids=str(pids)))
    asker = subprocess.Popen([sys.executable, "-c", ASKER, str(tmp_path / "asked"), str(tool)])
    try:
        for _ in range(600):
            if pids.exists():
                break
            time.sleep(0.1)
    finally:
        asker.kill()
        asker.wait()
    for pid in map(int, pids.read_text().split()):
        gone(pid)


def gone(pid: int) -> None:
    """Wait until a process is no more; one that nobody has waited for yet is no more either."""
    for _ in range(200):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.05)
    raise AssertionError(f"the process {pid} still lives")


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("", GateVerdict.PASS),
        ("import sys; sys.exit(0)", GateVerdict.PASS),
        ("import sys; sys.exit('no')", GateVerdict.REFUSED),
        ("raise RuntimeError", GateVerdict.REFUSED),
        ("import sys; sys.exit(2)", GateVerdict.UNKNOWN),
        ("import sys; sys.exit(126)", GateVerdict.UNKNOWN),
        ("import sys; sys.exit(127)", GateVerdict.UNKNOWN),
        ("import os; os.kill(os.getpid(), 9)", GateVerdict.UNKNOWN),
        ("import os; os.kill(os.getppid(), 9)", GateVerdict.UNKNOWN),
        ("import os; os.kill(os.getppid(), 15)", GateVerdict.UNKNOWN),
    ],
)
def test_a_program_says_yes_no_or_nothing(body: str, verdict: GateVerdict, bank: Bank, tmp_path: Path) -> None:
    report = judged(bank, tmp_path / "work", gate("program", program=(str(script(tmp_path / "tool", body)),)))
    assert report.verdict is verdict, said(report)


@pytest.mark.parametrize("report", ["junit", "sarif"])
def test_a_program_that_says_yes_and_writes_no_report_tells_nothing(report: str, bank: Bank, tmp_path: Path) -> None:
    tool = script(tmp_path / "tool", "")
    answer = judged(bank, tmp_path / "work", gate("program", program=(str(tool), "{report}"), report=report))
    assert answer.verdict is GateVerdict.UNKNOWN, said(answer)


def test_a_program_that_says_yes_and_reports_a_failure_is_refused(bank: Bank, tmp_path: Path) -> None:
    xml = '<testsuite tests="1"><testcase name="a"><failure message="bad"/></testcase></testsuite>'
    tool = script(tmp_path / "tool", f"import sys; open(sys.argv[1], 'w').write({xml!r})")
    answer = judged(bank, tmp_path / "work", gate("program", program=(str(tool), "{report}"), report="junit"))
    assert answer.verdict is GateVerdict.REFUSED, said(answer)


def test_a_program_that_cannot_be_run_tells_nothing(bank: Bank, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    runner = GateRunner(tmp_path / "work", bank.store, None, environments=tmp_path)
    for program in (("/nowhere/at/all",), (str(plain),), ("\0",), ("{checkout}/a",), ("{python}",)):
        report = runner.judge(gate("program", program=program), bank.subject(bank.one))
        assert report.verdict is GateVerdict.UNKNOWN, said(report)


def test_what_runs_in_a_gate_knows_none_of_our_secrets(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    seen = tmp_path / "seen"
    body = f"import json, os; json.dump(dict(os.environ), open({str(seen)!r}, 'w'))"
    judged(bank, tmp_path / "work", gate("program", program=(str(script(tmp_path / "tool", body)),)))
    environment = json.loads(seen.read_text())
    assert "hunter2" not in environment.values()
    assert environment["HOME"].startswith(str(tmp_path / "work"))


def test_each_gate_has_a_copy_of_its_own(bank: Bank, tmp_path: Path) -> None:
    """What one gate's program does to the release is not what the next one looks at."""
    spoil = script(tmp_path / "spoil", "import shutil, sys; shutil.rmtree(sys.argv[1] + '/app')")
    look = script(tmp_path / "look", "import os, sys; sys.exit(not os.path.isdir(sys.argv[1] + '/app'))")
    for tool in (spoil, look):
        report = judged(bank, tmp_path / "work", gate("program", program=(str(tool), "{release}")))
        assert report.verdict is GateVerdict.PASS, said(report)


def test_an_artifact_that_was_changed_is_not_even_unpacked(bank: Bank, tmp_path: Path) -> None:
    artifact = bank.store.artifact(bank.one.digest)
    data = artifact.read_bytes()
    other = tmp_path / "store"
    other.mkdir()
    (other / artifact.name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    envelope = artifact.with_name(f"{bank.one.digest}.dsse.json")
    (other / envelope.name).write_bytes(envelope.read_bytes())
    store = type(bank.store)(other, bank.store.builders)
    report = GateRunner(tmp_path / "work", store, None).judge(gate("sbom"), bank.subject(bank.one))
    assert report.verdict is GateVerdict.UNKNOWN, said(report)


def test_a_gate_that_cannot_work_anywhere_tells_nothing(bank: Bank, tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file, no folder")
    report = judged(bank, tmp_path / "work", gate("sbom"))
    assert (report.verdict, "cannot work in" in report.sentence) == (GateVerdict.UNKNOWN, True)


def test_what_a_killed_gate_left_is_removed_after_a_day(bank: Bank, tmp_path: Path) -> None:
    work = tmp_path / "work"
    old, young = work / "old", work / "young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    judged(bank, work, gate("sbom"))
    assert [folder.name for folder in work.iterdir()] == ["young"]


def test_a_control_that_the_manifest_names_and_nobody_wrote_tells_nothing(bank: Bank, tmp_path: Path) -> None:
    asked = gate("program", program=("true",), control=tmp_path / "nowhere")
    report = bank.runner(tmp_path / "work").control(asked, bank.subject(bank.one))
    assert (report.verdict, "cannot be read" in report.sentence) == (GateVerdict.UNKNOWN, True)


def test_a_gate_that_refuses_for_another_reason_has_not_found_its_fault(bank: Bank, tmp_path: Path) -> None:
    """Here the linter objects to everything: that the seeded fault would be found is not shown by it."""
    report_file = {
        "version": "2.1.0",
        "runs": [{"tool": {"driver": {"name": "x"}}, "results": [{"message": {"text": "I object"}}]}],
    }
    write = f"import sys; open(sys.argv[1], 'w').write({json.dumps(report_file)!r}); sys.exit(1)"
    asked = gate("lint", program=(str(script(tmp_path / "tool", write)), "{report}"))
    report = bank.runner(tmp_path / "work").control(asked, bank.subject(bank.one))
    assert (report.verdict, "something else" in report.sentence) == (GateVerdict.UNKNOWN, True), said(report)
