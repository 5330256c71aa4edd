"""What becomes of a change while a run carries it out: it begins, and it ends; each act may be repeated."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

import msgspec

from nvcops.changes import duties, freezes, lifecycle, measuring
from nvcops.changes.looking import TITLE_MAX, Found, Way, Wish
from nvcops.core import schedule
from nvcops.core.changes import Change, ChangeCategory, ChangeState, Consent
from nvcops.core.errors import NotAllowed, StateError
from nvcops.core.records import Desk
from nvcops.core.runs import Signed, conduct
from nvcops.core.target import Target

_BY_HAND = (Way.NAMED, Way.AFTERWARDS)  # else nobody can do anything between the approval and the act


class Ended(StrEnum):
    """How the run that carried a change out ended. DONE: as it should; the objectives are watched from then on."""

    DONE = "done"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"


# --- Procedures ---


@conduct(deadline="1 min", idempotent=True)
def begun(target: Target, run: str, wish: Wish, found: Found, signed: Signed) -> int:
    """Mark the change as being carried out by this run; its number."""
    if target.records is None:
        return 0
    try:
        with target.records.changing() as desk:
            mine = lifecycle.of_run(desk, run)
            if mine is not None:
                return mine.number
            change = _named(desk, target, found) if found.number else _made(desk, target, run, wish, (found, signed))
            return _executing(desk, target, run, change, found).number
    except StateError:
        if found.number or found.measured is not None:
            raise
        return 0  # they were not there before either: the run's journal has who approved it


def _named(desk: Desk, target: Target, found: Found) -> Change:
    """The named change, looked at again: much may have happened since.

    Raises:
        NotAllowed: it must not be carried out any more.
    """
    change = lifecycle.the(desk, found.number)
    if why := duties.may_begin(target.manifest, change, schedule.now()):
        raise NotAllowed(why)
    duties.check_executor(target.manifest, change, found.requester, found.requester_key)
    return change


def _made(desk: Desk, target: Target, run: str, wish: Wish, under: tuple[Found, Signed]) -> Change:
    """The change of a run that nobody requested one for, approved by the run's own approval or by its evidence.

    Raises:
        NotAllowed: a freeze began while the approval was waited for.
    """
    found, signed = under
    at, category = schedule.now(), ChangeCategory.STANDARD if found.standard else wish.category
    measured = found.measured
    if why := freezes.frozen(target.manifest, category, at, measured.budgets if measured else {}):
        raise NotAllowed(why)
    consent = Consent(person=signed.person, time=signed.time, run=run, note=signed.note[: lifecycle.TEXT_MAX])
    change = Change(
        number=desk.next_number(Change),
        category=category,
        kind=wish.kind,
        title=" ".join(wish.title.split())[:TITLE_MAX],
        reason=f"{found.procedure or 'a procedure'} needs it",
        author=found.requester or duties.NOBODY,
        author_key=found.requester_key,
        requested=at,
        state=ChangeState.REQUESTED if found.way is Way.AFTERWARDS else ChangeState.APPROVED,
        digest=wish.digest,
        rollback_plan=wish.rollback_plan,
        approved_by=(consent,) if signed.person else (),
        procedure=found.procedure,
        standard=found.standard,
    )
    change = measuring.entered(change, measured) if measured else change
    how = f"standard: {found.standard}" if found.standard else f"in {run}, by {signed.person or 'nobody yet'}"
    author = (found.requester or duties.NOBODY, at)
    return lifecycle.enter(
        desk, change, "requested", manifest=target.manifest, actor=author[0], at=author[1], approved=how, run_id=run
    )


def _executing(desk: Desk, target: Target, run: str, change: Change, found: Found) -> Change:
    """It is being carried out from now on: by who started the run, or by the run itself where it was approved in it."""
    at = schedule.now()
    changed = msgspec.structs.replace(
        change,
        state=ChangeState.EXECUTING,
        executor=found.requester if found.way in _BY_HAND else duties.NOBODY,
        executor_key=found.requester_key if found.way in _BY_HAND else "",
        runs=(*change.runs, run),
        began=at,
        consent_until=_consent_until(target, change, at),
    )
    said = {"run_id": run, "executor_key": changed.executor_key, "glass": freezes.broken(change)}
    actor = found.requester or duties.NOBODY
    return lifecycle.enter(desk, changed, "executing", manifest=target.manifest, actor=actor, at=at, **said)


def _consent_until(target: Target, change: Change, at: dt.datetime) -> dt.datetime | None:
    if change.category is not ChangeCategory.EMERGENCY or change.approved_by:
        return change.consent_until
    return at + dt.timedelta(seconds=target.manifest.changes.emergency_within)


@conduct(deadline="1 min", idempotent=True)
def finished(target: Target, run: str, number: int, ended: Ended, why: str) -> str:
    """Say how it ended; the state in which the change is then."""
    if target.records is None:
        return ""
    with target.records.changing() as desk:
        change = lifecycle.the(desk, number)
        if change.state is not ChangeState.EXECUTING or run not in change.runs:
            return change.state
        return conclude(desk, target, change, ended, why, at=schedule.now()).state


def conclude(desk: Desk, target: Target, change: Change, ended: Ended, why: str, *, at: dt.datetime) -> Change:
    """Write how the carrying out ended: the objectives are watched from now on, or it is over."""
    wait = dt.timedelta(seconds=target.manifest.changes.validate_for)
    outcome = " ".join(why.split())[: lifecycle.TEXT_MAX] or ended.value
    if ended is Ended.DONE:
        changed = msgspec.structs.replace(
            change, state=ChangeState.VALIDATING, done=at, validate_until=at + wait, outcome=outcome
        )
    else:
        state = ChangeState.ROLLED_BACK if ended is Ended.ROLLED_BACK else ChangeState.FAILED
        changed = msgspec.structs.replace(change, state=state, done=at, ended=at, outcome=outcome)
    kind = ended.value.replace(" ", "-")
    return lifecycle.enter(
        desk, changed, kind, manifest=target.manifest, actor=change.executor or duties.NOBODY, at=at, outcome=outcome
    )
