"""Sessions live in Valkey under the hash of their token, so that all instances know them and none can leak them."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable
from typing import Any, Literal

import msgspec
import valkey.asyncio
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import ValkeyError

from nvcbank.errors import PartDown

LIFETIME_S = 8 * 3600
# How long a revoked token may still be honoured by an instance that has just seen it.
TRUSTED_S = 5.0
MOST_TRUSTED = 50_000
CACHE_S = 1.0


class Session(msgspec.Struct, frozen=True):
    """Who is signed in; `ref` is their pseudonym for log lines."""

    kind: Literal["customer", "staff"]
    user_id: int
    ref: str


_decode = msgspec.json.Decoder(Session).decode
_encode = msgspec.json.Encoder().encode


class Sessions:
    """Creates, finds and revokes sessions. Tokens asked for in the same turn of the event loop share one round trip."""

    def __init__(self, url: str) -> None:
        self._valkey = valkey.asyncio.Valkey.from_url(
            url,
            socket_timeout=CACHE_S,
            socket_connect_timeout=CACHE_S,
            retry=Retry(NoBackoff(), 0),
            max_connections=64,
        )
        self._trusted: dict[bytes, tuple[Session, float]] = {}
        self._asked: dict[bytes, asyncio.Future[Session | None]] = {}
        self._rounds: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Close the connections."""
        await self._valkey.aclose()

    async def ping(self) -> None:
        """Ask whether the cache is there.

        Raises:
            PartDown: when it is not.
        """
        await self._ask(self._valkey.ping())

    async def create(self, session: Session) -> str:
        """Start a session; returns its token. Raises PartDown."""
        token = secrets.token_urlsafe(32)
        await self._ask(self._valkey.set(_key(token.encode()), _encode(session), ex=LIFETIME_S))
        return token

    async def revoke(self, token: bytes) -> None:
        """End a session: here at once, elsewhere within `TRUSTED_S`. Raises PartDown."""
        self._trusted.pop(token, None)
        await self._ask(self._valkey.delete(_key(token)))
        self._trusted.pop(token, None)

    def trusted(self, token: bytes, now: float) -> Session | None:
        """The session of a token that was looked up a moment ago, without asking anybody."""
        known = self._trusted.get(token)
        return known[0] if known is not None and known[1] > now else None

    async def find(self, token: bytes) -> Session | None:
        """The session of a token, or None. Raises PartDown."""
        waiting = self._asked.get(token)
        if waiting is None:
            if not self._asked:
                task = asyncio.create_task(self._round_trip())
                self._rounds.add(task)
                task.add_done_callback(self._rounds.discard)
            waiting = self._asked[token] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(waiting)

    async def _round_trip(self) -> None:
        """One MGET for all tokens that were asked for since the last one."""
        asked, self._asked = self._asked, {}
        tokens = list(asked)
        try:
            stored = await self._ask(self._valkey.mget([_key(token) for token in tokens]))
        except PartDown as error:
            for waiting in asked.values():
                waiting.set_exception(error)
                waiting.exception()  # seen: a client that left does not fetch it
            return
        until = asyncio.get_running_loop().time() + TRUSTED_S
        if len(self._trusted) > MOST_TRUSTED:
            self._trusted.clear()
        for token, value in zip(tokens, stored, strict=True):
            session = None if value is None else _decode(value)
            if session is not None:
                self._trusted[token] = (session, until)
            asked[token].set_result(session)

    async def _ask(self, question: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(CACHE_S):
                return await question
        except (OSError, TimeoutError, ValkeyError) as error:
            late = isinstance(error, TimeoutError | valkey.exceptions.TimeoutError)
            why = "it did not answer in time" if late else "the connection was refused or lost"
            raise PartDown("cache", why) from error


def _key(token: bytes) -> str:
    return f"session:{hashlib.sha256(token).hexdigest()}"
