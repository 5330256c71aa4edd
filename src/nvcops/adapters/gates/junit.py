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
    from junitparser import JUnitXml

    try:
        root = JUnitXml.fromstring(data)
        suites = list(_suites(root, 0))
        cases = [case for suite in suites for case in _cases(suite)]
        return _tests(suites, cases)
    except CannotTell:
        raise
    except Exception as error:  # the parser has no one word for what is no report
        raise CannotTell(f"the JUnit report cannot be read: {type(error).__name__}: {str(error)[:100]}") from error


def _suites(root: Any, depth: int) -> Iterator[Any]:
    from junitparser import TestSuite

    if depth > _DEPTH_MAX:
        raise CannotTell("the JUnit report nests too deep")
    if isinstance(root, TestSuite):
        yield root
    below: Any = root
    if isinstance(root, TestSuite):
        below = root.testsuites()  # type: ignore[no-untyped-call] # it has no types for it
    for suite in below:
        if not isinstance(suite, TestSuite):
            raise CannotTell("the JUnit report has something else than suites")
        yield from _suites(suite, depth + 1)


def _cases(suite: Any) -> Iterator[Any]:
    from junitparser import TestCase

    return (one for one in suite if isinstance(one, TestCase))


def _tests(suites: list[Any], cases: list[Any]) -> Tests:
    from junitparser import Error, Failure, Skipped

    failed, skipped = [], 0
    for case in cases:
        kinds = [type(result) for result in case.result]
        if any(issubclass(kind, Failure | Error) for kind in kinds):
            first = next(result for result in case.result if isinstance(result, Failure | Error))
            name = f"{case.classname or ''}.{case.name or ''}".strip(".")
            failed.append(GateLine(rule=type(first).__name__.lower(), text=f"{name}: {first.message or 'failed'}"))
        elif any(issubclass(kind, Skipped) for kind in kinds):
            skipped += 1
    _totals(suites, len(cases), len(failed))
    return Tests(ran=len(cases) - skipped, skipped=skipped, failed=failed)


def _totals(suites: list[Any], cases: int, failed: int) -> None:
    """What suites declare must stand in the report; those that hold other suites may count them again."""
    leaves = [suite for suite in suites if not list(suite.testsuites())]
    declared = [[_count(suite, name) for suite in leaves] for name in ("tests", "failures", "errors")]
    tests = [number for number in declared[0] if number is not None]
    if len(tests) == len(leaves) and sum(tests) != cases:
        raise CannotTell(f"the JUnit report declares {sum(tests)} tests, and has {cases}: it was cut")
    bad = sum(number or 0 for numbers in declared[1:] for number in numbers)
    if bad > failed:
        raise CannotTell(f"the JUnit report declares {bad} failures, and shows {failed}")


def _count(suite: Any, name: str) -> int | None:
    text = suite._elem.get(name)  # noqa: SLF001 - what stands there, not what the library makes of nothing
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise CannotTell(f"the JUnit report declares {name}={text[:20]!r}")
    return int(text)
