"""Reports that are cut, garbled or another's: what a gate cannot read it does not take for a pass."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nvcops.adapters.gates.asked import CannotTell
from nvcops.adapters.gates.junit import read_junit
from nvcops.adapters.gates.migrations import read_squawk
from nvcops.adapters.gates.performance import read_figures
from nvcops.adapters.gates.sarif import read_sarif
from nvcops.adapters.gates.vulnerabilities import read_audit
from nvcops.adapters.releases.lock import Locked

JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" tests="4" failures="1" errors="1" skipped="1" time="0.1">
<testcase classname="shop.test_a" name="test_good" time="0.01" />
<testcase classname="shop.test_a" name="test_skipped"><skipped message="no" /></testcase>
<testcase classname="shop.test_a" name="test_bad"><failure message="1 != 2">...</failure></testcase>
<testcase classname="shop.test_a" name="test_broken"><error message="no fixture">...</error></testcase>
</testsuite></testsuites>"""
SARIF = {
    "version": "2.1.0",
    "runs": [
        {
            "tool": {"driver": {"name": "ruff", "rules": [{"id": "F821", "defaultConfiguration": {"level": "error"}}]}},
            "invocations": [{"executionSuccessful": True}],
            "results": [
                {
                    "ruleId": "F821",
                    "level": "error",
                    "message": {"text": "Undefined name"},
                    "locations": [
                        {"physicalLocation": {"artifactLocation": {"uri": "a.py"}, "region": {"startLine": 7}}}
                    ],
                }
            ],
        }
    ],
}
AUDIT = {
    "dependencies": [
        {"name": "alpha", "version": "1.0", "vulns": []},
        {"name": "beta", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": ["CVE-1"]}]},
    ],
    "fixes": [],
}
SQUAWK = [
    {
        "file": "/source/0008_expand_a.sql",
        "line": 0,
        "column": 0,
        "level": "Warning",
        "message": "Dropping a table may break existing clients.",
        "help": None,
        "rule_name": "ban-drop-table",
    }
]
LOCK = {name: Locked(name, version, ("0" * 64,)) for name, version in (("alpha", "1.0"), ("beta", "2.0"))}
WRONG: tuple[Any, ...] = (None, 7, "text", [], {}, True, [None], {"a": None})


def objections(kind: str, data: bytes, folder: Path) -> int:
    """How many objections a reader finds; CannotTell where it finds no report."""
    path = folder / "report"
    path.write_bytes(data)
    readers: dict[str, Callable[[], int]] = {
        "junit": lambda: len(read_junit(path).failed),
        "sarif": lambda: len(read_sarif(path)[0]),
        "audit": lambda: len(read_audit(data, LOCK, set())),
        "squawk": lambda: len(read_squawk(data)),
    }
    return readers[kind]()


GOOD: dict[str, bytes] = {
    "junit": JUNIT.encode(),
    "sarif": json.dumps(SARIF).encode(),
    "audit": json.dumps(AUDIT).encode(),
    "squawk": json.dumps(SQUAWK).encode(),
}


@pytest.mark.parametrize(("kind", "count"), [("junit", 2), ("sarif", 1), ("audit", 1), ("squawk", 1)])
def test_what_stands_in_a_report_is_found(kind: str, count: int, tmp_path: Path) -> None:
    assert objections(kind, GOOD[kind], tmp_path) == count


def places(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document below its root."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def mutations(document: Any) -> Iterator[bytes]:
    """The document with each of its parts taken out, and with each replaced by something of another kind."""
    for place in places(document):
        for wrong in (..., *WRONG):
            changed = copy.deepcopy(document)
            parent = changed
            for key in place[:-1]:
                parent = parent[key]
            if type(parent[place[-1]]) is type(wrong):
                continue
            if wrong is ...:
                del parent[place[-1]]
            else:
                parent[place[-1]] = wrong
            yield json.dumps(changed).encode()


@pytest.mark.parametrize(
    ("kind", "document", "harmless"),
    # Emptying a list of results, by taking its only member out, is another report, not a broken one.
    [("sarif", SARIF, 1), ("audit", AUDIT, 1), ("squawk", SQUAWK, 1)],
)
def test_no_part_that_is_missing_or_of_another_kind_makes_a_pass(
    kind: str, document: Any, harmless: int, tmp_path: Path
) -> None:
    passed, tried = [], 0
    for data in mutations(document):
        tried += 1
        try:
            if objections(kind, data, tmp_path) == 0:
                passed.append(data)
        except CannotTell:
            continue
    assert tried >= 50
    assert len(passed) <= harmless, passed


@pytest.mark.parametrize("kind", list(GOOD))
def test_no_report_that_was_cut_makes_a_pass(kind: str, tmp_path: Path) -> None:
    data = GOOD[kind]
    for length in range(0, len(data) - 1, max(1, len(data) // 60)):
        with pytest.raises(CannotTell):
            objections(kind, data[:length], tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        b"true",
        b"0",
        b'"ok"',
        b"NaN",
        b"All good!",
        b"<html><body>502 Bad Gateway</body></html>",
        b"<testsuites/>x",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"<a>" * 50_000,
        b"PK\x03\x04",
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><testsuites>&b;</testsuites>',
    ],
)
@pytest.mark.parametrize("kind", ["junit", "sarif", "audit"])
def test_garbage_is_no_report(kind: str, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(CannotTell):
        objections(kind, data, tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('tests="4"', 'tests="5"'),
        ('tests="4"', 'tests="-4"'),
        ('tests="4"', 'tests="4.0"'),
        ('tests="4"', 'tests="many"'),
        ('failures="1"', 'failures="3"'),
        ('errors="1"', 'errors="9"'),
        ("<failure ", "<system-out "),
        ("<error ", "<properties "),
        ("<testcase ", "<notcase "),
        ("</testsuites>", ""),
    ],
)
def test_a_junit_report_that_contradicts_itself_tells_nothing(old: str, new: str, tmp_path: Path) -> None:
    text = JUNIT.replace(old, new)
    if old in {"<failure ", "<error "}:
        text = text.replace(f"</{old[1:].strip()}>", f"</{new[1:].strip()}>")
    with pytest.raises(CannotTell):
        objections("junit", text.encode(), tmp_path)


def test_suites_within_suites_are_counted_once(tmp_path: Path) -> None:
    inner = JUNIT.partition("<testsuites>")[2].replace("</testsuites>", "")
    text = f'<testsuites tests="4"><testsuite name="outer" tests="4">{inner}</testsuite></testsuites>'
    (tmp_path / "report").write_text(text)
    tests = read_junit(tmp_path / "report")
    assert (tests.ran, tests.skipped, len(tests.failed)) == (3, 1, 2)


def test_no_test_is_no_report_of_tests(tmp_path: Path) -> None:
    (tmp_path / "report").write_text('<testsuites><testsuite name="pytest" tests="0"/></testsuites>')
    assert read_junit(tmp_path / "report").ran == 0  # and nothing that was looked at passes: see `judged`


def test_what_a_sarif_report_takes_for_harmless_is_no_objection(tmp_path: Path) -> None:
    for change in ({"level": "note"}, {"level": "none"}, {"kind": "pass"}, {"suppressions": [{"kind": "external"}]}):
        document = copy.deepcopy(SARIF)
        document["runs"][0]["results"][0].update(change)  # type: ignore[index]
        assert objections("sarif", json.dumps(document).encode(), tmp_path) == 0
    document = copy.deepcopy(SARIF)
    document["runs"][0]["results"][0]["suppressions"] = [{"kind": "inSource", "status": "rejected"}]  # type: ignore[index]
    assert objections("sarif", json.dumps(document).encode(), tmp_path) == 1


def test_a_tool_that_did_not_get_through_tells_nothing(tmp_path: Path) -> None:
    document = copy.deepcopy(SARIF)
    document["runs"][0].update(invocations=[{"executionSuccessful": False}], results=[])  # type: ignore[index]
    with pytest.raises(CannotTell, match="did not get through"):
        objections("sarif", json.dumps(document).encode(), tmp_path)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([{"name": "alpha", "version": "1.0", "vulns": []}], "audited 1 of 2, and not beta"),
        (
            [{"name": "alpha", "version": "1.0", "vulns": []}, {"name": "beta", "skip_reason": "not found"}],
            "skipped beta",
        ),
        ([{"name": n, "version": "1.0", "vulns": []} for n in ("alpha", "beta")], "not beta"),
        ([], "audited 0 of 2"),
    ],
)
def test_who_was_not_audited_was_not_looked_at(found: list[Any], says: str) -> None:
    with pytest.raises(CannotTell, match=says):
        read_audit(json.dumps({"dependencies": found}).encode(), LOCK, set())


def test_a_vulnerability_is_ignored_by_any_of_its_names() -> None:
    data = json.dumps(AUDIT).encode()
    assert [read_audit(data, LOCK, {name}) for name in ("PYSEC-1", "CVE-1")] == [[], []]
    assert len(read_audit(data, LOCK, {"CVE-2"})) == 1


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        "{}",
        "nan",
        '{"p99_s": NaN}',
        '{"p99_s": Infinity}',
        '{"p99_s": 0}',
        '{"p99_s": -1}',
        '{"p99_s": true}',
        '{"p99_s": "1"}',
        '{"p99_s": null}',
        '{"p99": 1}',
        '{"": 1}',
        '{"p99_s": [1]}',
        "p99_s: 1",
        '{"p99_s": 1',
        json.dumps({f"p{number}_s": 1 for number in range(51)}),
    ],
)
def test_figures_that_are_none_measure_nothing(said: str) -> None:
    with pytest.raises(CannotTell):
        read_figures(said.encode())
