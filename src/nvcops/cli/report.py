"""How a run reads: plain text, the same in a terminal and in a mail."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.checks import Finding, Verdict
from nvcops.core.runs import RunRecord, RunState, Signed, StepKind, StepRecord

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


def report_lines(run: RunRecord, zone: ZoneInfo) -> Iterator[tuple[Verdict | None, str]]:
    """The whole run as a person reads it, section by section: (verdict, text)."""
    yield run.verdict, headline(run, zone)
    for section in run.sections:
        yield None, ""
        yield section.verdict, f"{section.procedure}: {verdict_word(section.verdict)}"
        yield from ((verdict, f"  {line}") for verdict, line in finding_lines(section.findings))
        if section.summary and section.summary != run.summary:  # the run's own stands at the end
            yield None, f"  {section.summary}"
    for step in run.steps:
        if step.kind in (StepKind.ATTEST, StepKind.APPROVE) and step.state is RunState.CONCLUDED:
            yield None, ""
            yield None, f"{step.title}: {_signed(step.result)}"
    if run.error:
        yield Verdict.CRITICAL, f"error: {run.error}"
    if run.summary:
        yield None, ""
        yield run.verdict, run.summary
    for finding in run.findings:
        if finding.accepted:
            said = f"{_label(finding)}, {finding.verdict.name} ({finding.observed})"
            yield None, f"Accepted as it is: {said}, {finding.accepted}"


def _signed(result: object) -> str:
    said = msgspec.convert(result, Signed) if isinstance(result, dict) else result
    return f'{said.person}: "{said.note}"' if isinstance(said, Signed) else str(result)


def waiting_lines(run: RunRecord, target: str) -> Iterator[str]:
    """For each thing that the run waits for: what to type."""
    for step in () if run.state.ended else run.steps:
        if step.state is not RunState.WAITING:
            continue
        yield f"waits for: {step.title}"
        if step.kind is StepKind.ACT:
            yield f"  {step.error}"
            yield f"  nvcops resume {run.id} --done {step.name}{target}   (it happened)"
            yield f"  nvcops resume {run.id} --redo {step.name}{target}   (it did not)"
        else:
            yield f'  nvcops {step.kind} {run.id} {step.name} --note "..." --as NAME{target}'
