"""`nvcops list`, `describe`, `due`: the runbook as it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from nvcops import wiring
from nvcops.cli.context import answer, json_option, manifest_path, notify, target_option
from nvcops.cli.report import local
from nvcops.core import procedures, schedule
from nvcops.core.procedures import Procedure


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the runbook: every procedure, when it is due, and its script."""
    entries = procedures.runbook()
    width = max(len(entry.name) for entry in entries)

    def lines() -> Iterator[str]:
        for entry in entries:
            yield f"{entry.name:<{width}}  {entry.when:<14}  {entry.summary}"

    answer([_described(entry) for entry in entries], as_json, lines)


@click.command()
@click.argument("procedure")
@json_option
def describe(procedure: str, as_json: bool) -> None:
    """Say what a procedure does, when, with which options, and what its run is evidence for."""
    entry = procedures.find(procedure)

    def lines() -> Iterator[str]:
        yield f"{entry.name}: {entry.description}"
        yield ""
        yield f"room      {entry.room}"
        yield f"due       {entry.when}"
        yield f"script    {'scripts/' + entry.script if entry.script else 'none'}"
        yield f"lock      {entry.lock or 'none: it only reads'}"
        yield f"evidences {', '.join(entry.evidences) or 'no control yet'}"
        yield f"content   {entry.content_hash}"
        for option in entry.options:
            yield f"{option.flag}  {option.help} (default: {option.default})"

    answer(_described(entry), as_json, lines)


@click.command()
@target_option
@click.option("--days", default=1, show_default=True, type=click.IntRange(1, 366), help="How far to look ahead.")
@json_option
def due(target_path: Path | None, days: int, as_json: bool) -> None:
    """Say what is due next, and what was due in the last day and how that stands."""
    manifest = wiring.load(manifest_path(target_path))
    zone = ZoneInfo(manifest.platform.time_zone)
    now = schedule.now()
    with wiring.open_runs(manifest, notify=notify) as runs:
        past = runs.due(now - dt.timedelta(days=1), now)
    ahead = sorted(
        (moment, name)
        for name, when in wiring.cadences(manifest).items()
        for moment in schedule.due_times(when, manifest.calendar, zone, now, now + dt.timedelta(days=days))
    )

    def lines() -> Iterator[str]:
        for entry in past:
            yield f"{local(entry.due, zone)}  {entry.standing:<7} {entry.procedure}"
        for moment, name in ahead:
            yield f"{local(moment, zone)}  {'next':<7} {name}"
        if not (past or ahead):
            yield f"nothing is due within {days} d"

    answer({"past": past, "next": [{"due": moment, "procedure": name} for moment, name in ahead]}, as_json, lines)


def _described(entry: Procedure) -> dict[str, object]:
    return {
        "name": entry.name,
        "summary": entry.summary,
        "description": entry.description,
        "room": entry.room,
        "when": str(entry.when),
        "script": entry.script,
        "lock": entry.lock,
        "evidences": entry.evidences,
        "content_hash": entry.content_hash,
        "options": [
            {"flag": o.flag, "kind": o.kind.__name__, "default": o.default, "help": o.help} for o in entry.options
        ],
    }
