"""What a run leaves as evidence: one entry per event, with an id that is the same when it is made again."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from nvcops.core.checks import Finding
from nvcops.core.errors import NvcopsError
from nvcops.core.evidence import Entry, utc
from nvcops.core.identity import SignedStatement
from nvcops.core.runs import RunRecord, Section, StepRecord

_FINDINGS_BYTES_MAX = 32_000  # an entry has at most 64 KiB
_TEXT_CHARACTERS_MAX = 4_000


def run_entry(
    run: RunRecord, kind: str, moment: dt.datetime, *, number: int = 0, again: bool = False, **body: Any
) -> Entry:
    """Something that happened to a run (or to its step of that number); `again`: it may happen more than once."""
    return Entry(
        id=f"{run.id}/{kind}"
        + (f"/{number}" if number else "")
        + (f"/{int(moment.timestamp() * 1e6)}" if again else ""),
        time=utc(moment),
        kind=kind,
        platform=run.platform,
        run=run.id,
        procedure=run.procedure,
        actor=run.requested_by,
        body=_plain(body),
    )


def requested(run: RunRecord, signed: SignedStatement | None) -> Entry:
    """Who asked for what, with their signature where there is one."""
    body: dict[str, Any] = {"options": run.options, "dry_run": run.dry_run, "content_hash": run.content_hash}
    if run.due:
        body["due"] = utc(run.due)
    if signed:
        return msgspec.structs.replace(said(signed), body=_plain(body | said(signed).body))
    return run_entry(run, "run.requested", run.requested, **body)


def said(signed: SignedStatement) -> Entry:
    """What a person signed: the entry says what the statement says, and carries both it and the signature."""
    statement = signed.statement
    return Entry(
        id=f"{statement.run}/{statement.subject or 'run'}/{statement.kind}/{_digest(signed.signature)}",
        time=statement.time,
        kind=statement.kind,
        platform=statement.platform,
        run=statement.run,
        procedure=statement.procedure,
        actor=statement.actor,
        subject=statement.subject,
        body={"statement": msgspec.to_builtins(statement), "signature": signed.signature},
    )


def step_entry(
    run: RunRecord, step: StepRecord, kind: str, moment: dt.datetime, *, again: bool = False, **body: Any
) -> Entry:
    """Something that happened to a step."""
    entry = run_entry(run, kind, moment, number=step.number, again=again, title=step.title, step_kind=step.kind, **body)
    return msgspec.structs.replace(entry, subject=step.name)


def finished(run: RunRecord, step: StepRecord, result: str) -> Entry:
    """The end of a step; of its result only the digest, since the world's answers may hold anything."""
    assert step.ended is not None  # noqa: S101 - a finished step has an end
    outcome: dict[str, Any] = {"state": step.state, "result_sha256": hashlib.sha256(result.encode()).hexdigest()}
    if step.error:
        outcome["error"] = step.error
    return step_entry(run, step, "step.finished", step.ended, **outcome)


def concluded(run: RunRecord, section: Section, number: int, moment: dt.datetime) -> Iterator[Entry]:
    """A section's verdict with all its findings, in as many entries as their size takes."""
    for part, findings in enumerate(_parts(section.findings)):
        entry = run_entry(
            run,
            "verdict",
            moment,
            number=number,
            verdict=section.verdict.name,
            title=section.title,
            summary=section.summary,
            part=part,
            findings=[_written(finding) for finding in findings],
        )
        yield msgspec.structs.replace(entry, subject=section.procedure, id=f"{entry.id}.{part}")


def ended(run: RunRecord) -> Entry:
    """How a run ended."""
    return run_entry(
        run,
        "run.finished",
        run.ended or run.requested,
        state=run.state,
        verdict=run.verdict.name if run.verdict is not None else None,
        summary=run.summary,
        error=run.error,
    )


def refused(run: RunRecord, actor: str, step: str, error: NvcopsError, moment: dt.datetime) -> Entry:
    """That somebody was told no, and why."""
    told = _digest(f"{actor} {error.sentence} {moment}")
    body: dict[str, Any] = {"reason": error.sentence, "error": type(error).__name__}
    entry = run_entry(run, "refusal", moment, **body)
    return msgspec.structs.replace(entry, id=f"{run.id}/{step or 'run'}/refusal/{told}", actor=actor, subject=step)


def _parts(findings: Sequence[Finding]) -> Iterator[list[Finding]]:
    part: list[Finding] = []
    size = 0
    for finding in findings:
        length = len(msgspec.json.encode(finding))
        if part and size + length > _FINDINGS_BYTES_MAX:
            yield part
            part, size = [], 0
        part.append(finding)
        size += length
    yield part


def _written(finding: Finding) -> dict[str, Any]:
    """A finding as JSON that evidence can hold: a figure that is not finite is none."""
    written: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(finding))
    return written | {"verdict": finding.verdict.name}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """JSON without surprises: long texts are cut, and say so."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str) and len(value) > _TEXT_CHARACTERS_MAX:
        return value[:_TEXT_CHARACTERS_MAX] + f" ... ({len(value)} characters)"
    return msgspec.to_builtins(value)
