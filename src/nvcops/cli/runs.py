"""`nvcops runs`, `show`, `resume`, `cancel`, `attest`, `approve`: what became of runs, and what people say of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from nvcops import wiring
from nvcops.adapters.identity_ssh import Signer
from nvcops.adapters.runs.door import Runs
from nvcops.cli.context import answer, json_option, manifest_path, notify, target_flag, target_option
from nvcops.cli.people import person_options, signer_of
from nvcops.cli.progress import Progress
from nvcops.cli.report import local, verdict_word
from nvcops.cli.show import finish, show, summary_of
from nvcops.core.errors import NotAllowed, UsageError
from nvcops.core.manifest import Manifest
from nvcops.core.runs import RunRecord, RunState

STAY_S_MAX = 120.0


@click.command("runs")
@target_option
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in RunState]),
    help="Only in this state (repeatable).",
)
@click.option("--procedure", default="", help="Only of this procedure.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="So many, the newest first.")
@json_option
def list_runs(target_path: Path | None, states: tuple[str, ...], procedure: str, limit: int, as_json: bool) -> None:
    """List runs, the newest first; those whose worker died are named."""
    manifest = wiring.load(manifest_path(target_path))
    zone = ZoneInfo(manifest.platform.time_zone)
    with wiring.open_runs(manifest, notify=notify) as runs:
        found = runs.list([RunState(state) for state in states], procedure=procedure, limit=limit)
        abandoned = {left.run.id for left in runs.abandoned()}

    def lines() -> Iterator[str]:
        for record in found:
            stands = verdict_word(record.verdict) if record.state is RunState.CONCLUDED else record.state.upper()
            left = "  abandoned: nvcops resume " + record.id if record.id in abandoned else ""
            yield f"{local(record.requested, zone)}  {stands:<10}  {record.requested_by:<14}  {record.id}{left}"
        if not found:
            yield "nothing has run yet; `nvcops list` shows what can"

    answer([{**summary_of(record), "abandoned": record.id in abandoned} for record in found], as_json, lines)


@click.command("show")
@click.argument("run")
@target_option
@click.option("--steps", is_flag=True, help="With every step.")
@json_option
def show_run(run: str, target_path: Path | None, steps: bool, as_json: bool) -> int:
    """Show a run: its findings, what it waits for, its verdict. Ends with the verdict."""
    manifest = wiring.load(manifest_path(target_path))
    with wiring.open_runs(manifest, notify=notify) as runs:
        record = runs.show(run)
    if steps and not as_json:
        show(record, ZoneInfo(manifest.platform.time_zone), steps=True)
    return finish(record, manifest, as_json=as_json, target=target_flag(target_path), shown=steps)


@click.command()
@click.argument("run")
@target_option
@click.option("--done", metavar="STEP", help="The step whose outcome is unknown did happen.")
@click.option("--redo", metavar="STEP", help="The step whose outcome is unknown did not happen: do it again.")
@click.option("--note", default="", help="How you know.")
@json_option
def resume(  # noqa: PLR0913, PLR0917 - the flags of a command line
    run: str,
    target_path: Path | None,
    done: str | None,
    redo: str | None,
    note: str,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> int:
    """Go on with a run that was interrupted; what its journal has is not done again."""
    if done and redo:
        raise UsageError("--done or --redo, not both")
    step = done or redo

    def act(runs: Runs, manifest: Manifest, progress: Progress) -> RunRecord:
        if not step:
            return runs.resume(run, on_event=progress)
        signer = _speaker(runs, manifest, run, step, (person, key))
        return runs.resolve(run, step, signer, done=bool(done), note=note, on_event=progress)

    return _acted(target_path, as_json, act)


@click.command()
@click.argument("run")
@target_option
@json_option
def cancel(run: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None) -> int:
    """Stop a run at its next step. What it did stays, but for changes that it was only trying: those go back."""
    return _acted(
        target_path,
        as_json,
        lambda runs, manifest, _progress: runs.cancel(run, _speaker(runs, manifest, run, "", (person, key))),
    )


@click.command()
@click.argument("run")
@click.argument("step")
@target_option
@click.option("--note", required=True, help="What you looked at, and what you saw.")
@json_option
def attest(
    run: str, step: str, target_path: Path | None, note: str, as_json: bool, person: str | None, key: Path | None
) -> int:
    """Say, signed with your SSH key, that a manual step was done; the run goes on."""
    return _acted(
        target_path,
        as_json,
        lambda runs, manifest, progress: runs.attest(
            run, step, _speaker(runs, manifest, run, step, (person, key)), note=note, on_event=progress
        ),
    )


@click.command()
@click.argument("run")
@click.argument("step")
@target_option
@click.option("--note", default="", help="Why.")
@json_option
def approve(
    run: str, step: str, target_path: Path | None, note: str, as_json: bool, person: str | None, key: Path | None
) -> int:
    """Approve, signed with your SSH key, what somebody else requested; the run goes on."""
    return _acted(
        target_path,
        as_json,
        lambda runs, manifest, progress: runs.approve(
            run, step, _speaker(runs, manifest, run, step, (person, key)), note=note, on_event=progress
        ),
    )


for _command in (resume, cancel, attest, approve):
    for _option in person_options:
        _option(_command)


def _speaker(runs: Runs, manifest: Manifest, run: str, step: str, given: tuple[str | None, Path | None]) -> Signer:
    """Who speaks about a run; whoever the roster does not know is refused, and that is evidence."""
    try:
        return signer_of(manifest, *given)
    except NotAllowed as error:
        runs.refuse(run, step, given[0] or "", error)
        raise


def _acted(target_path: Path | None, as_json: bool, act: Callable[[Runs, Manifest, Progress], RunRecord]) -> int:
    """Do something to a run, stay with it while it goes on, and show how it stands."""
    manifest = wiring.load(manifest_path(target_path))
    with wiring.open_runs(manifest, notify=notify) as runs, Progress(quiet=as_json) as progress:
        record = act(runs, manifest, progress)
        if record.state in (RunState.RUNNING, RunState.ENQUEUED):
            record = runs.follow(record.id, seconds=STAY_S_MAX, on_event=progress)
    return finish(record, manifest, as_json=as_json, target=target_flag(target_path))
