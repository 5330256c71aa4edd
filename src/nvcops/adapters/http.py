"""HTTP/1.1 over asyncio streams, parsed by h11: a check asks hundreds of addresses at once, and asks them once.

Why no client library: pools, redirects and retries are what a check must not have, and without them a request costs a
tenth (docs/decisions/metrics.md has the figures).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import h11

from nvcops.core.errors import DeadlineExceeded, Refused, TargetError, Unreachable
from nvcops.core.manifest import ServiceEntry
from nvcops.core.target import Answer, Question

_BODY_BYTES_MAX = 1 << 20
_AT_ONCE_MAX = 256
Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a question goes: `host` and `port` to connect to, `prefix` before its path."""

    host: str
    port: int
    prefix: str
    authority: str
    tls: ssl.SSLContext | None
    deadline_s: float
    url: str

    @classmethod
    def of(cls, url: str, ca_file: Path | None, deadline_s: float) -> Address:
        parts = urlsplit(url)
        tls = tls_context(ca_file) if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        return cls(
            parts.hostname or "", port, parts.path.rstrip("/"), parts.netloc.rpartition("@")[2], tls, deadline_s, url
        )

    def where(self, path: str) -> str:
        """How an error names the question."""
        return f"{self.url} ({path})"


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """What a customer's client trusts: the given authorities, else the system's; kept until the file changes."""
    return _tls_context(ca_file, ca_file.stat().st_mtime_ns if ca_file else 0)


@functools.lru_cache(maxsize=64)
def _tls_context(ca_file: Path | None, _changed_ns: int) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


class HttpServices:
    """The services of the manifest, asked over HTTP."""

    def __init__(self, entries: Sequence[ServiceEntry]) -> None:
        self._addresses: dict[tuple[str, str], Address] = {}
        for entry in entries:
            self._addresses[entry.name, ""] = Address.of(entry.url, entry.ca_file, entry.deadline)
            for instance in entry.instances:
                address = Address.of(instance.url, entry.ca_file, entry.deadline)
                self._addresses[entry.name, instance.name] = address

    def ask(self, questions: Sequence[Question]) -> list[Answer | TargetError]:
        """Ask all of them side by side."""
        return asyncio.run(self._ask(questions)) if questions else []

    async def _ask(self, questions: Sequence[Question]) -> list[Answer | TargetError]:
        room = asyncio.Semaphore(_AT_ONCE_MAX)

        async def one(question: Question) -> Answer | TargetError:
            address = self._addresses[question.service, question.instance]
            async with room:
                try:
                    return await exchange(address, question.path)
                except TargetError as error:
                    return error

        return await asyncio.gather(*map(one, questions))


async def exchange(address: Address, path: str, body: bytes | None = None) -> Answer:
    """GET a path, or POST a JSON body to it, on a connection of its own.

    Raises:
        TargetError: no answer within the address's deadline, or none that is HTTP.
    """
    conversation = Conversation(address, keep=False)
    try:
        return await conversation.exchange(path, body)
    finally:
        conversation.close()


class Conversation:
    """One exchange after the other with an address, on one connection for as long as it lasts."""

    def __init__(self, address: Address, *, keep: bool = True) -> None:
        self.address = address
        self._headers = [
            ("Host", address.authority),
            ("User-Agent", "nvcops"),
            ("Accept", "application/json, text/plain;version=0.0.4, */*;q=0.1"),
            ("Connection", "keep-alive" if keep else "close"),
        ]
        self._protocol = h11.Connection(h11.CLIENT)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def opened(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._streams is not None and not self._streams[0].at_eof()

    async def exchange(self, path: str, body: bytes | None = None, headers: Headers = ()) -> Answer:
        """GET a path, or POST a JSON body to it. After an error the next one begins on a new connection.

        Raises:
            TargetError: no answer within the address's deadline, or none that is HTTP.
        """
        address, where, whole = self.address, self.address.where(path), False
        try:
            async with asyncio.timeout(address.deadline_s):
                answer = await self._exchanged(path, body, headers)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{where} did not answer within {address.deadline_s:g} s") from error
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(f"{where} shows a certificate that is not trusted: {error.verify_message}") from error
        except h11.RemoteProtocolError as error:
            raise Refused(f"{where} did not speak HTTP: {error}") from error
        except OSError as error:
            raise Unreachable(f"{where} does not answer: {reason(error)}") from error
        else:
            whole = True
            return answer
        finally:
            if not whole or not self._again():
                self.close()

    def close(self) -> None:
        """Let go of the connection at once: every answer that is wanted was read."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    def _again(self) -> bool:
        """Whether the connection may carry another exchange; then it is ready for it."""
        if self._protocol.our_state is not h11.DONE or self._protocol.their_state is not h11.DONE:
            return False
        self._protocol.start_next_cycle()
        return True

    async def _exchanged(self, path: str, body: bytes | None, headers: Headers) -> Answer:
        reader, writer = await self._connected()
        started = perf_counter()
        writer.write(self._request(path, body, headers))
        status, said = await _response(self._protocol, reader, self.address.where(path))
        return Answer(status, perf_counter() - started, said, dt.datetime.now(dt.UTC))

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or not self.opened:
            self.close()
            host, port, tls = self.address.host, self.address.port, self.address.tls
            self._streams = await asyncio.open_connection(host, port, ssl=tls, server_hostname=host if tls else None)
            self._protocol = h11.Connection(h11.CLIENT)
        return self._streams

    def _request(self, path: str, body: bytes | None, headers: Headers) -> bytes:
        connection, target, said = self._protocol, self.address.prefix + path, [*self._headers, *headers]
        if body is None:
            request = h11.Request(method="GET", target=target, headers=said)
            return (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")
        said += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        request = h11.Request(method="POST", target=target, headers=said)
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        return b"".join(connection.send(event) or b"" for event in events)


async def _response(connection: h11.Connection, reader: asyncio.StreamReader, where: str) -> tuple[int, bytes]:
    status, body = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(1 << 16)
            if not data and not status:
                raise ConnectionResetError("the connection was closed without an answer")
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _BODY_BYTES_MAX:
                raise Refused(f"{where} answers with more than {_BODY_BYTES_MAX} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return status, bytes(body)


def reason(error: OSError) -> str:
    """The operating system's words, without the numbers and addresses around them.

    >>> reason(ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"))
    'connection refused'
    >>> reason(OSError("connection reset"))
    'connection reset'
    """
    import os

    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
