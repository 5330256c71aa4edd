"""`nvcops evidence ...`: sign, prove, verify, hand out and audit what the runs left behind."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from nvcops import wiring
from nvcops.cli.context import answer, json_option, manifest_path, target_option
from nvcops.core import schedule
from nvcops.core.checks import Verdict
from nvcops.core.errors import UsageError
from nvcops.core.evidence import verify_evidence
from nvcops.core.manifest import Manifest


@click.group()
def evidence() -> None:
    """Sign, prove, verify, export and audit the evidence that runs leave."""


@evidence.command()
@target_option
def checkpoint(target_path: Path | None) -> None:
    """Sign the log as it stands now, give the checkpoint to the witness, and print it."""
    with wiring.open_evidence(_manifest(target_path)) as log:
        click.echo(log.checkpoint(schedule.now()), nl=False)


@evidence.command()
@click.argument("entry")
@target_option
def prove(entry: str, target_path: Path | None) -> None:
    """Print a proof that ENTRY (its id or index) is in the log as signed: C2SP tlog-proof."""
    with wiring.open_evidence(_manifest(target_path)) as log:
        log.checkpoint(schedule.now())
        click.echo(log.prove(int(entry) if entry.isdecimal() else entry), nl=False)


@evidence.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key", default="", metavar="VKEY", help="The log's key that you trust; without it, the one in the bundle."
)
@json_option
def verify(bundle: Path, key: str, as_json: bool) -> int:
    """Verify an exported bundle. Needs no platform.toml; the verifier in the bundle says the same without nvcops."""
    verifications = wiring.verify_bundle(bundle, key)

    def lines() -> Iterator[str]:
        for said in verifications:
            at = "" if said.first_bad is None else f" (first bad index: {said.first_bad})"
            yield f"{'holds' if said.holds else 'FAILS':<6} {said.check}: {said.sentence}{at}"

    answer(verifications, as_json, lines)
    return Verdict.OK if all(said.holds for said in verifications) else Verdict.CRITICAL


@evidence.command()
@click.option("--run", default="", help="The evidence of one run.")
@click.option(
    "--from", "since", default="", metavar="DATE", help="From this day or moment on (ISO 8601, the platform's zone)."
)
@click.option("--to", "until", default="", metavar="DATE", help="Until before this day or moment.")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="The file to write.")
@target_option
@json_option
def export(run: str, since: str, until: str, output: Path, target_path: Path | None, as_json: bool) -> None:
    """Write the evidence of a run or a time as one file that verifies offline, and the verifier beside it."""
    if not (run or since or until):
        raise UsageError("export what?", hint="--run RUN, or --from DATE and --to DATE")
    manifest = _manifest(target_path)
    zone = ZoneInfo(manifest.platform.time_zone)
    with wiring.open_evidence(manifest) as log:
        log.checkpoint(schedule.now())
        start, stop = log.span(run=run, since=_moment(since, zone), until=_moment(until, zone))
        log.export(start, stop, output, allowed_signers={p.name: p.ssh_keys for p in manifest.people})
        key = log.vkey
    verifier = output.with_name("verify_evidence.py")
    shutil.copyfile(Path(verify_evidence.__file__), verifier)
    facts = {"bundle": str(output), "verifier": str(verifier), "entries": stop - start, "first": start, "key": key}

    def lines() -> Iterator[str]:
        yield f"{stop - start} entries ({start} to {stop - 1}) in {output}"
        yield "verify them offline, anywhere with Python and `cryptography`:"
        yield f"  python3 '{verifier}' '{output}' --key '{key}'"

    answer(facts, as_json, lines)


@evidence.command()
@click.option("--since", default=0, type=click.IntRange(min=0), metavar="INDEX", help="Read entries from here on only.")
@target_option
@json_option
def audit(since: int, target_path: Path | None, as_json: bool) -> int:
    """Recompute the log from its entries and compare everything; names the first bad index, and ends with 2."""
    with wiring.open_evidence(_manifest(target_path)) as log:
        report = log.audit(since=since)

    def lines() -> Iterator[str]:
        for problem in report.problems:
            at = "" if problem.index is None else f" (index {problem.index})"
            yield f"FAILS  {problem.check}: {problem.sentence}{at}"
        yield from (f"note   {note}" for note in report.notes)
        if report.problems:
            yield f"first bad index: {'none' if report.first_bad is None else report.first_bad}"
        else:
            yield f"holds  {report.size} entries, {report.checkpoints} checkpoints, root {report.root}"

    answer(report, as_json, lines)
    return report.exit_code


def _manifest(given: Path | None) -> Manifest:
    return wiring.load(manifest_path(given))


def _moment(written: str, zone: ZoneInfo) -> dt.datetime | None:
    if not written:
        return None
    try:
        moment = dt.datetime.fromisoformat(written)
    except ValueError:
        raise UsageError(f"{written!r} is no date or moment", hint="write 2026-11-22 or 2026-11-22T08:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
