from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nvclab.customers.wire import Pool, Request, encode

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def served(handler: Handler, play: Callable[[int], Awaitable[None]]) -> None:
    async def until_they_leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(until_they_leave, "127.0.0.1", 0)
    async with server:
        await play(server.sockets[0].getsockname()[1])


async def answered(pool: Pool, data: bytes) -> tuple[int, bytes]:
    future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
    pool.send(Request(data, lambda status, body: future.set_result((status, body))))
    return await asyncio.wait_for(future, 10)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) if b"ontent-" in head else 0
    return head + await reader.readexactly(length)


def test_answers_come_whole_even_when_they_come_in_pieces() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            for piece in (b"HTTP/1.1 201 Created\r\nContent-", b"Length: 5\r\n\r", b"\nhel", b"lo"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)

    async def play(port: int) -> None:
        pool = Pool(port, connections_max=2, waiting_max=10, deadline_s=5)
        assert await answered(pool, encode("GET", "/")) == (201, b"hello")
        assert await answered(pool, encode("POST", "/", b"{}")) == (201, b"hello")
        assert len(pool._all) == 1
        pool.close()
        await asyncio.sleep(0.05)

    asyncio.run(served(handler, play))


def test_connections_have_a_limit_and_the_rest_waits() -> None:
    open_now, most = 0, 0  # nobody leaves before the end

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        while await read_request(reader):
            await asyncio.sleep(0.01)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def play(port: int) -> None:
        pool = Pool(port, connections_max=3, waiting_max=100, deadline_s=5)
        answers = await asyncio.gather(*(answered(pool, encode("GET", "/")) for _ in range(30)))
        assert answers == [(200, b"")] * 30
        pool.close()
        await asyncio.sleep(0.05)

    asyncio.run(served(handler, play))
    assert most == 3


def test_no_answer_in_time_is_told_and_the_connection_given_up() -> None:
    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def play(port: int) -> None:
        pool = Pool(port, connections_max=1, waiting_max=10, deadline_s=0.2)
        first = asyncio.create_task(answered(pool, encode("GET", "/")))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(answered(pool, encode("GET", "/")))
        await asyncio.sleep(0.3)
        pool.sweep()
        assert await first == (0, b"")
        pool.sweep()
        pool.close()
        assert (await waiting)[0] == 0

    asyncio.run(served(handler, play))


def test_nobody_there_and_too_many_waiting_are_told_at_once() -> None:
    async def play() -> None:
        pool = Pool(1, connections_max=1, waiting_max=1, deadline_s=5)
        first = asyncio.create_task(answered(pool, encode("GET", "/")))
        await asyncio.sleep(0)
        assert await answered(pool, encode("GET", "/")) == (0, b"")
        assert await first == (0, b"")

    asyncio.run(play())


def test_a_closed_connection_is_replaced() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async def play(port: int) -> None:
        pool = Pool(port, connections_max=1, waiting_max=10, deadline_s=5)
        for _ in range(5):
            assert (await answered(pool, encode("GET", "/")))[0] == 200
        pool.close()
        await asyncio.sleep(0.05)

    asyncio.run(served(handler, play))
