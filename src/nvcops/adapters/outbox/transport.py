"""Handing a message over: to a webhook by HTTP, to everything else through apprise in a process of its own."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from nvcops.adapters import http
from nvcops.adapters.outbox.addresses import Address
from nvcops.core.errors import TargetError
from nvcops.core.oncall import Message
from nvcops.core.target import Answer

MESSAGE_HEADER = "X-Nvcops-Message"  # by which a receiver knows a message that comes twice
_COURIER = Path(__file__).with_name("courier.py")  # run as a file: it needs apprise, and nothing of ours
_GRACE_S = 1.0
_START_S_MAX = 10.0
_SAID_MAX = 300
_ANSWER_BYTES_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: a receipt, or why not; `lasting` where another attempt would end the same."""

    receipt: str = ""
    error: str = ""
    lasting: bool = False


class Transport:
    """Sends, within a deadline. Used by several threads; none waits for another's message."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._turn = threading.Lock()
        self._courier: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Have apprise loaded before the first page."""
        with self._turn:
            self._running()

    def stop(self) -> None:
        """End the courier; copies of it that are sending end by themselves."""
        with self._turn:
            self._end()

    def send(self, message: Message, address: Address) -> Outcome:
        """One attempt."""
        if address.webhook:
            return self._post(message, address)
        try:
            return self._through_apprise(message, address)
        except OSError:  # the courier was killed since
            self.stop()
        try:
            return self._through_apprise(message, address)
        except OSError as error:
            return Outcome(error=f"the courier cannot be given a message: {http.reason(error)}")

    def _post(self, message: Message, address: Address) -> Outcome:
        where, path = _named(address.url), ""
        try:
            target, path, headers = _request_to(address.url, self._deadline_s)
            headers += [(MESSAGE_HEADER, message.id), ("Idempotency-Key", message.id)]
            conversation = http.Conversation(target, keep=False)
            answer = asyncio.run(_asked(conversation, path, payload_of(message), headers))
        except TargetError as error:
            return Outcome(error=without_secrets(error.sentence.replace(f" ({path})", ""), address.url))
        except ValueError:  # what it says may say the address, in another form
            return Outcome(
                error="the webhook's address is none: http:// or https:// and a host are expected", lasting=True
            )
        if 200 <= answer.status < 300:
            return Outcome(receipt=f"{where} answered {answer.status}")
        return Outcome(
            error=f"{where} answered {answer.status}", lasting=answer.status in (400, 404, 405, 410, 413, 422)
        )

    def _through_apprise(self, message: Message, address: Address) -> Outcome:
        where = _named(address.url)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._hand_over(theirs)
            job = {
                "url": address.url,
                "subject": message.subject,
                "body": message.body or message.subject,  # apprise sends nothing that has no body
                "headers": {MESSAGE_HEADER: message.id},
                "deadline_s": self._deadline_s,
            }
            ours.settimeout(self._deadline_s + _GRACE_S)
            try:
                ours.sendall(json.dumps(job).encode())
                ours.shutdown(socket.SHUT_WR)
                answer = _all_of(ours)
            except TimeoutError:
                answer = b""
        if not answer:
            return Outcome(error=f"{where} did not take it within {self._deadline_s:g} s")
        done = json.loads(answer)
        if done["sent"]:
            return Outcome(receipt=f"{where} took it")
        said = without_secrets(done["said"], address.url)
        return Outcome(error=f"{where} did not take it: {said or 'apprise gives no reason'}", lasting=done["lasting"])

    def _hand_over(self, theirs: socket.socket) -> None:
        with self._turn:
            socket.send_fds(self._running(), [b"."], [theirs.fileno()])

    def _running(self) -> socket.socket:
        if self._control is not None and self._courier is not None and self._courier.poll() is None:
            return self._control
        self._end()
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_START_S_MAX)
        with theirs:
            command = [sys.executable, "-P", str(_COURIER), str(theirs.fileno())]
            self._courier = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        return self._control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._courier is not None:
            self._courier.kill()
            self._courier.wait(_START_S_MAX)
        self._control = self._courier = None


def _request_to(url: str, deadline_s: float) -> tuple[http.Address, str, list[tuple[str, str]]]:
    """Where a webhook is asked, what for, and as whom."""
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise ValueError(parts.scheme)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = replace(http.Address.of(url, None, deadline_s), prefix="", url=_named(url))
    if parts.username is None:
        return target, path, []
    who = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return target, path, [("Authorization", f"Basic {base64.b64encode(who.encode()).decode()}")]


async def _asked(conversation: http.Conversation, path: str, body: bytes, headers: list[tuple[str, str]]) -> Answer:
    try:
        return await conversation.exchange(path, body, headers)
    finally:
        conversation.close()


def payload_of(message: Message) -> bytes:
    """What a webhook is posted: the notice as its room wrote it, else the message in Alertmanager's form, version 4."""
    if message.payload:
        return message.payload.encode()
    alert = {
        "status": "resolved" if message.purpose == "resolved" else "firing",
        "labels": {"alertname": message.purpose},
        "annotations": {"summary": message.subject, "description": message.body},
        "startsAt": message.created,
        "fingerprint": message.id,
    }
    shared = {"receiver": message.to.partition(":")[2], "groupKey": message.id, "groupLabels": {}, "alerts": [alert]}
    common = {"commonLabels": alert["labels"], "commonAnnotations": alert["annotations"], "externalURL": ""}
    return msgspec.json.encode({"version": "4", "status": alert["status"], "truncatedAlerts": 0, **shared, **common})


def _all_of(ours: socket.socket) -> bytes:
    answer = b""
    while len(answer) < _ANSWER_BYTES_MAX and (more := ours.recv(1 << 16)):
        answer += more
    return answer


def _named(url: str) -> str:
    """How an address is named in what is kept: its service and host."""
    with suppress(ValueError):
        parts = urlsplit(url)
        host = parts.hostname or ""
        return f"{parts.scheme} {host}" if "." in host or host == "localhost" else parts.scheme
    return "the address"


def without_secrets(text: str, url: str) -> str:
    """What was said about an address, without what only it holds.

    >>> without_secrets("no answer from slack://T0000/B1111?x=1 (T0000)", "slack://T0000/B1111?x=1")
    'no answer from ... (...)'
    """
    parts = re.split(r"[/?&=:@]+", url.partition("://")[2])
    pieces = sorted({url, *parts, *map(unquote, parts)}, key=len, reverse=True)
    host = _named(url).partition(" ")[2]
    for piece in pieces:
        if len(piece) > 3 and piece not in (host, "localhost"):
            text = text.replace(piece, "...")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_SAID_MAX]
