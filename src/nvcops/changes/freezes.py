"""When nothing is changed: freezes, windows of other changes, error budgets that are used up. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from zoneinfo import ZoneInfo

import msgspec

from nvcops.changes.lifecycle import OPEN
from nvcops.core.changes import Change, ChangeCategory
from nvcops.core.manifest import Manifest
from nvcops.core.manifest.delivery import Freeze
from nvcops.core.units import Ratio

Span = tuple[dt.datetime, dt.datetime]
_GLASS = 2  # people who break it together


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the calendar: a freeze, or a change that is planned or going on."""

    start: dt.datetime
    end: dt.datetime | None
    what: str
    title: str
    services: tuple[str, ...] = ()
    overlaps: tuple[str, ...] = ()


def span_of(freeze: Freeze, zone: ZoneInfo) -> Span:
    """From when (included) to when (not included) a freeze holds, in UTC.

    A wall time that comes twice, or not at all, when the clocks change is read so that the freeze is the longer one.

    >>> twice = dt.datetime(2026, 11, 1, 1, 30)
    >>> freeze = Freeze(name="f", start=twice, end=twice, reason="r")
    >>> [moment.isoformat() for moment in span_of(freeze, ZoneInfo("America/New_York"))]
    ['2026-11-01T05:30:00+00:00', '2026-11-01T06:30:00+00:00']
    """
    return min(_readings(freeze.start, zone)), max(_readings(freeze.end, zone))


def _readings(moment: dt.datetime, zone: ZoneInfo) -> list[dt.datetime]:
    if moment.tzinfo is not None:
        return [moment.astimezone(dt.UTC)]
    return [moment.replace(tzinfo=zone, fold=fold).astimezone(dt.UTC) for fold in (0, 1)]


def holding(manifest: Manifest, at: dt.datetime, category: ChangeCategory | None = None) -> list[Freeze]:
    """The freezes that hold at a moment, for a category where one is given."""
    zone = ZoneInfo(manifest.platform.time_zone)
    found = []
    for freeze in manifest.changes.freezes:
        start, end = span_of(freeze, zone)
        if start <= at < end and category not in freeze.exempt:
            found.append(freeze)
    return found


def frozen(
    manifest: Manifest, category: ChangeCategory, at: dt.datetime, budgets: dict[str, float] | None = None
) -> str:
    """Why nothing of a category is changed at a moment; empty where it may be.

    `budgets` are the shares left of the objectives that it touches: below `budget_min` only an emergency passes.
    """
    zone = ZoneInfo(manifest.platform.time_zone)
    for freeze in holding(manifest, at, category):
        until = span_of(freeze, zone)[1].astimezone(zone)
        return f"the freeze {freeze.name} holds until {until:%Y-%m-%d %H:%M %Z}: {freeze.reason}"
    if category is ChangeCategory.EMERGENCY:
        return ""
    for objective, left in sorted((budgets or {}).items()):
        if left < manifest.changes.budget_min:
            least = manifest.changes.budget_min
            return f"{Ratio(left)} of the error budget of {objective} is left, less than {least}: its service is frozen"
    return ""


def meeting(manifest: Manifest, change: Change) -> list[Freeze]:
    """The freezes that meet a change's planned window, and hold for its category."""
    window, zone = window_of(change), ZoneInfo(manifest.platform.time_zone)
    if window is None:
        return []
    return [
        freeze
        for freeze in manifest.changes.freezes
        for start, end in [span_of(freeze, zone)]
        if start <= window[1] and window[0] < end and change.category not in freeze.exempt
    ]


def broken(change: Change) -> bool:
    """Whether the glass was broken for a change: by two people with two keys."""
    return min(len({one.person for one in change.break_glass}), len({one.key for one in change.break_glass})) >= _GLASS


def outside_of_window(change: Change, at: dt.datetime, zone: ZoneInfo) -> str:
    """Why it is not the time that was planned; empty where it is, or none was. The end is not part of a window."""
    if change.category is ChangeCategory.EMERGENCY:
        return ""
    if change.planned_start and at < change.planned_start:
        return f"{change.name} is planned from {change.planned_start.astimezone(zone):%Y-%m-%d %H:%M %Z} on"
    if change.planned_end and at >= change.planned_end:
        return f"the window of {change.name} ended {change.planned_end.astimezone(zone):%Y-%m-%d %H:%M %Z}"
    return ""


def window_of(change: Change) -> Span | None:
    """When a change is planned or went on; None where nobody knows."""
    start = change.began or change.planned_start
    if start is None:
        return None
    return start, max(change.done or change.planned_end or start, start)


def overlapping(change: Change, others: Iterable[Change]) -> list[Change]:
    """The open changes that touch a service of this one in the time of its window."""
    mine = window_of(change)
    if mine is None:
        return []
    return [
        other
        for other in others
        if other.number != change.number
        and other.state in OPEN
        and (not change.services or not other.services or set(change.services) & set(other.services))
        and (window := window_of(other)) is not None
        and window[0] <= mine[1]
        and mine[0] <= window[1]
    ]


def calendar(manifest: Manifest, changes: Sequence[Change], start: dt.datetime, end: dt.datetime) -> list[Line]:
    """What is planned, going on and frozen between two moments, by its beginning."""
    zone = ZoneInfo(manifest.platform.time_zone)
    lines = [
        Line(start=low, end=high, what=f"freeze {freeze.name}", title=freeze.reason)
        for freeze in manifest.changes.freezes
        for low, high in [span_of(freeze, zone)]
        if low < end and start < high
    ]
    for change in changes:
        window = window_of(change)
        if change.state not in OPEN or window is None or window[0] >= end or window[1] < start:
            continue
        others = tuple(other.name for other in overlapping(change, changes))
        what = f"{change.name} {change.category} {change.kind} ({change.state})"
        lines.append(
            Line(
                start=window[0],
                end=window[1],
                what=what,
                title=change.title,
                services=change.services,
                overlaps=others,
            )
        )
    return sorted(lines, key=lambda line: (line.start, line.what))
