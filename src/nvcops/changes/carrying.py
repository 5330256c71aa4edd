"""The door by which other rooms change something: inside of their run, under a change that may begin, or not at all.

`carry` finds the change and marks it as being carried out, `done` says how that ended. Both are journaled by the run,
so a run that is resumed answers from its journal. A change comes from one of three places: it is named (`--change
C-17`), an entry of [[changes.standard]] whose evidence verifies makes one, or the run's own approval is its approval:
then what a second person approved is this very run, and nobody is asked twice.
"""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

import msgspec

from nvcops.changes import duties, freezes, lifecycle, measuring, standard
from nvcops.changes.lifecycle import number_of
from nvcops.core import schedule
from nvcops.core.changes import Change, ChangeCategory, ChangeKind, ChangeState, Consent
from nvcops.core.errors import NotAllowed, StateError
from nvcops.core.records import Desk
from nvcops.core.runs import Run, Signed, conduct
from nvcops.core.target import Target

__all__ = ["Ended", "Way", "Wish", "carry", "done", "number_of"]

_TITLE_MAX = 300


class Ended(StrEnum):
    """How the run that carried a change out ended. DONE: as it should; the objectives are watched from then on."""

    DONE = "done"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"


class Way(StrEnum):
    """Under what a run may change something."""

    NAMED = "named"
    STANDARD = "standard"
    ASKED = "asked"  # in the run, of a second person
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
    asks: bool = False


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Under which change a run goes on, or why it does not; who asked for the run, and what was measured."""

    way: Way
    why: str = ""
    hint: str = ""
    number: int = 0
    standard: str = ""
    procedure: str = ""
    requester: str = ""
    requester_key: str = ""
    measured: measuring.Measured | None = None


def carry(  # noqa: PLR0913 - what a change is
    run: Run,
    target: Target,
    kind: ChangeKind,
    title: str,
    *,
    number: int = 0,
    step: str = "",
    digest: str = "",
    services: tuple[str, ...] = (),
    schema: bool | None = None,
    rollback_plan: str = "",
) -> int:
    """Go on under a change; its number, 0 in a rehearsal or where no change is required.

    `number` is the change that somebody named (see `number_of`), 0: none. `step` is the name of the run's approval,
    which is asked for where no change is named and none approves itself; without it such a run is refused. `title` says
    what is about to be done. `schema`: whether the schema is changed, None where nobody knows.

    Raises:
        NotAllowed: there is no change under which it may be done now, by who wants to do it.
        StepFailed: meanwhile there is none any more.
    """
    wish = Wish(
        kind=kind,
        title=title,
        number=number,
        digest=digest,
        services=services,
        schema=schema,
        rollback_plan=rollback_plan,
        asks=bool(step),
    )
    found = run.read(looked_for, target, run.id, run.started, wish)
    if found.way is Way.REFUSED:
        raise NotAllowed(found.why, hint=found.hint)
    signed = Signed("", "", run.started)
    if step and found.way in (Way.ASKED, Way.FREE):
        signed = run.approve(step, title)
    if found.way is Way.FREE:
        return 0
    return run.step(_begins(found), begun, target, run.id, wish, found, signed) or 0


def done(run: Run, target: Target, number: int, ended: Ended, why: str = "") -> None:
    """Say how the carrying out ended; `why` in a sentence. Nothing where there is no change."""
    if number:
        run.step(f"C-{number} is {ended}", finished, target, run.id, number, ended, why)


def _begins(found: Found) -> str:
    named = f"C-{found.number}" if found.number else "a standard change" if found.standard else "a change"
    return f"carry out {named}"


# --- Facts ---


@conduct(deadline="2 min", idempotent=True)
def looked_for(target: Target, run: str, started: dt.datetime, wish: Wish) -> Found:
    """Look for the change under which this may be done."""
    try:
        name, key, procedure, rehearsed = _requester(target, run)
        found = Found(way=Way.ASKED, requester=name, requester_key=key, procedure=procedure)
        return found if rehearsed else _looked_for(target, run, started, wish, found)  # a rehearsal changes nothing
    except StateError as error:
        return _without_records(wish, error)


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
        return msgspec.structs.replace(found, way=way, why=why, hint=hint, number=wish.number)
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


def _without_records(wish: Wish, error: StateError) -> Found:
    """A repair must not wait for our own records: a second person is asked in the run, whose journal there is."""
    if wish.number or not wish.asks:
        return Found(way=Way.REFUSED, why=f"it cannot be seen whether a change allows this: {error.sentence}")
    return Found(way=Way.ASKED)


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
    if why := freezes.frozen(target.manifest, ChangeCategory.NORMAL, at, budgets):
        return msgspec.structs.replace(found, way=Way.REFUSED, why=why, hint=hint)
    if not wish.asks:
        why = "; ".join([f"no approved change allows this: {wish.title[:_TITLE_MAX]}", *unmet])
        hint = "`nvcops changes request`, have it approved, then --change C-NUMBER"
        return msgspec.structs.replace(found, way=Way.REFUSED, why=why, hint=hint)
    return found


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
    at, category = schedule.now(), ChangeCategory.STANDARD if found.standard else ChangeCategory.NORMAL
    measured = found.measured
    if why := freezes.frozen(target.manifest, category, at, measured.budgets if measured else {}):
        raise NotAllowed(why)
    consent = Consent(person=signed.person, time=signed.time, run=run, note=signed.note[: lifecycle.TEXT_MAX])
    change = Change(
        number=desk.next_number(Change),
        category=category,
        kind=wish.kind,
        title=" ".join(wish.title.split())[:_TITLE_MAX],
        reason=f"{found.procedure or 'a procedure'} needs it",
        author=found.requester or duties.NOBODY,
        author_key=found.requester_key,
        requested=at,
        state=ChangeState.APPROVED,
        digest=wish.digest,
        rollback_plan=wish.rollback_plan,
        approved_by=(consent,) if signed.person else (),
        procedure=found.procedure,
        standard=found.standard,
    )
    change = measuring.entered(change, measured) if measured else change
    how = f"standard: {found.standard}" if found.standard else f"approved in {run} by {signed.person or 'nobody'}"
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
        executor=found.requester if found.way is Way.NAMED else duties.NOBODY,
        executor_key=found.requester_key if found.way is Way.NAMED else "",
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
