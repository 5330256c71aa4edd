"""The tests of the checkout that a release was built of, run against the release's own code."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name

from nvcops.adapters.gates.asked import SEEDED, Asked, CannotTell, read_said
from nvcops.adapters.gates.checkout import check
from nvcops.adapters.gates.made import lock_of
from nvcops.adapters.gates.process import run
from nvcops.adapters.gates.program import ask
from nvcops.adapters.releases.lock import Locked
from nvcops.core.gates import GateReport, unknown

_PYTEST = ("-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml", "{report}", "--rootdir", "{checkout}")
_VERSIONS = """\
import importlib.metadata as m, json
print(json.dumps({one.metadata["Name"]: one.version for one in m.distributions() if one.metadata["Name"]}))
"""
_FAULT = """\
def test_the_{fault}() -> None:
    raise AssertionError("{fault}")


def test_what_is_good() -> None:
    pass
"""


def judge(asked: Asked) -> GateReport:
    """Run the tests below `path` of the checkout, with the release's `app` first among what is imported.

    `python` (ours where none is named) has pytest, which no service's lock has, and beside it just what the lock says.
    """
    check(asked)
    python = asked.options.get("python", sys.executable)
    if not asked.seeded:
        fits(lock_of(asked.folder), installed(asked, python))
    least = asked.number("tests_min", 1, least=1)
    tests = "{checkout}/" + asked.options.get("path", "tests")
    program = asked.program or (python, *_PYTEST, tests)
    application = f"{asked.release}/app" if asked.release else ""
    report = ask(asked, program, "junit", environment={"PYTHONPATH": application, "PYTHONDONTWRITEBYTECODE": "1"})
    if report.objections == 0 and report.checked < least:
        return unknown(f"{report.checked} tests ran, and {least} must")
    return report


def installed(asked: Asked, python: str) -> dict[str, str]:
    """The versions of what an interpreter imports, by canonical name."""
    ended = run([python, "-P", "-c", _VERSIONS], work=asked.work)
    if ended.code:
        raise CannotTell(f"{python} cannot say what it imports: {ended.said}")
    said = read_said(ended.output.encode(), dict[str, str], python)
    return {canonicalize_name(name): version for name, version in said.items()}


def fits(lock: dict[str, Locked], there: dict[str, str]) -> None:
    """Nothing, when the tests run with what the release runs with.

    Raises:
        CannotTell: something of the lock is there in another version, or not at all.
    """
    for name, locked in lock.items():
        if name in there and there[name] != locked.version:
            raise CannotTell(f"the tests would run with {name} {there[name]}, and the lock has {locked.version}")
        if name not in there and not locked.marker:
            raise CannotTell(f"the tests would run without {name} {locked.version} of the lock")


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
