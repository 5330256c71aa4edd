"""What a stage's gates said, in the words that CI systems read: JUnit and SARIF 2.1.0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from nvcops.core.errors import StateError
from nvcops.core.gates import Answered, GateVerdict

_SARIF = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"


def write_junit(path: Path, answered: Sequence[Answered], admitted: str) -> None:
    """A test case for each gate, and one for the admission (`admitted`: why there is none; empty: there is one).

    Raises:
        StateError: it cannot be written.
    """
    from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

    suites: dict[str, Any] = {}
    for one in answered:
        case = TestCase(one.gate, f"pipeline.{one.stage}.{one.kind}", one.report.seconds)
        text = "\n".join(line.text for line in one.report.lines)
        if one.report.verdict is GateVerdict.REFUSED:
            case.result = [_result(Failure, one.report.sentence, text)]
        elif one.report.verdict is GateVerdict.UNKNOWN:
            case.result = [_result(Error, one.report.sentence, text)]
        suites.setdefault(one.stage, TestSuite(f"pipeline.{one.stage}")).add_testcase(case)
    last = TestCase("admission", "pipeline.admission")
    last.result = [_result(Failure, admitted, "")] if admitted else []
    suites["admission"] = TestSuite("pipeline.admission")
    suites["admission"].add_testcase(last)
    xml = JUnitXml()
    for suite in suites.values():
        xml.add_testsuite(suite)
    xml.update_statistics()  # type: ignore[no-untyped-call] # it has no types for it
    _write(path, xml.tostring())  # type: ignore[no-untyped-call] # the same


def write_sarif(path: Path, answered: Sequence[Answered]) -> None:
    """A run for each gate: its objections, and a failed invocation where it could not run.

    Raises:
        StateError: it cannot be written.
    """
    runs = [_run(one) for one in answered]
    document = {"$schema": _SARIF, "version": "2.1.0", "runs": runs}
    _write(path, msgspec.json.format(msgspec.json.encode(document), indent=2))


def _result(kind: type[Any], message: str, text: str) -> Any:
    result = kind(_xml(message))
    result.text = _xml(text)
    return result


def _xml(text: str) -> str:
    r"""Text without what XML cannot hold.

    >>> _xml("a\x00b\x1b[0m\ud800")
    'a?b?[0m?'
    """
    return "".join(
        letter if letter in "\t\n\r" or "\x20" <= letter <= "\ud7ff" or "\ue000" <= letter <= "\ufffd" else "?"
        for letter in text
    )


def _run(one: Answered) -> dict[str, Any]:
    rules = sorted({line.rule or one.kind for line in one.report.lines})
    driver = {"name": f"nvcops gate {one.gate}", "rules": [{"id": rule} for rule in rules]}
    ran = one.report.verdict is not GateVerdict.UNKNOWN
    invocation: dict[str, Any] = {"executionSuccessful": ran}
    if not ran:
        notification = {"level": "error", "message": {"text": one.report.sentence}}
        invocation["toolExecutionNotifications"] = [notification]
    results = []
    for line in one.report.lines:
        result: dict[str, Any] = {"ruleId": line.rule or one.kind, "level": "error", "message": {"text": line.text}}
        if line.file:
            place: dict[str, Any] = {"artifactLocation": {"uri": line.file.replace(" ", "%20")}}
            if line.line > 0:
                place["region"] = {"startLine": line.line}
            result["locations"] = [{"physicalLocation": place}]
        results.append(result)
    return {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"{one.stage}/{one.gate}"},
        "invocations": [invocation],
        "results": results,
    }


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror or error}") from error
