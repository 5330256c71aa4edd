"""`nvcops changes ...`: what people decide about changes, signed with their SSH keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import msgspec

from nvcops import wiring
from nvcops.adapters.runs.people import unsigned_user
from nvcops.changes import freezes, lifecycle, measuring, requesting
from nvcops.changes.lifecycle import about, number_of
from nvcops.changes.requesting import Hand, Request
from nvcops.cli.changes_shown import calendar, details, dora, freeze, list_changes, risk, show_change
from nvcops.cli.context import answer, json_option, manifest_path, notify, target_option
from nvcops.cli.deciding import Deciding, fold_in, moment, option_of, recording, signed, speak
from nvcops.cli.people import signer_of
from nvcops.core import schedule
from nvcops.core.changes import Change, ChangeCategory, ChangeKind, ChangeState
from nvcops.core.errors import NotAllowed, UsageError
from nvcops.core.evidence import Entry, utc
from nvcops.core.identity import Say
from nvcops.core.manifest import Manifest

Who = tuple[str | None, Path | None]
_ENDS = {state.value.replace(" ", "-"): state for state in lifecycle.ENDED}


@click.group()
def changes() -> None:
    """Request changes, approve them, see when what is changed, and what became of it."""


for _command in (list_changes, show_change, calendar, freeze, dora, risk):
    changes.add_command(_command)


def _number(_context: click.Context, _parameter: click.Parameter, written: str) -> int:
    return number_of(written)


change_argument = click.argument("number", metavar="CHANGE", callback=_number)


@contextmanager
def ruling(
    target_path: Path | None, who: Who, number: int, act: str, note: str = "", *, kind: Say = Say.DECISION
) -> Iterator[tuple[Deciding, Hand]]:
    """A transaction in which a person decides about a change as it stands; who is refused leaves evidence too.

    Raises:
        NotAllowed: the key, the roster, the role or another part in the change does not allow it.
        UsageError: what was asked changed meanwhile.
    """
    manifest = wiring.load(manifest_path(target_path))
    with wiring.open_records(manifest) as records, records.reading() as reading:
        content = lifecycle.digest_of(lifecycle.the(reading, number))
    try:
        spoken = speak(manifest, who, about(number), act, note, kind=kind, content=content)
        with recording(manifest, spoken) as by:
            if lifecycle.digest_of(lifecycle.the(by.desk, number)) != content:
                raise UsageError(f"C-{number} was changed meanwhile", hint="look at it again, and decide again")
            yield by, Hand(by.person, by.key, by.at)
    except NotAllowed as error:
        _note_refusal(manifest, number, act, who[0] or unsigned_user(), error)
        raise


def _note_refusal(manifest: Manifest, number: int, act: str, actor: str, error: NotAllowed) -> None:
    at = schedule.now()
    told = hashlib.sha256(f"{actor} {error.sentence} {at}".encode()).hexdigest()[:16]
    entry = Entry(
        id=f"{about(number)}/{act}/refusal/{told}",
        time=utc(at),
        kind="refusal",
        platform=manifest.platform.name,
        run=about(number),
        procedure="change",
        actor=actor,
        subject=act,
        body={"reason": error.sentence, "error": type(error).__name__},
    )
    with wiring.open_records(manifest) as records:
        with records.changing() as desk:
            desk.note(entry)
        fold_in(manifest, records)


def told(change: Change, manifest: Manifest, as_json: bool) -> None:
    """What a change is after a decision."""
    answer(change, as_json, lambda: details(change, manifest))


@signed
@changes.command("request")
@click.argument("title")
@click.option(
    "--kind",
    required=True,
    type=click.Choice([kind.value for kind in ChangeKind]),
    callback=option_of(ChangeKind),
    help="What is changed.",
)
@click.option(
    "--category",
    default="normal",
    show_default=True,
    type=click.Choice([one.value for one in ChangeCategory if one is not ChangeCategory.STANDARD]),
    callback=option_of(ChangeCategory),
    help="An emergency is approved afterwards; a major one by an executive too.",
)
@click.option("--reason", required=True, help="Why, in words that an approver can judge.")
@click.option("--rollback", default="", help="How it is taken back when it fails.")
@click.option("--service", "services", multiple=True, help="A service that it touches (repeatable).")
@click.option("--customers", type=click.IntRange(0), help="How many customers notice it, where that is known.")
@click.option("--digest", default="", help="The release that is deployed: its SHA-256.")
@click.option("--procedure", default="", help="The procedure that carries it out.")
@click.option("--from", "start", help='The window\'s beginning: "2026-11-24 09:00", or "+2 h".')
@click.option("--to", "end", help="Its end.")
@click.option("--schema/--no-schema", default=None, help="Whether the schema is changed.")
@target_option
@json_option
def request_change(  # noqa: PLR0913, PLR0917 - the flags of a command line
    title: str,
    kind: ChangeKind,
    category: ChangeCategory,
    reason: str,
    rollback: str,
    services: tuple[str, ...],
    customers: int | None,
    digest: str,
    procedure: str,
    start: str | None,
    end: str | None,
    schema: bool | None,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Ask for a change; its impact and risk are measured, and it waits for its approval."""
    manifest = wiring.load(manifest_path(target_path))
    zone, at = ZoneInfo(manifest.platform.time_zone), schedule.now()
    wanted = Request(
        category=category,
        kind=kind,
        title=title,
        reason=reason,
        rollback_plan=rollback,
        planned_start=moment(start, zone, at) if start else None,
        planned_end=moment(end, zone, at) if end else None,
        services=services,
        digest=digest,
        procedure=procedure,
        customers=customers,
    )
    requesting.check(manifest, wanted, at)
    done = _requested(manifest, wanted, (person, key), schema=schema)
    told(done, manifest, as_json)
    if not as_json:
        _warn(done, manifest)


def _warn(change: Change, manifest: Manifest) -> None:
    """What stands in the way of its window: other changes of the same services, and freezes."""
    with wiring.open_records(manifest) as records, records.reading() as reading:
        others = freezes.overlapping(change, lifecycle.still_open(reading))
    for other in others:
        notify(f"{change.name} overlaps {other.name}: {other.title}")
    for one in freezes.meeting(manifest, change):
        notify(f"the freeze {one.name} is in its window: {one.reason}")


def _requested(manifest: Manifest, wanted: Request, who: Who, *, schema: bool | None) -> Change:
    """Measure, have the author sign under the next number, and enter it."""
    target = wiring.connect(manifest)
    author = signer_of(manifest, *who).name
    at = schedule.now()
    with wiring.open_records(manifest) as records, records.reading() as reading:
        before = measuring.closed(reading)
        newest = reading.find(Change, order="-number", limit=1)
    number = newest[0].number + 1 if newest else 1
    asked = measuring.Asked(
        kind=wanted.kind,
        author=author,
        at=at,
        when=wanted.planned_start,
        services=wanted.services,
        digest=wanted.digest,
        schema=schema,
    )
    measured = measuring.measure(target, asked, before)
    change = requesting.draft(wanted, measured, Hand(author, "", at), number)
    content = lifecycle.digest_of(change)
    spoken = speak(manifest, who, about(number), "request", change.title, kind=Say.REQUEST, content=content)
    with recording(manifest, spoken) as by:
        return requesting.request(by.desk, _by(change, by.person, by.key), manifest=manifest)


def _by(change: Change, person: str, key: str) -> Change:
    return msgspec.structs.replace(change, author=person, author_key=key)


@signed
@changes.command("approve")
@change_argument
@click.option("--note", default="", help="Why.")
@target_option
@json_option
def approve_change(
    number: int, note: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Approve what somebody else requested; of a major change an executive does too."""
    with ruling(target_path, (person, key), number, "approve", note, kind=Say.APPROVAL) as (by, hand):
        done = requesting.approve(by.desk, number, hand, manifest=by.manifest, note=note)
    told(done, by.manifest, as_json)


@signed
@changes.command("reject")
@change_argument
@click.option("--note", required=True, help="Why not.")
@target_option
@json_option
def reject_change(
    number: int, note: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Say no to a change that was not carried out yet."""
    with ruling(target_path, (person, key), number, "reject", note) as (by, hand):
        done = requesting.reject(by.desk, number, hand, manifest=by.manifest, note=note)
    told(done, by.manifest, as_json)


@signed
@changes.command("cancel")
@change_argument
@click.option("--note", required=True, help="Why.")
@target_option
@json_option
def cancel_change(
    number: int, note: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Take a request back."""
    with ruling(target_path, (person, key), number, "cancel", note) as (by, hand):
        done = requesting.cancel(by.desk, number, hand, manifest=by.manifest, note=note)
    told(done, by.manifest, as_json)


@signed
@changes.command("break-glass")
@change_argument
@click.option("--note", required=True, help="Why it cannot wait until the freeze is over.")
@target_option
@json_option
def break_glass(
    number: int, note: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Let a change pass a freeze: two different people sign that, one of them an approver."""
    with ruling(target_path, (person, key), number, "break-glass", note, kind=Say.BREAK_GLASS) as (by, hand):
        done = requesting.break_glass(by.desk, number, hand, manifest=by.manifest, note=note)
    told(done, by.manifest, as_json)


@signed
@changes.command("close")
@change_argument
@click.argument("outcome", type=click.Choice(list(_ENDS)))
@click.option("--note", required=True, help="How you know.")
@target_option
@json_option
def close_change(
    number: int,
    outcome: str,
    note: str,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """End a change by hand, where nobody could read how it did; that it went well says who has no part in it."""
    state: ChangeState = _ENDS[outcome]
    with ruling(target_path, (person, key), number, "close", f"{outcome}: {note}") as (by, hand):
        done = requesting.close(by.desk, number, hand, manifest=by.manifest, state=state, note=note)
    told(done, by.manifest, as_json)


@signed
@changes.command("review")
@change_argument
@click.option("--note", required=True, help="What is learned from it.")
@target_option
@json_option
def review_change(
    number: int, note: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None
) -> None:
    """Look back at an emergency, or at a change for which the glass was broken."""
    with ruling(target_path, (person, key), number, "review", note) as (by, hand):
        done = requesting.review(by.desk, number, hand, manifest=by.manifest, note=note)
    told(done, by.manifest, as_json)
