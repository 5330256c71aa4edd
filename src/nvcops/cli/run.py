"""`nvcops run PROCEDURE`: each procedure is a command of its own, with its own flags and its docstring as help."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nvcops import wiring
from nvcops.adapters.identity_ssh import Signer
from nvcops.adapters.runs.door import Runs
from nvcops.cli.context import json_option, manifest_path, notify, target_flag, target_option
from nvcops.cli.people import person_options, signer_of
from nvcops.cli.progress import Progress
from nvcops.cli.show import finish
from nvcops.core import procedures
from nvcops.core.checks import Verdict
from nvcops.core.errors import LockHeld, NotFoundError, UsageError
from nvcops.core.procedures import Option, Procedure
from nvcops.core.runs import RunRecord, RunState, StepKind

_LOOK_EVERY_S = 2.0
_LOOKS_MAX = 5_000  # three hours: nobody looks at it any more


class RunGroup(click.Group):
    """The runbook as commands."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Every procedure."""
        return [entry.name for entry in procedures.runbook()]

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """A procedure by its name or by its script's."""
        try:
            return _command(procedures.find(name))
        except NotFoundError as error:
            raise click.UsageError(f"{error.sentence} ({error.hint})") from error


@click.group("run", cls=RunGroup, subcommand_metavar="PROCEDURE [OPTIONS]")
def run() -> None:
    """Run a procedure now. `nvcops run PROCEDURE --help` shows its options.

    Ends with the verdict: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    """


def _command(entry: Procedure) -> click.Command:
    def invoke(**given: Any) -> int:
        return run_procedure(entry, **given)

    options: list[click.Parameter] = [_parameter(option) for option in entry.options]
    command = click.Command(entry.name, callback=invoke, help=entry.description, params=options)
    target_option(command)
    click.option("--dry-run", is_flag=True, help="Read and decide, but act on nothing: say what would be done.")(
        command
    )
    click.option("--wait/--no-wait", default=None, help="Wait for people. Default: in a terminal, yes.")(command)
    json_option(command)
    for option in person_options:
        option(command)
    return command


def _parameter(option: Option) -> click.Option:
    if option.kind is bool:
        return click.Option([option.flag], is_flag=True, default=option.default, help=option.help)
    return click.Option([option.flag], type=option.kind, default=option.default, show_default=True, help=option.help)


def run_procedure(  # noqa: PLR0913 - what a command may be told
    entry: Procedure,
    *,
    target_path: Path | None,
    dry_run: bool,
    wait: bool | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
    sign: bool = False,
    **options: Any,
) -> int:
    """Run a procedure as its command does; the exit code. `sign`: the request is signed, whoever asks."""
    manifest = wiring.load(manifest_path(target_path))
    urgent = entry.urgent and manifest.changes.required and not dry_run  # an emergency change has an author
    signer = signer_of(manifest, person, key) if person or sign or urgent or entry.asks_approval(options) else None
    if as_json and wait:
        raise UsageError("--json does not wait for people", hint="`nvcops show RUN --json` later, or leave out --wait")
    again = bool(options.get("watch"))
    if again and (as_json or not sys.stdout.isatty()):
        raise UsageError("--watch looks again until Ctrl-C: it needs a terminal", hint="without it, it looks once")
    with wiring.open_runs(manifest, notify=notify) as runs, Progress(quiet=as_json or again) as progress:

        def start() -> RunRecord:
            return runs.start(
                entry, options=options, signer=signer, dry_run=dry_run, wait=_waits(wait, as_json), on_event=progress
            )

        def begin() -> RunRecord:
            try:
                return start()
            except LockHeld:
                if not (entry.urgent and signer and make_way(runs, entry, signer)):
                    raise
                return start()

        if again:
            return _look_again(begin, lambda record: finish(record, manifest, as_json=False, target=""))
        record = begin()
    return finish(record, manifest, as_json=as_json, target=target_flag(target_path))


def make_way(runs: Runs, entry: Procedure, signer: Signer) -> bool:
    """Cancel, in the person's name, a run that has the lock and did nothing but ask for an approval; whether one was.

    Whoever needs the way back at night must not wait for who is asked about tomorrow's release.
    """
    for one in runs.list([RunState.WAITING]):
        procedure = procedures.find(one.procedure)
        if procedure.lock == entry.lock and _only_asks(waiting := runs.show(one.id)):
            runs.cancel(waiting.id, signer)
            notify(f"{waiting.id} was cancelled: it waited for an approval, and {entry.name} cannot wait")
            return True
    return False


def _only_asks(waiting: RunRecord) -> bool:
    """Whether a run has read, and asks for an approval: nothing that it did would have to be taken back."""
    asks = [step.state is RunState.WAITING for step in waiting.steps if step.kind is StepKind.APPROVE]
    return asks == [True] and all(step.kind in (StepKind.READ, StepKind.APPROVE) for step in waiting.steps)


def _look_again(look: Callable[[], RunRecord], show: Callable[[RunRecord], int]) -> int:
    """Run it every two seconds, each time on a clean screen, until Ctrl-C; the exit code is the last one's."""
    code = int(Verdict.UNKNOWN)
    try:
        for _ in range(_LOOKS_MAX):
            record = look()
            click.clear()
            code = show(record)
            threading.Event().wait(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        click.echo()
    return code


def _waits(wait: bool | None, as_json: bool) -> bool:
    """Whether to stay until the people that the run asks for have answered."""
    if wait is not None:
        return wait
    return not as_json and sys.stdin.isatty()
