"""The states of a change, what may be done in which, and how each step is written: with its evidence, once.

requested ─ approve ─> approved ─ carry out ─> executing ─ done ─> validating ─ validate ─> successful
    │  └ reject, cancel ─┴─> rejected, cancelled     └──────────────────┴─> rolled back, failed
    └ an emergency is carried out first: it is approved, and reviewed, afterwards
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from typing import Any

import msgspec

from nvcops.core.changes import Change, ChangeCategory, ChangeState
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.evidence import Entry, utc
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk, Reading
from nvcops.core.texts import legible

_STATE = ChangeState
OPEN = (_STATE.REQUESTED, _STATE.APPROVED, _STATE.EXECUTING, _STATE.VALIDATING)
ENDED = (_STATE.SUCCESSFUL, _STATE.ROLLED_BACK, _STATE.FAILED)  # what was carried out, and came to an end
OPEN_MAX = 1_000
TEXT_MAX = 2_000
_NUMBER = re.compile(r"(?:C-?|#)?([1-9]\d{0,8})", re.IGNORECASE)

# --- Rules ---

_ALLOWED: dict[str, tuple[ChangeState, ...]] = {
    "approved": (_STATE.REQUESTED,),
    "rejected": (_STATE.REQUESTED, _STATE.APPROVED),
    "cancelled": (_STATE.REQUESTED, _STATE.APPROVED),
    "let through a freeze": (_STATE.REQUESTED, _STATE.APPROVED),
    "carried out": (_STATE.APPROVED,),
    "done": (_STATE.EXECUTING,),
    "closed": (_STATE.EXECUTING, _STATE.VALIDATING),
    "reviewed": ENDED,
}
_EMERGENCY: dict[str, tuple[ChangeState, ...]] = {
    "approved": (_STATE.REQUESTED, _STATE.EXECUTING, _STATE.VALIDATING, *ENDED),
    "carried out": (_STATE.REQUESTED, _STATE.APPROVED),
}
_FIRST = {
    _STATE.REQUESTED: "it waits for its approval: nvcops changes approve",
    _STATE.APPROVED: "it is approved and was not carried out yet: --change",
    _STATE.EXECUTING: "it is being carried out: nvcops changes show",
    _STATE.VALIDATING: "it is done, and the objectives are watched: nvcops changes show",
}


def allowed(change: Change, act: str) -> bool:
    """Whether an act is possible in the state in which a change is."""
    states = _ALLOWED[act]
    if change.category is ChangeCategory.EMERGENCY:
        states = _EMERGENCY.get(act, states)
    return change.state in states


def refuse(change: Change, act: str) -> None:
    """Nothing where the act is allowed in the change's state.

    Raises:
        UsageError: it is not; what comes first.
    """
    if not allowed(change, act):
        hint = _FIRST.get(change.state, "it is over; request another change")
        raise UsageError(f"{change.name} is {change.state}, so it cannot be {act}", hint=hint)


def number_of(written: str) -> int:
    """The number of a change as people write it; 0 of nothing.

    >>> number_of("C-17"), number_of("c17"), number_of("17"), number_of("")
    (17, 17, 17, 0)

    Raises:
        UsageError: it is none.
    """
    if not written.strip():
        return 0
    found = _NUMBER.fullmatch(written.strip())
    if found is None:
        raise UsageError(f"{written[:40]!r} is no change", hint="changes are called C-17: `nvcops changes list`")
    return int(found[1])


def digest_of(change: Change) -> str:
    """SHA-256 of what is asked and was measured: what is approved is this and nothing else.

    What comes later (who said yes, who carried it out, how it ended) is not in it.
    """
    asked = {
        "number": change.number,
        "category": change.category,
        "kind": change.kind,
        "title": change.title,
        "reason": change.reason,
        "author": change.author,
        "requested": utc(change.requested),
        "planned": [utc(moment) if moment else "" for moment in (change.planned_start, change.planned_end)],
        "services": list(change.services),
        "digest": change.digest,
        "procedure": change.procedure,
        "impact": change.impact,
        "rollback_plan": change.rollback_plan,
        "risk": change.risk_why,
    }
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()


def text_of(written: str, what: str, *, most: int = TEXT_MAX) -> str:
    """What a person wrote, on one line.

    >>> text_of("  a  new index ", "the title")
    'a new index'

    Raises:
        UsageError: nothing was written, or too much.
    """
    text = " ".join(legible(written).split())
    if not text:
        raise UsageError(f"{what} says nothing", hint="one sentence is enough")
    if len(text) > most:
        raise UsageError(f"{what} has {len(text):,} characters", hint=f"at most {most:,}")
    return text


# --- Facts ---


def the(reading: Reading, number: int) -> Change:
    """A change by its number.

    Raises:
        NotFoundError: there is none.
    """
    change = reading.get(Change, number)
    if change is None:
        raise NotFoundError(f"there is no change C-{number}", hint="`nvcops changes list` shows them")
    return change


def of_run(reading: Reading, run: str) -> Change | None:
    """The change that a run carries out; None where there is none among the newest."""
    newest = reading.find(Change, order="-number", limit=OPEN_MAX)
    return next((change for change in newest if run in change.runs), None)


def still_open(reading: Reading) -> list[Change]:
    """The changes that are not over, by number."""
    return reading.find(Change, state__in=list(OPEN), order="number", limit=OPEN_MAX)


# --- Procedures ---


def enter(
    desk: Desk, change: Change, kind: str, *, manifest: Manifest, actor: str, at: dt.datetime, **said: Any
) -> Change:
    """Write a change as it is now, and the evidence of what made it so."""
    desk.put(change)
    body = {"change": change.number, "state": change.state, "asked_sha256": digest_of(change), **said}
    desk.note(
        Entry(
            id=f"change/{change.number}/{kind}/{at.astimezone(dt.UTC):%Y%m%dT%H%M%S.%fZ}/{_suffix(actor, body)}",
            time=utc(at),
            kind=f"change.{kind}",
            platform=manifest.platform.name,
            run=about(change.number),
            procedure="change",
            actor=actor,
            subject=change.name,
            body=msgspec.to_builtins(body),
        )
    )
    return change


def about(number: int) -> str:
    """What statements about a change name as their run."""
    return f"change/{number}"


def _suffix(actor: str, body: dict[str, Any]) -> str:
    return hashlib.sha256(actor.encode() + msgspec.json.encode(body, order="sorted")).hexdigest()[:12]
