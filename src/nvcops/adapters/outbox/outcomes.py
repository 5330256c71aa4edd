"""What follows from an attempt: sent, tried again later, on another channel, or dead. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from random import Random

from msgspec.structs import replace

from nvcops.core.oncall import ASKING, Message, MessageState, Page

_FIRST_S = 1.0
_FACTOR = 4.0
_PAUSE_S_MAX = 300.0
_ATTEMPTS_OF_A_PAGE = 2  # somebody is to be woken: the next channel is tried before this one may work again


def pause_s(attempts: int, random: Random) -> float:
    """Seconds until the next attempt: 1, 4, 16, 64, 256, 300 ..., each shortened by up to a half.

    >>> [0.5 * plain <= pause_s(n + 1, Random(n)) <= plain for n, plain in enumerate((1, 4, 16, 64, 256, 300, 300))]
    [True, True, True, True, True, True, True]
    """
    plain = min(_FIRST_S * _FACTOR ** (min(attempts, 10) - 1), _PAUSE_S_MAX)
    return plain * random.uniform(0.5, 1.0)


def of_no_use(message: Message, page: Page | None) -> bool:
    """Whether nobody needs it any more: it asks for an acknowledgement that was given, or of what is over."""
    return message.purpose in ASKING and page is not None and bool(page.acknowledged or page.resolved)


def sent(message: Message, receipt: str, at: dt.datetime) -> Message:
    """It was taken."""
    return _let_go(message, state=MessageState.SENT, sent=at, receipt=receipt, error="")


def dropped(message: Message) -> Message:
    """It was not sent: nobody needs it."""
    return _let_go(message, state=MessageState.DROPPED)


def again(message: Message, error: str, at: dt.datetime, random: Random) -> Message:
    """It is tried again on the same channel."""
    due = at + dt.timedelta(seconds=pause_s(message.attempts, random))
    return _let_go(message, state=MessageState.WAITING, due=due, error=error)


def given_up(message: Message, error: str, *, fallen_back: bool) -> Message:
    """It is not tried again: another message took its place, or none could."""
    return _let_go(message, state=MessageState.FALLEN_BACK if fallen_back else MessageState.DEAD, error=error)


def exhausted(message: Message, *, lasting: bool, others: Sequence[str], attempts_max: int) -> bool:
    """Whether this channel was tried often enough.

    >>> T = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    >>> plain = {"id": "m", "to": "dana", "channel": "0:sms", "subject": "", "body": "", "created": T, "due": T}
    >>> page, update = (Message(purpose=one, attempts=2, **plain) for one in ("page", "update"))
    >>> [exhausted(one, lasting=False, others=["1:email"], attempts_max=6) for one in (page, update)]
    [True, False]
    >>> [exhausted(page, lasting=lasting, others=[], attempts_max=6) for lasting in (False, True)]
    [False, True]
    """
    enough = min(attempts_max, _ATTEMPTS_OF_A_PAGE) if others and message.purpose in ASKING else attempts_max
    return lasting or message.attempts >= enough


def elsewhere(message: Message, channel: str, at: dt.datetime) -> Message:
    """The same message on another channel; its id says so, and the same cause writes it once.

    >>> T = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    >>> plain = {"to": "dana", "subject": "", "body": "", "purpose": "page", "created": T, "due": T, "attempts": 2}
    >>> one = elsewhere(Message(id="p/r0s1/dana/0:sms", channel="0:sms", **plain), "1:email", T)
    >>> one.id, one.channel, one.attempts, str(one.state)
    ('p/r0s1/dana/1:email', '1:email', 0, 'waiting')
    """
    identity = message.id.removesuffix(message.channel) + channel
    return _let_go(message, id=identity, channel=channel, state=MessageState.WAITING, attempts=0, due=at, error="")


def _let_go(message: Message, **changes: object) -> Message:
    return replace(message, leased_by="", lease_until=None, **changes)
