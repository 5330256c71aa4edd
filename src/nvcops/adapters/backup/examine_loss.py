"""What a damage costs: the positions of the log that could be reached without it, and cannot with it.

A base backup leads from the LSN at which it ended to wherever the log from its beginning on is whole.
"""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec

from nvcops.core.backups import Cause, Fault, lsn_text

_INTERVALS_MAX = 3
_ONE_REASON = (Cause.WRONG_KEY, Cause.UNREADABLE)

Interval = tuple[int, int]


class Base(msgspec.Struct, frozen=True):
    """A base backup on the line: it needs the log from `start`, and leads from `stop` on. `needs`: its parents' ids."""

    id: str
    start: int
    stop: int
    needs: tuple[str, ...] = ()


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong, and what it takes away: a part of the log, backups, or positions by itself (`cuts`).

    `note` is what is lost where that is no position of the log.
    """

    cause: Cause
    subject: str
    sentence: str
    gap: Interval | None = None
    backups: tuple[str, ...] = ()
    cuts: Interval | None = None
    note: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same damage when it is looked for again."""
        return self.cause, self.subject


class Ground(msgspec.Struct, frozen=True):
    """What could be reached if all were well: the backups on the line, its end, and when which position was written."""

    bases: tuple[Base, ...]
    end: int
    times: tuple[tuple[int, dt.datetime], ...]


def reach(bases: Iterable[Base], gaps: Iterable[Interval], end: int) -> list[Interval]:
    """The positions that can be reached, as ranges that ascend and do not touch.

    >>> full = Base("F", 10, 20)
    >>> reach([full], [], 100), reach([full], [(40, 50)], 100), reach([full, Base("G", 60, 70)], [(40, 50)], 100)
    ([(20, 100)], [(20, 40)], [(20, 40), (70, 100)])
    >>> reach([full], [(5, 8)], 100), reach([full], [(15, 16)], 100), reach([], [], 100)
    ([(20, 100)], [], [])
    """
    broken = sorted(gaps)
    found: list[Interval] = []
    for base in bases:
        limit = min((begin for begin, over in broken if over > base.start and begin < end), default=max(end, base.stop))
        if limit >= base.stop:
            found.append((base.stop, limit))
    return _joined(found)


def lost(ground: Ground, damage: Damage) -> list[Interval]:
    """The positions that a damage alone takes away."""
    unusable = set(damage.backups)
    usable = [base for base in ground.bases if base.id not in unusable and not unusable.intersection(base.needs)]
    left = reach(usable, [damage.gap] if damage.gap else [], ground.end)
    missing = _without(reach(ground.bases, [], ground.end), left)
    return _joined([*missing, damage.cuts]) if damage.cuts else missing


def fault(ground: Ground, damage: Damage) -> Fault:
    """A damage with what it costs, in words."""
    gone = lost(ground, damage)
    said = "; ".join(_interval(ground, begin, end) for begin, end in gone[:_INTERVALS_MAX])
    if len(gone) > _INTERVALS_MAX:
        said += f"; and {len(gone) - _INTERVALS_MAX} more such times"
    if not gone:
        said = _nothing(damage)
    note = f"{damage.note}; " if damage.note and gone else damage.note
    return Fault(
        cause=damage.cause,
        subject=damage.subject,
        sentence=damage.sentence,
        lost=note + said if gone or not damage.note else note,
        backups=unusable(ground, damage),
    )


def unusable(ground: Ground, damage: Damage) -> tuple[str, ...]:
    """The backups that a damage alone keeps from being restored at all: to their own end, or to any later point.

    >>> full, later = Base("F", 10, 20), Base("I", 50, 60, ("F",))
    >>> ground = Ground((full, later), 100, ())
    >>> holes = [Damage(cause=Cause.MISSING, subject="S", sentence="", gap=gap) for gap in ((15, 25), (20, 50))]
    >>> [unusable(ground, hole) for hole in holes]
    [('F',), ()]
    >>> unusable(ground, Damage(cause=Cause.CORRUPT, subject="F", sentence="", backups=("F",)))
    ('F', 'I')
    """
    begin, over = damage.gap or (0, 0)
    cut = [base.id for base in ground.bases if begin < base.stop and over > base.start]
    builds = [base.id for base in ground.bases if set(damage.backups).intersection(base.needs)]
    return tuple(dict.fromkeys([*damage.backups, *cut, *builds]))


def together(damages: Iterable[Damage]) -> list[Damage]:
    """The damages, but one for all that has one reason: a key, or permissions."""
    kept: list[Damage] = []
    same: dict[Cause, list[Damage]] = {}
    for damage in damages:
        if damage.cause in _ONE_REASON:
            same.setdefault(damage.cause, []).append(damage)
        else:
            kept.append(damage)
    return [*kept, *(_one(several) for several in same.values())]


def _one(several: Sequence[Damage]) -> Damage:
    """All of them as the first one; what they take away is taken away from the first gap to the last."""
    gaps = [damage.gap for damage in several if damage.gap]
    more = f"; and the same of {len(several) - 1} more, up to {several[-1].subject}" if len(several) > 1 else ""
    return msgspec.structs.replace(
        several[0],
        sentence=several[0].sentence + more,
        gap=(min(begin for begin, _ in gaps), max(end for _, end in gaps)) if gaps else None,
        backups=tuple(dict.fromkeys(name for damage in several for name in damage.backups)),
    )


def when(ground: Ground, position: int, *, before: bool) -> dt.datetime | None:
    """The nearest known moment before a position was written, or after it."""
    if before:
        index = bisect.bisect_right(ground.times, position, key=lambda known: known[0]) - 1
        return ground.times[index][1] if index >= 0 else None
    index = bisect.bisect_left(ground.times, position, key=lambda known: known[0])
    return ground.times[index][1] if index < len(ground.times) else None


def _interval(ground: Ground, begin: int, end: int) -> str:
    if end >= ground.end:
        return f"every point after {_moment(ground, begin, before=True)}"
    if begin == end:
        return f"the point {_moment(ground, begin, before=True)}"
    first, last = _moment(ground, begin, before=True), _moment(ground, end, before=False)
    return f"every point from {first} to {last}"


def _moment(ground: Ground, position: int, *, before: bool) -> str:
    time = when(ground, position, before=before)
    return f"{time:%Y-%m-%d %H:%M:%S} UTC ({lsn_text(position)})" if time else lsn_text(position)


def _nothing(damage: Damage) -> str:
    if damage.backups:
        return "no point in time, since an older backup and the log lead to the same: the backup itself is lost"
    return "no point in time as yet"


def _joined(intervals: Sequence[Interval]) -> list[Interval]:
    whole: list[Interval] = []
    for begin, end in sorted(intervals):
        if whole and begin <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((begin, end))
    return whole


def _without(all_of_it: Sequence[Interval], left: Sequence[Interval]) -> list[Interval]:
    """The parts of some ranges that others do not have; both ascend and do not touch.

    >>> _without([(20, 100)], [(20, 40), (70, 100)]), _without([(20, 100)], [(20, 100)]), _without([(20, 20)], [])
    ([(40, 70)], [], [(20, 20)])
    """
    missing: list[Interval] = []
    for begin, end in all_of_it:
        at, whole = begin, False
        for has, until in left:
            if until < at or has > end:
                continue
            if has > at:
                missing.append((at, has))
            at, whole = max(at, until), until >= end
        if at < end or (begin == end and not whole):
            missing.append((at, end))
    return missing
