"""The door's server: one platform, one address, everything limited; it lives as long as `nvcops serve` does."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from nvcops.console.connections import REQUEST_S_MAX, Connection
from nvcops.console.served import Served, serve_now
from nvcops.core.errors import StateError

_AT_ONCE_MAX = 200
_BACKLOG = 128
_STOP_S_MAX = 3
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _Limited:
    """What comes in of one request; beyond `most` bytes it reads as a client that hung up, and `exceeded` says why."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._left = receive, most
        self.exceeded = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.exceeded = True
            return {"type": "http.disconnect"}
        return message


def application(platform: Served) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The ASGI application of a platform: bodies of at most [alerts] body_max bytes, each request within seconds."""
    inner = _django()
    most = platform.manifest.alerts.body_max

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        serve_now(platform)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > most:
            await _refuse(send, 413, f"the body has {int(declared)} bytes; {most} are the limit")
            return
        begun, coming = False, _Limited(receive, most)

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                await inner(scope, coming, sending)
        except TimeoutError:
            if not begun:
                await _refuse(send, 408, f"the request took longer than {REQUEST_S_MAX:.0f} s")
        if coming.exceeded and not begun:
            await _refuse(send, 413, f"the body has more than {most} bytes")

    return answer


def _django() -> Any:
    """Django's own handler; its models are set up by the records."""
    from django.conf import settings

    from nvcops.adapters.records.setup import configure

    configure()
    settings.ROOT_URLCONF = "nvcops.console.urls"
    settings.ALLOWED_HOSTS = ["*"]  # the token is who may; the name of the host says nothing
    settings.MIDDLEWARE = ["django.middleware.security.SecurityMiddleware"]
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None  # it is limited before Django sees it
    logging.getLogger("django.request").setLevel(logging.ERROR)  # what a client does wrong is told to the client
    from django.core.handlers.asgi import ASGIHandler

    import nvcops.console.urls  # noqa: F401 - what is wrong with it is known now, not at the first request

    return ASGIHandler()


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence, "hint": ""}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def listen(address: str) -> socket.socket:
    """A socket that listens there.

    Raises:
        StateError: it cannot.
    """
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host.strip("[]"), int(port)), backlog=_BACKLOG)
    except OSError as error:
        raise StateError(
            f"nothing can listen on {address}: {error.strerror or error}", hint="[alerts] listen names another address"
        ) from error


def serve(platform: Served, stop: threading.Event) -> None:
    """Answer at [alerts] listen until `stop` is set.

    Raises:
        StateError: nothing can listen there.
    """
    address = platform.manifest.alerts.listen
    if address is None:
        stop.wait()
        return
    with listen(address) as listening:
        server = uvicorn.Server(
            uvicorn.Config(
                application(platform),
                lifespan="off",
                http=Connection,
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=_AT_ONCE_MAX,
                timeout_graceful_shutdown=_STOP_S_MAX,
            )
        )
        over = threading.Event()

        def leave() -> None:
            while not stop.wait(0.2):
                if over.is_set():
                    return
            server.should_exit = True

        threading.Thread(target=leave, name="door", daemon=True).start()
        try:
            server.run(sockets=[listening])
        finally:
            over.set()
