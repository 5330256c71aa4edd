"""`nvcops oncall`: who is on call, who stands in for whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from nvcops.cli.context import answer, json_option, target_option
from nvcops.cli.deciding import deciding, looking, moment, signed
from nvcops.cli.report import local
from nvcops.core import schedule
from nvcops.core.oncall import Override
from nvcops.oncall import overrides as standing
from nvcops.oncall.rotation import Shift, on_call, shifts, standing_overrides

_AHEAD = "28 d"


@click.group()
def oncall() -> None:
    """Say who is on call, and let somebody stand in."""


@oncall.command()
@click.option("--at", "when", help='At which moment, as "2026-11-24 09:00" or "+2 h"; default: now.')
@target_option
@json_option
def who(when: str | None, target_path: Path | None, as_json: bool) -> int:
    """Say who is on call for each rotation, and until when; ends with 2 where nobody is, or nobody could be reached."""
    with looking(target_path) as (reading, manifest, zone):
        at = moment(when, zone, schedule.now())
        found = on_call(manifest, standing_overrides(reading, at), at)
    missing = [rotation.name for rotation in manifest.oncall.rotations if rotation.name not in found]
    silent = {shift.person for shift in found.values() if not manifest.reach(shift.person)}

    def lines() -> Iterator[str]:
        for name, shift in found.items():
            instead = f", instead of {shift.instead_of}" if shift.instead_of else ""
            mark = "  no way to reach them: [[people]] contacts" if shift.person in silent else ""
            yield f"{name:<12} {shift.person:<16} until {local(shift.ends, zone)}{instead}{mark}"
        for name in missing:
            yield f"{name:<12} nobody"
        if not manifest.oncall.rotations:
            yield "there are no rotations: [[oncall.rotations]] of platform.toml"

    answer({"at": at, "on_call": found, "nobody": missing, "unreachable": sorted(silent)}, as_json, lines)
    return 2 if missing or silent or not found else 0


@oncall.command("shifts")
@click.argument("rotation")
@click.option("--from", "start", help="From when on; default: now.")
@click.option("--for", "ahead", default=_AHEAD, show_default=True, help="For how long.")
@target_option
@json_option
def list_shifts(rotation: str, start: str | None, ahead: str, target_path: Path | None, as_json: bool) -> None:
    """List the shifts of a rotation."""
    with looking(target_path) as (reading, manifest, zone):
        at = moment(start, zone, schedule.now())
        until = moment(f"+{ahead}", zone, at)
        found = shifts(manifest, standing_overrides(reading, at), rotation, at, until)

    def lines() -> Iterator[str]:
        for shift in found:
            yield _shift_line(shift, local(shift.starts, zone), local(shift.ends, zone))

    answer(found, as_json, lines)


def _shift_line(shift: Shift, starts: str, ends: str) -> str:
    instead = f"  instead of {shift.instead_of} ({shift.override})" if shift.instead_of else ""
    return f"{starts}  {ends}  {shift.person}{instead}"


@signed
@oncall.command()
@click.argument("rotation")
@click.argument("stand_in")
@click.option("--from", "start", help='From when on, as "2026-11-24 09:00"; default: now.')
@click.option("--until", required=True, help='Until when, as "2026-11-25 09:00" or "+8 h".')
@click.option("--reason", required=True, help="Why.")
@target_option
@json_option
def override(  # noqa: PLR0913, PLR0917 - the flags of a command line
    rotation: str,
    stand_in: str,
    start: str | None,
    until: str,
    reason: str,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Let somebody stand in for whoever has a rotation."""
    with deciding(target_path, (person, key), f"oncall/{rotation}", "override", f"{stand_in}: {reason}") as by:
        zone = by.zone
        starts = moment(start, zone, by.at)
        done = standing.override(
            by.desk,
            manifest=by.manifest,
            rotation=rotation,
            person=stand_in,
            starts=starts,
            ends=moment(until, zone, starts),
            author=by.person,
            reason=reason,
            at=by.at,
        )
    answer(done, as_json, lambda: [f"{done.id}: {done.person} until {local(done.ends, zone)}"])


@signed
@oncall.command()
@click.argument("rotation")
@click.argument("first")
@click.argument("second")
@click.option("--reason", required=True, help="Why.")
@target_option
@json_option
def swap(  # noqa: PLR0913, PLR0917 - the flags of a command line
    rotation: str,
    first: str,
    second: str,
    reason: str,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Exchange two shifts of a rotation: the ones at the moments FIRST and SECOND."""
    with deciding(target_path, (person, key), f"oncall/{rotation}", "swap", reason) as by:
        zone = by.zone
        done = standing.swap(
            by.desk,
            manifest=by.manifest,
            rotation=rotation,
            first=moment(first, zone, by.at),
            second=moment(second, zone, by.at),
            author=by.person,
            reason=reason,
            at=by.at,
        )
    answer(done, as_json, lambda: [f"{one.id}: {one.person} until {local(one.ends, zone)}" for one in done])


@signed
@oncall.command("cancel")
@click.argument("override_id")
@target_option
@json_option
def cancel_override(
    override_id: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """End an override now, with the other half of a swap."""
    with deciding(target_path, (person, key), "oncall", "cancel", override_id) as by:
        done = standing.cancel(by.desk, manifest=by.manifest, override_id=override_id, author=by.person, at=by.at)
    answer(done, as_json, lambda: [f"{one.id} is over" for one in done])


@oncall.command("overrides")
@target_option
@json_option
def list_overrides(target_path: Path | None, as_json: bool) -> None:
    """List who stands in for whom, now and later."""
    with looking(target_path) as (reading, _manifest, zone):
        found: list[Override] = standing_overrides(reading, schedule.now())

    def lines() -> Iterator[str]:
        for one in found:
            times = f"{local(one.starts, zone)}  {local(one.ends, zone)}"
            yield f"{times}  {one.rotation:<12} {one.person:<16} {one.reason} ({one.author}, {one.id})"
        if not found:
            yield "nobody stands in for anybody"

    answer(found, as_json, lines)
