"""What an alert is after it was said again, whatever the order in which that arrives. Pure.

A firing is an alert and its start, which does not change until it ends. What was ended by its source stays ended: a
message of the same firing that comes late does not open it. What merely was not said again in time fires anew as soon
as it is.
"""

from __future__ import annotations

import datetime as dt

from msgspec.structs import replace

from nvcops.alerts.said import OURS, Said
from nvcops.core.alerts import Alert, category_of

REMEMBERED = dt.timedelta(hours=1)  # for so long a repetition of an ended firing is known as one


def merge(old: Alert | None, said: Said, at: dt.datetime, resolve_after: dt.timedelta) -> Alert | None:
    """The alert after something was said of it; None where that changes nothing.

    >>> noon = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    >>> minute = dt.timedelta(minutes=1)
    >>> fires, over = Said(labels={"a": "1"}, starts=noon, source="x"), Said(labels={"a": "1"}, over=True, source="x")
    >>> first = merge(None, fires, noon, 5 * minute)
    >>> ended = merge(first, over, noon + minute, 5 * minute)
    >>> first.firing(noon), ended.firing(noon + minute), merge(ended, fires, noon + 2 * minute, 5 * minute)
    (True, False, None)
    >>> again = replace(fires, starts=noon + 2 * minute)
    >>> merge(ended, again, noon + 2 * minute, 5 * minute).firing(noon + 2 * minute)
    True
    """
    old = settled(old, at) if old else None
    if said.over or (said.ends is not None and said.ends <= at):
        return _ended(old, said, at)
    if old is None or (old.ends is not None and not _late(old, said, at, resolve_after)):
        return _begun(old, said, at, resolve_after)
    if old.ends is not None:
        return None
    return replace(
        old,
        labels=said.labels,
        annotations=said.annotations or old.annotations,
        url=said.url or old.url,
        source=said.source,
        category=category_of(said.labels),
        updated=at,
        expires=_expires(said, at, resolve_after),
        times=old.times + 1,
        began_again=max(filter(None, (old.began_again, said.starts)), default=None),
    )


def settled(alert: Alert, at: dt.datetime) -> Alert:
    """The alert with its end, where it has run out: what was not said again in time is over since then."""
    if alert.ends is None and alert.expires is not None and alert.expires <= at:
        return replace(alert, ends=alert.expires)
    return alert


def ran_out(alert: Alert) -> bool:
    """Whether nobody said its end: it was not said again."""
    return alert.ends is not None and alert.ends == alert.expires


def _ended(old: Alert | None, said: Said, at: dt.datetime) -> Alert | None:
    ends = min(said.ends or at, at)
    if old is None:
        # The end has overtaken the beginning: it is kept, so that the beginning is known as late.
        return (
            replace(_begun(None, said, at, REMEMBERED), ends=max(ends, said.starts), expires=None)
            if said.starts
            else None
        )
    if old.ends is None:
        if _of_an_earlier(old, said, ends):
            return None
        words = said.annotations or old.annotations
        ends = max(ends, min(old.starts, at))  # a clock that was put back ends nothing in the future
        return replace(old, annotations=words, updated=at, ends=ends, expires=None, times=old.times + 1)
    if ran_out(old) or (said.starts is not None and said.starts > old.ends):
        return replace(old, updated=at, ends=max(ends, old.starts), expires=None)
    return None


def _of_an_earlier(old: Alert, said: Said, ends: dt.datetime) -> bool:
    """Whether an end is that of an earlier firing than the one that was said last, by the source's own clock.

    What we say ourselves comes in order, and our clock may have been put back.
    """
    if said.source in OURS:
        return False
    if said.ends is not None and old.began_again is not None and said.ends < old.began_again:
        return True
    return said.starts is not None and ends < old.starts


def _late(old: Alert, said: Said, at: dt.datetime, resolve_after: dt.timedelta) -> bool:
    """Whether what is said is of a firing that its source has ended.

    Something that began before the end but is no repetition comes from another who watches the same: it is believed
    when it goes on saying so.
    """
    if ran_out(old) or said.starts is None or old.ends is None or said.starts > old.ends:
        return False
    return at - old.updated < (REMEMBERED if said.starts == old.starts else resolve_after)


def _begun(old: Alert | None, said: Said, at: dt.datetime, resolve_after: dt.timedelta) -> Alert:
    """A new firing; one that goes on after an end begins now, so that it is told from the one that ended."""
    starts = said.starts or at
    if old is not None and old.ends is not None and starts <= old.ends:
        starts = at
    return Alert(
        fingerprint=said.fingerprint,
        labels=said.labels,
        annotations=said.annotations,
        source=said.source,
        url=said.url,
        category=category_of(said.labels),
        starts=starts,
        noticed=at,
        updated=at,
        expires=_expires(said, at, resolve_after),
        began_again=said.starts,
    )


def _expires(said: Said, at: dt.datetime, resolve_after: dt.timedelta) -> dt.datetime | None:
    if said.ends is not None or said.lasts:
        return said.ends
    return at + resolve_after
