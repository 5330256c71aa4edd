"""What can happen to a question over HTTP: each is an answer or a sentence, within the deadline."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pytest

from nvcops.adapters import http
from nvcops.adapters.http import HttpServices
from nvcops.core.errors import DeadlineExceeded, Refused, TargetError, Unreachable
from nvcops.core.manifest import Instance, ServiceEntry
from nvcops.core.target import Answer, Question
from nvcops.core.units import Seconds

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Servers:
    """Real servers on loopback, each with one habit."""

    loop: asyncio.AbstractEventLoop
    requests: list[bytes] = field(default_factory=list)
    listening: list[asyncio.Server] = field(default_factory=list)

    def start(self, habit: Handler) -> int:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                await habit(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                return
            finally:
                writer.close()

        async def begin() -> int:
            server = await asyncio.start_server(handle, "127.0.0.1", 0)
            self.listening.append(server)
            return int(server.sockets[0].getsockname()[1])

        return asyncio.run_coroutine_threadsafe(begin(), self.loop).result(5)


@pytest.fixture
def servers() -> Iterator[Servers]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servers = Servers(loop)
    yield servers

    async def end() -> None:
        for server in servers.listening:
            server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def sends(*pieces: bytes, pause_s: float = 0.0) -> Handler:
    async def habit(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return habit


def ask(port: int, *, deadline_s: float = 5.0, path: str = "/readyz", base: str = "") -> Answer | TargetError:
    entry = ServiceEntry(name="web", url=f"http://127.0.0.1:{port}{base}", deadline=Seconds(deadline_s))
    return HttpServices([entry]).ask([Question("web", path)])[0]


def test_an_answer_with_its_length(servers: Servers) -> None:
    port = servers.start(sends(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nnot ", b"more than that"))
    answer = ask(port, base="/shop/", path="/readyz?deep=1")
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (503, b"not ")
    assert servers.requests[0].startswith(b"GET /shop/readyz?deep=1 HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{port}".encode() in servers.requests[0].lower()


def test_an_answer_in_chunks_and_one_that_ends_with_the_connection(servers: Servers) -> None:
    chunked = servers.start(
        sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")
    )
    closed = servers.start(sends(b"HTTP/1.0 200 OK\r\n\r\nuntil the end"))
    assert [getattr(ask(port), "body", None) for port in (chunked, closed)] == [b"abcde", b"until the end"]


def test_a_redirect_is_an_answer_and_is_not_followed(servers: Servers) -> None:
    port = servers.start(sends(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"))
    answer = ask(port)
    assert isinstance(answer, Answer)
    assert answer.status == 302
    assert len(servers.requests) == 1


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",), Refused),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",), Refused),
        ((), (Unreachable, Refused)),
    ],
)
def test_what_is_not_an_answer_is_a_sentence(servers: Servers, pieces: tuple[bytes, ...], kind: type) -> None:
    answer = ask(servers.start(sends(*pieces)))
    assert isinstance(answer, kind)
    assert "127.0.0.1" in answer.sentence  # type: ignore[attr-defined]


def test_a_body_without_end_is_refused(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_BODY_BYTES_MAX", 10_000)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    port = servers.start(sends(head, *[b"3e8\r\n" + b"x" * 1_000 + b"\r\n"] * 50))
    assert isinstance(ask(port), Refused)


def test_nobody_listens() -> None:
    answer = ask(1)
    assert isinstance(answer, Unreachable)
    assert answer.sentence.endswith("does not answer: connection refused")


def test_the_deadline_holds_for_the_whole_and_drops_do_not_extend_it(servers: Servers) -> None:
    silent = servers.start(sends(pause_s=60))
    silent_for_ever = servers.start(sends(b"", pause_s=60))
    dripping = servers.start(sends(*[b"HTTP/1.1 200 OK\r\n"], *[b"X-Drop: 1\r\n"] * 500, pause_s=0.05))
    ports = (silent_for_ever, dripping)
    began = time.monotonic()
    answers = [ask(port, deadline_s=0.4) for port in ports]
    assert all(isinstance(answer, DeadlineExceeded) for answer in answers), answers
    assert time.monotonic() - began < 10
    assert isinstance(ask(silent), TargetError)


def test_dead_instances_are_asked_side_by_side(servers: Servers) -> None:
    good = servers.start(sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    silent = servers.start(sends(b"", pause_s=60))
    instances = tuple(
        Instance(name=f"web-{number}", url=f"http://127.0.0.1:{silent if number else good}") for number in range(20)
    )
    entry = ServiceEntry(name="web", url=f"http://127.0.0.1:{good}", deadline=Seconds(1), instances=instances)
    began = time.monotonic()
    answers = HttpServices([entry]).ask([Question("web", "/", instance.name) for instance in instances])
    assert time.monotonic() - began < 10, "one after the other they would have taken 19 s"
    assert isinstance(answers[0], Answer)
    assert {type(answer) for answer in answers[1:]} == {DeadlineExceeded}


def test_nothing_asked_is_nothing_answered() -> None:
    assert HttpServices([]).ask([]) == []
