"""What a gate of the pipeline says of a release, and what its positive control says of the gate.

A gate is asked a question that has three answers. UNKNOWN is what it says when it could not run, or when what it said
cannot be read: that is no PASS. A *positive control* is the same gate over a subject with a seeded fault: a gate that
lets it pass would let everything pass.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from enum import StrEnum
from typing import Protocol

import msgspec

from nvcops.core.checks import Verdict
from nvcops.core.manifest.delivery import Gate

LINES_MAX = 200
TEXT_MAX = 500


class GateVerdict(StrEnum):
    """What a gate says. Only PASS lets pass."""

    PASS = "pass"  # noqa: S105 - no secret
    REFUSED = "refused"
    UNKNOWN = "unknown"

    @property
    def verdict(self) -> Verdict:
        """The same as a finding's verdict.

        >>> [said.verdict.name for said in GateVerdict]
        ['OK', 'CRITICAL', 'UNKNOWN']
        """
        return {"pass": Verdict.OK, "refused": Verdict.CRITICAL}.get(self.value, Verdict.UNKNOWN)


class GateLine(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One thing that a gate objects to: by which rule, where (a path below the release or checkout; line from 1)."""

    text: str
    rule: str = ""
    file: str = ""
    line: int = 0


class GateReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a gate said. `checked` counts what it looked at, in `unit`; who looked at nothing lets nothing pass.

    `lines` are at most 200 of its `objections`. `tool` is the program behind it, with its version.
    """

    verdict: GateVerdict
    sentence: str
    checked: int = 0
    unit: str = ""
    objections: int = 0
    lines: tuple[GateLine, ...] = ()
    tool: str = ""
    seconds: float = 0.0


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate of a stage said."""

    stage: str
    gate: str
    kind: str
    report: GateReport


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a gate judges: a release by its digest, and beside it the one before (empty: there was none).

    `checkout` is a folder with the source that the release was built of, where one was given. `now` is the run's clock.
    """

    digest: str
    now: dt.datetime
    previous: str = ""
    checkout: str = ""


class GateControl(msgspec.Struct, frozen=True, kw_only=True):
    """How a gate's positive control ended last; `id` is `stage/gate`, `definition` what the gate was then.

    `verdict` REFUSED is how it should be. `refused` is when it last was so, of this very definition.
    """

    id: str
    definition: str
    time: dt.datetime
    verdict: GateVerdict
    sentence: str
    run: str
    refused: dt.datetime | None = None


class Gates(Protocol):
    """Those who run gates: each a process of its own, with the gate's deadline. They raise nothing of what it does."""

    def judge(self, gate: Gate, subject: Subject) -> GateReport:
        """Unpack the release, and ask the gate."""

    def control(self, gate: Gate, subject: Subject) -> GateReport:
        """Ask the gate of its seeded fault; the subject's release is only what the fault is planted beside."""


def definition(gate: Gate) -> str:
    """What a gate is, in 16 hex digits: a control speaks of the gate as it was, not as it was changed since.

    >>> one, other = Gate(name="lint", kind="lint"), Gate(name="lint", kind="lint", options={"path": "app"})
    >>> definition(one) == definition(Gate(name="style", kind="lint")), definition(one) == definition(other)
    (True, False)
    """
    what = [gate.kind, gate.program, str(gate.control or ""), gate.report, sorted(gate.options.items())]
    return hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:16]


def unknown(sentence: str) -> GateReport:
    """A gate could not run."""
    return GateReport(verdict=GateVerdict.UNKNOWN, sentence=sentence[:TEXT_MAX])


def judged(
    lines: list[GateLine], checked: int, unit: str, *, tool: str = "", passed: str = "", refused: str = ""
) -> GateReport:
    """What follows from objections: any refuses; without any, as much as was looked at passes, and nothing is UNKNOWN.

    >>> judged([], 0, "files").verdict.name, judged([], 3, "files").sentence
    ('UNKNOWN', '3 files, no objection')
    >>> judged([GateLine(text="a password")], 3, "files").sentence
    '1 objection in 3 files: a password'
    """
    if lines:
        count = f"{len(lines)} objection{'s' * (len(lines) > 1)} in {checked} {unit}"
        said = GateVerdict.REFUSED, refused or f"{count}: {lines[0].text}"
    elif checked <= 0:
        said = GateVerdict.UNKNOWN, f"nothing was looked at: 0 {unit}"
    else:
        said = GateVerdict.PASS, passed or f"{checked} {unit}, no objection"
    kept = tuple(msgspec.structs.replace(line, text=line.text[:TEXT_MAX]) for line in lines[:LINES_MAX])
    return GateReport(
        verdict=said[0],
        sentence=said[1][:TEXT_MAX],
        checked=max(checked, 0),
        unit=unit,
        objections=len(lines),
        lines=kept,
        tool=tool,
    )
