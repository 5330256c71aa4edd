"""`nvcops release deploy|rollback|retry|abort|promote|status|history|analysis`: rollouts, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from nvcops import wiring
from nvcops.changes.carrying import number_of
from nvcops.cli.context import answer, json_option, manifest_path, notify, target_option
from nvcops.cli.deciding import deciding, looking, signed
from nvcops.cli.people import person_options
from nvcops.cli.report import local
from nvcops.cli.run import run_procedure
from nvcops.core import procedures
from nvcops.core.checks import Verdict
from nvcops.core.errors import EvidenceError, NotFoundError, TargetError
from nvcops.core.rollouts import Phase, Rollout
from nvcops.core.units import Seconds
from nvcops.delivery import standing as rollouts
from nvcops.delivery.analysis import Judgement, judged
from nvcops.delivery.analysis_live import ABORT, PROMOTE
from nvcops.delivery.strategies import SlotSeen, Standing, strategy_of

_SHOWN_MAX = 20


def running(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of whatever begins a run."""
    command = click.option("--dry-run", is_flag=True, help="Read and decide, but act on nothing.")(command)
    command = click.option("--wait/--no-wait", default=None, help="Wait for people. Default: in a terminal, yes.")(
        command
    )
    command = click.option("--change", default="", help="The approved change, as in C-17.")(command)
    for option in person_options:
        command = option(command)
    return target_option(json_option(command))


def known(target_path: Path | None, version: str, strategy: str, change: str) -> None:
    """Ask what needs no run, before there is one: whether there is such a release, such a strategy, and such a number.

    Raises:
        NvcopsError: there is not; the hint says what there is.
    """
    manifest = wiring.load(manifest_path(target_path))
    strategy_of(rollouts.entry_of(manifest), strategy)
    number_of(change)
    if version:
        rollouts.releases_of(wiring.connect(manifest)).find(version)


@click.command()
@click.argument("version")
@click.option("--strategy", default="", help="canary, blue-green, rolling, or one of the manifest's.")
@running
def deploy(version: str, **given: Any) -> int:
    """Roll VERSION out: rehearse its rollback, go the strategy's steps, promote it; what fails is taken back."""
    known(given["target_path"], version, given["strategy"], given["change"])
    return run_procedure(procedures.find("deploy"), version=version, sign=not given["dry_run"], **given)


@click.command()
@click.argument("version", required=False, default="")
@running
def rollback(version: str, **given: Any) -> int:
    """Put VERSION back into service, else the one that the last deployment replaced."""
    known(given["target_path"], version, "", given["change"])
    return run_procedure(procedures.find("restore-application"), version=version, **given)


@click.command()
@click.option("--strategy", default="", help="canary, blue-green, rolling, or one of the manifest's.")
@running
def retry(target_path: Path | None, **given: Any) -> int:
    """Roll out once more the release that was taken back last."""
    with looking(target_path) as (reading, _, _):
        newest = next(iter(rollouts.history(reading, 1)), None)
    if newest is None or newest.phase is not Phase.ROLLED_BACK:
        raise NotFoundError("the last rollout was not taken back", hint="`nvcops release history`")
    return run_procedure(
        procedures.find("deploy"), version=newest.new, target_path=target_path, sign=not given["dry_run"], **given
    )


@click.command()
@target_option
def abort(target_path: Path | None, person: str | None, key: Path | None) -> None:
    """Take the rollout that is under way back: heard within a second, between any two of its acts."""
    _wish(target_path, (person, key), ABORT)


@click.command()
@target_option
def promote(target_path: Path | None, person: str | None, key: Path | None) -> None:
    """Let the rollout that is under way go on from its pause."""
    _wish(target_path, (person, key), PROMOTE)


signed(abort)
signed(promote)


def _wish(target_path: Path | None, who: tuple[str | None, Path | None], wanted: str) -> None:
    with looking(target_path) as (reading, _, _):
        going = rollouts.under_way(reading)
    about = f"rollout/{going[-1].id}" if going else "rollout"
    with deciding(target_path, who, about, f"release-{wanted}") as decision:
        rollout = rollouts.wish(decision.desk, decision.manifest, wanted, decision.person, decision.at)
    click.echo(f"{rollout.service} {rollout.version} ({rollout.phase}): {wanted}, wished by {decision.person}")


@click.command()
@target_option
@json_option
def status(target_path: Path | None, as_json: bool) -> int:
    """Show what runs in each slot by its own word, what traffic it gets, and the rollout that is under way."""
    manifest = wiring.load(manifest_path(target_path))
    rollouts.entry_of(manifest)
    with looking(target_path) as (reading, _, zone):
        going, last = rollouts.under_way(reading), rollouts.history(reading, 1)
    try:
        seen = rollouts.standing(wiring.connect(manifest))
    except TargetError as error:
        notify(error.sentence)
        seen = Standing(slots=(), trouble=error.sentence)

    def lines() -> Iterator[str]:
        yield from map(_slot_line, seen.slots)
        if seen.trouble:
            yield f"the balancer does not answer: {seen.trouble}"
        yield ""
        for one in going or last:
            yield from _rollout_lines(one, zone)
        if not going and not last:
            yield "nothing was rolled out yet"

    answer({"slots": seen.slots, "trouble": seen.trouble, "under_way": going, "last": last}, as_json, lines)
    serving = {one.release for one in seen.serving}
    known = not seen.trouble and all(one.ready for one in seen.serving)
    if not known or not serving:
        return Verdict.UNKNOWN if seen.trouble else Verdict.CRITICAL
    return Verdict.OK if len(serving) == 1 else Verdict.WARNING


@click.command("history")
@click.option("--limit", default=_SHOWN_MAX, show_default=True, type=click.IntRange(1, 1000), help="How many at most.")
@target_option
@json_option
def rollout_history(target_path: Path | None, limit: int, as_json: bool) -> None:
    """List rollouts, the newest first: what was deployed, how, and how it ended."""
    with looking(target_path) as (reading, _, zone):
        found = rollouts.history(reading, limit)

    def lines() -> Iterator[str]:
        for one in found:
            yield from _rollout_lines(one, zone)
        if not found:
            yield "nothing was rolled out yet"

    answer(found, as_json, lines)


@click.command()
@click.argument("run")
@click.argument("step", type=int, required=False)
@click.option("--export", type=click.Path(path_type=Path), help="Write what was looked at into a file.")
@target_option
@json_option
def analysis(run: str, step: int | None, export: Path | None, target_path: Path | None, as_json: bool) -> int:
    """Judge a step's analysis of a rollout again, from the looks that were kept."""
    manifest = wiring.load(manifest_path(target_path))
    keeper = rollouts.looks_of(wiring.connect(manifest))
    lines = keeper.lines(run, step if step is not None else _analysed_step(keeper.lines, run))
    if not lines:
        raise NotFoundError(f"no looks of {run} are kept", hint="`nvcops release history` lists the rollouts")
    if export:
        export.write_bytes(b"".join(line + b"\n" for line in lines))
    return _said(judged(lines), as_json)


@click.command("verify-analysis")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--sha256", "digest", default="", help="What the evidence says of it.")
@json_option
def verify_analysis(file: Path, digest: str, as_json: bool) -> int:
    """Judge an exported analysis again, without the platform; with its digest, whether it is the one that was kept."""
    said = judged([line for line in file.read_bytes().split(b"\n") if line])
    if digest and digest != said.looks_sha256:
        raise EvidenceError(f"{file} is not what was kept: its SHA-256 is {said.looks_sha256}")
    return _said(said, as_json)


def _analysed_step(lines_of: Callable[[str, int], Sequence[bytes]], run: str) -> int:
    """The last step of which more than one line is kept: a pause has one."""
    steps = [step for step in range(1, 101) if len(lines_of(run, step)) > 1]
    return steps[-1] if steps else 1


def _said(said: Judgement, as_json: bool) -> int:
    def lines() -> Iterator[str]:
        yield said.sentence
        yield from said.limited
        if said.proof_s is not None:
            yield f"proving safety takes about {Seconds(said.proof_s)} more at this traffic"
        yield f"sha256 {said.looks_sha256}"

    answer(said, as_json, lines)
    return Verdict.CRITICAL if said.abort else Verdict.OK


def _slot_line(one: SlotSeen) -> str:
    runs = f"{one.version} {one.release[:8]}".strip() or "-"
    weight = "?" if one.weight is None else str(one.weight)
    counts = f"{one.requests:,} requests, {one.failed:,} failed" if None not in (one.requests, one.failed) else ""
    state = "ready" if one.ready else one.trouble
    kind = "main" if one.main else "spare"
    return f"{one.slot:<16}  {kind:<5}  {runs:<24}  weight {weight:>3}  {state}  {counts}".rstrip()


def _rollout_lines(one: Rollout, zone: ZoneInfo) -> Iterator[str]:
    replaced = f" for {one.old_version or one.old[:8]}" if one.old else ""
    yield f"{local(one.began, zone)}  {one.service} {one.version}{replaced}, {one.strategy}: {one.phase}  {one.id}"
    if not one.phase.ended:
        yield f"    step {one.step}, {one.weight} % of the traffic" + (f", wished: {one.wish}" if one.wish else "")
    if one.why:
        yield f"    {one.why}"
    if one.warm_until:
        yield f"    the release before is warm until {local(one.warm_until, zone)}"
