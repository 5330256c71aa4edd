"""How a run is shown, and the exit code that its state stands for."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import click
import msgspec

from nvcops.cli.context import answer, plain
from nvcops.cli.report import colour, report_lines, step_line, waiting_lines
from nvcops.core.checks import Verdict
from nvcops.core.manifest import Manifest
from nvcops.core.runs import RunRecord


def finish(record: RunRecord, manifest: Manifest, *, as_json: bool, target: str, shown: bool = False) -> int:
    """Show how a run stands, and answer its exit code: its verdict's, or UNKNOWN while it has none."""
    if as_json:
        answer(record, True, list)
    else:
        if not shown:
            show(record, ZoneInfo(manifest.platform.time_zone))
        for line in waiting_lines(record, target):
            click.secho(line, bold=True)
    if record.exit_code is not None:
        return record.exit_code
    return Verdict.UNKNOWN


def show(record: RunRecord, zone: ZoneInfo, *, steps: bool = False) -> None:
    """The report, with its steps where they are asked for."""
    for verdict, line in report_lines(record, zone):
        fg = None if verdict is None else colour(verdict)
        click.secho(plain(line), fg=fg, bold=line.startswith(record.platform))
    if steps:
        click.echo("\nsteps")
        for step in record.steps:
            click.echo(plain("  " + step_line(step)))
    click.echo(f"\nrun {record.id}")


def summary_of(record: RunRecord) -> dict[str, object]:
    """One run in a list, without its steps and findings."""
    return {
        key: value
        for key, value in msgspec.to_builtins(record).items()
        if key not in ("steps", "findings", "sections", "options")
    }
