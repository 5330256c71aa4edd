"""The pipeline's rules: in which order stages admit a release, when a gate counts, when a release may go on. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import UsageError
from nvcops.core.gates import GateControl, GateReport, GateVerdict, definition
from nvcops.core.manifest.delivery import Gate, Stage
from nvcops.core.records import Reading
from nvcops.core.releases import Admission
from nvcops.core.units import Seconds

CONTROL_VALID = dt.timedelta(days=7)
CONTROL_SOON = dt.timedelta(days=1)

GATE = Check("pipeline.gate", "Gate", "`nvcops show RUN --steps` has all that it said")
CONTROL = Check("pipeline.control", "Positive control", "`nvcops pipeline controls`; until it is refused, nothing is")
BEFORE = Check("pipeline.before", "Stage before", "`nvcops pipeline run STAGE --version V`, stage by stage")
ADMITTED = Check(
    "pipeline.admitted", "Admission", "mend what refused it, build a new release, begin with the first stage"
)


def key_of(stage: str, name: str) -> str:
    """The key of an admission (stage, digest), and of a gate's control (stage, gate)."""
    return f"{stage}/{name}"


def find_stage(stages: Sequence[Stage], name: str) -> int:
    """A stage's place in the order.

    Raises:
        UsageError: there is none of that name.
    """
    names = [stage.name for stage in stages]
    if name not in names:
        hint = f"there: {', '.join(names)}" if names else "[[delivery.stages]] in platform.toml"
        raise UsageError(f"there is no stage {name!r}", hint=hint)
    return names.index(name)


def admitted(reading: Reading, stages: Sequence[Stage], digest: str) -> str:
    """Why a release may not go on past the given stages; empty: it may. Without stages there is nothing to pass.

    It may when each stage admitted it, in their order, and when every gate that a stage has now judged it then. What a
    gate admitted between its last good control and one that failed was withdrawn (`doubtful`).
    """
    before: Admission | None = None
    for stage in stages:
        admission = reading.get(Admission, key_of(stage.name, digest))
        if admission is None or admission.digest != digest:
            return f"it was not admitted to {stage.name}"
        if before is not None and admission.time < before.time:
            return f"it was admitted to {stage.name} before it was admitted to {before.stage}"
        missing = [gate.name for gate in stage.gates if gate.name not in admission.gates]
        if missing:
            return f"{stage.name} has gates that did not judge it: {', '.join(missing)}"
        before = admission
    return ""


def stale(control: GateControl | None, gate: Gate, now: dt.datetime) -> str:
    """Why a gate does not count now; empty: its seeded fault was refused within seven days, by what it is today.

    >>> day = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    >>> gate = Gate(name="lint", kind="lint")
    >>> def control(verdict, refused):
    ...     return GateControl(id="dev/lint", definition=definition(gate), time=day, verdict=GateVerdict(verdict),
    ...                        sentence="", run="", refused=refused)
    >>> stale(control("refused", day), gate, day + CONTROL_VALID)
    ''
    >>> stale(control("refused", day), gate, day + CONTROL_VALID + dt.timedelta(seconds=1))
    'its seeded fault was last refused on 2026-11-22, more than 7 d ago'
    >>> stale(control("unknown", day), gate, day), stale(None, gate, day)
    ('', 'its positive control never ran')
    >>> stale(control("pass", day), gate, day)
    'it let its seeded fault pass on 2026-11-22'
    """
    if control is None:
        return "its positive control never ran"
    if control.verdict is GateVerdict.PASS:
        return f"it let its seeded fault pass on {control.time:%Y-%m-%d}"
    if control.definition != definition(gate):
        return "it was changed since its positive control ran"
    if control.refused is None:
        return "its positive control could not run"
    if now - control.refused > CONTROL_VALID:
        allowed = Seconds(CONTROL_VALID.total_seconds())
        return f"its seeded fault was last refused on {control.refused:%Y-%m-%d}, more than {allowed} ago"
    return ""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage's gates add up to; `verdict` PASS admits. `why` is the first reason against it."""

    verdict: GateVerdict
    why: str = ""


Controls = Mapping[str, GateControl | None]


def judge(
    stage: Stage,
    before: str,
    reports: Mapping[str, GateReport],
    controls: Controls,
    now: dt.datetime,
    *,
    complete: bool = True,
) -> Judgement:
    """Whether a stage admits a release: `before` says why the stages before do not; reports and controls by gate.

    Refused outranks unknown, and a gate that let its seeded fault pass refuses. A stage without gates admits what the
    stage before admitted: the manifest says so. `complete` False: some gates were not asked (a rehearsal).
    """
    if before:
        return Judgement(verdict=GateVerdict.REFUSED, why=before)
    unclear = "" if complete else "not every gate was asked"
    for gate in stage.gates:
        report = reports.get(gate.name)
        control = controls.get(gate.name)
        if report is not None and report.verdict is GateVerdict.REFUSED:
            return Judgement(verdict=GateVerdict.REFUSED, why=f"{gate.name}: {report.sentence}")
        if control is not None and control.verdict is GateVerdict.PASS:
            return Judgement(verdict=GateVerdict.REFUSED, why=f"{gate.name} is broken: {stale(control, gate, now)}")
        if report is None or report.verdict is not GateVerdict.PASS:
            unclear = unclear or f"{gate.name} could not tell: {report.sentence if report else 'it was not asked'}"
        elif why := stale(control, gate, now):
            unclear = unclear or f"{gate.name} does not count: {why}"
    return Judgement(verdict=GateVerdict.UNKNOWN if unclear else GateVerdict.PASS, why=unclear)


def controlled(
    stage: str, gate: Gate, report: GateReport, before: GateControl | None, now: dt.datetime, run: str
) -> GateControl:
    """The record of a control that ran: one that could not run leaves the last refusal of the same gate standing."""
    same = before is not None and before.definition == definition(gate) and before.verdict is not GateVerdict.PASS
    kept = before.refused if before and same else None
    refused = {GateVerdict.REFUSED: now, GateVerdict.UNKNOWN: kept}.get(report.verdict)
    return GateControl(
        id=key_of(stage, gate.name),
        definition=definition(gate),
        time=now,
        verdict=report.verdict,
        sentence=report.sentence,
        run=run,
        refused=refused,
    )


def doubtful(reading: Reading, stage: str, gate: str, before: GateControl | None) -> list[Admission]:
    """What a gate admitted since it last refused its seeded fault, now that it let it pass: nobody judged those."""
    if before is None or before.refused is None:
        return []
    found = reading.find(Admission, stage=stage, time__gte=before.refused)
    return [admission for admission in found if gate in admission.gates]


def before_finding(why: str, stage: str) -> Finding:
    """Why no gate of a stage was asked."""
    return BEFORE.finding(Verdict.CRITICAL, why, subject=stage)


def gate_findings(
    stage: Stage, reports: Mapping[str, GateReport], controls: Controls, now: dt.datetime
) -> list[Finding]:
    """What each gate said; and which of them do not count, or soon will not."""
    lines = []
    for gate in stage.gates:
        report = reports.get(gate.name)
        if report is None:
            lines.append(GATE.unknown("it was not asked", subject=gate.name))
        else:
            lines.append(GATE.finding(report.verdict.verdict, report.sentence, subject=gate.name))
        control = control_finding(stage, gate, controls.get(gate.name), now)
        lines += [control] if control.verdict is not Verdict.OK else []
    return lines


def admission_finding(judgement: Judgement, kept: Admission | None, run: str, what: str) -> Finding:
    """Whether a run admitted what it was asked about, as read back; `what` names release and stage.

    >>> kept = Admission(id="dev/ab", stage="dev", digest="ab", time=dt.datetime.now(dt.UTC), by="omar", run="r1")
    >>> passed = Judgement(verdict=GateVerdict.PASS)
    >>> [admission_finding(passed, one, "r1", "bank 1 to dev").verdict.name for one in (kept, None)]
    ['OK', 'UNKNOWN']
    >>> admission_finding(Judgement(verdict=GateVerdict.REFUSED, why="lint: bad"), None, "r1", "bank 1 to dev").observed
    'lint: bad'
    """
    if judgement.verdict is not GateVerdict.PASS:
        return ADMITTED.finding(judgement.verdict.verdict, judgement.why, subject=what)
    if kept is None or kept.run != run:
        return ADMITTED.unknown("every gate let it pass, and its admission cannot be read back", subject=what)
    return ADMITTED.finding(Verdict.OK, f"admitted by {len(kept.gates)} gates", subject=what)


def control_finding(stage: Stage, gate: Gate, control: GateControl | None, now: dt.datetime) -> Finding:
    """Whether a gate counts: WARNING a day before it no longer does, CRITICAL where it lets its seeded fault pass."""
    subject, why = key_of(stage.name, gate.name), stale(control, gate, now)
    if control is not None and control.verdict is GateVerdict.PASS:
        return CONTROL.finding(Verdict.CRITICAL, why, subject=subject)
    if why or control is None or control.refused is None:
        return CONTROL.unknown(why, subject=subject)
    age = now - control.refused
    verdict = Verdict.WARNING if age > CONTROL_VALID - CONTROL_SOON else Verdict.OK
    told = f"seeded fault refused {Seconds(round(age.total_seconds()))} ago: {control.sentence}"
    return CONTROL.finding(verdict, told, subject=subject, limit=f"< {Seconds(CONTROL_VALID.total_seconds())}")
