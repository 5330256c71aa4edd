"""Procedures that act, in memory, on servers that the test stops and starts itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from restore_world import RestoreWorld

from nvclab.parts.postgres import Postgres
from nvcops import wiring
from nvcops.adapters.runs import journal
from nvcops.adapters.target import connect
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import NvcopsError, StepFailed
from nvcops.core.procedures import find
from nvcops.core.runs import Signed

assert wiring.ROOMS, "the rooms are what fills the runbook"


@dataclass
class Servers:
    """Control of the two servers; what was asked of it."""

    of: RestoreWorld
    asked: list[str] = field(default_factory=list)

    def start(self, name: str) -> None:
        self.asked.append(f"start {name}")
        server = self._server(name)
        if not server.process.pid:
            server.start()

    def stop(self, name: str) -> None:
        self.asked.append(f"stop {name}")
        self._server(name).stop()

    def rebuild(self, name: str) -> None:
        self.asked.append(f"rebuild {name}")

    def running(self, name: str) -> bool:
        return bool(self._server(name).process.pid)

    def fence(self, name: str) -> None:
        raise AssertionError(name)

    def break_host(self, kind: str, name: str) -> None:
        raise AssertionError(kind, name)

    def mend_host(self, name: str) -> None:
        raise AssertionError(name)

    def _server(self, name: str) -> Postgres:
        server = self.of.world.server if name == "db-1" else self.of.standby
        assert server is not None
        return server


@dataclass
class ActingRun:
    """A run in memory that acts: what a step returns crosses JSON, what it raises is a StepFailed."""

    id: str = "run@1"
    dry: bool = False
    started: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    findings: tuple[Finding, ...] = ()
    summary: str = ""
    steps: list[str] = field(default_factory=list)
    approved: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def read(self, fact: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self._kept(fact, fact(*args, **kwargs))

    def step(self, title: str, act: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.steps.append(title)
        if self.dry:
            return None
        try:
            return self._kept(act, act(*args, **kwargs))
        except NvcopsError as error:
            raise StepFailed(f"{title}: {error.sentence}", hint=error.hint) from error

    def approve(self, name: str, title: str) -> Signed:
        self.approved.append(f"{name}: {title}")
        return Signed("omar", "fine", self.started)

    def conclude(self, findings: Sequence[Finding], *, summary: str = "") -> None:
        self.findings, self.summary = tuple(findings), summary

    def of(self, check: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.check == check]

    @property
    def wrong(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict is not Verdict.OK]

    def _kept(self, function: Callable[..., Any], value: Any) -> Any:
        kept = journal.returned(value)
        return journal.read_back(kept, journal.return_type(function))


def run_procedure(name: str, world: RestoreWorld, run: ActingRun, **options: Any) -> ActingRun:
    procedure = find(name)
    target = replace(connect(world.manifest), control=Servers(world, run.asked), restores=world.restores)
    procedure.function(run, target, **procedure.arguments(options))
    return run
