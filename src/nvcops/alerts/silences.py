"""Silences: who wants to hear nothing of what, until when, and why; and that they end."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

from msgspec.structs import astuple, replace

from nvcops.alerts.inhibition import digest
from nvcops.alerts.matchers import MATCHERS_MAX, checked, matches, parse_matchers
from nvcops.core.alerts import Matcher, Silence
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.evidence import Entry, utc
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk, Reading

SILENCES_MAX = 1_000  # that have not ended
LONGEST = dt.timedelta(days=30)
KEPT = dt.timedelta(days=30)  # after its end; that there was one stands in the evidence
NOTICE = dt.timedelta(hours=1)
_REASON_LENGTH_MAX = 1_000

# --- Facts ---


def silences(reading: Reading, at: dt.datetime) -> list[Silence]:
    """Those that hold or will, the first to end first."""
    return reading.find(Silence, ends__gt=at, order="ends", limit=SILENCES_MAX)


def ending(reading: Reading, at: dt.datetime) -> list[Silence]:
    """Those of whose end their authors are to be told now."""
    soon = reading.find(Silence, reminded__isnull=True, ends__gt=at, ends__lte=at + NOTICE, order="ends")
    return [silence for silence in soon if remind_at(silence) <= at]


def next_reminder(reading: Reading, at: dt.datetime) -> dt.datetime | None:
    """When the next author is to be told; None where that is farther away than the next silence's end."""
    waiting = reading.find(Silence, reminded__isnull=True, ends__gt=at, order="ends", limit=50)
    return min((remind_at(silence) for silence in waiting), default=None)


# --- Rules ---


def remind_at(silence: Silence) -> dt.datetime:
    """When its author is told that it ends: an hour before, when a quarter of a shorter one is left.

    >>> noon = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    >>> def of(hours: int) -> Silence:
    ...     ends = noon + dt.timedelta(hours=hours)
    ...     return Silence(id="1", matchers=(), starts=noon, ends=ends, author="dana", reason="", created=noon)
    >>> [str(remind_at(of(hours)).time()) for hours in (1, 2, 8)]
    ['12:45:00', '13:30:00', '19:00:00']
    """
    return silence.ends - min(NOTICE, (silence.ends - silence.starts) / 4)


def muting(these: Iterable[Silence], labels: dict[str, str], at: dt.datetime) -> Silence | None:
    """The first silence that mutes an alert; None: nobody silenced it."""
    return next((silence for silence in these if silence.mutes(labels, at)), None)


def in_words(silence: Silence) -> str:
    """What a silence silences, as it is written."""
    return "{" + ", ".join(map(str, silence.matchers)) + "}"


def matchers_of(said: str | Sequence[Matcher]) -> tuple[Matcher, ...]:
    """Matchers that silence something, and not everything.

    Raises:
        UsageError: they are none, cannot be carried out, or would match an alert without labels.
    """
    try:
        found = parse_matchers(said) if isinstance(said, str) else tuple(checked(*astuple(one)) for one in said)
    except ValueError as error:
        raise UsageError(str(error), hint='as in: alertname="ProbeDown", service="bank"') from None
    if not found or matches(found, {}):
        raise UsageError("these matchers would silence everything", hint="at least one must not match an empty value")
    if len(found) > MATCHERS_MAX:
        raise UsageError(f"{len(found)} matchers are more than {MATCHERS_MAX}", hint="a regular expression says more")
    return found


def check_span(starts: dt.datetime, ends: dt.datetime, at: dt.datetime) -> None:
    """Nothing where a silence may last from `starts` to `ends`.

    Raises:
        UsageError: it may not.
    """
    if ends <= max(starts, at):
        raise UsageError("the silence ends before it begins", hint="say an end that is yet to come")
    if ends - max(starts, at) > LONGEST:
        hint = f"at most {LONGEST.days} days: what nobody wants to hear for longer needs no alert"
        raise UsageError(f"the silence lasts {(ends - starts).days} days", hint=hint)


# --- Procedures ---


def silence(  # noqa: PLR0913 - a silence has many parts
    desk: Desk,
    *,
    manifest: Manifest,
    matchers: str | Sequence[Matcher],
    ends: dt.datetime,
    author: str,
    reason: str,
    at: dt.datetime,
    starts: dt.datetime | None = None,
) -> Silence:
    """Silence what all matchers match; the same said twice at one moment is one silence.

    Raises:
        NotFoundError: the author is nobody of the roster, so nobody could be told that it ends.
        UsageError: it would silence everything, has no reason, or no end that makes sense; or there are too many.
    """
    if manifest.person(author) is None:
        there = ", ".join(person.name for person in manifest.people) or "nobody"
        raise NotFoundError(f"{author!r} is nobody of the roster", hint=f"there: {there}")
    reason = " ".join(reason.split())
    if not 0 < len(reason) <= _REASON_LENGTH_MAX:
        raise UsageError("a silence has a reason", hint=f"one sentence, at most {_REASON_LENGTH_MAX} characters")
    begins = max(starts or at, at)
    check_span(begins, ends, at)
    meant = matchers_of(matchers)
    if desk.count(Silence, ends__gt=at) >= SILENCES_MAX:
        raise UsageError(f"there are {SILENCES_MAX:,} silences already", hint="expire some, or match more with one")
    key = digest(author, reason, utc(at), utc(begins), utc(ends), *map(str, meant))[:16]
    made = Silence(id=key, matchers=meant, starts=begins, ends=ends, author=author, reason=reason, created=at)
    if desk.add(made):
        desk.note(_entry(made, "silence.made", author, at, manifest, reason=reason, until=utc(ends)))
    return made


def expire(desk: Desk, key: str, *, manifest: Manifest, person: str, at: dt.datetime) -> Silence:
    """End a silence now; one that has not begun never does.

    Raises:
        NotFoundError: there is no such silence that has not ended.
    """
    known = desk.get(Silence, key)
    if known is None or known.ends <= at:
        raise NotFoundError(f"there is no silence {key[:40]!r} that holds", hint="`nvcops alerts silences` lists them")
    ended = replace(known, starts=min(known.starts, at), ends=at)
    desk.put(ended)
    desk.note(_entry(known, "silence.expired", person, at, manifest))
    return ended


def forget(desk: Desk, at: dt.datetime) -> None:
    """Remove what ended long ago."""
    old = desk.find(Silence, ends__lt=at - KEPT, limit=100)
    if old:
        desk.remove(Silence, [silence.id for silence in old])


def _entry(of: Silence, kind: str, actor: str, at: dt.datetime, manifest: Manifest, **body: str) -> Entry:
    return Entry(
        id=f"{kind}/{of.id}",
        time=utc(at),
        kind=kind,
        platform=manifest.platform.name,
        actor=actor,
        subject=of.id,
        body={"matchers": [str(matcher) for matcher in of.matchers], **body},
    )
