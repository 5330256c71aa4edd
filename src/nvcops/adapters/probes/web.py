"""Probes of addresses: HTTP, a connection, a handshake."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import Callable

from nvcops.adapters.http import Address, Conversation, Headers, reason, tls_context
from nvcops.adapters.probes.asking import Exceeded, NotLooked
from nvcops.core.errors import Refused, Unreachable
from nvcops.core.manifest.probe_options import HttpOptions, TcpOptions, TlsOptions
from nvcops.core.probes import why_not_ready
from nvcops.core.target import Answer

_EXCHANGES_MAX = 10  # then a new connection: who can only talk to those who are in is not well


class KeptConversation:
    """An address asked again and again: on a kept connection, now and then on a new one.

    A kept connection that is gone says nothing about who is asked; then it is asked once more on a new one.
    """

    def __init__(self, address: Callable[[], Address], *, kept: bool) -> None:
        self._address, self._kept = address, kept
        self._conversation: Conversation | None = None
        self._left = 0

    async def exchange(
        self, path: str, body: bytes | None = None, headers: Headers = (), *, fresh: bool = False
    ) -> Answer:
        """One answer. Raises as `Conversation.exchange`."""
        if fresh or not self._kept:
            alone = Conversation(self._address(), keep=False)
            try:
                return await alone.exchange(path, body, headers)
            finally:
                alone.close()
        conversation = self._current()
        opened = conversation.opened
        try:
            return await conversation.exchange(path, body, headers)
        except Unreachable:
            if not opened:
                raise
            return await conversation.exchange(path, body, headers)

    def _current(self) -> Conversation:
        if self._conversation is None or self._left == 0:
            self.close()
            self._conversation, self._left = Conversation(self._address()), _EXCHANGES_MAX
        self._left -= 1
        return self._conversation

    def close(self) -> None:
        """Let go of the connection."""
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None


class HttpAsker:
    """A GET that is answered as it should be."""

    twice, patient = True, False

    def __init__(self, options: HttpOptions, path: str, conversation: KeptConversation) -> None:
        self._options, self._path, self._conversation = options, path, conversation

    async def ask(self, *, fresh: bool) -> float | None:
        """Ask; a readiness says itself why not."""
        answer = await self._conversation.exchange(self._path, fresh=fresh)
        expected = self._options.expect
        if answer.status != expected:
            why = why_not_ready(answer) if answer.status != 200 else f"answers {answer.status}"
            raise Refused(why if expected == 200 else f"{why} instead of {expected}")
        if self._options.contains and self._options.contains.encode() not in answer.body:
            raise Refused(f"answers without {self._options.contains!r}")
        return None

    async def close(self) -> None:
        """Let go of the connection."""
        self._conversation.close()


class TcpAsker:
    """A connection that is accepted."""

    twice, patient = True, False

    def __init__(self, options: TcpOptions) -> None:
        self._address = options.address

    async def ask(self, *, fresh: bool) -> float | None:  # noqa: ARG002 - each one is new
        """Connect, and leave."""
        host, _, port = self._address.rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError as error:
            raise Unreachable(f"{self._address} does not answer: {reason(error)}") from error
        writer.transport.abort()
        return None

    async def close(self) -> None:
        """Nothing is kept."""


class TlsAsker:
    """A certificate that customers trust now, and for some days more. The figure is the days that it has left."""

    twice, patient = True, False

    def __init__(self, options: TlsOptions, deadline_s: float) -> None:
        self._options, self._deadline_s = options, deadline_s
        self._host, _, self._port = options.address.rpartition(":")
        self._name = options.name or self._host

    async def ask(self, *, fresh: bool) -> float | None:  # noqa: ARG002 - each one is new
        """One handshake. That nothing listens there is what other probes are about."""
        where = f"{self._name} ({self._options.address})"
        try:
            until = await self._valid_until()
        except ssl.SSLCertVerificationError as error:
            raise Refused(f"{where} shows a certificate that is not trusted: {error.verify_message}") from error
        except TimeoutError as error:
            raise NotLooked(f"{where} did not finish the handshake within {self._deadline_s:g} s") from error
        except ssl.SSLError as error:
            raise Refused(f"{where} refused the handshake: {error.reason or error}") from error
        except OSError as error:
            raise NotLooked(f"{where} does not answer: {reason(error)}") from error
        days = (until - dt.datetime.now(dt.UTC)).total_seconds() / 86400
        if days < self._options.days:
            raise Exceeded(f"{where} has {days:.1f} days left, less than {self._options.days:g}", days)
        return days

    async def _valid_until(self) -> dt.datetime:
        context = tls_context(self._options.ca_file)
        async with asyncio.timeout(self._deadline_s):
            _, writer = await asyncio.open_connection(
                self._host, int(self._port), ssl=context, server_hostname=self._name
            )
        try:
            certificate = writer.get_extra_info("peercert")
            return dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), dt.UTC)
        finally:
            writer.transport.abort()

    async def close(self) -> None:
        """Nothing is kept."""
