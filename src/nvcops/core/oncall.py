"""Who is woken, and what they are sent: pages, messages, overrides. The rosters stand in the manifest. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from nvcops.core.alerts import Category


class Way(Protocol):
    """A way to reach somebody: an entry of `contacts`."""

    @property
    def kind(self) -> str: ...
    @property
    def categories(self) -> Sequence[Category]: ...


def channels(contacts: Sequence[Way], category: Category) -> list[str]:
    """The channels on which somebody is told of something of a category, in the order in which they are tried.

    >>> from types import SimpleNamespace as Contact
    >>> ways = [Contact(kind="sms", categories=[Category.CRITICAL]), Contact(kind="email", categories=list(Category))]
    >>> channels(ways, Category.CRITICAL), channels(ways, Category.LOW)
    (['0:sms', '1:email'], ['1:email'])
    """
    return [f"{index}:{way.kind}" for index, way in enumerate(contacts) if category in way.categories]


def message_id(cause: str, to: str, channel: str) -> str:
    """The id of a message: one per cause, person and channel. The same cause on another channel has it changed there.

    >>> message_id("incident-12-20261123T071300Z-0/r0s1", "dana", "0:sms")
    'incident-12-20261123T071300Z-0/r0s1/dana/0:sms'
    """
    return f"{cause}/{to}/{channel}"


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody stands in for a rotation's person from `starts` to `ends`; a swap is two with one `id` prefix."""

    id: str
    rotation: str
    person: str
    starts: dt.datetime
    ends: dt.datetime
    author: str
    reason: str
    created: dt.datetime


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """An escalation: somebody is asked to acknowledge, then the next, until one does or it is over.

    `about` is what it is of: a group's key, or `incident/N`. `step` is the policy's step that was last carried out (-1:
    none), `round` counts how often the policy was gone through. `next` is when the next step is due; None: no more.
    """

    id: str
    about: str
    incident: int | None = None
    policy: str
    category: Category
    summary: str
    opened: dt.datetime
    step: int = -1
    round: int = 0
    next: dt.datetime | None = None
    acknowledged: dt.datetime | None = None
    acknowledged_by: str = ""
    resolved: dt.datetime | None = None


ASKING = ("page", "escalation")  # the purposes of messages that ask for an acknowledgement


class MessageState(StrEnum):
    """Where a message of the outbox stands. DEAD: every attempt and every other channel failed, which is an alert."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    FALLEN_BACK = "fallen back"  # another message took its place
    DROPPED = "dropped"  # no longer of use when its turn came, as a page that was acknowledged
    DEAD = "dead"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the outbox: something to be said to one person, or to one receiver, through one channel.

    `id` is made of what caused it (page, step, round, person, channel), so that the same cause writes it once. `to` is
    a person of [[people]], a contact of [[contacts]], or `receiver:NAME`. `channel` is the index and kind of theirs, as
    `0:sms`; the address behind it is looked up when it is sent, so no secret stands here. `lease_until` is until when
    `leased_by` has it to itself.
    """

    id: str
    to: str
    channel: str
    subject: str
    body: str
    purpose: str  # page, escalation, update, resolved, reach-test, handover, expiry, status, webhook
    created: dt.datetime
    due: dt.datetime
    state: MessageState = MessageState.WAITING
    page: str = ""
    incident: int | None = None
    payload: str = ""  # JSON of a webhook, as it is sent
    attempts: int = 0
    leased_by: str = ""
    lease_until: dt.datetime | None = None
    sent: dt.datetime | None = None
    receipt: str = ""
    error: str = ""


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """A test of whether a person can be reached on a channel: the code that they were sent, and when they said it."""

    id: str
    person: str
    channel: str
    code_sha256: str
    sent: dt.datetime
    confirmed: dt.datetime | None = None


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life of one instance of `nvcops serve`."""

    id: str
    host: str
    last: dt.datetime
