"""What a serving process does beside serving: probes, log flushes, expiry, AML, forgetting old failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import asyncpg

from nvcbank.errors import PartDown

if TYPE_CHECKING:
    from nvcbank.posting import Poster
    from nvcbank.service import Service
    from nvcbank.web.message import Response

PROBE_S = 0.5
PROBE_DOWN_S = 0.1  # while a part is down: customers wait for the moment in which it is back
FLUSH_S = 0.05
EXPIRE_HOLDS_S = 1.0
AML_LOOK_S = 5.0  # an account that paid often meanwhile is judged once
FORGET_S = 60.0
_AML_BATCH = 50_000
_BATCH = 1_000


def start_chores(service: Service, poster: Poster[Response]) -> list[asyncio.Task[None]]:
    """Start everything; cancel the tasks to stop."""

    async def flush() -> None:
        service.log.flush()
        poster.expire()

    async def expire_holds() -> None:
        await service.database.fetch("SELECT bank.expire_due_holds($1)", _BATCH)

    async def look_for_laundering() -> None:
        raised = 0
        for _ in range(2):  # one call notes how far the ledger is, the next judges up to there
            row = await service.database.fetchrow("SELECT bank.aml_look($1)", _AML_BATCH)
            raised += (row and row[0]) or 0
        if raised:
            service.metrics.cases.add(by=raised)
            service.log.event("warning", "aml.raised", cases=raised)

    async def forget() -> None:
        await service.database.fetch("SELECT bank.forget_old_failures($1)", _BATCH)

    chores = [
        (flush, lambda: FLUSH_S),
        (service.probe, lambda: PROBE_DOWN_S if service.down else PROBE_S),
        (expire_holds, lambda: EXPIRE_HOLDS_S),
        (look_for_laundering, lambda: AML_LOOK_S),
        (forget, lambda: FORGET_S),
    ]
    return [asyncio.create_task(_every(service, chore, pause_s)) for chore, pause_s in chores]


async def _every(service: Service, chore: Callable[[], Awaitable[None]], pause_s: Callable[[], float]) -> None:
    """Repeat a chore for ever. A part that is down is the probe's news; anything else is logged, and tried again."""
    while True:
        try:
            await chore()
        except PartDown:
            pass
        except asyncpg.PostgresError as error:
            service.log.event("error", "chore.failed", chore=chore.__name__, error=type(error).__name__)
        await asyncio.sleep(pause_s())
