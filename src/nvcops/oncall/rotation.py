"""Who is on call at a moment: rotations that take turns at each hand-over, and whoever stands in for somebody.

A bank holiday stops and moves no hand-over: the roster that people have in their calendars does not change when a
holiday is added. The first turn begins with the day `starts`; a hand-over on that day is the one with which it begins.
"""

from __future__ import annotations

import datetime as dt
import functools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.manifest import Calendar, Manifest, Rotation
from nvcops.core.oncall import Override
from nvcops.core.records import Reading
from nvcops.core.schedule import When, due_times, moment_of, next_due

# --- Facts ---

STANDING_MAX = 1_000  # overrides that are not over


def standing_overrides(reading: Reading, at: dt.datetime) -> list[Override]:
    """The overrides that are not over yet."""
    return reading.find(Override, ends__gt=at, limit=STANDING_MAX)


# --- Rules ---

YEARS_MAX = 50
SHIFTS_MAX = 10_000
_NO_HOLIDAYS = Calendar()
_INSTANT = dt.timedelta(microseconds=1)


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """A person is on call for a rotation from `starts` to `ends`, in UTC.

    `override` is the id of the override by which they stand in for `instead_of`; both are empty where nobody does.
    """

    rotation: str
    person: str
    starts: dt.datetime
    ends: dt.datetime
    override: str = ""
    instead_of: str = ""


def on_call(manifest: Manifest, overrides: Sequence[Override], at: dt.datetime) -> dict[str, Shift]:
    """Who is on call at a moment, by rotation; a rotation that has not begun is not in it."""
    shifts_now = {
        rotation.name: shifts(manifest, overrides, rotation.name, at, at + _INSTANT)
        for rotation in manifest.oncall.rotations
    }
    return {name: found[0] for name, found in shifts_now.items() if found}


def shifts(
    manifest: Manifest, overrides: Sequence[Override], rotation: str, start: dt.datetime, end: dt.datetime
) -> list[Shift]:
    """The shifts of a rotation that touch the time from `start` to `end`, whole, in order and without a gap.

    A turn that is overridden in part is several shifts. Of overrides that overlap the one that was made last counts;
    one of a person who left the roster does not count.

    Raises:
        NotFoundError: there is no such rotation.
        UsageError: more than SHIFTS_MAX shifts, or more than YEARS_MAX years after the rotation began.
    """
    there = rotation_of(manifest, rotation)
    known = {person.name for person in manifest.people}
    standing = [one for one in overrides if one.rotation == rotation and one.person in known]
    found: list[Shift] = []
    for person, starts, ends in _turns(there, manifest.platform.time_zone, start, end):
        found += _pieces(Shift(rotation=rotation, person=person, starts=starts, ends=ends), standing)
    return [shift for shift in found if shift.starts < end and start < shift.ends]


def rotation_of(manifest: Manifest, name: str) -> Rotation:
    """The rotation of that name.

    Raises:
        NotFoundError: with those that there are.
    """
    for rotation in manifest.oncall.rotations:
        if rotation.name == name:
            return rotation
    there = ", ".join(rotation.name for rotation in manifest.oncall.rotations) or "none"
    raise NotFoundError(f"there is no rotation {name!r}", hint=f"there: {there}")


def _pieces(turn: Shift, overrides: Sequence[Override]) -> list[Shift]:
    """A turn, cut where somebody begins or ends to stand in."""
    within = [one for one in overrides if one.starts < turn.ends and turn.starts < one.ends]
    if not within:
        return [turn]
    cuts = {turn.starts, turn.ends, *(cut for one in within for cut in (one.starts, one.ends))}
    moments = sorted(cut for cut in cuts if turn.starts <= cut <= turn.ends)
    pieces: list[Shift] = []
    for starts, ends in pairwise(moments):
        now = [one for one in within if one.starts <= starts < one.ends]
        stand_in = max(now, key=lambda one: (one.created, one.id), default=None)
        piece = msgspec.structs.replace(turn, starts=starts, ends=ends)
        if stand_in is not None:
            piece = msgspec.structs.replace(piece, person=stand_in.person, override=stand_in.id, instead_of=turn.person)
        if pieces and pieces[-1].override == piece.override:
            piece = msgspec.structs.replace(piece, starts=pieces.pop().starts)
        pieces.append(piece)
    return pieces


def _turns(
    rotation: Rotation, zone: str, start: dt.datetime, end: dt.datetime
) -> list[tuple[str, dt.datetime, dt.datetime]]:
    """The turns that touch a time: whose, from when, to when."""
    begins = _begins(rotation.starts, zone)
    if end <= begins:
        return []
    if end.year - begins.year > YEARS_MAX:
        sentence = f"{end:%Y-%m-%d} is more than {YEARS_MAX} years after {rotation.name!r} began"
        raise UsageError(sentence, hint="ask for an earlier time")
    first = max(start, begins).astimezone(dt.UTC)
    moments: list[dt.datetime] = []
    for year in range(first.year - 1, end.astimezone(dt.UTC).year + 2):
        moments += _handed_over(rotation.handover, rotation.starts, zone, year)
    low, high = bisect_right(moments, first) - 1, bisect_left(moments, end)
    if high - low > SHIFTS_MAX:
        raise UsageError(f"more than {SHIFTS_MAX:,} shifts of {rotation.name!r}", hint="ask for a shorter time")
    before = _handed_over_before(rotation.handover, rotation.starts, zone, first.year - 1)
    people = rotation.people
    return [(people[(before + n) % len(people)], moments[n], moments[n + 1]) for n in range(low, high)]


@functools.lru_cache(maxsize=1_000)
def _begins(starts: dt.date, zone: str) -> dt.datetime:
    return moment_of(starts, dt.time.min, ZoneInfo(zone))


@functools.lru_cache(maxsize=1_000)
def _handed_over(handover: When, starts: dt.date, zone: str, year: int) -> tuple[dt.datetime, ...]:
    """When turns of a rotation begin in a year (of UTC)."""
    begins, own = _begins(starts, zone), ZoneInfo(zone)
    if year < begins.year:
        return ()
    new_year = [dt.datetime(of, 1, 1, tzinfo=dt.UTC) for of in (year, year + 1)]
    due = due_times(handover, _NO_HOLIDAYS, own, max(new_year[0], begins), new_year[1])
    first = next_due(handover, _NO_HOLIDAYS, own, begins - _INSTANT)
    if first is not None and first.astimezone(own).date() == starts and first in due[:1]:
        due = due[1:]
    return (begins, *due) if year == begins.year else tuple(due)


@functools.lru_cache(maxsize=1_000)
def _handed_over_before(handover: When, starts: dt.date, zone: str, year: int) -> int:
    """How many turns of a rotation began before a year."""
    first = _begins(starts, zone).year
    return sum(len(_handed_over(handover, starts, zone, earlier)) for earlier in range(first, year))
