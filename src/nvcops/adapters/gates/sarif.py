"""SARIF 2.1.0 reports: what a tool objects to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nvcops.adapters.gates.asked import CannotTell, read_bytes, read_json
from nvcops.core.gates import GateLine

_HARMLESS = ("note", "none")
_KINDS = ("fail", "open", "review")


def read_sarif(path: Path) -> tuple[list[GateLine], str]:
    """The objections of a report, and the tools behind it.

    Raises:
        CannotTell: it is none, or says itself that its tool did not get through.
    """
    document = read_json(read_bytes(path), "the SARIF report")
    try:
        if document["version"] != "2.1.0":
            raise CannotTell(f"the SARIF report has version {str(document['version'])[:20]!r}, and 2.1.0 is read")
        runs = _list(document["runs"])
        lines = [line for run in runs for line in _objections(run)]
        tools = [str(run["tool"]["driver"]["name"])[:60] for run in runs]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise CannotTell(f"the SARIF report lacks what it must have: {str(error)[:100]}") from error
    if not runs:
        raise CannotTell("the SARIF report has no run")
    return lines, ", ".join(tools)


def _objections(run: dict[str, Any]) -> list[GateLine]:
    for invocation in _list(run.get("invocations", [])):
        if invocation.get("executionSuccessful") is not True:
            raise CannotTell("the SARIF report says that its tool did not get through")
    if run.get("results") is None:  # the format's word for: nothing was looked at
        raise CannotTell("the SARIF report has no results, not even none")
    defaults = {
        rule["id"]: (rule.get("defaultConfiguration") or {}).get("level", "warning")
        for rule in _list(run["tool"]["driver"].get("rules", []))
    }
    return [_line(result) for result in _list(run["results"]) if _counts(result, defaults)]


def _counts(result: dict[str, Any], defaults: dict[str, str]) -> bool:
    accepted = [one for one in _list(result.get("suppressions") or []) if one.get("status", "accepted") == "accepted"]
    level = result.get("level") or defaults.get(str(result.get("ruleId")), "warning")
    return not accepted and result.get("kind", "fail") in _KINDS and level not in _HARMLESS


def _line(result: dict[str, Any]) -> GateLine:
    message = result["message"]
    text = str(message.get("text") or message.get("id") or result.get("ruleId") or "an objection")
    file, line = "", 0
    for location in _list(result.get("locations") or [])[:1]:
        place = location.get("physicalLocation") or {}
        file = str((place.get("artifactLocation") or {}).get("uri", "")).removeprefix("file://")
        start = (place.get("region") or {}).get("startLine", 0)
        line = start if isinstance(start, int) else 0
    return GateLine(rule=str(result.get("ruleId") or ""), text=text, file=file, line=line)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"a list, not {type(value).__name__}")
    return value
