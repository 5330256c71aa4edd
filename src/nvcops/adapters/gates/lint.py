"""Lint: what a tool that writes SARIF objects to in the release's own code; without a program, that is ruff."""

from __future__ import annotations

from pathlib import Path

import msgspec

from nvcops.adapters.gates.asked import SEEDED, Asked, files_below
from nvcops.adapters.gates.checkout import check
from nvcops.adapters.gates.process import tool
from nvcops.adapters.gates.program import ask
from nvcops.core.gates import GateReport, judged

_SELECT = "E9,F"  # what certainly is wrong; how the code should look is the checkout's own affair
_RUFF = ("check", "--no-cache", "--no-fix", "--ignore-noqa", "--output-format", "sarif", "--output-file", "{report}")
_FAULT = 'def seeded() -> str:\n    return undefined_name  # {fault}\n\n\nif __name__ == "{fault}":\n    seeded()\n'


def judge(asked: Asked) -> GateReport:
    """Look at all Python files of the release's `app`; a release does not excuse itself with `noqa`."""
    if any("{checkout}" in word for word in asked.program):
        check(asked)
    files = sum(1 for _ in files_below(asked.folder / "app", "*.py"))
    program = asked.program
    if not program:
        select = asked.options.get("select", _SELECT)
        program = (tool(asked, "ruff"), *_RUFF, "--isolated", "--select", select, "{release}/app")
    report = ask(asked, program, "sarif")
    if report.objections:
        return msgspec.structs.replace(report, checked=files, unit="files")
    return judged([], files, "files", tool=report.tool)


def seed(asked: Asked) -> Asked:
    """A release whose code uses a name that is not there; the file is called after the fault."""
    folder = Path(asked.work) / "seeded"
    application = folder / "app"
    application.mkdir(parents=True, exist_ok=True)
    (application / f"{SEEDED}.py").write_text(_FAULT.format(fault=SEEDED), encoding="utf-8")
    (application / "good.py").write_text("VALUE = 1\n", encoding="utf-8")
    return msgspec.structs.replace(asked, release=str(folder), checkout=str(folder), revision="")
