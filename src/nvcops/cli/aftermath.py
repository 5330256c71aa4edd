"""What is done beside and after an incident: checklist, regulators' deadlines and drafts, post-mortem, action items."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from nvcops import wiring
from nvcops.cli.context import answer, json_option, target_option
from nvcops.cli.deciding import deciding, looking, moment, signed
from nvcops.cli.incidents import incident, number_argument
from nvcops.cli.report import local
from nvcops.core import schedule
from nvcops.core.errors import UsageError
from nvcops.core.incidents import ActionItem, Clock
from nvcops.core.manifest import Manifest
from nvcops.incidents import actions, checklists, clocks, drafts, postmortem, timeline
from nvcops.incidents.checklists import Line
from nvcops.incidents.impact import Impact

_MARKS = {"done": "[x]", "late": "[x]", "not needed": "[-]", "open": "[ ]"}
_TEXT_BYTES_MAX = 1 << 20


def _cost(target_path: Path | None, number: int) -> Impact:
    """What it cost so far; read before the records are, because the platform is asked."""
    with looking(target_path) as (reading, manifest, _zone):
        found = timeline.the(reading, number)
    return wiring.cost(manifest, found)


# --- checklist ---


@incident.command("checklist")
@number_argument
@target_option
@json_option
def show_checklist(number: int, target_path: Path | None, as_json: bool) -> None:
    """Show the runbook's five phases: what is done, by whom or by what it was seen, and what is open."""
    with looking(target_path) as (reading, manifest, zone):
        lines = checklists.checklist(checklists.seen(reading, number), manifest)
    answer(lines, as_json, lambda: _phases(lines, zone))


def _phases(lines: list[Line], zone: ZoneInfo) -> Iterator[str]:
    phase = ""
    for line in lines:
        if line.phase != phase:
            phase = line.phase
            yield phase
        when = local(line.time, zone) if line.time else ""
        said = ", ".join(filter(None, (line.by, when, line.note)))
        yield f"  {_MARKS[line.standing]} {line.item}" + (f"  ({said})" if said else "")


@signed
@incident.command("tick")
@number_argument
@click.argument("item")
@click.option("--note", default="", help="What was seen.")
@target_option
@json_option
def tick_line(
    number: int, item: str, note: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Tick a line of the checklist, in the runbook's words."""
    with deciding(target_path, (person, key), f"incident/{number}", "tick", item) as by:
        done = checklists.tick(by.desk, number, manifest=by.manifest, item=item, person=by.person, at=by.at, note=note)
    answer(done, as_json, lambda: [f"{done.item}: {done.by}, {local(done.time, by.zone)}"])


# --- regulators ---


@incident.command("draft")
@number_argument
@click.argument("report", type=click.Choice(sorted(clocks.RULES)))
@target_option
@json_option
def show_draft(number: int, report: str, target_path: Path | None, as_json: bool) -> None:
    """Draft a regulator's report from what is known; ends with 1 while something is missing."""
    cost = _cost(target_path, number)
    with looking(target_path) as (reading, manifest, _zone):
        found = drafts.draft(report, drafts.known(reading, number, cost), manifest)
    answer(found, as_json, lambda: [found.text])
    click.get_current_context().exit(1 if found.missing else 0)


@signed
@incident.command("fact")
@number_argument
@click.argument("field")
@click.argument("text")
@target_option
@json_option
def state_fact(
    number: int, field: str, text: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Say what only people know, as the number of data subjects: it fills that field of every draft."""
    with deciding(target_path, (person, key), f"incident/{number}", "fact", f"{field}: {text}") as by:
        drafts.state(by.desk, number, manifest=by.manifest, field=field, text=text, person=by.person, at=by.at)
    answer({"field": field, "text": text}, as_json, lambda: [f"{field}: {text}"])


@signed
@incident.command("clock")
@number_argument
@click.argument("rule", type=click.Choice([rule.name for rule in clocks.RULES.values() if not rule.after]))
@click.argument("reason")
@click.option("--since", help='When it was determined, classified or known, as "2026-11-24 09:00"; default: now.')
@target_option
@json_option
def begin_clock(  # noqa: PLR0913, PLR0917 - the flags of a command line
    number: int,
    rule: str,
    reason: str,
    since: str | None,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Start a regulator's clock: it was determined, classified, or known."""
    with deciding(target_path, (person, key), f"incident/{number}", "clock", f"{rule}: {reason}") as by:
        began = moment(since, by.zone, by.at)
        clock = clocks.begin(
            by.desk,
            number,
            manifest=by.manifest,
            rule=rule,
            person=by.person,
            at=by.at,
            reason=reason,
            began=began,
        )
    _told(clock, as_json, by.at, by.manifest)


@signed
@incident.command("reported")
@number_argument
@click.argument("rule", type=click.Choice(sorted(clocks.RULES)))
@click.argument("reference")
@target_option
@json_option
def meet_clock(
    number: int,
    rule: str,
    reference: str,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Say that a regulator's report was sent; REFERENCE is what the regulator calls it."""
    with deciding(target_path, (person, key), f"incident/{number}", "reported", f"{rule}: {reference}") as by:
        clock = clocks.meet(
            by.desk, f"{number}/{rule}", manifest=by.manifest, reference=reference, person=by.person, at=by.at
        )
    _told(clock, as_json, by.at, by.manifest)


@signed
@incident.command("not-reportable")
@number_argument
@click.argument("rule", type=click.Choice(sorted(clocks.RULES)))
@click.argument("reason")
@target_option
@json_option
def dismiss_clock(
    number: int, rule: str, reason: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Say that something need not be reported, and why: its clock stops."""
    with deciding(target_path, (person, key), f"incident/{number}", "not-reportable", f"{rule}: {reason}") as by:
        clock = clocks.dismiss(
            by.desk, f"{number}/{rule}", manifest=by.manifest, reason=reason, person=by.person, at=by.at
        )
    _told(clock, as_json, by.at, by.manifest)


def _told(clock: Clock, as_json: bool, at: dt.datetime, manifest: Manifest) -> None:
    answer(clock, as_json, lambda: [clocks.in_words(clock, at, manifest)])


# --- action items ---


@signed
@incident.command("action")
@number_argument
@click.argument("text")
@click.option("--owner", required=True, help="Who does it: a name of [[people]] or [[contacts]].")
@click.option("--due", required=True, type=click.DateTime(["%Y-%m-%d"]), help="Until which day.")
@click.option("--measure", type=click.Choice(actions.MEASURES), default="prevention", show_default=True)
@click.option("--procedure", default="", help="The procedure of which a green run closes it.")
@target_option
@json_option
def add_action(  # noqa: PLR0913, PLR0917 - the flags of a command line
    number: int,
    text: str,
    owner: str,
    due: dt.datetime,
    measure: str,
    procedure: str,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Write down what must change, with its owner and its date."""
    with deciding(target_path, (person, key), f"incident/{number}", "action", text) as by:
        item = actions.add(
            by.desk,
            number,
            manifest=by.manifest,
            text=text,
            owner=owner,
            due=due.date(),
            person=by.person,
            at=by.at,
            measure=measure,
            procedure=procedure,
        )
    _item(item, as_json)


@signed
@incident.command("action-done")
@click.argument("item")
@click.option("--run", "run_id", help="The green run that shows it.")
@click.option("--note", help="Your attestation: how it was done.")
@target_option
@json_option
def close_action(
    item: str,
    run_id: str | None,
    note: str | None,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Close an action item: by a green run, or by your attestation."""
    if (run_id is None) == (note is None):
        raise UsageError("an action item closes by a run or by an attestation", hint="--run RUN, or --note TEXT")
    said = f"{item}: {run_id or note}"
    with deciding(target_path, (person, key), f"incident/{item.partition('-')[0]}", "action-done", said) as by:
        if run_id is None:
            done = actions.attest(by.desk, item, manifest=by.manifest, note=note or "", person=by.person, at=by.at)
        else:
            run = wiring.run_of(by.manifest, run_id)
            done = actions.close_by_run(by.desk, item, run, manifest=by.manifest, person=by.person, at=by.at)
    _item(done, as_json)


def _item(item: ActionItem, as_json: bool) -> None:
    closed = f"closed by {item.closed_by}" if item.closed else f"{item.owner}, until {item.due}"
    answer(item, as_json, lambda: [f"{item.id}: {item.text} ({closed})"])


# --- the post-mortem ---


@signed
@click.command("postmortem")
@number_argument
@click.option("--publish", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The completed text.")
@target_option
@json_option
def write_postmortem(
    number: int,
    publish: Path | None,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Write the post-mortem of an incident from its records; people complete it and publish it with --publish FILE."""
    if publish is not None:
        text = _read(publish)
        with deciding(target_path, (person, key), f"incident/{number}", "postmortem") as by:
            digest = postmortem.publish(by.desk, number, manifest=by.manifest, text=text, person=by.person, at=by.at)
        answer({"incident": number, "sha256": digest}, as_json, lambda: [f"published: SHA-256 {digest}"])
        return
    with looking(target_path) as (reading, _manifest, _zone):
        text = postmortem.published(reading, number)
    if not text:
        cost = _cost(target_path, number)
        with looking(target_path) as (reading, manifest, _zone):
            told = postmortem.story(reading, number, manifest=manifest, impact=cost)
        text = postmortem.write(told, manifest, schedule.now())
    left = postmortem.unwritten(text)
    answer({"incident": number, "text": text, "unwritten": left}, as_json, lambda: [text])


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _TEXT_BYTES_MAX:
            raise UsageError(f"{path} is larger than {_TEXT_BYTES_MAX} bytes", hint="it is the post-mortem's Markdown")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="it is a text in UTF-8") from error
