"""`nvcops pipeline ...`: releases through their stages, from any CI; and whether the gates still refuse what is bad."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import msgspec

from nvcops import wiring
from nvcops.adapters.gates.written import write_junit, write_sarif
from nvcops.cli.context import answer, json_option, manifest_path, notify, target_flag, target_option
from nvcops.cli.people import person_options, signer_of
from nvcops.cli.progress import Progress
from nvcops.cli.report import local
from nvcops.cli.show import finish
from nvcops.core import procedures, schedule
from nvcops.core.checks import Verdict, worst
from nvcops.core.gates import Answered, GateControl
from nvcops.core.manifest import Manifest
from nvcops.core.manifest.delivery import Stage
from nvcops.core.releases import Admission, Release
from nvcops.core.runs import RunRecord, StepKind
from nvcops.delivery import pipeline as rules

_ADMISSION, _CONTROLS = "release-admission", "gate-controls"
_ASKED = ("ask-gate", "ask-control")

junit_option = click.option(
    "--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write what the gates said as JUnit XML."
)
sarif_option = click.option(
    "--sarif", type=click.Path(path_type=Path, dir_okay=False), help="Write what the gates object to as SARIF 2.1.0."
)


@click.group()
def pipeline() -> None:
    """Let releases through the stages of the pipeline, and test its gates.

    From any CI: 0 admitted, 1 admitted with a warning, 2 refused, 3 a gate could not tell (that is no pass).
    """


@pipeline.command("run")
@click.argument("stage")
@click.option("--version", required=True, help="The release: a version, or a digest (its first 8 characters do).")
@click.option(
    "--checkout",
    type=click.Path(path_type=Path, file_okay=False, exists=True, resolve_path=True),
    help="The source that it was built of, for gates that need it: clean, and at the release's very commit.",
)
@click.option("--dry-run", is_flag=True, help="Say which gates would be asked, and what stands against it already.")
@junit_option
@sarif_option
@target_option
@json_option
def run_stage(  # noqa: PLR0913, PLR0917 - the flags of a command line
    stage: str,
    version: str,
    checkout: Path | None,
    dry_run: bool,
    junit: Path | None,
    sarif: Path | None,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> int:
    """Ask all gates of a stage about a release, and admit it when all of them let it pass.

    Interrupted, it goes on with `nvcops resume RUN`: gates that have answered are not asked again. `nvcops pipeline
    report RUN` writes the files of a run that ended.
    """
    options = {"stage": stage, "version": version, "checkout": str(checkout) if checkout else ""}
    manifest = wiring.load(manifest_path(target_path))
    record = _ran(manifest, _ADMISSION, options, dry_run=dry_run, quiet=as_json, who=(person, key))
    _reported(record, junit, sarif)
    code = finish(record, manifest, as_json=as_json, target=target_flag(target_path))
    return code if dry_run else _never_green(manifest, record, code)


@pipeline.command()
@click.option("--stage", default="", help="Only the gates of this stage.")
@click.option("--gate", default="", help="Only the gates of this name.")
@junit_option
@sarif_option
@target_option
@json_option
def controls(  # noqa: PLR0913, PLR0917 - the flags of a command line
    stage: str,
    gate: str,
    junit: Path | None,
    sarif: Path | None,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> int:
    """Show each gate its seeded fault, which it must refuse: 0 all did, 2 one let it pass, 3 one could not run."""
    manifest = wiring.load(manifest_path(target_path))
    who = (person, key)
    record = _ran(manifest, _CONTROLS, {"stage": stage, "gate": gate}, dry_run=False, quiet=as_json, who=who)
    _reported(record, junit, sarif)
    return finish(record, manifest, as_json=as_json, target=target_flag(target_path))


for _command in (run_stage, controls):
    for _option in person_options:
        _option(_command)


@pipeline.command()
@click.argument("run")
@junit_option
@sarif_option
@target_option
@json_option
def report(run: str, junit: Path | None, sarif: Path | None, target_path: Path | None, as_json: bool) -> int:
    """Show what the gates of a run said, and write it as JUnit or SARIF; ends with the run's verdict."""
    manifest = wiring.load(manifest_path(target_path))
    with wiring.open_runs(manifest, notify=notify) as runs:
        record = runs.show(run)
    _reported(record, junit, sarif)
    said = _answered(record)

    def lines() -> Iterator[str]:
        for one in said:
            took = f"{one.report.seconds:.1f} s"
            yield f"{one.report.verdict.upper():<8} {one.stage}/{one.gate} ({one.kind}, {took}): {one.report.sentence}"
            for line in one.report.lines:
                yield f"         {line.rule}: {line.text}" if line.rule else f"         {line.text}"
        if not said:
            yield f"no gate was asked by {record.id}"

    answer(said, as_json, lines)
    return record.exit_code if record.exit_code is not None else Verdict.UNKNOWN


@pipeline.command()
@target_option
@json_option
def gates(target_path: Path | None, as_json: bool) -> int:
    """List the gates of each stage, and whether they count: when their seeded fault was last refused."""
    manifest = wiring.load(manifest_path(target_path))
    stages, now = _stages(manifest), schedule.now()
    with wiring.open_records(manifest) as records, records.reading() as reading:
        kept = {control.id: control for control in reading.find(GateControl)}
    found = [
        (stage, gate, rules.control_finding(stage, gate, kept.get(rules.key_of(stage.name, gate.name)), now))
        for stage in stages
        for gate in stage.gates
    ]

    def lines() -> Iterator[str]:
        for stage, gate, finding in found:
            yield f"{stage.name:<12} {gate.name:<16} {gate.kind:<16} {finding.verdict.name:<8} {finding.observed}"
        if not found:
            yield "no stage has a gate: [[delivery.stages]] in platform.toml"

    shown = [
        {"stage": stage.name, "gate": gate.name, "kind": gate.kind, "control": line} for stage, gate, line in found
    ]
    answer(shown, as_json, lines)
    return worst(finding.verdict for _, _, finding in found)


@pipeline.command()
@click.option("--version", default="", help="Only this release.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="So many, the newest first.")
@target_option
@json_option
def status(version: str, limit: int, target_path: Path | None, as_json: bool) -> None:
    """Show how far each release has come: the stages that admitted it, and what keeps it from the next one."""
    manifest = wiring.load(manifest_path(target_path))
    store, stages, zone = wiring.open_releases(manifest), _stages(manifest), ZoneInfo(manifest.platform.time_zone)
    releases: Sequence[Release] = [store.find(version)] if version else store.list()[:limit]
    with wiring.open_records(manifest) as records, records.reading() as reading:
        found = [
            {
                "version": release.version,
                "digest": release.digest,
                "admitted": {
                    stage.name: one
                    for stage in stages
                    if (one := reading.get(Admission, rules.key_of(stage.name, release.digest)))
                },
                "why_not": rules.admitted(reading, stages, release.digest),
            }
            for release in releases
        ]

    def lines() -> Iterator[str]:
        for one in found:
            admitted: dict[str, Admission] = one["admitted"]  # type: ignore[assignment] # a row for JSON
            passed = ", ".join(f"{name} {local(entry.time, zone)}" for name, entry in admitted.items())
            ends = one["why_not"] or "may be deployed"
            yield f"{one['version']:<20} {str(one['digest'])[:12]}  {passed or 'no stage'}: {ends}"
        if not found:
            yield "nothing was built yet; `nvcops release build` does it"

    answer(found, as_json, lines)


def _stages(manifest: Manifest) -> tuple[Stage, ...]:
    return manifest.delivery.stages if manifest.delivery else ()


def _ran(
    manifest: Manifest,
    name: str,
    options: dict[str, Any],
    *,
    dry_run: bool,
    quiet: bool,
    who: tuple[str | None, Path | None],
) -> RunRecord:
    signer = signer_of(manifest, *who) if who[0] else None
    with wiring.open_runs(manifest, notify=notify) as runs, Progress(quiet=quiet) as progress:
        return runs.start(procedures.find(name), options=options, signer=signer, dry_run=dry_run, on_event=progress)


def _answered(record: RunRecord) -> list[Answered]:
    """What the gates of a run said, in their order, as its journal has it."""
    steps = [
        step
        for step in record.steps
        if step.kind is StepKind.ACT and isinstance(step.result, dict) and "report" in step.result
    ]
    return [msgspec.convert(step.result, Answered) for step in steps if step.name.startswith(_ASKED)]


def _reported(record: RunRecord, junit: Path | None, sarif: Path | None) -> None:
    said = _answered(record)
    if junit:
        write_junit(
            junit, said, "" if record.verdict in (Verdict.OK, Verdict.WARNING) else record.summary or record.error
        )
    if sarif:
        write_sarif(sarif, said)


def _never_green(manifest: Manifest, record: RunRecord, code: int) -> int:
    """No exception of the manifest makes a CI go on with what was not admitted: the admission itself is looked for."""
    if code not in (Verdict.OK, Verdict.WARNING):
        return code
    with wiring.open_records(manifest) as records, records.reading() as reading:
        kept = reading.find(Admission, stage=record.options["stage"], order="-time", limit=100)
    return code if any(one.run == record.id for one in kept) else Verdict.CRITICAL
