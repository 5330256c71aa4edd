"""How a run reads: plain text, the same in a terminal and in a mail."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from zoneinfo import ZoneInfo

from nvcops.core.checks import Finding, Verdict
from nvcops.core.runs import RunRecord, RunState, StepKind, StepRecord

_MARKS = {Verdict.OK: "✓", Verdict.WARNING: "▲", Verdict.CRITICAL: "✗", Verdict.UNKNOWN: "?"}
_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.CRITICAL: "red", Verdict.UNKNOWN: "magenta"}


def verdict_word(verdict: Verdict | None) -> str:
    """A verdict as shape and word; colour comes on top where there is any.

    >>> verdict_word(Verdict.OK), verdict_word(None)
    ('✓ OK', '· none')
    """
    return "· none" if verdict is None else f"{_MARKS[verdict]} {verdict.name}"


def colour(verdict: Verdict | None) -> str:
    """The terminal's colour for a verdict."""
    return "white" if verdict is None else _COLOURS[verdict]


def finding_lines(findings: Iterable[Finding]) -> Iterator[tuple[Verdict, str]]:
    """One line per finding, its next step under it when it is not OK: (verdict, text)."""
    findings = tuple(findings)
    titles = max((len(_label(f)) for f in findings), default=0)
    observed = min(max((len(f.observed) for f in findings), default=0), 44)
    for finding in findings:
        limit = f"limit {finding.limit}" if finding.limit else ""
        line = (
            f"{verdict_word(finding.verdict):<11} {_label(finding):<{titles}}  {finding.observed:<{observed}}  {limit}"
        )
        yield finding.verdict, line.rstrip()
        if finding.accepted:
            yield finding.verdict, f"{'':<11} accepted: {finding.accepted}"
        elif finding.next_step:
            yield finding.verdict, f"{'':<11} next: {finding.next_step}"


def _label(finding: Finding) -> str:
    return f"{finding.title} ({finding.subject})" if finding.subject else finding.title


def step_line(step: StepRecord) -> str:
    """One step: what, how it ended, how long it took."""
    took = f"{(step.ended - step.started).total_seconds():.2f} s" if step.started and step.ended else ""
    tail = f": {step.error}" if step.error else ""
    return f"{step.number:>3}  {step.state:<9} {took:>8}  {step.title}{tail}"


def local(moment: dt.datetime | None, zone: ZoneInfo) -> str:
    """A moment in the platform's zone.

    >>> local(dt.datetime(2026, 11, 23, 13, tzinfo=dt.UTC), ZoneInfo("America/New_York"))
    '2026-11-23 08:00:00 EST'
    """
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z") if moment else ""


def headline(run: RunRecord, zone: ZoneInfo) -> str:
    """What ran, when, where it stands."""
    stands = verdict_word(run.verdict) if run.state is RunState.CONCLUDED else run.state.upper()
    rehearsal = " (dry run)" if run.dry_run else ""
    return f"{run.platform} · {run.procedure}{rehearsal} · {local(run.requested, zone)} · {stands}"


def waiting_lines(run: RunRecord, target: str) -> Iterator[str]:
    """For each person that the run waits for: what to type."""
    for step in run.steps:
        if step.state is RunState.WAITING and step.kind in (StepKind.ATTEST, StepKind.APPROVE):
            note = ' --note "..."' if step.kind is StepKind.ATTEST else ""
            yield f"waits for: {step.title}"
            yield f"  nvcops {step.kind} {run.id} {step.name}{note} --as NAME{target}"
