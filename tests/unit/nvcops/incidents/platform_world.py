# ruff: noqa: ARG002 - what a socket takes is the socket's
"""A platform in memory for the incidents' procedures: what its sockets answer is said by the test."""

from __future__ import annotations

import datetime as dt
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec

from desk import MemoryRecords
from nvcops.core.checks import Finding
from nvcops.core.clients import Kept, Seen
from nvcops.core.commits import Commit
from nvcops.core.errors import StepFailed, Unreachable
from nvcops.core.manifest import Manifest
from nvcops.core.runs import RunRecord, Signed
from nvcops.core.schedule import Due
from nvcops.core.target import Change, Increase, LogEvent, ScrapeSummary


@dataclass
class Figures:
    """core.target.Metrics: the same increases in every window."""

    rises: Mapping[str, list[Increase]] = field(default_factory=dict)
    seen: list[Change] = field(default_factory=list)
    down: bool = False

    def increases(self, service: str, series: str, start: dt.datetime, end: dt.datetime) -> list[Increase]:
        if self.down:
            raise Unreachable("the metrics do not answer")
        return self.rises.get(series, [])

    def scrapes(self, service: str, start: dt.datetime, end: dt.datetime) -> ScrapeSummary:
        return ScrapeSummary(0, 0, 0.0, None, None)

    def changes(self, start: dt.datetime, end: dt.datetime) -> list[Change]:
        return [change for change in self.seen if start <= change.time < end]


@dataclass
class Lines:
    """core.target.Logs."""

    kept: Mapping[str, list[LogEvent]] = field(default_factory=dict)

    @property
    def sources(self) -> list[str]:
        return list(self.kept)

    def events(
        self, source: str, start: dt.datetime, end: dt.datetime, names: Collection[str] = ()
    ) -> Iterator[LogEvent]:
        if source not in self.kept:
            raise Unreachable(f"the log of {source} cannot be read")
        return (event for event in self.kept[source] if start <= event.time < end)


@dataclass
class Journal:
    """core.target.RunHistory."""

    runs: list[RunRecord] = field(default_factory=list)
    late: list[Due] = field(default_factory=list)

    def run(self, run: str) -> RunRecord:
        return next(one for one in self.runs if one.id == run)

    def requester(self, run: str) -> tuple[str, str]:
        return "", ""

    def between(self, start: dt.datetime, end: dt.datetime) -> list[RunRecord]:
        return [one for one in self.runs if one.started and one.started < end and (one.ended or end) >= start]

    def missed(self, start: dt.datetime, end: dt.datetime) -> list[Due]:
        return [one for one in self.late if start <= one.due < end]


@dataclass
class Checkout:
    """core.target.Commits."""

    made: list[Commit] = field(default_factory=list)

    def between(self, start: dt.datetime, end: dt.datetime) -> list[Commit]:
        return [commit for commit in self.made if start <= commit.time < end]


@dataclass
class Customers:
    """core.clients.Clients, as far as an impact asks it."""

    saw: Seen
    ledger: Kept

    def seen(self, start: dt.datetime, end: dt.datetime) -> Seen:
        return self.saw

    def kept(self, start: dt.datetime, end: dt.datetime) -> Kept:
        return self.ledger


def platform(manifest: Manifest, **sockets: Any) -> Any:
    """A target of these sockets, the others empty."""
    given = {
        "manifest": manifest,
        "metrics": Figures(),
        "logs": Lines(),
        "runs": Journal(),
        "commits": Checkout(),
        "clients": None,
        "ledger": None,
        "records": MemoryRecords(),
        "alarm": None,
        "control": None,
    }
    return SimpleNamespace(**(given | sockets))


@dataclass
class ActingRun:
    """A run in memory that acts: what is read and done crosses JSON; what a test lists in `breaks` fails.

    `between` is called after each step, as a person who acts meanwhile.
    """

    started: dt.datetime
    id: str = "in-memory"
    steps: list[str] = field(default_factory=list)
    breaks: Mapping[str, str] = field(default_factory=dict)
    approvals: list[str] = field(default_factory=list)
    between: Callable[[str], None] = lambda _title: None
    findings: tuple[Finding, ...] = ()
    summary: str = ""

    def read(self, fact: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return _crossed(fact, fact(*args, **kwargs))

    def step(self, title: str, act: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.steps.append(title)
        if title in self.breaks:
            raise StepFailed(self.breaks[title])
        done = act(*args, **kwargs)
        self.between(title)
        return _crossed(act, done)

    def approve(self, name: str, title: str) -> Signed:
        self.approvals.append(f"{name}: {title}")
        return Signed("omar", title, self.started)

    def conclude(self, findings: Sequence[Finding], *, summary: str = "") -> None:
        assert not self.findings, "a procedure concludes once"
        self.findings, self.summary = tuple(findings), summary

    def verdicts(self) -> dict[str, str]:
        return {finding.check: finding.verdict.name for finding in self.findings}


def _crossed(function: Callable[..., Any], value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value), type=typing.get_type_hints(function)["return"])
