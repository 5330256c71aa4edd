"""Somebody stands in for somebody: overrides and swaps, checked before they are entered."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec

from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.evidence import Entry, utc
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Override
from nvcops.core.records import Desk
from nvcops.oncall.rotation import STANDING_MAX, Shift, on_call, rotation_of, standing_overrides
from nvcops.oncall.texts import entry_id, moment, stamp

# --- Rules ---

LONGEST = dt.timedelta(days=31)
SWAP = "swap-"
SLACK = dt.timedelta(minutes=1)  # "from now" was now when it was typed


def check(manifest: Manifest, wanted: Override, standing: Iterable[Override], at: dt.datetime) -> None:
    """Refuse an override that makes no sense.

    Raises:
        NotFoundError: there is no such rotation or person.
        UsageError: it is over, began in the past, ends before it begins, is too long, gives no reason, or overlaps.
    """
    rotation_of(manifest, wanted.rotation)
    for name in (wanted.person, wanted.author):
        if manifest.person(name) is None:
            raise NotFoundError(f"{name!r} is nobody in [[people]]", hint=_people(manifest))
    if not wanted.reason.strip():
        raise UsageError("an override needs a reason", hint="say why, in a few words")
    if wanted.ends <= wanted.starts:
        raise UsageError(f"the override ends {utc(wanted.ends)}, before it begins", hint="the end is the later moment")
    if wanted.starts < at - SLACK:
        raise UsageError(f"the override begins {utc(wanted.starts)}, in the past", hint="begin it now at the earliest")
    if wanted.ends - wanted.starts > LONGEST:
        hint = "change the rotation in platform.toml for longer"
        raise UsageError(f"an override is at most {LONGEST.days} days long", hint=hint)
    for other in standing:
        if other.rotation == wanted.rotation and other.starts < wanted.ends and wanted.starts < other.ends:
            zone = manifest.platform.time_zone
            until = f"{moment(other.starts, zone)} to {moment(other.ends, zone)}"
            hint = f"cancel {other.id} first"
            raise UsageError(f"{other.person} stands in for {other.rotation} from {until} already", hint=hint)


def _people(manifest: Manifest) -> str:
    return f"there: {', '.join(person.name for person in manifest.people) or 'nobody'}"


# --- Procedures ---


def override(  # noqa: PLR0913 - who, for what, from when, to when, by whom, why
    desk: Desk,
    *,
    manifest: Manifest,
    rotation: str,
    person: str,
    starts: dt.datetime,
    ends: dt.datetime,
    author: str,
    reason: str,
    at: dt.datetime,
    prefix: str = "",
) -> Override:
    """Let a person stand in from `starts` to `ends`; asked for again, the one that is there.

    Raises:
        NotFoundError, UsageError: see `check`; or more than STANDING_MAX overrides are not over.
    """
    wanted = Override(
        id=f"{prefix}{rotation}/{stamp(starts)}/{person}",
        rotation=rotation,
        person=person,
        starts=starts.astimezone(dt.UTC),
        ends=ends.astimezone(dt.UTC),
        author=author,
        reason=reason,
        created=at,
    )
    standing = standing_overrides(desk, at)
    for there in standing:
        if there.id == wanted.id and there.ends == wanted.ends:
            return there
    check(manifest, wanted, standing, at)
    if len(standing) >= STANDING_MAX:
        raise UsageError(f"there are {STANDING_MAX:,} overrides already", hint="change the rotation instead")
    desk.put(wanted)
    _note(desk, manifest, "oncall.override", wanted, at, author, reason)
    return wanted


def swap(  # noqa: PLR0913 - two turns, by whom, why
    desk: Desk,
    *,
    manifest: Manifest,
    rotation: str,
    first: dt.datetime,
    second: dt.datetime,
    author: str,
    reason: str,
    at: dt.datetime,
) -> tuple[Override, Override]:
    """Exchange two shifts of a rotation: the ones that run at `first` and at `second`.

    A shift that has begun is exchanged from now on.

    Raises:
        NotFoundError: nobody is on call then.
        UsageError: one person has both, or see `check`.
    """
    one, other = (_shift(manifest, standing_overrides(desk, at), rotation, when) for when in (first, second))
    if one.person == other.person:
        raise UsageError(f"{one.person} has both shifts", hint="name a moment in a shift of somebody else")
    prefix = f"{SWAP}{stamp(one.starts)}-{stamp(other.starts)}/"
    made = [
        override(
            desk,
            manifest=manifest,
            rotation=rotation,
            person=person,
            starts=max(shift.starts, at),
            ends=shift.ends,
            author=author,
            reason=reason,
            at=at,
            prefix=prefix,
        )
        for shift, person in ((one, other.person), (other, one.person))
    ]
    return made[0], made[1]


def _shift(manifest: Manifest, overrides: Sequence[Override], rotation: str, at: dt.datetime) -> Shift:
    rotation_of(manifest, rotation)
    found = on_call(manifest, overrides, at).get(rotation)
    if found is None:
        raise NotFoundError(f"nobody is on call for {rotation} at {utc(at)}", hint="the rotation begins later")
    return found


def cancel(desk: Desk, *, manifest: Manifest, override_id: str, author: str, at: dt.datetime) -> list[Override]:
    """End an override now, with the other half of a swap; one that has not begun is removed. It answers what was.

    Raises:
        NotFoundError: there is none of that id, or nobody of that name.
        UsageError: it is over.
    """
    there = desk.get(Override, override_id)
    if there is None:
        raise NotFoundError(f"there is no override {override_id!r}", hint="`nvcops oncall who` shows them")
    if manifest.person(author) is None:
        raise NotFoundError(f"{author!r} is nobody in [[people]]", hint=_people(manifest))
    if there.ends <= at:
        raise UsageError(f"the override {override_id} is over", hint="it ended by itself")
    pair, swapped, _ = there.id.partition("/") if there.id.startswith(SWAP) else (there.id, "", "")
    ended = [
        one for one in standing_overrides(desk, at) if one.id == there.id or (swapped and one.id.startswith(f"{pair}/"))
    ]
    for one in ended:
        if one.starts >= at:
            desk.remove(Override, [one.id])
        else:
            desk.put(msgspec.structs.replace(one, ends=at))
        _note(desk, manifest, "oncall.override-cancelled", one, at, author, one.reason)
    return ended


def _note(desk: Desk, manifest: Manifest, kind: str, of: Override, at: dt.datetime, author: str, reason: str) -> None:
    desk.note(
        Entry(
            id=entry_id(kind, of.id, stamp(at)),
            time=utc(at),
            kind=kind,
            platform=manifest.platform.name,
            actor=author,
            subject=of.rotation,
            body={"person": of.person, "starts": utc(of.starts), "ends": utc(of.ends), "reason": reason},
        )
    )
