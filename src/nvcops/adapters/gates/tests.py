"""The tests of the checkout that a release was built of, run against the release's own code."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from nvcops.adapters.gates.asked import SEEDED, Asked, CannotTell
from nvcops.adapters.gates.checkout import check
from nvcops.adapters.gates.program import ask
from nvcops.core.gates import GateReport, unknown

_PYTEST = ("-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml", "{report}", "--rootdir", "{checkout}")
_FAULT = """\
def test_the_{fault}() -> None:
    raise AssertionError("{fault}")


def test_what_is_good() -> None:
    pass
"""


def judge(asked: Asked) -> GateReport:
    """Run the tests below `path` of the checkout, with the release's `app` first among what is imported."""
    check(asked)
    least = asked.number("tests_min", 1, least=1)
    tests = "{checkout}/" + asked.options.get("path", "tests")
    program = asked.program or (asked.python or sys.executable, *_PYTEST, tests)
    application = f"{asked.release}/app" if asked.release else ""
    report = ask(asked, program, "junit", environment={"PYTHONPATH": application, "PYTHONDONTWRITEBYTECODE": "1"})
    if report.objections == 0 and report.checked < least:
        return unknown(f"{report.checked} tests ran, and {least} must")
    return report


def seed(asked: Asked) -> Asked:
    """A checkout with a test that fails."""
    checkout = Path(asked.work) / "seeded"
    file = checkout / asked.options.get("path", "tests") / "test_seeded.py"
    if not file.is_relative_to(checkout) or ".." in file.parts:
        raise CannotTell("the option path leaves the checkout")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_FAULT.format(fault=SEEDED), encoding="utf-8")
    release = checkout / "release"
    (release / "app").mkdir(parents=True, exist_ok=True)
    options = {name: value for name, value in asked.options.items() if name != "tests_min"}
    return msgspec.structs.replace(asked, checkout=str(checkout), release=str(release), revision="", options=options)
