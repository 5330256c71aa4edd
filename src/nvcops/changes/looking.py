"""Under which change a run may go on: looked for once, before anything is done, and journaled by the run."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

import msgspec

from nvcops.changes import duties, freezes, lifecycle, measuring, standard
from nvcops.core import schedule
from nvcops.core.changes import Change, ChangeCategory, ChangeKind
from nvcops.core.errors import NotAllowed, StateError
from nvcops.core.runs import conduct
from nvcops.core.target import Target

TITLE_MAX = 300
_SIGN = "sign for the emergency: --as NAME"


class Way(StrEnum):
    """Under what a run may change something."""

    NAMED = "named"
    STANDARD = "standard"
    ASKED = "asked"  # in the run, of a second person
    AFTERWARDS = "afterwards"  # an emergency: it is approved when it is done
    FREE = "free"  # [changes] required = false
    REFUSED = "refused"


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a run wants to change; see `carry`."""

    kind: ChangeKind
    title: str
    number: int = 0
    digest: str = ""
    services: tuple[str, ...] = ()
    schema: bool | None = None
    rollback_plan: str = ""
    category: ChangeCategory = ChangeCategory.NORMAL
    asks: bool = False


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Under which change a run goes on, or why it does not; who asked for the run, and what was measured."""

    way: Way
    why: str = ""
    hint: str = ""
    number: int = 0
    standard: str = ""
    approved: str = ""
    procedure: str = ""
    requester: str = ""
    requester_key: str = ""
    measured: measuring.Measured | None = None


# --- Facts ---


@conduct(deadline="2 min", idempotent=True)
def looked_for(target: Target, run: str, started: dt.datetime, wish: Wish) -> Found:
    """Look for the change under which this may be done."""
    key = ""
    try:
        name, key, procedure, rehearsed = _requester(target, run)
        found = Found(way=Way.ASKED, requester=name, requester_key=key, procedure=procedure)
        return found if rehearsed else _looked_for(target, run, started, wish, found)  # a rehearsal changes nothing
    except StateError as error:
        return _without_records(target, wish, key, error)


def _looked_for(target: Target, run: str, started: dt.datetime, wish: Wish, found: Found) -> Found:
    if target.records is None:
        return Found(way=Way.REFUSED if wish.number else Way.FREE, why="no records of changes are kept")
    with target.records.reading() as reading:
        before = measuring.closed(reading)
        named = reading.get(Change, wish.number) if wish.number else None
        mine = lifecycle.of_run(reading, run)
    if mine is not None:  # it was begun, and the journal does not have it
        return msgspec.structs.replace(found, way=Way.NAMED, number=mine.number)
    if wish.number:
        why, hint = _of_named(target, wish, named, (found.requester, found.requester_key, found.procedure))
        way = Way.REFUSED if why else Way.NAMED
        approved = ", ".join(one.person for one in named.approved_by) if named else ""
        return msgspec.structs.replace(found, way=way, why=why, hint=hint, number=wish.number, approved=approved)
    if not target.manifest.changes.required:
        return msgspec.structs.replace(found, way=Way.FREE)
    asked = measuring.Asked(
        kind=wish.kind,
        author=found.requester,
        at=started,
        services=wish.services,
        digest=wish.digest,
        schema=wish.schema,
    )
    return _unnamed(target, wish, msgspec.structs.replace(found, measured=measuring.measure(target, asked, before)))


def _requester(target: Target, run: str) -> tuple[str, str, str, bool]:
    """Who asked for the run, the fingerprint of their key, its procedure, and whether it is a rehearsal."""
    if target.runs is None:
        return "", "", "", False
    name, key = target.runs.requester(run)
    if not name:
        return "", "", "", False
    record = target.runs.run(run)
    return name, key, record.procedure, record.dry_run


def _without_records(target: Target, wish: Wish, key: str, error: StateError) -> Found:
    """A repair must not wait for our own records: the run's journal, which there is, has who asked for it.

    A second person is asked where the run asks one; an emergency that asks nobody is of whoever signed for it.
    """
    if wish.number:
        hint = "leave the change out, if this is an emergency"
    elif wish.asks:
        return Found(way=Way.ASKED)
    elif wish.category is not ChangeCategory.EMERGENCY:
        hint = ""
    elif key or not target.manifest.changes.required:
        return Found(way=Way.FREE)
    else:
        hint = _SIGN
    return Found(way=Way.REFUSED, why=f"it cannot be seen whether a change allows this: {error.sentence}", hint=hint)


def _of_named(target: Target, wish: Wish, change: Change | None, who: tuple[str, str, str]) -> tuple[str, str]:
    """Why a run must not go on under the change that was named, and what to do about it."""
    if change is None:
        return f"there is no change C-{wish.number}", "`nvcops changes list` shows them"
    if why := _something_else(wish, change, who[2]):
        return why, "name the change of what is done here"
    if why := duties.may_begin(target.manifest, change, schedule.now()):
        return why, f"`nvcops changes show {change.name}` says what it waits for"
    try:
        duties.check_executor(target.manifest, change, who[0], who[1])
    except NotAllowed as error:
        return error.sentence, error.hint
    return "", ""


def _something_else(wish: Wish, change: Change, procedure: str) -> str:
    """How what a run does differs from what the change is about."""
    if change.kind is not wish.kind:
        return f"{change.name} is about {change.kind}, and this is {wish.kind}"
    if change.procedure and change.procedure != procedure:
        return f"{change.name} is carried out by {change.procedure}, not by {procedure or 'this'}"
    if change.digest and wish.digest and change.digest != wish.digest:
        return f"{change.name} is about the release {change.digest[:12]}, not {wish.digest[:12]}"
    return ""


def _unnamed(target: Target, wish: Wish, found: Found) -> Found:
    """A standard change, else the run's own approval; neither in a freeze."""
    measured, at = found.measured, schedule.now()
    budgets = measured.budgets if measured else {}
    chosen = standard.entry_for(target.manifest, wish.kind, found.procedure)
    unmet: list[str] = []
    if chosen is not None and measured is not None:
        unmet = standard.unmet(target, chosen, found.procedure, measured, at)
        if not unmet:
            return msgspec.structs.replace(found, way=Way.STANDARD, standard=chosen.name)
    hint = "request a change, and break the glass with a second person: `nvcops changes break-glass`"
    if why := freezes.frozen(target.manifest, wish.category, at, budgets):
        return msgspec.structs.replace(found, way=Way.REFUSED, why=why, hint=hint)
    if not wish.asks and wish.category is ChangeCategory.EMERGENCY and found.requester_key:
        return msgspec.structs.replace(found, way=Way.AFTERWARDS)
    if not wish.asks:
        why = "; ".join([f"no approved change allows this: {wish.title[:TITLE_MAX]}", *unmet])
        emergency = wish.category is ChangeCategory.EMERGENCY
        hint = _SIGN if emergency else "`nvcops changes request`, have it approved, then --change C-NUMBER"
        return msgspec.structs.replace(found, way=Way.REFUSED, why=why, hint=hint)
    return found
