"""The rest of `nvcops oncall`: open pages, calendars, contacts, and the codes that show who can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from nvcops.cli.context import answer, json_option, target_option
from nvcops.cli.deciding import deciding, looking, signed
from nvcops.cli.report import local
from nvcops.core import schedule
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.oncall import Page
from nvcops.oncall import directory, ical, paging, reach
from nvcops.oncall.rotation import standing_overrides
from nvcops.oncall.texts import handle

_SHOWN_MAX = 500


@click.command()
@target_option
@json_option
def pages(target_path: Path | None, as_json: bool) -> int:
    """List the pages that are not over, and how each is acknowledged; ends with 2 where one waits for somebody."""
    with looking(target_path) as (reading, _manifest, zone):
        found = reading.find(Page, resolved__isnull=True, order="opened", limit=_SHOWN_MAX)
    waiting = [page for page in found if page.acknowledged is None]

    def lines() -> Iterator[str]:
        for page in found:
            has = f"{page.acknowledged_by} has it" if page.acknowledged else handle(page)
            yield f"{local(page.opened, zone)}  {page.category:<8} {page.summary}  ({has})"
        if not found:
            yield "nobody is asked for anything"

    answer(found, as_json, lines)
    return 2 if waiting else 0


@signed
@click.command("ack")
@click.argument("page")
@target_option
@json_option
def acknowledge(page: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None) -> None:
    """Acknowledge a page that is of no incident; one that is of an incident by `nvcops ack NUMBER`."""
    with deciding(target_path, (person, key), "oncall/page", "acknowledge", page) as by:
        there = by.desk.get(Page, page)
        if there is None:
            raise NotFoundError(f"there is no page {page!r}", hint="`nvcops oncall pages` lists them")
        if there.incident is not None:
            raise UsageError(f"the page {page} is of incident {there.incident}", hint=handle(there))
        done = paging.acknowledge(by.desk, manifest=by.manifest, about=there.id, person=by.person, at=by.at)
        if not done:
            by_whom = there.acknowledged_by or "nobody: it is over"
            raise UsageError(f"the page {page} was acknowledged by {by_whom}", hint="nothing is left to do")
    answer({"page": page, "acknowledged_by": by.person}, as_json, lambda: [f"{by.person} has it: {there.summary}"])


@signed
@click.command()
@click.argument("code")
@click.option("--for", "somebody", help="Whose code it is, where they are of [[contacts]] and told you; default: you.")
@target_option
@json_option
def confirm(
    code: str, somebody: str | None, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Say the code that a reachability test sent you: so it is known that you are reached there."""
    with deciding(target_path, (person, key), "oncall/reached", "confirm", somebody or "") as by:
        if somebody and by.manifest.person(somebody):
            raise UsageError(f"{somebody} says their own code", hint="--for is for [[contacts]]")
        done = reach.confirm(by.desk, manifest=by.manifest, person=somebody or by.person, code=code, at=by.at)
    answer(done, as_json, lambda: [f"{done.person} is reached on {done.channel}"])


@click.command()
@click.option("--kind", type=click.Choice(list(directory.KINDS)), default=None, help="Only those.")
@target_option
@json_option
def contacts(kind: str | None, target_path: Path | None, as_json: bool) -> None:
    """List emergency contacts, vendors, regulators and stakeholders."""
    with looking(target_path) as (_reading, manifest, _zone):
        found = directory.listing(manifest, kind or "")

    def lines() -> Iterator[str]:
        for one in found:
            told = ", ".join(filter(None, (one.phone, one.email, *one.kinds))) or "no way to reach them"
            covers = f"  {one.covers}" if one.covers else ""
            yield f"{one.kind:<12} {one.name:<22} {one.title:<36} {told}{covers}"

    answer(found, as_json, lines)


@click.command()
@click.option("--rotation", default="", help="Only this rotation.")
@click.option("--of", "person", default="", help="Only this person's shifts.")
@target_option
def calendar(rotation: str, person: str, target_path: Path | None) -> None:
    """Write the shifts as a calendar (RFC 5545) to standard output: a month back, half a year ahead."""
    at = schedule.now()
    with looking(target_path) as (reading, manifest, _zone):
        overrides = standing_overrides(reading, at - ical.OVERRIDES_SINCE)
        written = ical.feed(manifest, overrides, at=at, rotation=rotation, person=person)
    click.echo(written, nl=False)


@signed
@click.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--rotation", default="", help='Of which rotation they are; default: as events say, "primary: omar".')
@target_option
@json_option
def take_in(
    file: BinaryIO,
    rotation: str,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Enter the overrides of a calendar file, all of them or none."""
    data = file.read(ical.FILE_BYTES_MAX + 1)
    with deciding(target_path, (person, key), "oncall/calendar", "import", rotation) as by:
        done = ical.take_in(by.desk, manifest=by.manifest, data=data, author=by.person, at=by.at, rotation=rotation)
    answer(done, as_json, lambda: [f"{one.id}: {one.person} until {local(one.ends, by.zone)}" for one in done])
