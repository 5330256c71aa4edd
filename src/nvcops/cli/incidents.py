"""`nvcops incidents`, `ack`, `assign`, `note`, `resolve`, `incident ...`: an incident from 3 a.m. to its end."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import msgspec

from nvcops.cli.context import answer, json_option, target_option
from nvcops.cli.deciding import deciding, looking, moment, option_of, signed
from nvcops.cli.report import local
from nvcops.core.incidents import ActionItem, Clock, Event, Incident, IncidentAlert, IncidentState, Role, Severity
from nvcops.core.records import Reading
from nvcops.core.units import Seconds
from nvcops.incidents import leading, messages, opening, timeline

_OVER = (IncidentState.RESOLVED, IncidentState.CLOSED)
_LINES_MAX = 1_000


class Shown(msgspec.Struct, frozen=True):
    """An incident with all that belongs to it."""

    incident: Incident
    alerts: list[IncidentAlert]
    timeline: list[Event]
    actions: list[ActionItem]
    clocks: list[Clock]


@click.command()
@target_option
@click.option("--all", "everything", is_flag=True, help="With those that are over.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="So many, the newest first.")
@json_option
def incidents(target_path: Path | None, everything: bool, limit: int, as_json: bool) -> int:
    """List the incidents that are open; ends with 2 while a P0 or P1 is, with 1 while another is."""
    with looking(target_path) as (reading, _manifest, zone):
        where = {} if everything else {"state__in": [state for state in IncidentState if state not in _OVER]}
        found = reading.find(Incident, order="-number", limit=limit, **where)

    def lines() -> Iterator[str]:
        for incident in found:
            yield line_of(incident, zone)
        if not found:
            yield "no incident is open" if not everything else "there was no incident yet"

    answer(found, as_json, lines)
    grave = {incident.severity for incident in found if incident.state not in _OVER}
    return 2 if grave & {Severity.P0, Severity.P1} else 1 if grave else 0


def line_of(incident: Incident, zone: ZoneInfo) -> str:
    """One incident in one line: severity, number, state, since when, what, who has it."""
    who = incident.acknowledged_by or "nobody yet"
    since = local(incident.detected, zone)
    return f"{incident.severity}  #{incident.number:<4} {incident.state.upper():<13} {since}  {incident.title}  ({who})"


def shown(reading: Reading, number: int) -> Shown:
    """An incident with all that belongs to it.

    Raises:
        NotFoundError: there is none of that number.
    """
    return Shown(
        timeline.the(reading, number),
        reading.find(IncidentAlert, incident=number, limit=_LINES_MAX),
        timeline.events(reading, number),
        reading.find(ActionItem, incident=number, limit=_LINES_MAX),
        reading.find(Clock, incident=number, limit=_LINES_MAX),
    )


@click.group()
def incident() -> None:
    """Look at one incident, declare one, and what is seldom needed."""


@incident.command("show")
@click.argument("number", type=click.IntRange(1))
@target_option
@json_option
def show_incident(number: int, target_path: Path | None, as_json: bool) -> None:
    """Show an incident: severity and why, roles, likely causes and what to start, deadlines, timeline."""
    with looking(target_path) as (reading, _manifest, zone):
        found = shown(reading, number)
    answer(found, as_json, lambda: details(found, zone))


def details(found: Shown, zone: ZoneInfo) -> Iterator[str]:
    """An incident as a person reads it."""
    incident = found.incident
    yield line_of(incident, zone)
    yield f"  began {local(incident.began, zone)}, noticed {_after(incident.began, incident.detected)} later"
    if incident.acknowledged:
        yield f"  acknowledged by {incident.acknowledged_by} {_after(incident.detected, incident.acknowledged)} later"
    if incident.overridden_by:
        yield f"  {incident.severity} is {incident.overridden_by}'s: {incident.override_reason}"
    for reason in incident.reasons:
        yield f"  {reason.severity}: {reason.seen} ({reason.rule})"
    for role, name in incident.roles.items():
        yield f"  {role}: {name}"
    for suggestion in incident.suggestions:
        start = f"; start: nvcops run {suggestion.procedure}" if suggestion.procedure else ""
        yield f"  likely: {suggestion.title}, since {suggestion.evidence}{start}"
    for link in incident.links:
        yield f"  {link.get('kind', '')}: {link.get('text') or link.get('id', '')}"
    for clock in found.clocks:
        stands = f"met {local(clock.met, zone)}" if clock.met else f"due {local(clock.due, zone)}"
        yield f"  {clock.title}: {stands}"
    for item in found.actions:
        done = f"closed by {item.closed_by}" if item.closed else f"due {item.due}"
        yield f"  action {item.id}: {item.text} ({item.owner}, {done})"
    yield ""
    for event in found.timeline:
        who = f"{event.person}: " if event.person else ""
        yield f"{local(event.time, zone)}  {event.kind:<13} {who}{event.text}"


def _after(start: dt.datetime, end: dt.datetime) -> Seconds:
    return Seconds(max((end - start).total_seconds(), 0.0))


def told(done: Incident, as_json: bool, zone: ZoneInfo) -> None:
    """What an incident is after a decision."""
    answer(done, as_json, lambda: [line_of(done, zone)])


number_argument = click.argument("number", type=click.IntRange(1))


@signed
@click.command()
@number_argument
@target_option
@json_option
def ack(number: int, target_path: Path | None, as_json: bool, person: str | None, key: Path | None) -> None:
    """Acknowledge an incident: you are on it, and nobody else is woken."""
    with deciding(target_path, (person, key), f"incident/{number}", "acknowledge") as by:
        done = leading.acknowledge(by.desk, number, manifest=by.manifest, person=by.person, at=by.at)
    told(done, as_json, by.zone)


@signed
@click.command()
@number_argument
@click.argument("role", type=click.Choice([role.value for role in Role]), callback=option_of(Role))
@click.argument("to")
@target_option
@json_option
def assign(
    number: int, role: Role, to: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Give a role of the emergency response team to somebody, who is told."""
    with deciding(target_path, (person, key), f"incident/{number}", "assign", f"{role}: {to}") as by:
        done = leading.assign(by.desk, number, manifest=by.manifest, role=role, to=to, person=by.person, at=by.at)
    told(done, as_json, by.zone)


@signed
@click.command()
@number_argument
@click.argument("text")
@target_option
@json_option
def note(number: int, text: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None) -> None:
    """Put a line of your own into an incident's timeline."""
    with deciding(target_path, (person, key), f"incident/{number}", "note", text) as by:
        done = leading.note(by.desk, number, manifest=by.manifest, text=text, person=by.person, at=by.at)
    told(done, as_json, by.zone)


@signed
@click.command("resolve")
@number_argument
@click.argument("text")
@click.option("--despite", default="", help="Why it is over although alerts of it still fire.")
@target_option
@json_option
def resolve_incident(
    number: int,
    text: str,
    despite: str,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Say that an incident is over, and what resolved it; its alerts must be over too."""
    with deciding(target_path, (person, key), f"incident/{number}", "resolve", text) as by:
        done = leading.resolve(
            by.desk, number, manifest=by.manifest, text=text, person=by.person, at=by.at, despite=despite
        )
    told(done, as_json, by.zone)


@signed
@incident.command()
@click.argument("title")
@click.option(
    "--severity",
    type=click.Choice([severity.value for severity in Severity]),
    default="P2",
    show_default=True,
    callback=option_of(Severity),
    help="The runbook's severity level.",
)
@click.option("--reason", default="", help="Why that severity.")
@click.option("--service", "services", multiple=True, help="A service that it touches (repeatable).")
@click.option("--began", help='Since when, as "2026-11-24 09:00"; default: now.')
@click.option("--security", is_flag=True, help="It is a security incident.")
@click.option("--personal-data", "personal", is_flag=True, help="Personal data are touched.")
@target_option
@json_option
def declare(  # noqa: PLR0913, PLR0917 - the flags of a command line
    title: str,
    severity: Severity,
    reason: str,
    services: tuple[str, ...],
    began: str | None,
    security: bool,
    personal: bool,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Open an incident by hand, and page who is on call."""
    with deciding(target_path, (person, key), "incident", "declare", title) as by:
        done = opening.open_by_hand(
            by.desk,
            manifest=by.manifest,
            title=title,
            person=by.person,
            at=by.at,
            severity=severity,
            reason=reason,
            services=services,
            began=moment(began, by.zone, by.at) if began else None,
            security=security,
            personal=personal,
        )
    told(done, as_json, by.zone)


@signed
@incident.command("severity")
@number_argument
@click.argument("severity", type=click.Choice([severity.value for severity in Severity]), callback=option_of(Severity))
@click.option("--reason", required=True, help="Why the inferred one is not right.")
@target_option
@json_option
def override_severity(
    number: int,
    severity: Severity,
    reason: str,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Override the inferred severity; it holds until somebody says another."""
    with deciding(target_path, (person, key), f"incident/{number}", "severity", f"{severity}: {reason}") as by:
        done = leading.override(
            by.desk, number, manifest=by.manifest, severity=severity, reason=reason, person=by.person, at=by.at
        )
    told(done, as_json, by.zone)


@signed
@incident.command("investigate")
@number_argument
@target_option
@json_option
def begin_investigation(
    number: int, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Say that you look for its cause."""
    with deciding(target_path, (person, key), f"incident/{number}", "investigate") as by:
        done = leading.investigate(by.desk, number, manifest=by.manifest, person=by.person, at=by.at)
    told(done, as_json, by.zone)


@signed
@incident.command()
@number_argument
@click.argument("text")
@target_option
@json_option
def mitigate(
    number: int, text: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Say that customers are no longer touched, and by what."""
    with deciding(target_path, (person, key), f"incident/{number}", "mitigate", text) as by:
        done = leading.mitigate(by.desk, number, manifest=by.manifest, text=text, person=by.person, at=by.at)
    told(done, as_json, by.zone)


@signed
@incident.command("personal-data")
@number_argument
@click.argument("reason")
@target_option
@json_option
def personal_data(
    number: int, reason: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Say that personal data are touched: the regulators' clocks for that begin."""
    with deciding(target_path, (person, key), f"incident/{number}", "personal-data", reason) as by:
        done = leading.personal_data(by.desk, number, manifest=by.manifest, reason=reason, person=by.person, at=by.at)
    told(done, as_json, by.zone)


@signed
@incident.command("update")
@number_argument
@click.argument("text")
@click.option("--public", is_flag=True, help="Put it on the public status page too.")
@target_option
@json_option
def update_stakeholders(
    number: int, text: str, public: bool, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Tell the stakeholders how it stands, in your words."""
    with deciding(target_path, (person, key), f"incident/{number}", "update", text) as by:
        messages.update(by.desk, number, manifest=by.manifest, text=text, person=by.person, at=by.at, public=public)
        done = timeline.the(by.desk, number)
    told(done, as_json, by.zone)


@signed
@incident.command("close")
@number_argument
@target_option
@json_option
def close_incident(number: int, target_path: Path | None, as_json: bool, person: str | None, key: Path | None) -> None:
    """Close an incident: nothing is left to do; of P0 and P1 the post-mortem is published."""
    with deciding(target_path, (person, key), f"incident/{number}", "close") as by:
        done = leading.close(by.desk, number, manifest=by.manifest, person=by.person, at=by.at)
    told(done, as_json, by.zone)
