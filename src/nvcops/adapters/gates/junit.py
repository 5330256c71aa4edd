"""JUnit reports: which tests ran, and which of them failed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from nvcops.adapters.gates.asked import CannotTell, read_bytes
from nvcops.core.gates import GateLine

_DEPTH_MAX = 20


class Tests(msgspec.Struct, frozen=True, kw_only=True):
    """What a report says: `ran` without those that were skipped."""

    ran: int
    skipped: int
    failed: list[GateLine]


def read_junit(path: Path) -> Tests:
    """A report.

    Raises:
        CannotTell: it is none, or its totals are not what stands in it: it was cut, or is another's.
    """
    data = read_bytes(path)
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise CannotTell("the JUnit report declares entities: no test runner does")
    from junitparser import JUnitXml, TestSuite

    try:
        root = JUnitXml.fromstring(data)
        leaves = list(_leaves(root, 0))
        cases = list(root) if isinstance(root, TestSuite) else [case for suite in root for case in suite]
        return _tests(leaves, cases)
    except CannotTell:
        raise
    except Exception as error:  # the parser has no one word for what is no report
        raise CannotTell(f"the JUnit report cannot be read: {type(error).__name__}: {str(error)[:100]}") from error


def _leaves(root: Any, depth: int) -> Iterator[Any]:
    """The suites that hold no other suite: what they declare is about their own cases."""
    from junitparser import TestSuite

    if depth > _DEPTH_MAX:
        raise CannotTell("the JUnit report nests too deep")
    below = list(root.testsuites() if isinstance(root, TestSuite) else root)  # type: ignore[no-untyped-call] # it has no types
    if isinstance(root, TestSuite) and not below:
        yield root
    for suite in below:
        yield from _leaves(suite, depth + 1)


def _tests(leaves: list[Any], cases: list[Any]) -> Tests:
    from junitparser import Error, Failure, Skipped

    failed, skipped = [], 0
    for case in cases:
        bad = [result for result in case.result if isinstance(result, Failure | Error)]
        if bad:
            name = f"{case.classname or ''}.{case.name or ''}".strip(".")
            text = f"{name}: {bad[0].message or 'failed'}"
            failed.append(GateLine(rule=type(bad[0]).__name__.lower(), text=text))
        elif any(isinstance(result, Skipped) for result in case.result):
            skipped += 1
    for suite in leaves:
        declared, there = _count(suite, "tests"), len(list(suite))
        if declared is not None and declared != there:
            raise CannotTell(f"the JUnit report declares {declared} tests, and has {there}: it was cut")
    bad_declared = sum(_count(suite, name) or 0 for suite in leaves for name in ("failures", "errors"))
    if bad_declared > len(failed):
        raise CannotTell(f"the JUnit report declares {bad_declared} failures, and shows {len(failed)}")
    return Tests(ran=len(cases) - skipped, skipped=skipped, failed=failed)


def _count(suite: Any, name: str) -> int | None:
    text = suite._elem.get(name)  # noqa: SLF001 - what stands there, not what the library makes of nothing
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise CannotTell(f"the JUnit report declares {name}={text[:20]!r}")
    return int(text)
