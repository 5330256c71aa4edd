"""A gate that is a program: it ends with 0 when it lets pass, with 1 when it does not; all else tells nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nvcops.adapters.gates.asked import Asked, CannotTell
from nvcops.adapters.gates.junit import read_junit
from nvcops.adapters.gates.process import Ended, filled, run
from nvcops.adapters.gates.sarif import read_sarif
from nvcops.core.gates import GateLine, GateReport, judged

_PASSES, _REFUSES = 0, 1
_REPORTS = {"junit": "report.xml", "sarif": "report.sarif"}


def judge(asked: Asked) -> GateReport:
    """Run the manifest's program, and read its report where it writes one."""
    return ask(asked, asked.program, asked.report)


def seed(_asked: Asked) -> Asked:
    """What a program must refuse, only its manifest knows."""
    raise CannotTell("a gate that is a program needs `control`: a folder with a fault that it must refuse")


def ask(
    asked: Asked, program: tuple[str, ...], report: str, *, unit: str = "", environment: Mapping[str, str] | None = None
) -> GateReport:
    """The verdict of a program: what it ended with and what its report says must agree, for it to pass."""
    if not program:
        raise CannotTell("the gate names no program")
    path = Path(asked.work) / _REPORTS.get(report, "report")
    path.unlink(missing_ok=True)
    argv = filled(asked, program, report=str(path))
    ended = run(argv, work=asked.work, folder=asked.checkout or asked.release or None, environment=environment)
    if ended.code not in (_PASSES, _REFUSES):
        raise CannotTell(f"{Path(argv[0]).name} ended with {ended.code}, neither 0 nor 1: {ended.said}")
    lines, checked, told = _reported(path, report)
    if ended.code == _REFUSES and not lines:
        lines = [GateLine(text=ended.said)]
    tool = told or Path(argv[0]).name
    return judged(lines, checked, unit or told_unit(report), tool=tool, passed=_passed(report, checked, ended))


def _reported(path: Path, report: str) -> tuple[list[GateLine], int, str]:
    """Objections, how much was looked at, and the tool. Without a report the program itself is what was asked."""
    if report == "junit":
        tests = read_junit(path)
        return tests.failed, tests.ran, ""
    if report == "sarif":
        lines, tool = read_sarif(path)
        return lines, 1, tool
    return [], 1, ""


def _passed(report: str, checked: int, ended: Ended) -> str:
    return "" if report else f"it ended with 0: {ended.said}" if checked else ""


def told_unit(report: str) -> str:
    """What is counted."""
    return {"junit": "tests", "sarif": "reports"}.get(report, "program")
