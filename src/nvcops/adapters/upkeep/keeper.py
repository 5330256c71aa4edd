"""The primary of now, kept by a role of its own. See core.upkeep.Upkeep."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nvcops.adapters.postgres import PostgresServer
from nvcops.adapters.roles import Roles
from nvcops.adapters.upkeep.latency import Meter
from nvcops.adapters.upkeep.order import Carrying
from nvcops.adapters.upkeep.pending import PendingFile
from nvcops.adapters.upkeep.privileges import privileges
from nvcops.adapters.upkeep.statement import SQL
from nvcops.core.queries import Rows
from nvcops.core.upkeep import Done, Guard, Order, Pending, Privilege


@dataclass(slots=True, kw_only=True)
class PostgresUpkeep:
    """`servers` by name, `primary` the one that the manifest says, `roles` who it is where a cluster chooses.

    `notes` hold what nobody has accepted yet. A transaction older than `old_s` is not waited for by CONCURRENTLY.
    """

    servers: Mapping[str, PostgresServer]
    primary: str
    roles: Roles | None
    meter: Meter
    notes: PendingFile
    old_s: float = 30.0
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def name(self) -> str:
        """The name of the server that is primary now."""
        return self.roles.primary().name if self.roles else self.primary

    def carry_out(self, order: Order, guard: Guard) -> Done:
        """Carry an order out; one at a time."""
        with self._turn:
            return asyncio.run(self._carried_out(order, guard))

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None, *, deadline_s: float = 60.0) -> Rows:
        """Read with the eyes of that role."""
        return replace(self._server, deadline_s=deadline_s).rows(sql, parameters)

    def privileges(self) -> list[Privilege]:
        """What it needs and what of it it holds."""
        return privileges(SQL, self.rows)

    def pending(self) -> list[Pending]:
        """The changes that nobody has accepted."""
        return self.notes.read()

    def note(self, change: Pending) -> None:
        """Note a change before it is made."""
        self.notes.note(change)

    def settle(self, run: str, subjects: Sequence[str]) -> None:
        """Forget what was accepted or taken back."""
        self.notes.settle(run, subjects)

    @property
    def _server(self) -> PostgresServer:
        return self.servers[self.name]

    async def _carried_out(self, order: Order, guard: Guard) -> Done:
        await self.meter.learn()
        following = asyncio.create_task(self.meter.follow())
        try:
            await asyncio.sleep(0)  # it begins to look before anything is done
            carrying = Carrying(server=self._server, order=order, guard=guard, meter=self.meter, old_s=self.old_s)
            return await carrying.done()
        finally:
            following.cancel()
            await asyncio.wait({following})
