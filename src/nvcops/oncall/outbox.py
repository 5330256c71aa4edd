"""Rows of the outbox, and what else is written when somebody is asked or told: evidence, and a line of the timeline."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from nvcops.core.evidence import Entry, utc
from nvcops.core.incidents import Event
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import ASKING, Message, MessageState, Page, message_id
from nvcops.core.records import Desk
from nvcops.oncall.people import Asked, at_once
from nvcops.oncall.texts import details, entry_id, label, line

_CAUSE_MAX = 110  # characters of an id, with somebody's name behind it
_MAY_HAVE_REACHED = (MessageState.SENT, MessageState.SENDING, MessageState.WAITING)

# --- Rules ---


def id_of(cause: str, to: str, channel: str) -> str:
    """The id of a message, however long its cause is.

    >>> id_of("silence/7/expiry", "dana", "0:sms"), len(id_of("x" * 500, "dana", "0:sms"))
    ('silence/7/expiry/dana/0:sms', 43)
    """
    short = cause if len(cause) <= _CAUSE_MAX else hashlib.sha256(cause.encode()).hexdigest()[:32]
    return message_id(short.replace(" ", "-"), to, channel)


def best(messages: Sequence[Message]) -> Message:
    """Of the messages that one person was asked by, the one on whose channel they are told more: one that was sent."""
    return min(messages, key=lambda message: (_MAY_HAVE_REACHED.index(message.state), message.channel, message.id))


# --- Procedures ---


def post(  # noqa: PLR0913 - a message has many parts
    desk: Desk,
    page: Page,
    asked: Sequence[Asked],
    *,
    cause: str,
    purpose: str,
    subject: str,
    body: str,
    at: dt.datetime,
) -> None:
    """Ask each of them, through the channels that are used at once for the page's category."""
    for one in asked:
        for channel in at_once(one.channels, page.category):
            message = Message(
                id=id_of(cause, one.to, channel),
                to=one.to,
                channel=channel,
                subject=subject,
                body=body,
                purpose=purpose,
                created=at,
                due=at,
                page=page.id,
                incident=page.incident,
            )
            desk.add(message)


def tell_those_paged(  # noqa: PLR0913 - a message has many parts
    desk: Desk,
    page: Page,
    *,
    purpose: str,
    text: str,
    cause: str,
    at: dt.datetime,
    but: str = "",
    due: dt.datetime | None = None,
) -> None:
    """Tell everybody who was asked, on a channel that reached them; once for all pages of an incident."""
    by_person: dict[str, list[Message]] = {}
    for message in desk.find(Message, page=page.id, purpose__in=list(ASKING), state__in=list(_MAY_HAVE_REACHED)):
        by_person.setdefault(message.to, []).append(message)
    thread = page.id if page.incident is None else f"incident-{page.incident}"
    mark = f"{purpose.upper()} {label(page)}"
    for to, messages in by_person.items():
        if to == but:
            continue
        channel = best(messages).channel
        message = Message(
            id=id_of(f"{thread}/{cause}", to, channel),
            to=to,
            channel=channel,
            subject=line(mark, text or page.summary),
            body=details([page.summary, text]),
            purpose=purpose,
            created=at,
            due=due or at,
            page=page.id,
            incident=page.incident,
        )
        desk.add(message)


def enter(  # noqa: PLR0913 - evidence has many columns
    desk: Desk,
    page: Page,
    kind: str,
    cause: str,
    *,
    manifest: Manifest | None,
    at: dt.datetime,
    said: Mapping[str, Any],
    text: str = "",
    actor: str = "",
) -> None:
    """Evidence of what was done with a page; with a text also a line of its incident's timeline."""
    entry = Entry(
        id=entry_id(kind, page.id, cause),
        time=utc(at),
        kind=kind,
        platform=manifest.platform.name if manifest else "",
        actor=actor,
        subject=page.id,
        body={"about": page.about, "incident": page.incident, "category": page.category.value, **said},
    )
    desk.note(entry)
    if text and page.incident is not None:
        event = Event(
            id=f"{page.incident}/page/{page.id}/{cause}",
            incident=page.incident,
            time=at,
            kind="page",
            text=text,
            data=dict(said),
        )
        desk.add(event)


def say_unreachable(desk: Desk, manifest: Manifest, to: str, cause: str, at: dt.datetime) -> None:
    """Evidence that somebody could not be told something."""
    entry = Entry(
        id=entry_id("message.nobody-to-tell", cause, to, utc(at)),
        time=utc(at),
        kind="message.nobody-to-tell",
        platform=manifest.platform.name,
        subject=to,
        body={"cause": cause},
    )
    desk.note(entry)
