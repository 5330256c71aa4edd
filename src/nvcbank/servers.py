"""The database servers of which one is primary: found again within a moment when it is another one.

A URL may name several, "host:port,host:port"; with target_session_attrs=read-write only the primary will do.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import asyncpg

HEDGE_S = 0.1


class Servers:
    """Connects to whichever of the servers will do, beginning with the one that did the last time."""

    def __init__(self, url: str) -> None:
        self._urls = urls_of(url)

    async def connect(self, *_: object, timeout: float, **options: Any) -> asyncpg.Connection:  # noqa: ASYNC109 - the pool's word
        """A connection; in the form in which a pool asks for one.

        A server that has not answered within a tenth of a second is asked beside the next: a frozen one delays nobody.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError: none would do; the last one's reason.
        """
        asked: dict[asyncio.Task[asyncpg.Connection], str] = {}
        waiting: set[asyncio.Task[asyncpg.Connection]] = set()
        reason: BaseException | None = None
        try:
            for url in [*self._urls, ""]:
                if url:
                    task = asyncio.create_task(asyncpg.connect(url, timeout=timeout, **options))
                    asked[task] = url
                    waiting.add(task)
                while waiting:
                    patience_s = HEDGE_S if url else None
                    done, waiting = await asyncio.wait(waiting, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        reason = task.exception()
                        if reason is None:
                            self._prefer(asked.pop(task))
                            return task.result()
                    if not done:
                        break
        finally:
            for task in asked:
                _forget(task)
        raise reason or OSError("no server is named")

    def _prefer(self, url: str) -> None:
        self._urls.sort(key=lambda other: other != url)


def urls_of(url: str) -> list[str]:
    """A URL for each of its hosts.

    >>> urls_of("postgresql://me:x@a:1,b:2/bank?target_session_attrs=read-write")[1]
    'postgresql://me:x@b:2/bank?target_session_attrs=read-write'
    >>> urls_of("postgresql://a/bank")
    ['postgresql://a/bank']
    """
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [parts._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(",")]


def _forget(task: asyncio.Task[asyncpg.Connection]) -> None:
    """Nobody wants this connection any more: whatever becomes of the attempt, nothing stays open."""

    def close(done: asyncio.Task[asyncpg.Connection]) -> None:
        with suppress(asyncio.CancelledError, Exception):
            done.result().terminate()

    task.add_done_callback(close)
    task.cancel()
