"""Separation of duties: who asks, who says yes and who carries it out are three people with keys of their own. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from nvcops.changes import freezes, lifecycle
from nvcops.core.changes import Change, ChangeCategory
from nvcops.core.errors import NotAllowed
from nvcops.core.identity import check_second_person
from nvcops.core.manifest import Manifest

NOBODY = "nvcops"  # carries out what was approved in its own run: nobody can act between the approval and the act


class Part(msgspec.Struct, frozen=True):
    """What somebody did to a change, under which name and with which key."""

    role: Literal["author", "executor", "approver"]
    person: str
    key: str
    did: str


def parts_of(change: Change) -> Iterator[Part]:
    """Who did something to a change so far."""
    yield Part("author", change.author, change.author_key, f"requested {change.name}")
    if change.executor and change.executor != NOBODY:
        yield Part("executor", change.executor, change.executor_key, f"carried {change.name} out")
    for consent in change.approved_by:
        yield Part("approver", consent.person, consent.key, f"approved {change.name} already")


def check_approver(manifest: Manifest, change: Change, person: str, key: str) -> None:
    """That somebody may approve a change: an approver of the roster who has no other part in it, by name and by key.

    Raises:
        NotAllowed: who they are, and what they did.
    """
    entry = manifest.person(person)
    if entry is None or "approver" not in entry.roles:
        raise NotAllowed(f"{person!r} is no approver", hint="that takes the role approver in [[people]]")
    for part in parts_of(change):
        check_second_person(manifest.people, person, key, part.person, part.key, did=part.did)


def check_apart(manifest: Manifest, change: Change, person: str, key: str) -> None:
    """That somebody neither asked for a change nor carried it out: only such a person says that it went well.

    Raises:
        NotAllowed: who they are, and what they did.
    """
    for part in parts_of(change):
        if part.role != "approver":
            check_second_person(manifest.people, person, key, part.person, part.key, did=part.did, to="judge it")


def check_executor(manifest: Manifest, change: Change, person: str, key: str) -> None:
    """That somebody may carry a change out: nobody who approved it, and its author only where that is allowed.

    An emergency, and what approved itself, may be carried out by who asked for it.

    Raises:
        NotAllowed: who they are, and what they did.
    """
    if not key:
        hint = "start the run with --as NAME and your SSH key"
        raise NotAllowed(f"who carries {change.name} out is not proven: {person!r} did not sign", hint=hint)
    alone = change.category in (ChangeCategory.EMERGENCY, ChangeCategory.STANDARD)
    for part in parts_of(change):
        own = part.role == "author" and (alone or not manifest.changes.separate_executor)
        if not own and part.role != "executor":
            check_second_person(manifest.people, person, key, part.person, part.key, did=part.did, to="carry it out")


def missing(manifest: Manifest, change: Change) -> str:
    """Whose approval a change still waits for; empty where it has all.

    An executive's approval of a major change is one more than the others'.
    """
    given, executives = len(change.approved_by), sum(one.executive for one in change.approved_by)
    if change.category is ChangeCategory.STANDARD:
        return ""
    if change.category is ChangeCategory.EMERGENCY:
        return "" if given else "one approver"
    needed = manifest.changes.approvals
    if change.category is ChangeCategory.MAJOR and not executives:
        others = needed - given
        return f"an executive and {others} more" if others > 0 else "an executive"
    needed += change.category is ChangeCategory.MAJOR
    return f"{needed - given} more" if given < needed else ""


def may_begin(manifest: Manifest, change: Change, at: dt.datetime) -> str:
    """Why a change must not be carried out now: its state, its approvals, its window, a freeze; empty where it may."""
    if not lifecycle.allowed(change, "carried out"):
        waits = f", it waits for {short}" if (short := missing(manifest, change)) else ""
        return f"{change.name} is {change.state}{waits}"
    if (short := missing(manifest, change)) and change.category is not ChangeCategory.EMERGENCY:
        return f"{change.name} waits for {short}"
    if why := freezes.outside_of_window(change, at, ZoneInfo(manifest.platform.time_zone)):
        return why
    why = freezes.frozen(manifest, change.category, at, change.budgets)
    return "" if freezes.broken(change) else why


def is_executive(manifest: Manifest, person: str) -> bool:
    """Whether somebody's approval counts as an executive's."""
    return person in manifest.changes.executives
