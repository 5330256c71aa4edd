"""A change is requested, approved, rejected, cancelled, let through a freeze, closed and reviewed: what people decide.

Each act is allowed in some states only, to some people only, and leaves evidence in the transaction that it is written
in.
"""

from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.changes import duties, freezes, lifecycle
from nvcops.changes.lifecycle import enter, refuse, text_of, the
from nvcops.changes.measuring import Measured, entered
from nvcops.core.changes import Change, ChangeCategory, ChangeKind, ChangeState, Consent
from nvcops.core.errors import NotAllowed, NotFoundError, UsageError
from nvcops.core.identity import check_second_person
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk

_TITLE_MAX = 300
_LONGEST = dt.timedelta(days=31)
_SLACK = dt.timedelta(minutes=1)  # "from now" was now when it was typed
_FINAL = (ChangeState.SUCCESSFUL, ChangeState.ROLLED_BACK, ChangeState.FAILED)


class Hand(msgspec.Struct, frozen=True):
    """Who decides, the fingerprint of the key by which they have just signed it, and when."""

    person: str
    key: str
    at: dt.datetime


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks for; see core.changes.Change."""

    category: ChangeCategory
    kind: ChangeKind
    title: str
    reason: str
    rollback_plan: str = ""
    planned_start: dt.datetime | None = None
    planned_end: dt.datetime | None = None
    services: tuple[str, ...] = ()
    digest: str = ""
    procedure: str = ""
    customers: int | None = None


# --- Rules ---


def check(manifest: Manifest, wanted: Request, at: dt.datetime) -> None:
    """Refuse a request that makes no sense.

    Raises:
        UsageError: a standard change is not requested, a window is turned round, over, or too long, a plan is missing.
        NotFoundError: there is no such service.
    """
    if wanted.category is ChangeCategory.STANDARD:
        hint = "its procedure makes it by itself; or request a normal one"
        raise UsageError("a standard change is not requested: it approves itself when its run begins", hint=hint)
    if wanted.category is ChangeCategory.MAJOR and not manifest.changes.executives:
        raise UsageError("nobody could approve a major change", hint="name people in [changes] executives")
    if wanted.category is not ChangeCategory.EMERGENCY and not wanted.rollback_plan.strip():
        raise UsageError("how is it taken back when it fails?", hint='--rollback "TEXT"')
    known = {service.name for service in manifest.services}
    for name in wanted.services:
        if name not in known:
            raise NotFoundError(f"there is no service {name!r}", hint=f"there: {', '.join(sorted(known)) or 'none'}")
    _check_window(wanted.planned_start, wanted.planned_end, at)


def _check_window(start: dt.datetime | None, end: dt.datetime | None, at: dt.datetime) -> None:
    begins = start or at
    if begins < at - _SLACK:
        raise UsageError(
            f"the window begins {begins:%Y-%m-%d %H:%M %Z}, in the past", hint="begin it now at the earliest"
        )
    if end is None:
        return
    if end <= begins:
        raise UsageError("the window ends before it begins", hint="--from is the earlier moment, --to the later one")
    if end - begins > _LONGEST:
        raise UsageError(f"a window is at most {_LONGEST.days} days long", hint="plan it when it is nearer")


# --- Procedures ---


def draft(wanted: Request, measured: Measured, by: Hand, number: int) -> Change:
    """The change that somebody asks for.

    Raises:
        UsageError: title or reason say nothing, or too much.
    """
    change = Change(
        number=number,
        category=wanted.category,
        kind=wanted.kind,
        title=text_of(wanted.title, "the title", most=_TITLE_MAX),
        reason=text_of(wanted.reason, "the reason"),
        author=by.person,
        author_key=by.key,
        requested=by.at,
        planned_start=wanted.planned_start,
        planned_end=wanted.planned_end,
        digest=wanted.digest,
        procedure=wanted.procedure,
        rollback_plan=" ".join(wanted.rollback_plan.split())[: lifecycle.TEXT_MAX],
        customers=wanted.customers,
    )
    return entered(change, measured)


def request(desk: Desk, change: Change, *, manifest: Manifest) -> Change:
    """Ask for a change, under the number that the request was signed for.

    Raises:
        UsageError: somebody was quicker to take the number.
        NotAllowed: nobody of the roster asks.
    """
    if manifest.person(change.author) is None:
        raise NotAllowed(f"{change.author!r} is nobody in the roster", hint="[[people]] of platform.toml is the roster")
    if change.number != desk.next_number(Change):
        raise UsageError(f"somebody was quicker to take the number {change.name}", hint="request it again")
    return enter(desk, change, "requested", manifest=manifest, actor=change.author, at=change.requested)


def approve(desk: Desk, number: int, by: Hand, *, manifest: Manifest, note: str = "") -> Change:
    """Say yes. It is approved when everybody has whose yes it takes; an emergency's may come after the act.

    Raises:
        UsageError: it waits for no approval.
        NotAllowed: it is somebody who has another part in it, by name or by key, or no approver.
    """
    change = the(desk, number)
    refuse(change, "approved")
    if not duties.missing(manifest, change):
        raise UsageError(f"{change.name} has all its approvals", hint="nvcops changes show says whose")
    duties.check_approver(manifest, change, by.person, by.key)
    consent = Consent(
        person=by.person,
        key=by.key,
        time=by.at,
        executive=duties.is_executive(manifest, by.person),
        note=note[: lifecycle.TEXT_MAX],
    )
    change = msgspec.structs.replace(change, approved_by=(*change.approved_by, consent))
    short = duties.missing(manifest, change)
    if not short and change.state is ChangeState.REQUESTED:
        change = msgspec.structs.replace(change, state=ChangeState.APPROVED)
    said = {"key": by.key, "executive": consent.executive, "waits_for": short}
    return enter(desk, change, "approved", manifest=manifest, actor=by.person, at=by.at, **said)


def reject(desk: Desk, number: int, by: Hand, *, manifest: Manifest, note: str) -> Change:
    """Say no: an approver does, also one who said yes before.

    Raises:
        UsageError: it is too late, or no reason is given.
        NotAllowed: they are no approver.
    """
    change = the(desk, number)
    refuse(change, "rejected")
    entry = manifest.person(by.person)
    if entry is None or "approver" not in entry.roles:
        raise NotAllowed(f"{by.person!r} is no approver", hint="that takes the role approver in [[people]]")
    return _over(desk, change, ChangeState.REJECTED, note, by, manifest=manifest)


def cancel(desk: Desk, number: int, by: Hand, *, manifest: Manifest, note: str) -> Change:
    """Take a request back: the author does, or an approver.

    Raises:
        UsageError: it is too late, or no reason is given.
        NotAllowed: it is neither.
    """
    change = the(desk, number)
    refuse(change, "cancelled")
    entry = manifest.person(by.person)
    own = by.person == change.author and by.key == change.author_key
    if not own and (entry is None or "approver" not in entry.roles):
        raise NotAllowed(f"{change.name} is {change.author!r}'s", hint="its author cancels it, or an approver")
    return _over(desk, change, ChangeState.CANCELLED, note, by, manifest=manifest)


def _over(desk: Desk, change: Change, state: ChangeState, note: str, by: Hand, *, manifest: Manifest) -> Change:
    outcome = text_of(note, "the reason")
    change = msgspec.structs.replace(change, state=state, ended=by.at, outcome=outcome)
    return enter(desk, change, state.value, manifest=manifest, actor=by.person, at=by.at, outcome=outcome)


def break_glass(desk: Desk, number: int, by: Hand, *, manifest: Manifest, note: str) -> Change:
    """Let a change pass a freeze: two people sign that, with two keys, one of them an approver. It is reviewed later.

    Raises:
        UsageError: it is too late, it is broken already, or no reason is given.
        NotAllowed: it is the same person or key again, or nobody of the two is an approver.
    """
    change = the(desk, number)
    refuse(change, "let through a freeze")
    if freezes.broken(change):
        raise UsageError(f"{change.name} may pass the freeze already", hint="nvcops changes show says by whom")
    reason = text_of(note, "the reason")
    roles = [manifest.person(name) for name in (by.person, *(one.person for one in change.break_glass))]
    for one in change.break_glass:
        did = f"broke the glass for {change.name} already"
        check_second_person(manifest.people, by.person, by.key, one.person, one.key, did=did, to="break it")
    if change.break_glass and not any(entry is not None and "approver" in entry.roles for entry in roles):
        raise NotAllowed("neither of the two is an approver", hint="one of them has the role approver in [[people]]")
    consent = Consent(person=by.person, key=by.key, time=by.at, note=reason)
    change = msgspec.structs.replace(change, break_glass=(*change.break_glass, consent))
    said = {"key": by.key, "reason": reason, "broken": freezes.broken(change)}
    return enter(desk, change, "glass", manifest=manifest, actor=by.person, at=by.at, **said)


def close(desk: Desk, number: int, by: Hand, *, manifest: Manifest, state: ChangeState, note: str) -> Change:
    """End a change by hand, where nobody could read how it did; successful only by somebody who has no part in it.

    Raises:
        UsageError: it is not being carried out or watched, the end is none, or no reason is given.
        NotAllowed: its author or executor says that it was successful.
    """
    change = the(desk, number)
    refuse(change, "closed")
    if state not in _FINAL:
        raise UsageError(f"a change does not end {state}", hint=f"one of: {', '.join(_FINAL)}")
    if state is ChangeState.SUCCESSFUL:
        duties.check_apart(manifest, change, by.person, by.key)
    outcome = text_of(note, "the reason")
    change = msgspec.structs.replace(
        change, state=state, done=change.done or by.at, ended=by.at, outcome=f"{by.person}: {outcome}"
    )
    kind = state.value.replace(" ", "-")
    return enter(desk, change, kind, manifest=manifest, actor=by.person, at=by.at, outcome=outcome, by_hand=True)


def review(desk: Desk, number: int, by: Hand, *, manifest: Manifest, note: str) -> Change:
    """Look back at an emergency, or at a change for which the glass was broken; neither its author nor its executor.

    Raises:
        UsageError: it is not over, needs no review, or was reviewed; or nothing is said.
        NotAllowed: it is somebody who requested it or carried it out.
    """
    change = the(desk, number)
    refuse(change, "reviewed")
    if not needs_review(change):
        raise UsageError(f"{change.name} needs no review", hint="emergencies and broken glass do, once")
    duties.check_apart(manifest, change, by.person, by.key)
    said = text_of(note, "the review")
    change = msgspec.structs.replace(change, reviewed=by.at, reviewed_by=by.person)
    return enter(desk, change, "reviewed", manifest=manifest, actor=by.person, at=by.at, review=said)


def needs_review(change: Change) -> bool:
    """Whether somebody has yet to look back at it."""
    special = change.category is ChangeCategory.EMERGENCY or bool(change.break_glass)
    return special and change.reviewed is None and change.state in lifecycle.ENDED
