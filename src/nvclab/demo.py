"""`make demo`: a live bank, its backup restored, its morning with proof, and its night; with figures as measured."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from nvclab.layout import Layout
from nvclab.pager.pages import Page, read
from nvclab.parts.process import Process

T = TypeVar("T")
WATCHED_S = 20
SETTLE_DEADLINE_S = 90
WATCH_STOP_S = 15
COMMAND_DEADLINE_S = 180
MORNING = "morning-health-check"
RECOVERY = ("database-backup", "test-backup-restore")
VERDICTS = (0, 1, 2, 3)  # each is an answer: OK, WARNING, CRITICAL, UNKNOWN
ARRIVED_S, PAGED_S, OVER_S = 60, 60, 90
FAULT = "stop-cache"
ASKS = "nvcops ack "
ON_IT = "the cache is down; starting it again"
RESOLUTION = "started the cache again"
DESPITE = "the error budget's pace looks back over hours"
TEXT_SHOWN = 100  # characters of a line of the timeline
NOTE = "read the summary of the last 24 hours; nothing that needs an incident"


@click.command()
@click.option("--once", is_flag=True, help="End after one morning instead of leaving the bank open.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path(".lab"), help="The lab's folder.")
@click.option("--users", default=200, show_default=True, help="Customers at the same time.")
def demo(once: bool, folder: Path, users: int) -> None:
    """Start a bank with customers, run its morning health check, verify the proof of it, and break something."""
    with _lab(folder, users), _watch(folder):
        _say(f"nvcops watches the bank; the morning begins when it has seen {WATCHED_S} s of customers")
        time.sleep(WATCHED_S)
        _recovery(folder)
        run = _morning(folder)
        _proof(folder, run)
        _night(folder)
        if not once:
            _stay(folder)


@contextmanager
def _lab(folder: Path, users: int) -> Iterator[None]:
    _say(
        f"a data centre in {folder}: PostgreSQL with a standby, Valkey, HAProxy, two bank instances, {users} customers"
    )
    _run("nvclab", "down", "--dir", folder, quiet=True)
    _run("nvclab", "up", "--dir", folder, "--users", str(users), "--detach")
    try:
        _wait(lambda: _arrived(folder, users), ARRIVED_S, "the customers did not all sign in")
        yield
    finally:
        _run("nvclab", "down", "--dir", folder, quiet=True)


def _arrived(folder: Path, users: int) -> bool:
    status = json.loads(_run("nvclab", "status", "--json", "--dir", folder, quiet=True).stdout)
    return bool(status["customers"].get("users") == users)


@contextmanager
def _watch(folder: Path) -> Iterator[None]:
    """`nvcops serve` beside us, for as long as we stay: it dies with us, or it would watch a bank that has ended."""
    argv = _command("nvcops", "serve", "--target", folder / "platform.toml")
    watch = Process("nvcops serve", argv, folder / "logs" / "nvcops-serve.log")
    watch.start()
    try:
        yield
    finally:
        watch.stop(WATCH_STOP_S)


def _recovery(folder: Path) -> None:
    """Take a backup, restore it beside the live bank, and prove it: what the morning then finds."""
    _say("a backup is good when it was restored: one is taken, restored beside the bank, and its books are compared")
    for procedure in RECOVERY:
        _run("nvcops", "run", procedure, "--target", folder / "platform.toml")


def _morning(folder: Path) -> str:
    """Run the morning until it waits for a person, attest as them, and show how it ended. Returns the run's id."""
    target = ("--target", folder / "platform.toml")
    _say("08:00: the morning health check")
    asked = _run("nvcops", "run", MORNING, "--no-wait", "--json", *target, quiet=True, codes=VERDICTS)
    run = json.loads(asked.stdout)
    for step in run["steps"]:
        if step["state"] == "waiting":
            _say(f"it waits for a person: {step['title']}. Dana reads and signs (in this demo, we do)")
            as_dana = ("--as", "dana", "--key", folder / "keys" / "dana", "--note", NOTE)
            _run("nvcops", "attest", run["id"], step["name"], *as_dana, *target, quiet=True, codes=VERDICTS)
    deadline = time.monotonic() + SETTLE_DEADLINE_S
    while run["state"] not in {"concluded", "failed", "cancelled"}:
        if time.monotonic() > deadline:
            raise click.ClickException(f"{run['id']} did not conclude within {SETTLE_DEADLINE_S} s")
        time.sleep(0.5)
        shown = _run("nvcops", "show", run["id"], "--json", *target, quiet=True, codes=VERDICTS)
        run = json.loads(shown.stdout)
    _run("nvcops", "show", run["id"], *target, codes=VERDICTS)
    if run["verdict"] != 0:
        raise click.ClickException(
            "the bank did not pass its morning: the report above says which line, and what to do next"
        )
    return str(run["id"])


def _proof(folder: Path, run: str) -> None:
    _say("the proof: one file that anyone can verify without nvcops")
    bundle = folder / "proof" / "morning.bundle"
    bundle.parent.mkdir(exist_ok=True)
    bundle.unlink(missing_ok=True)
    exported = _run(
        "nvcops",
        "evidence",
        "export",
        "--run",
        run,
        "--output",
        bundle,
        "--json",
        "--target",
        folder / "platform.toml",
        quiet=True,
    )
    facts = json.loads(exported.stdout)
    verify = [sys.executable, facts["verifier"], str(bundle), "--key", facts["key"]]
    _say(f"run {run}; verify its evidence offline with:")
    click.echo("   " + shlex.join(verify))
    click.echo()
    subprocess.run(verify, check=True, timeout=COMMAND_DEADLINE_S)


def _night(folder: Path) -> None:
    """A fault, its page, and the incident that somebody leads to its end."""
    _say("03:00: something breaks")
    began = time.time()
    _run("nvclab", "fault", FAULT, "--dir", folder)
    page = _wait(lambda: _asked(folder, began), PAGED_S, "nobody was paged")
    _say(f"{page.person} is paged {page.time - began:.1f} s after the command was given")
    click.echo(f"   {page.title}")
    number = page.title.rpartition(" ")[2]
    for reason in _shown(folder, number)["incident"]["reasons"]:
        click.echo(f"   {reason['severity']}: {reason['rule']}: {reason['seen'][:TEXT_SHOWN]}")
    _led(folder, page, "ack", number)
    _led(folder, page, "note", number, ON_IT)
    _say("it is repaired, the alerts of its parts end by themselves, and a person says what resolved it")
    _run("nvclab", "heal", FAULT, "--dir", folder)
    _wait(lambda: not _down(folder, number), OVER_S, f"incident {number} goes on")
    _led(folder, page, "resolve", number, RESOLUTION, "--despite", DESPITE)
    _say(f"incident {number} wrote its own timeline; the post-mortem begins with it: nvcops postmortem {number}")
    for event in _shown(folder, number)["timeline"]:
        click.echo(f"   {event['time'][11:19]}  {event['kind']:<13}{event['person']:<6} {event['text'][:TEXT_SHOWN]}")


def _asked(folder: Path, since: float) -> Page | None:
    """The first page that asks somebody to acknowledge; others are told so that they know."""
    arrived = read(Layout(folder.absolute()).pages, since)
    return next((page for page in arrived if ASKS in page.title), None)


def _down(folder: Path, number: str) -> list[str]:
    """The probes of an incident that still fail."""
    alerts = _shown(folder, number)["alerts"]
    return [alert["summary"] for alert in alerts if "probe" in alert["labels"] and alert["ends"] is None]


def _shown(folder: Path, number: str) -> dict[str, Any]:
    target = ("--target", folder / "platform.toml")
    found: dict[str, Any] = json.loads(_run("nvcops", "incident", "show", number, "--json", *target, quiet=True).stdout)
    return found


def _led(folder: Path, page: Page, act: str, *words: str) -> None:
    """Whoever was paged does something about the incident."""
    signed = ("--as", page.person, "--key", folder / "keys" / page.person)
    _run("nvcops", act, *words, *signed, "--target", folder / "platform.toml", quiet=act == "note")


def _wait(found: Callable[[], T | None], deadline_s: float, otherwise: str) -> T:
    """Look until there is something; the demo ends with `otherwise` when there is nothing in time."""
    end = time.monotonic() + deadline_s
    while not (one := found()):
        if time.monotonic() > end:
            raise click.ClickException(f"{otherwise} within {deadline_s:g} s")
        time.sleep(0.1)
    return one


def _stay(folder: Path) -> None:
    here = shlex.quote(str(folder))
    _say("the bank stays open until you press Ctrl-C; in another terminal, try")
    for line in (
        f"nvclab fault --list; nvclab fault stop-standby --dir {here}",
        f"nvclab pages --dir {here}; nvcops incidents --target {here}/platform.toml",
        f"nvcops backups --target {here}/platform.toml",
        f"scripts/daily_health_check.sh --target {here}/platform.toml",
        f"nvclab heal --all --dir {here}",
        f"nvclab status --dir {here}",
    ):
        click.echo(f"   {line}" if line.startswith("scripts") else f"   .venv/bin/{line.replace('; ', '; .venv/bin/')}")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        click.echo()


def _command(tool: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", tool, *map(str, arguments)]


def _run(
    tool: str, *arguments: object, quiet: bool = False, codes: tuple[int, ...] = (0,)
) -> subprocess.CompletedProcess[str]:
    """Run one of our commands; its failure ends the demo with what it said."""
    done = subprocess.run(
        _command(tool, *arguments),
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
        timeout=COMMAND_DEADLINE_S,
        check=False,
    )
    if done.returncode not in codes:
        said = f": {done.stderr.strip()}" if quiet else ""
        raise click.ClickException(f"{shlex.join([tool, *map(str, arguments)])} ended with {done.returncode}{said}")
    return done


def _say(sentence: str) -> None:
    click.secho(f"\n── {sentence}", bold=True)
