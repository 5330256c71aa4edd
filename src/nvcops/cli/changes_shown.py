"""`nvcops changes list|show|calendar|freeze|dora|risk`: what is known of changes, without deciding anything."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import msgspec

from nvcops.changes import dora as figures
from nvcops.changes import duties, freezes, lifecycle, measuring
from nvcops.changes import risk as risks
from nvcops.changes.lifecycle import number_of
from nvcops.cli.context import answer, json_option, target_option
from nvcops.cli.deciding import looking, moment
from nvcops.cli.report import local
from nvcops.core import schedule
from nvcops.core.changes import Change, ChangeCategory, ChangeKind, ChangeState, Consent
from nvcops.core.incidents import Incident
from nvcops.core.manifest import Manifest
from nvcops.core.units import Ratio, Seconds

_LINES_MAX = 1_000


@click.command("list")
@target_option
@click.option("--all", "everything", is_flag=True, help="With those that are over.")
@click.option("--state", "states", multiple=True, type=click.Choice([state.value for state in ChangeState]))
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, _LINES_MAX), help="So many, newest first."
)
@json_option
def list_changes(
    target_path: Path | None, everything: bool, states: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """List the changes that are open, the newest first."""
    wanted = [ChangeState(state) for state in states] or ([] if everything else list(lifecycle.OPEN))
    with looking(target_path) as (reading, _manifest, zone):
        where = {"state__in": wanted} if wanted else {}
        found = reading.find(Change, order="-number", limit=limit, **where)

    def lines() -> Iterator[str]:
        for change in found:
            yield line_of(change, zone)
        if not found:
            yield "no change is open" if not everything else "there was no change yet"

    answer(found, as_json, lines)


def line_of(change: Change, zone: ZoneInfo) -> str:
    """One change in one line: number, category, kind, state, since when, what, by whom."""
    when = local(change.began or change.planned_start or change.requested, zone)
    head = f"{change.name:<6} {change.category:<9} {change.kind:<11} {change.state.upper():<11}"
    return f"{head} {when}  {change.title}  ({change.author})"


@click.command("show")
@click.argument("change", metavar="CHANGE")
@target_option
@json_option
def show_change(change: str, target_path: Path | None, as_json: bool) -> None:
    """Show a change: impact, risk and how it is made, who said yes, what it waits for, what became of it."""
    with looking(target_path) as (reading, manifest, _zone):
        found = lifecycle.the(reading, number_of(change))
        others = lifecycle.still_open(reading)

    def lines() -> Iterator[str]:
        yield from details(found, manifest)
        for other in freezes.overlapping(found, others) if found.state in lifecycle.OPEN else ():
            yield f"  overlaps {other.name}: {other.title}"

    answer(found, as_json, lines)


def details(change: Change, manifest: Manifest) -> Iterator[str]:
    """A change as a person reads it."""
    zone = ZoneInfo(manifest.platform.time_zone)
    yield line_of(change, zone)
    yield f"  why: {change.reason}"
    window = [local(one, zone) if one else "..." for one in (change.planned_start, change.planned_end)]
    optional = (
        ("window", " to ".join(window) if change.planned_start or change.planned_end else ""),
        ("release", change.digest),
        ("carried out by", change.procedure),
        ("impact", change.impact),
        ("customers", "" if change.customers is None else f"{change.customers:,}"),
        ("risk", change.risk_why),
        ("rollback", change.rollback_plan),
        ("standard", change.standard),
    )
    yield from (f"  {name}: {text}" for name, text in optional if text)
    yield from (f"  approved by {_consent(one, zone)}" for one in change.approved_by)
    yield from (f"  glass broken by {_consent(one, zone)}" for one in change.break_glass)
    if not change.state.ended and (short := duties.missing(manifest, change)):
        until = f" until {local(change.consent_until, zone)}" if change.consent_until else ""
        yield f"  waits for {short}{until}"
    if change.began:
        yield f"  carried out by {change.executor} from {local(change.began, zone)}: {', '.join(change.runs)}"
    if change.state is ChangeState.VALIDATING and change.validate_until:
        yield f"  the objectives are watched until {local(change.validate_until, zone)}"
    if change.outcome:
        yield f"  outcome: {change.outcome}"
    if change.incident is not None:
        yield f"  incident {change.incident} began under it"
    if change.reviewed:
        yield f"  reviewed by {change.reviewed_by} {local(change.reviewed, zone)}"


def _consent(one: Consent, zone: ZoneInfo) -> str:
    role = " (executive)" if one.executive else ""
    proof = one.key or f"in {one.run}"
    note = f": {one.note}" if one.note else ""
    return f"{one.person}{role} {local(one.time, zone)}, {proof}{note}"


@click.command()
@click.option("--days", default=14, show_default=True, type=click.IntRange(1, 366), help="So many days ahead.")
@target_option
@json_option
def calendar(days: int, target_path: Path | None, as_json: bool) -> None:
    """Show what is planned, going on and frozen, and which changes overlap on a service."""
    at = schedule.now()
    with looking(target_path) as (reading, manifest, zone):
        found = freezes.calendar(manifest, lifecycle.still_open(reading), at, at + dt.timedelta(days=days))

    def lines() -> Iterator[str]:
        for line in found:
            until = f" to {local(line.end, zone)}" if line.end and line.end != line.start else ""
            overlaps = f"  OVERLAPS {', '.join(line.overlaps)}" if line.overlaps else ""
            yield f"{local(line.start, zone)}{until}  {line.what}  {line.title}{overlaps}"
        if not found:
            yield f"nothing is planned or frozen in the next {days} days"

    answer(found, as_json, lines)


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Why each category may not be changed at a moment; empty where it may."""

    at: dt.datetime
    categories: dict[str, str]


@click.command()
@click.option("--at", "when", help='At which moment: "2026-11-24 09:00", or "+2 h". Default: now.')
@target_option
@json_option
def freeze(when: str | None, target_path: Path | None, as_json: bool) -> int:
    """Say what may be changed now; ends with 1 while something is frozen."""
    with looking(target_path) as (_reading, manifest, zone):
        at = moment(when, zone, schedule.now())
    found = {one.value: freezes.frozen(manifest, one, at) for one in ChangeCategory}

    def lines() -> Iterator[str]:
        for category, why in found.items():
            yield f"{category:<10} {why or 'may be changed'}"

    answer(Frozen(at=at, categories=found), as_json, lines)
    return 1 if any(found.values()) else 0


@click.command()
@click.option("--days", default=90, show_default=True, type=click.IntRange(1, 3660), help="So many days back.")
@target_option
@json_option
def dora(days: int, target_path: Path | None, as_json: bool) -> None:
    """Show DORA's four figures of the deployments: frequency, lead time, failure rate, recovery time."""
    at = schedule.now()
    with looking(target_path) as (reading, _manifest, _zone):
        found = reading.find(Change, kind=ChangeKind.DEPLOYMENT, order="-number")
        numbers = [one.incident for one in found if one.incident is not None]
        incidents = {one.number: one for one in reading.find(Incident, number__in=numbers)} if numbers else {}
    four = figures.dora(found, incidents, at - dt.timedelta(days=days), at)

    def lines() -> Iterator[str]:
        yield f"{four.deployments} deployments in the last {Seconds(days * 86400)}"
        for figure in four.figures:
            yield f"{figure.name:<32} {figure.said}"

    answer(four, as_json, lines)


@click.command()
@target_option
@json_option
def risk(target_path: Path | None, as_json: bool) -> None:
    """Show how the risk of a change is made, and how well it was said so far: reliability and Brier score."""
    with looking(target_path) as (reading, _manifest, _zone):
        found = risks.calibration(measuring.history_of(measuring.closed(reading)))

    def lines() -> Iterator[str]:
        yield "points, of measures from 0 to 1 (what is not known counts 0.5):"
        for name, (weight, meaning) in risks.POINTS.items():
            yield f"  {name:<13} {weight:g}  {meaning}"
        if found.fit:
            yield f"logit of the probability = {found.fit.intercept:.3f} + {found.fit.slope:.3f} x points"
        yield risks.verdict_on(found)
        for line in found.bins:
            low, high = line.interval
            said = f"{line.failed} of {line.changes} failed: {Ratio(line.observed)} ({Ratio(low)} to {Ratio(high)})"
            yield f"  said {Ratio(line.low)} to {Ratio(line.high)}, {Ratio(line.predicted)} on average: {said}"

    answer(found, as_json, lines)
