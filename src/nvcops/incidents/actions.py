"""What must change after an incident: items with an owner and a date, closed by a green run or by somebody's word."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.incidents import ActionItem
from nvcops.core.manifest import Manifest
from nvcops.core.procedures import find
from nvcops.core.records import Desk, Reading
from nvcops.core.runs import RunRecord, RunState
from nvcops.incidents import timeline
from nvcops.incidents.people import somebody
from nvcops.incidents.timeline import text_of

_ITEMS_MAX = 2_000
MEASURES = ("runbooks", "prevention", "monitoring")

# --- Facts ---


def open_items(reading: Reading) -> list[ActionItem]:
    """The items that are not closed, the nearest due first."""
    return reading.find(ActionItem, closed__isnull=True, order="due", limit=_ITEMS_MAX)


# --- Rules ---

ITEM = Check("incident.action", "Action item", "`nvcops incidents` closes it with a green run, or by attestation")


def refusal(item: ActionItem, run: RunRecord) -> str:
    """Why a run does not close an item; empty: it does.

    It closes what it proves: the item's own procedure, begun after the item was made, not a rehearsal, and OK.
    """
    if not item.procedure or run.procedure != item.procedure:
        wants = f"wants {item.procedure}" if item.procedure else "names no procedure whose run could show it"
        return f"{run.id} is a run of {run.procedure}, the item {wants}"
    if run.dry_run:
        return f"{run.id} was a rehearsal"
    if run.state is not RunState.CONCLUDED or run.verdict is None:
        return f"{run.id} is {run.state}, it came to no verdict"
    if run.verdict is not Verdict.OK:
        return f"{run.id} came to {run.verdict.name}"
    if run.started is None or run.started < item.created:
        return f"{run.id} began before the item was made: it cannot show that something changed since"
    return ""


def item_findings(items: Iterable[ActionItem], day: dt.date) -> list[Finding]:
    """Open items: overdue ones are CRITICAL, those due within a week a WARNING.

    >>> noon = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    >>> one = ActionItem(id="1-1", incident=1, text="alarm", owner="dana", due=dt.date(2026, 11, 22), created=noon)
    >>> [item_findings([one], dt.date(2026, 11, day))[0].verdict.name for day in (15, 16, 22, 23)]
    ['OK', 'WARNING', 'WARNING', 'CRITICAL']
    """
    findings = []
    for item in items:
        left = (item.due - day).days
        verdict = Verdict.CRITICAL if left < 0 else Verdict.WARNING if left < 7 else Verdict.OK
        how = f"overdue by {-left} d" if left < 0 else f"due in {left} d"
        said = f"{item.text} ({item.owner}, {item.due}, {how})"
        findings.append(ITEM.finding(verdict, said, subject=item.id))
    return findings or [ITEM.finding(Verdict.OK, "none is open")]


def table(items: Sequence[ActionItem]) -> str:
    """The items as a table of the post-mortem."""
    head = "| Item | What | Measure | Owner | Due | Closed |\n|---|---|---|---|---|---|"
    rows = [
        f"| {item.id} | {cell(item.text)} | {item.measure} | {cell(item.owner)} | {item.due} | {cell(_closed(item))} |"
        for item in items
    ]
    return "\n".join([head, *rows]) if rows else "None was written down yet."


def _closed(item: ActionItem) -> str:
    if item.closed:
        return f"{item.closed:%Y-%m-%d} by {item.closed_by}"
    return f"by a green run of {item.procedure}" if item.procedure else "open"


_PLAIN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {mark: f"\\{mark}" for mark in "|[]`*"})


def cell(text: str) -> str:
    r"""What somebody wrote, in Markdown: one line that is read as it was written, also in a cell of a table.

    >>> cell("a | b\n<script> [x](y)")
    'a \\| b &lt;script&gt; \\[x\\](y)'
    """
    return " ".join(text.split()).translate(_PLAIN)


# --- Procedures ---


def add(  # noqa: PLR0913 - an item has many parts
    desk: Desk,
    number: int,
    *,
    manifest: Manifest,
    text: str,
    owner: str,
    due: dt.date,
    person: str,
    at: dt.datetime,
    measure: str = "prevention",
    procedure: str = "",
) -> ActionItem:
    """Write an action item down. With a procedure it closes by a green run of that only, or by an attestation.

    Raises:
        UsageError: its owner is nobody, it is due in the past, or of no measure.
        NotFoundError: there is no such procedure.
    """
    timeline.the(desk, number)
    text = text_of(text, "an action item", most=500)
    somebody(manifest, owner)
    if due < at.astimezone(ZoneInfo(manifest.platform.time_zone)).date():
        raise UsageError(f"{due} is past", hint="an item is due in the days to come")
    if measure not in MEASURES:
        raise UsageError(f"{measure!r} is no measure", hint=f"one of: {', '.join(MEASURES)}")
    item = ActionItem(
        id=f"{number}-{desk.count(ActionItem, incident=number) + 1}",
        incident=number,
        text=text,
        owner=owner,
        due=due,
        created=at,
        measure=measure,
        procedure=find(procedure).name if procedure else "",
    )
    desk.put(item)
    said, data = f"{text} ({owner}, until {due})", {"item": item.id, "owner": owner, "due": due.isoformat()}
    timeline.enter(desk, number, "action-item", said, manifest=manifest, at=at, person=person, cause=item.id, data=data)
    return item


def _open_item(desk: Desk, identity: str) -> ActionItem:
    item = desk.get(ActionItem, identity)
    if item is None:
        raise NotFoundError(f"there is no action item {identity!r}", hint="`nvcops incidents` lists them")
    if item.closed:
        raise UsageError(f"{identity} was closed by {item.closed_by}", hint="add another item")
    return item


def close_by_run(
    desk: Desk, identity: str, run: RunRecord, *, manifest: Manifest, person: str, at: dt.datetime
) -> ActionItem:
    """Close an item by a run that proves it.

    Raises:
        UsageError: the run does not.
    """
    item = _open_item(desk, identity)
    if why := refusal(item, run):
        hint = "a green run after the item was made" if item.procedure else "attest how it was done"
        raise UsageError(f"{identity} is not closed by that: {why}", hint=hint)
    return _close(desk, item, run.id, f"closed by the run {run.id}", manifest=manifest, person=person, at=at)


def attest(desk: Desk, identity: str, *, manifest: Manifest, note: str, person: str, at: dt.datetime) -> ActionItem:
    """Close an item because somebody of the roster attests that it is done, and says how.

    Raises:
        UsageError: nothing is said, or the person is nobody of the roster.
    """
    item = _open_item(desk, identity)
    note = text_of(note, "an attestation", most=1_000)
    if manifest.person(person) is None:
        raise UsageError(f"{person!r} is nobody in [[people]]", hint="the roster attests")
    said = f"{person} attests: {note}"
    return _close(desk, item, person, said, manifest=manifest, person=person, at=at, note=note)


def _close(  # noqa: PLR0913 - who closes what by what
    desk: Desk,
    item: ActionItem,
    by: str,
    said: str,
    *,
    manifest: Manifest,
    person: str,
    at: dt.datetime,
    note: str = "",
) -> ActionItem:
    closed = msgspec.structs.replace(item, closed=at, closed_by=by, note=note)
    desk.put(closed)
    timeline.enter(
        desk,
        item.incident,
        "action-item-closed",
        f"{item.id}: {said}",
        manifest=manifest,
        at=at,
        person=person,
        cause=item.id,
        data={"item": item.id, "by": by},
    )
    return closed
