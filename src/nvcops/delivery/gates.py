"""A release goes through a stage's gates; and gates go through a control: a seeded fault that they must refuse."""

from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.core.checks import Verdict
from nvcops.core.errors import NotFoundError, StepFailed, UsageError
from nvcops.core.evidence import Entry, utc
from nvcops.core.gates import Answered, GateControl, GateReport, Gates, GateVerdict, Subject, unknown
from nvcops.core.manifest.delivery import Gate, Stage
from nvcops.core.procedures import procedure
from nvcops.core.releases import Admission, Release
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.delivery import pipeline
from nvcops.delivery.standing import records_of, releases_of

_SHORT = 12

# --- Facts ---


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a release stands before a stage: why the stages before do not let it on, and how its gates' controls ended.

    `previous` is the release that the stage admitted last before this one; empty: there was none.
    """

    before: str = ""
    previous: str = ""
    controls: tuple[GateControl, ...] = ()


def stages_of(target: Target) -> tuple[Stage, ...]:
    """The stages of the pipeline, in order."""
    return target.manifest.delivery.stages if target.manifest.delivery else ()


@conduct(deadline="10 min", idempotent=True)
def wanted(target: Target, version: str) -> Release:
    """Find the release, and read all of it again."""
    releases = releases_of(target)
    return releases.verify(releases.find(version).digest)


@conduct(deadline="1 min", idempotent=True)
def standing(target: Target, stage: str, digest: str) -> Standing:
    """Look how the release stands, and which gates count."""
    stages = stages_of(target)
    place = pipeline.find_stage(stages, stage)
    with records_of(target).reading() as reading:
        newest = reading.find(Admission, stage=stage, order="-time", limit=100)
        keys = [pipeline.key_of(stage, gate.name) for gate in stages[place].gates]
        return Standing(
            before=pipeline.admitted(reading, stages[:place], digest),
            previous=next((one.digest for one in newest if one.digest != digest), ""),
            controls=tuple(control for key in keys if (control := reading.get(GateControl, key))),
        )


@conduct(deadline="1 min", idempotent=True)
def admission_of(target: Target, stage: str, digest: str) -> Admission | None:
    """Read back whether the stage admitted it."""
    with records_of(target).reading() as reading:
        return reading.get(Admission, pipeline.key_of(stage, digest))


@conduct(deadline="1 min", idempotent=True)
def controls_of(target: Target, names: list[str]) -> list[GateControl]:
    """Read back how the positive controls stand."""
    with records_of(target).reading() as reading:
        return [control for name in names if (control := reading.get(GateControl, name)) is not None]


@conduct(deadline="2 min", idempotent=True)
def newest_release(target: Target) -> str:
    """Find the newest release, of which a control is made where it needs one."""
    return next((release.digest for release in releases_of(target).list()), "")


@conduct(deadline="1 min", idempotent=True)
def requester_of(target: Target, run: str) -> str:
    """Look who asked for this run."""
    try:
        return target.runs.requester(run)[0] if target.runs else ""
    except NotFoundError:
        return ""


def _gates(target: Target) -> Gates:
    if target.gates is None:
        raise UsageError("nobody can run gates here", hint="[[delivery.stages]] in platform.toml")
    return target.gates


# --- Procedures ---


@conduct(deadline="4 h", idempotent=True)
def ask_gate(target: Target, stage: str, gate: Gate, subject: Subject) -> Answered:
    """Have a gate judge a release."""
    report = _gates(target).judge(gate, subject)
    return Answered(stage=stage, gate=gate.name, kind=gate.kind, report=report)


@conduct(deadline="4 h", idempotent=True)
def ask_control(target: Target, stage: str, gate: Gate, subject: Subject) -> Answered:
    """Have a gate judge its seeded fault."""
    report = _gates(target).control(gate, subject)
    return Answered(stage=stage, gate=gate.name, kind=gate.kind, report=report)


@conduct(deadline="1 min", idempotent=True)
def admit(target: Target, admission: Admission) -> None:
    """Write down that a stage admits a release; looked at once more, in the transaction that writes it.

    Raises:
        UsageError: meanwhile a stage before admits it no more, or a gate does not count any more.
    """
    stages = stages_of(target)
    place = pipeline.find_stage(stages, admission.stage)
    with records_of(target).changing() as desk:
        why = pipeline.admitted(desk, stages[:place], admission.digest)
        for gate in stages[place].gates:
            control = desk.get(GateControl, pipeline.key_of(admission.stage, gate.name))
            why = why or pipeline.stale(control, gate, admission.time)
        if why:
            raise UsageError(f"meanwhile: {why}", hint="begin again")
        desk.put(admission)
        desk.note(_entry(target, "release.admitted", admission, admission.time))


@conduct(deadline="1 min", idempotent=True)
def withdraw(target: Target, admission: Admission, why: str) -> None:
    """Take back what the stage admitted before: its gates refuse it now."""
    with records_of(target).changing() as desk:
        if desk.remove(Admission, [admission.id]):
            desk.note(_entry(target, "release.withdrawn", admission, admission.time, why))


@conduct(deadline="1 min", idempotent=True)
def keep_control(target: Target, said: Answered, now: dt.datetime, run: str) -> None:
    """Write down how a control ended; what a gate that let its fault pass admitted since its last good one goes."""
    stages = stages_of(target)
    stage = stages[pipeline.find_stage(stages, said.stage)]
    gate = next(one for one in stage.gates if one.name == said.gate)
    with records_of(target).changing() as desk:
        before = desk.get(GateControl, pipeline.key_of(said.stage, said.gate))
        if before is not None and before.run == run:
            return
        if said.report.verdict is GateVerdict.PASS:
            for admission in pipeline.doubtful(desk, said.stage, said.gate, before):
                desk.remove(Admission, [admission.id])
                why = f"{said.gate} let its seeded fault pass in {run}"
                desk.note(_entry(target, "release.withdrawn", admission, now, why))
        desk.put(pipeline.controlled(said.stage, gate, said.report, before, now, run))


def _entry(target: Target, kind: str, admission: Admission, at: dt.datetime, why: str = "") -> Entry:
    return Entry(
        id=f"{kind}/{admission.id}/{admission.run}",
        time=utc(at),
        kind=kind,
        platform=target.manifest.platform.name,
        run=admission.run,
        actor=admission.by,
        subject=f"release/{admission.digest}",
        body={"stage": admission.stage, "gates": list(admission.gates), "why": why},
    )


@procedure("release-admission", lock="pipeline", needs=["delivery"])
def release_admission(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, stage: str = "", version: str = "", checkout: str = ""
) -> None:
    """Let a release through a stage of the pipeline: every gate is asked, and it is admitted when all let it pass.

    The stages before must have admitted the same digest. A gate that could not run has not passed; one whose seeded
    fault was not refused within seven days does not count. What a stage admitted before and refuses now is withdrawn.

    Args:
        stage: the stage, by its name in [[delivery.stages]]
        version: the release, by its version or its digest
        checkout: a folder with the source that it was built of, for gates that need one
    """
    stages = stages_of(target)
    here = stages[pipeline.find_stage(stages, stage)]
    if not version:
        raise UsageError("which release?", hint="--version V: a version or a digest; `nvcops release list`")
    release = run.read(wanted, target, version)
    stands = run.read(standing, target, stage, release.digest)
    subject = Subject(digest=release.digest, now=run.started, previous=stands.previous, checkout=checkout)
    reports = {} if stands.before else _asked(run, target, here, subject)
    complete = len(reports) == len(here.gates)
    kept_controls = {control.id: control for control in stands.controls}
    controls = {gate.name: kept_controls.get(pipeline.key_of(stage, gate.name)) for gate in here.gates}
    judgement = pipeline.judge(here, stands.before, reports, controls, run.started, complete=complete)
    admission = Admission(
        id=pipeline.key_of(stage, release.digest),
        stage=stage,
        digest=release.digest,
        time=run.started,
        by=run.read(requester_of, target, run.id),
        run=run.id,
        gates=tuple(gate.name for gate in here.gates),
    )
    name = f"{release.name} {release.version} ({release.digest[:_SHORT]})"
    judgement = _written(run, target, admission, judgement, name)
    kept = run.read(admission_of, target, stage, release.digest)
    findings = [pipeline.before_finding(stands.before, stage)] if stands.before else []
    findings += pipeline.gate_findings(here, reports, controls, run.started)
    run.conclude([*findings, pipeline.admission_finding(judgement, kept, run.id, f"{name} to {stage}")])


def _asked(run: Run, target: Target, stage: Stage, subject: Subject) -> dict[str, GateReport]:
    """What the gates said, by name; a rehearsal asks none."""
    reports = {}
    for gate in stage.gates:
        try:
            said = run.step(f"ask the gate {gate.name} of {stage.name}", ask_gate, target, stage.name, gate, subject)
        except StepFailed as error:
            reports[gate.name] = unknown(error.sentence)
        else:
            if said:
                reports[gate.name] = said.report
    return reports


def _written(
    run: Run, target: Target, admission: Admission, judgement: pipeline.Judgement, name: str
) -> pipeline.Judgement:
    """Admit what passed, and withdraw what is refused; what then holds."""
    if judgement.verdict is GateVerdict.PASS:
        try:
            run.step(f"admit {name} to {admission.stage}", admit, target, admission)
        except StepFailed as error:
            return pipeline.Judgement(verdict=GateVerdict.UNKNOWN, why=error.sentence)
    elif judgement.verdict is GateVerdict.REFUSED and run.read(admission_of, target, admission.stage, admission.digest):
        run.step(f"withdraw the admission to {admission.stage}", withdraw, target, admission, judgement.why)
    return judgement


@procedure("gate-controls", when="Sun 05:00", lock="gate-controls", needs=["delivery"])
def gate_controls(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, stage: str = "", gate: str = ""
) -> None:
    """Show every gate of the pipeline a seeded fault, which it must refuse.

    A gate that lets it pass lets everything pass: what it admitted since it last refused it is withdrawn.

    Args:
        stage: only the gates of this stage
        gate: only the gates of this name
    """
    chosen = [
        (one, each)
        for one in stages_of(target)
        for each in one.gates
        if stage in ("", one.name) and gate in ("", each.name)
    ]
    if not chosen:
        nothing = pipeline.CONTROL.finding(Verdict.WARNING, "there is no such gate: nothing is asked of releases")
        run.conclude([nothing])
        return
    subject = Subject(digest=run.read(newest_release, target), now=run.started)
    for one, each in chosen:
        title = f"show the gate {each.name} of {one.name} its seeded fault"
        try:
            said = run.step(title, ask_control, target, one.name, each, subject)
        except StepFailed as error:
            said = Answered(stage=one.name, gate=each.name, kind=each.kind, report=unknown(error.sentence))
        if said:
            run.step(f"keep what {each.name} of {one.name} said", keep_control, target, said, run.started, run.id)
    names = [pipeline.key_of(one.name, each.name) for one, each in chosen]
    kept = {control.id: control for control in run.read(controls_of, target, names)}
    run.conclude(
        [
            pipeline.control_finding(one, each, kept.get(name), run.started)
            for name, (one, each) in zip(names, chosen, strict=True)
        ]
    )
