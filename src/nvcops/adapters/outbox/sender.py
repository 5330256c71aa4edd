"""The outbox: messages that were written with what caused them are sent, each at least once.

A message is leased, sent, and what came of it is recorded in a transaction of its own. Whoever is killed in between
leaves a lease that ends; then the message is sent again, so it may arrive twice, with one id that its receiver can see.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import secrets
import socket
import threading
from collections.abc import Callable
from random import Random

from nvcops.adapters.outbox import outcomes
from nvcops.adapters.outbox.addresses import Hooks, address_of, other_channels
from nvcops.adapters.outbox.transport import Outcome, Transport
from nvcops.core import schedule
from nvcops.core.errors import NvcopsError, StateError
from nvcops.core.evidence import Entry
from nvcops.core.evidence.entry import utc
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, MessageState, Page
from nvcops.core.records import Desk, Records

DEADLINE_S = 10.0
THREADS = 16
_OF_ONE_MAX = 2  # of the messages to one person or receiver: one that hangs does not hold the others
_LEASE_S = 1.5 * DEADLINE_S
_LOOK_EVERY_S = 0.25
_REST_AFTER_FAULT_S = 1.0
_END_S = 4.0
_ALIVE_WITHIN = dt.timedelta(seconds=30)  # longer than all of them may be busy at once

Dead = Callable[[Desk, Message, dt.datetime], object]


class Sender:
    """Sends what stands in the outbox, for as long as `run` lasts.

    `hooks` gives the webhooks of a receiver of the routing by its name. `dead` is called with the desk and a message
    of which every attempt and every other channel failed, in the transaction that says so. `notify` is told what the
    operator of this process should see.
    """

    def __init__(  # noqa: PLR0913 - what it works with, and what a test sets
        self,
        records: Records,
        manifest: Manifest,
        *,
        hooks: Hooks,
        dead: Dead,
        notify: Callable[[str], object],
        clock: Callable[[], dt.datetime] = schedule.now,
        random: Random | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._records = records
        self._manifest = manifest
        self._hooks = hooks
        self._dead = dead
        self._notify = notify
        self._clock = clock
        self._random = random or Random()  # noqa: S311 - pauses are not secret
        self._transport = Transport(deadline_s)
        self._deadline_s = deadline_s
        self._lease = dt.timedelta(seconds=_LEASE_S * deadline_s / DEADLINE_S)
        self._worker = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._turn = threading.Condition()
        self._underway: dict[str, str] = {}  # id: to
        self._told = ""
        self._last: dt.datetime | None = None

    def alive(self, at: dt.datetime) -> bool:
        """Whether it looked for messages within the last seconds."""
        return self._last is not None and at - self._last < _ALIVE_WITHIN

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set; what is underway then gets some seconds to end."""
        self._transport.start()
        try:
            while not stop.is_set():
                try:
                    begun = self._begin_some(stop)
                except StateError as error:
                    self._say(f"{error.sentence}; messages wait")
                    stop.wait(_REST_AFTER_FAULT_S)
                else:
                    if not begun:
                        self._records.wait(_LOOK_EVERY_S)
        finally:
            with self._turn:
                self._turn.wait_for(lambda: not self._underway, _END_S)
            self._transport.stop()

    def _begin_some(self, stop: threading.Event) -> int:
        """Lease what is due and begin to send it; how many messages."""
        with self._turn:
            busy, free = set(self._underway.values()), THREADS - len(self._underway)
            if not free:  # for a deadline at most
                self._turn.wait(_LOOK_EVERY_S)
                return 0
        at = self._clock()
        ids = self._records.claim(
            self._worker, at, at + self._lease, limit=free, each=_OF_ONE_MAX, besides=sorted(busy)
        )
        self._last = at
        if not ids:
            return 0
        with self._records.reading() as reading:
            messages = reading.find(Message, id__in=ids, order="due")
            pages = {page.id: page for page in reading.find(Page, id__in={message.page for message in messages})}
        for message in messages:
            self._begin(message, pages.get(message.page), stop)
        return len(ids)

    def _begin(self, message: Message, page: Page | None, stop: threading.Event) -> None:
        with self._turn:
            if message.id in self._underway:  # its lease ended while what came of it could not be recorded
                return
            self._underway[message.id] = message.to
        try:
            threading.Thread(target=self._carry, args=(message, page, stop), name=message.id, daemon=True).start()
        except RuntimeError as error:  # no thread is to be had: its lease ends, and it is sent then
            with self._turn:
                del self._underway[message.id]
            raise StateError(f"no message can be sent now: {error}", hint="see the limit of threads") from error

    def _carry(self, message: Message, page: Page | None, stop: threading.Event) -> None:
        try:
            outcome = None if outcomes.of_no_use(message, page) else self._attempt(message)
            self._record(message, page, outcome, stop)
        except Exception as error:  # noqa: BLE001 - a mistake of ours is told; the lease ends, and it is tried again
            self._say(f"{message.id}: what came of it cannot be recorded: {type(error).__name__}: {error}")
        finally:
            with self._turn:
                del self._underway[message.id]
                self._turn.notify_all()

    def _attempt(self, message: Message) -> Outcome:
        if message.attempts > self._manifest.oncall.attempts_max:
            return Outcome(error=message.error or f"begun {message.attempts - 1} times, and nobody lived to say more")
        try:
            return self._transport.send(message, address_of(message, self._manifest, self._hooks))
        except NvcopsError as error:
            return Outcome(error=error.sentence, lasting=True)
        except Exception as error:  # noqa: BLE001 - a mistake of ours is an attempt that failed, not a message lost
            return Outcome(error=f"{type(error).__name__} while sending")

    def _record(self, message: Message, page: Page | None, outcome: Outcome | None, stop: threading.Event) -> None:
        """Until it is recorded, or nobody serves any more: then the lease ends, and it is sent again."""
        while True:
            try:
                with self._records.changing() as desk:
                    told = self._settle(desk, message, page, outcome)
            except StateError as error:
                self._say(f"{error.sentence}; what came of messages is not recorded yet")
                if stop.wait(_REST_AFTER_FAULT_S):
                    return
            else:
                self._told = ""
                if told:
                    self._notify(told)
                return

    def _settle(self, desk: Desk, message: Message, page: Page | None, outcome: Outcome | None) -> str:
        """Write down what came of a message, unless somebody else has it by now."""
        current, at = desk.get(Message, message.id), self._clock()
        if current is None or current.state is not MessageState.SENDING or current.leased_by != self._worker:
            return ""
        if outcome is None:
            desk.put(outcomes.dropped(current))
        elif not outcome.error:
            desk.put(outcomes.sent(current, outcome.receipt, at))
            self._enter(desk, "message.sent", current, at)
        else:
            return self._failed(desk, current, page, outcome, at)
        return ""

    def _failed(self, desk: Desk, message: Message, page: Page | None, outcome: Outcome, at: dt.datetime) -> str:
        others = other_channels(message, self._manifest, page.category if page else None)
        attempts_max = self._manifest.oncall.attempts_max
        if not outcomes.exhausted(message, lasting=outcome.lasting, others=others, attempts_max=attempts_max):
            desk.put(outcomes.again(message, outcome.error, at, self._random))
            return ""
        if any(_stands(desk, outcomes.elsewhere(message, channel, at)) for channel in others):
            desk.put(outcomes.given_up(message, outcome.error, fallen_back=True))
            return f"{message.to} cannot be reached on {message.channel}, another channel is used: {outcome.error}"
        gone = outcomes.given_up(message, outcome.error, fallen_back=False)
        desk.put(gone)
        self._enter(desk, "message.dead", gone, at)
        self._dead(desk, gone, at)
        return f"a message to {message.to} could not be sent on any channel: {outcome.error}"

    def _enter(self, desk: Desk, kind: str, message: Message, at: dt.datetime) -> None:
        """Evidence of who was told of what, without where they live."""
        said = {"to": message.to, "channel": message.channel, "purpose": message.purpose, "attempts": message.attempts}
        cause = hashlib.sha256(message.id.encode()).hexdigest()[:32]
        desk.note(
            Entry(
                id=f"{kind}/{cause}",
                time=utc(at),
                kind=kind,
                platform=self._manifest.platform.name,
                subject=f"incident/{message.incident}" if message.incident is not None else "",
                body={**said, "message": message.id, "page": message.page},
            )
        )

    def _say(self, sentence: str) -> None:
        if sentence != self._told:
            self._told = sentence
            self._notify(sentence)


def _stands(desk: Desk, instead: Message) -> bool:
    """Whether a message that takes another's place is on its way, written now or before."""
    if desk.add(instead):
        return True
    there = desk.get(Message, instead.id)
    return there is not None and there.state not in (MessageState.DEAD, MessageState.FALLEN_BACK)
