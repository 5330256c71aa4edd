"""`nvclab`: a data centre in a box.

What only some commands need is imported in them: a host is fenced within a moment, or the drill measures our imports.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvclab.control import ask
from nvclab.demo import demo
from nvclab.errors import LabError, NotRunning, explained
from nvclab.layout import Layout
from nvclab.parts.process import tail

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvclab.data_centre import Wishes

_DOWN_DEADLINE_S = 60.0
_folder = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".lab"),
    show_default=True,
    help="The lab's folder.",
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines for people.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A data centre in a box: PostgreSQL with a standby, Valkey, HAProxy, two bank instances, customers.

    Everything is real, runs on loopback ports under one supervisor, and leaves nothing behind when it ends.
    Ends with 0 when done, 3 when it could not: then it says why in a sentence.
    """


@cli.command()
@_folder
@click.option("--users", type=click.IntRange(0, 50_000), default=100, show_default=True, help="Customers at a time.")
@click.option(
    "--think-s", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Seconds between requests of one."
)
@click.option("--http-port", type=click.IntRange(1, 65_535), help="The bank's front door; default: a free port.")
@click.option("--synchronous-backup", is_flag=True, help="A payment waits for the transaction-log backup: RPO 0.")
@click.option("--ha", is_flag=True, help="The database is a cluster that Patroni manages, with etcd.")
@click.option(
    "--delivery/--no-delivery", default=True, show_default=True, help="Instances run releases in slots, two are spare."
)
@click.option("--detach", is_flag=True, help="Return when the lab is ready instead of staying until Ctrl-C.")
def up(folder: Path, detach: bool, **wished: Any) -> None:
    """Start the lab, and say when it is ready."""
    from nvclab import supervisor
    from nvclab.data_centre import Wishes

    folder = folder.absolute()
    wishes = Wishes(**wished)
    if detach:
        _start_detached(folder, wishes)
    else:
        raise SystemExit(supervisor.main(folder, wishes, _show))


@cli.command("supervise", hidden=True)
@_folder
@click.argument("wished")
def supervise(folder: Path, wished: str) -> None:
    """Be the supervisor of a detached lab: progress goes to stdout as JSON lines until the lab is ready."""
    from nvclab import supervisor
    from nvclab.data_centre import Wishes

    def tell(progress: dict[str, Any]) -> None:
        os.write(1, json.dumps(progress).encode() + b"\n")  # nobody reads any more: an error, and the lab ends
        if "ready" in progress:
            os.dup2(2, 1)  # whoever started us may go now: stdout becomes the log, too

    raise SystemExit(supervisor.main(folder, Wishes(**json.loads(wished)), tell))


@cli.command()
@_folder
@_json
def status(folder: Path, as_json: bool) -> None:
    """Show what runs, which faults are active, and what the customers see."""
    found = _ask(folder, {"command": "status"})["status"]
    click.echo(json.dumps(found, indent=2) if as_json else _told(found))


@cli.command()
@_folder
def down(folder: Path) -> None:
    """End the lab and remove every trace of it outside its folder; fine when none runs."""
    from nvclab import leftovers

    layout = Layout(folder.absolute())
    if not layout.folder.exists():
        click.echo(f"no lab runs in {folder}")
        return
    end = time.monotonic() + _DOWN_DEADLINE_S
    ran = layout.is_held()
    while layout.is_held():
        if time.monotonic() > end:
            raise LabError(f"The lab did not end within {_DOWN_DEADLINE_S:g} s.", hint=tail(layout.log("supervisor")))
        with contextlib.suppress(NotRunning):  # about to start, or about to be gone: the lock says when
            ask(layout.record().control, {"command": "down"})
        _wait_for_end(layout, end)
    with layout.locked():
        removed = leftovers.clean(layout)
    if removed:
        click.echo("removed what a killed lab had left")
    else:
        click.echo(f"the lab in {folder} has ended" if ran else f"no lab runs in {folder}")


def _wait_for_end(layout: Layout, end: float) -> None:
    while layout.is_held() and time.monotonic() < end:
        time.sleep(0.05)


@cli.command()
@click.argument("name", required=False)
@click.argument("options", nargs=-1)
@_folder
@click.option("--list", "listing", is_flag=True, help="Say what each fault does and which check should see it.")
@_json
def fault(name: str | None, options: tuple[str, ...], folder: Path, listing: bool, as_json: bool) -> None:
    """Break something for real: `nvclab fault NAME [option=value ...]`; `nvclab heal NAME` repairs it."""
    from nvclab.faults import catalogue

    if listing or name is None:
        click.echo(json.dumps(catalogue.as_data(), indent=2) if as_json else catalogue.as_text())
        return
    chosen = catalogue.read_options(name, options)
    for sentence in _ask(folder, {"command": "fault", "name": name, "options": chosen})["said"]:
        click.echo(sentence)


@cli.command()
@click.argument("name", required=False)
@_folder
@click.option("--all", "everything", is_flag=True, help="Heal every active fault.")
def heal(name: str | None, folder: Path, everything: bool) -> None:
    """Undo a fault, and wait until it is undone."""
    from nvclab.faults import catalogue

    if (name is None) != everything:
        raise click.UsageError("say which fault to heal, or --all")
    if name is not None:
        catalogue.find(name)
    for sentence in _ask(folder, {"command": "heal", "name": name, "all": everything})["said"]:
        click.echo(sentence)


@cli.command()
@click.argument("part", required=False)
@_folder
@click.option(
    "--lines", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many of the last lines."
)
def logs(part: str | None, folder: Path, lines: int) -> None:
    """Show the end of a part's log, or the names of the logs."""
    found = sorted(folder.glob("logs/**/*.*"))
    if part is None:
        click.echo("\n".join(f"{path.stem:<20}{path}" for path in found) or f"no logs in {folder}")
        return
    chosen = [path for path in found if part in (path.stem, str(path.relative_to(folder / "logs")))]
    if not chosen:
        raise LabError(f"There is no log called {part!r}.", hint="nvclab logs lists them")
    for path in chosen:
        click.echo(tail(path, lines))


@cli.command()
@_folder
@_json
def pages(folder: Path, as_json: bool) -> None:
    """Show what arrived at everybody's telephone, the oldest first."""
    from nvclab.pager.pages import read

    found = read(Layout(folder.absolute()).pages)
    if as_json:
        click.echo(json.dumps([asdict(page) for page in found], indent=2))
        return
    for page in found:
        stamp = time.strftime("%H:%M:%S", time.localtime(page.time))
        said = page.title or page.message or json.dumps(page.body)
        click.echo(f"{stamp}  {page.path:<32}{page.way:<8}{said.splitlines()[0] if said else ''}")


@cli.command()
@click.argument("way", type=click.Choice(["take", "refuse", "hang", "slow", "close"]))
@_folder
@click.option("--seconds", type=click.FloatRange(0, 600), default=5.0, show_default=True, help="How slow slow is.")
@click.option("--only", default="/", show_default=True, help="For those whose path begins so, as /dana/push.")
def pager(way: str, folder: Path, seconds: float, only: str) -> None:
    """Let the receiver of pages take them, refuse them, hang, be slow, or hang up."""
    from nvclab.pager.pages import Behaviour, Way
    from nvclab.pager.part import behave

    now = behave(_ask(folder, {"command": "status"})["status"]["ports"]["pager"], Behaviour(Way(way), seconds, only))
    click.echo(f"the pager's way with {now.only} is now: {now.way}")


@cli.command("part")
@click.argument("verb", type=click.Choice(["start", "stop", "running", "rebuild"]))
@click.argument("name")
@_folder
def part_command(verb: str, name: str, folder: Path) -> None:
    """Start, stop or make anew a part by its name in platform.toml; `running` ends with 0 when it runs, else with 3."""
    answer = _ask(folder, {"command": "part", "verb": verb, "name": name})
    if answer.get("running") is False:
        raise NotRunning(f"{name} does not run.", hint=f"nvclab part start {name}")
    for sentence in answer.get("said", [f"{name} runs"]):
        click.echo(sentence)


@cli.command("host")
@click.argument("verb", type=click.Choice(["crash", "postmaster", "freeze", "partition", "fence", "mend"]))
@click.argument("name")
@_folder
def host_command(verb: str, name: str, folder: Path) -> None:
    """Let a host crash, freeze, be cut off, or lose its postmaster; put it off for certain (fence); or mend it."""
    for sentence in _ask(folder, {"command": "host", "verb": verb, "name": name})["said"]:
        click.echo(sentence)


@cli.command("release")
@click.argument("name", required=False)
@click.argument("options", nargs=-1)
@_folder
@click.option("--version", default="", help="Its version; default: the bank's own, with the variant's name.")
@click.option("--base", default="", help="The digest of the release that is changed; default: the checkout.")
@click.option("--list", "listing", is_flag=True, help="Say which variants there are, and what each does.")
@_json
def release_command(
    name: str | None, options: tuple[str, ...], folder: Path, listing: bool, as_json: bool, **chosen: str
) -> None:
    """Build another release of the bank, good or bad: `nvclab release NAME [option=value ...]`."""
    from nvclab.delivery import Delivery
    from nvclab.variants import catalogue, making

    if listing or name is None:
        click.echo(catalogue.as_text())
        return
    built = making.make(Delivery(Layout(folder.absolute())), catalogue.find(name), options, **chosen)
    click.echo(json.dumps(asdict(built)) if as_json else f"{built.digest}  {built.version}")


cli.add_command(demo)


def _ask(folder: Path, question: dict[str, Any]) -> dict[str, Any]:
    layout = Layout(folder.absolute())
    if not layout.is_held():
        raise NotRunning(f"No lab runs in {folder}.", hint=f"nvclab up --dir '{folder}'")
    return ask(layout.record().control, question)


def _start_detached(folder: Path, wishes: Wishes) -> None:
    """Start a supervisor in a session of its own, show its progress, and return when it is ready."""
    folder.joinpath("logs").mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "nvclab", "supervise", "--dir", str(folder), json.dumps(asdict(wishes))]
    with folder.joinpath("logs", "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    last: dict[str, Any] = {}
    for line in process.stdout or ():
        last = json.loads(line)
        _show(last)
        if "ready" in last:
            return
    code = process.wait()
    if "sentence" not in last:
        raise LabError(f"The supervisor ended with {code}.", hint=tail(folder / "logs" / "supervisor.log"))
    raise SystemExit(code)


def _show(progress: dict[str, Any]) -> None:
    """One piece of a supervisor's progress, for a person."""
    if "say" in progress:
        click.echo(f"  {progress['say']}")
    elif "ready" in progress:
        found = progress["ready"]
        click.echo(f"ready in {progress['seconds']:.1f} s: {found['url']}   platform: {found['platform']}")
    else:
        _complain(progress["sentence"], progress["hint"])


def _told(found: dict[str, Any]) -> str:
    lines = [f"lab {found['id']} in {found['folder']}", f"bank {found['url']}  {found['https_url']}", ""]
    lines += [
        f"  {part['name']:<12}{part['state']:<12}port {part['port'] or '-':<7}pid {part['pid'] or '-':<9}"
        f"restarts {part['restarts']}  {part['problem']}"
        for part in found["parts"]
    ]
    lines += [
        f"  {name}: {seen['role'] or 'no answer'} {seen['state']} timeline {seen['timeline']}"
        for name, seen in found["cluster"].items()
    ]
    lines += ["", *(f"  fault {item['name']}: {item['said']}" for item in found["faults"])]
    if seen := found["customers"]:
        lines.append(
            f"  customers: {seen['users']} users, {seen['requests']} requests, {seen['errors']} errors, last "
            f"{seen['window_s']:g} s: {seen['mean_ms']:.0f} ms mean, {seen['p99_ms']:.0f} ms p99"
        )
    return "\n".join(lines)


def _complain(sentence: str, hint: str) -> None:
    click.echo(f"nvclab: {sentence}" + (f"\n  {hint}" if hint else ""), err=True)


def _guarded(run: Callable[[], Any]) -> int:
    """Whatever goes wrong becomes a sentence, a hint, and 3."""
    try:
        run()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
    except click.UsageError as error:
        _complain(error.format_message(), f"{error.ctx.command_path} --help" if error.ctx else "nvclab --help")
    except click.ClickException as error:
        _complain(error.format_message(), "")
    except (LabError, OSError) as error:
        said = explained(error) if isinstance(error, OSError) else error
        _complain(said.sentence, said.hint)
    except click.Abort:
        return 130
    else:
        return 0
    return LabError.exit_code


def main() -> None:
    """Entry point."""
    sys.exit(_guarded(lambda: cli.main(standalone_mode=False)))
