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
    """GET a path, or POST a JSON body to it.

    Raises:
        TargetError: no answer within the address's deadline, or none that is HTTP.
    """
    where = address.where(path)
    try:
        async with asyncio.timeout(address.deadline_s):
            return await _exchanged(address, path, body)
    except TimeoutError as error:
        raise DeadlineExceeded(f"{where} did not answer within {address.deadline_s:g} s") from error
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(f"{where} shows a certificate that is not trusted: {error.verify_message}") from error
    except h11.RemoteProtocolError as error:
        raise Refused(f"{where} did not speak HTTP: {error}") from error
    except OSError as error:
        raise Unreachable(f"{where} does not answer: {reason(error)}") from error


async def _exchanged(address: Address, path: str, body: bytes | None) -> Answer:
    host, port, tls = address.host, address.port, address.tls
    reader, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=host if tls else None)
    try:
        connection = h11.Connection(h11.CLIENT)
        started = perf_counter()
        writer.write(_request(connection, address, path, body))
        status, said = await _response(connection, reader, address.where(path))
        return Answer(status, perf_counter() - started, said, dt.datetime.now(dt.UTC))
    finally:
        writer.transport.abort()  # the answer is whole, or there is none: nothing to wait for


def _request(connection: h11.Connection, address: Address, path: str, body: bytes | None) -> bytes:
    headers = [
        ("Host", address.authority),
        ("User-Agent", "nvcops"),
        ("Accept", "application/json, text/plain;version=0.0.4, */*;q=0.1"),
        ("Connection", "close"),
    ]
    if body is None:
        request = h11.Request(method="GET", target=address.prefix + path, headers=headers)
        return (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")
    headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    request = h11.Request(method="POST", target=address.prefix + path, headers=headers)
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
