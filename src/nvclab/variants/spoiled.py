"""What a bad release does. This file is copied into the bank's package of such a release, and imports nothing of ours.

It stands between the bank's router and its handlers: the bank itself has no faults to be switched on.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

WORK = "/v1/"
_MIB = 1 << 20


class Spoiled(Exception):
    """A request fails as by a bug."""


@dataclass
class Spoiler:
    """How requests are spoiled; those below /v1/, from the `after`th on.

    `errors`: share of requests that fail. `pace_ms`: what work takes besides, on average. `crash_s`: the process ends
    so long after its first request. `leak_mib_per_s` up to `leak_mib`. `ready` False: it never is. `metrics`: "gone",
    or another prefix than nvcbank_.
    """

    errors: float = 0.0
    pace_ms: float = 0.0
    after: int = 0
    crash_s: float = 0.0
    leak_mib_per_s: float = 0.0
    leak_mib: int = 0
    ready: bool = True
    metrics: str = ""
    _begun: bool = False
    _seen: int = 0
    _held: list[bytearray] = field(default_factory=list)

    def take(self, router: Any, metrics: Any) -> None:
        """Stand between a class of routers and the handlers that it finds, and before what a class of metrics says."""
        find, text = router.find, metrics.text

        def found(itself: Any, request: Any) -> Any:
            handler = find(itself, request)
            return self.handler(request.path, handler)

        router.find = found
        if self.metrics and self.metrics != "gone":
            metrics.text = lambda itself: text(itself).replace(b"nvcbank_", self.metrics.encode())

    def handler(self, path: str, handler: Any) -> Any:
        """The handler of a request, spoiled where it is its turn."""
        if not self._begun:
            self._begin()
        if (path == "/readyz" and not self.ready) or (path == "/metrics" and self.metrics == "gone"):
            return _fail
        if not path.startswith(WORK):
            return handler
        self._seen += 1
        if self._seen <= self.after:
            return handler
        if random.random() < self.errors:  # noqa: S311 - chance, no secret
            return _fail
        return self._paced(handler) if self.pace_ms else handler

    def _paced(self, handler: Any) -> Any:
        """The handler after a pause, as of a service that has more to do; gamma: no two requests take the same."""

        async def later(request: Any) -> Any:
            await asyncio.sleep(random.gammavariate(4.0, self.pace_ms / 4.0) / 1000)
            answer = handler(request)
            return await answer if inspect.isawaitable(answer) else answer

        return later

    def _begin(self) -> None:
        self._begun = True
        for wanted, work in ((self.crash_s, self._crash), (self.leak_mib_per_s, self._leak)):
            if wanted:
                threading.Thread(target=work, daemon=True).start()

    def _crash(self) -> None:
        time.sleep(self.crash_s)
        os._exit(139)

    def _leak(self) -> None:
        while len(self._held) < self.leak_mib:
            self._held.append(bytearray(os.urandom(4096) * (_MIB // 4096)))
            time.sleep(1 / self.leak_mib_per_s)


def _fail(_: Any) -> Any:
    raise Spoiled
