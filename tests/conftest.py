"""A run in memory: what a procedure does with its platform, without the engine that makes it durable.

The journal's conditions are kept: what is read crosses JSON and its annotated type.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings

from nvcops import wiring
from nvcops.core.checks import Finding, Verdict
from nvcops.core.procedures import Procedure, find
from nvcops.core.runs import Signed, accept, verdict_of
from nvcops.core.summary import in_a_sentence
from nvcops.core.target import Target

sys.path.insert(0, str(Path(__file__).parent))  # `from desk import MemoryDesk`: the twins that many folders use

assert wiring.ROOMS, "the rooms are what fills the runbook"

# A gate must say the same of the same code twice; at home each run looks at other examples.
settings.register_profile("gate", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("gate")

_REAL_PARTS = {"integration", "drills"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs real parts on a crowded machine is run once more when it fails; the summary's RERUN lines name it.

    Such a line is a fault of the test, to be mended: one that fails twice fails. Pure tests have one try.
    """
    for item in items:
        if _REAL_PARTS & set(item.path.relative_to(item.config.rootpath).parts):
            item.add_marker(pytest.mark.flaky(reruns=1))


@dataclass
class MemoryRun:
    """The twin of core/runs.Run."""

    target: Target
    started: dt.datetime
    id: str = "in-memory"
    person: str = "dana"
    findings: tuple[Finding, ...] = ()
    summary: str = ""
    included: dict[str, MemoryRun] = field(default_factory=dict)
    attested: list[str] = field(default_factory=list)

    def read(self, fact: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        kept = msgspec.json.encode(fact(*args, **kwargs))
        return msgspec.json.decode(kept, type=typing.get_type_hints(fact)["return"])

    def step(self, title: str, act: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"what is rehearsed in memory only reads: {title} {act} {args} {kwargs}")

    def attest(self, name: str, title: str) -> Signed:
        self.attested.append(name)
        return Signed(self.person, f"{title}: nothing new", self.started)

    def approve(self, name: str, title: str) -> Signed:
        raise AssertionError(f"what is rehearsed in memory asks for no approval: {name} {title}")

    def include(self, procedure: Procedure, **options: Any) -> Verdict:
        part = self.included[procedure.name] = MemoryRun(self.target, self.started)
        procedure.function(part, self.target, **procedure.arguments(options))
        return part.verdict

    def conclude(self, findings: Sequence[Finding], *, summary: str = "") -> None:
        assert not self.findings, "a procedure concludes once"
        self.findings = accept(findings, self.target.manifest.exceptions, self.started.date())
        self.summary = summary or in_a_sentence(self.findings)

    @property
    def verdict(self) -> Verdict:
        """What its findings add up to; the number is the exit code."""
        return verdict_of(self.findings)

    def of(self, check: str, subject: str = "") -> Finding:
        """The worst line of a check."""
        lines = [f for f in self.findings if f.check == check and subject in ("", f.subject)]
        assert lines, f"no line {check} {subject} among {[(f.check, f.subject) for f in self.findings]}"
        return max(
            lines, key=lambda line: (Verdict.OK, Verdict.UNKNOWN, Verdict.WARNING, Verdict.CRITICAL).index(line.verdict)
        )

    def wrong(self) -> list[Finding]:
        """What is not OK and was not accepted."""
        return [finding for finding in self.findings if finding.verdict is not Verdict.OK and not finding.accepted]


Rehearse = Callable[..., MemoryRun]


@pytest.fixture(scope="session")
def rehearse() -> Rehearse:
    """Run a procedure by name in memory."""

    def run(name: str, target: Target, **options: Any) -> MemoryRun:
        procedure = find(name)
        twin = MemoryRun(target, dt.datetime.now(dt.UTC))
        procedure.function(twin, target, **procedure.arguments(options))
        return twin

    return run
