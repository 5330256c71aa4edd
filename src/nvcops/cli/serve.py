"""`nvcops serve`: the runbook by the clock."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import click

from nvcops import wiring
from nvcops.cli.context import forget, manifest_path, plain, target_option
from nvcops.cli.report import step_line
from nvcops.core.runs import RunRecord, StepRecord


@click.command()
@target_option
@click.option("--quiet", is_flag=True, help="Say only what needs somebody.")
def serve(target_path: Path | None, quiet: bool) -> None:
    """Run what is due, go on with what was interrupted, and keep the services' figures, until SIGTERM or Ctrl-C."""
    manifest = wiring.load(manifest_path(target_path))
    stop = threading.Event()
    until_signalled(stop)

    def on_step(run: RunRecord, step: StepRecord) -> None:
        if not quiet and step.state.ended:
            _say(f"{run.id} {step_line(step)}")

    with wiring.open_runs(manifest, notify=_say, kind="serve") as runs:
        if not quiet:
            watched = ", ".join(service.name for service in manifest.services)
            _say(f"serving {manifest.platform.name} ({watched}); state in {manifest.platform.state}")
        wiring.server(runs, on_step).work(stop)
    if not quiet:
        _say("stopped")


def until_signalled(stop: threading.Event) -> None:
    """SIGTERM and Ctrl-C set `stop`."""

    def leave(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)


def _say(sentence: str) -> None:
    """One line at once: whoever reads it may be a journal. One that is full or gone must not stop the runbook."""
    try:
        click.echo(plain(sentence))
    except OSError:
        forget(sys.stdout)
