"""`nvcops serve`: the runbook by the clock."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from nvcops import wiring
from nvcops.adapters.files import read_secret
from nvcops.adapters.runs.serve import Life
from nvcops.cli.context import forget, manifest_path, plain, target_option
from nvcops.cli.report import step_line
from nvcops.core.runs import RunRecord, StepRecord
from nvcops.wiring.readiness import LOOK_EVERY_S, Readiness

if TYPE_CHECKING:
    from nvcops.wiring.watch import Watch


@click.command()
@target_option
@click.option("--quiet", is_flag=True, help="Say only what needs somebody.")
def serve(target_path: Path | None, quiet: bool) -> None:
    """Watch the platform, page people, run what is due and go on with what was interrupted, until SIGTERM or Ctrl-C."""
    manifest = wiring.load(manifest_path(target_path))
    stop = threading.Event()
    until_signalled(stop)

    def on_step(run: RunRecord, step: StepRecord) -> None:
        if not quiet and step.state.ended:
            _say(f"{run.id} {step_line(step)}")

    with wiring.open_runs(manifest, notify=_say, kind="serve") as runs, wiring.keep_records(manifest) as records:
        watched = wiring.watch(manifest, records, _say)
        ready = Readiness(records, watched.engine.alive, _say)
        if not quiet:
            names = ", ".join(service.name for service in manifest.services)
            _say(f"serving {manifest.platform.name} ({names}); state in {manifest.platform.state}")
        jobs = [(ready.name, LOOK_EVERY_S, ready)]
        wiring.server(runs, watched, on_step, [("door", door(watched, ready))], jobs).work(stop)
    if not quiet:
        _say("stopped")


def door(watched: Watch, ready: Readiness) -> Life:
    """What answers at [alerts] listen for as long as it is served."""
    manifest = watched.manifest
    token = read_secret(manifest.alerts.token_file) if manifest.alerts.token_file else ""

    def answer(stop: threading.Event) -> None:
        from nvcops.console.served import Served
        from nvcops.console.serving import serve as open_door

        engine = watched.engine
        open_door(
            Served(manifest, watched.records, watched.series, engine.take, engine.change, token, ready.trouble), stop
        )

    return answer


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
