"""What the handlers of one process share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nvcbank.errors import PartDown

if TYPE_CHECKING:
    from nvcbank.clock import Clock
    from nvcbank.database import Pool
    from nvcbank.log import Log
    from nvcbank.metrics import Metrics
    from nvcbank.passwords import PasswordWork
    from nvcbank.sessions import Sessions


@dataclass
class Service:
    """The parts of a running bank. `down` says why a part is not ready; a part that is not in it is."""

    instance: str
    started: str
    clock: Clock
    log: Log
    metrics: Metrics
    database: Pool
    sessions: Sessions
    passwords: PasswordWork
    down: dict[str, str] = field(default_factory=lambda: {"database": "not asked yet", "cache": "not asked yet"})
    draining: bool = False
    release: str = ""
    _pseudonym_key: bytes = b""

    async def pseudonym_key(self) -> bytes:
        """The key of the pseudonyms in log lines, the same on all instances. Raises PartDown."""
        if not self._pseudonym_key:
            row = await self.database.fetchrow("SELECT value FROM bank.instance_secret WHERE name = 'pseudonym'")
            self._pseudonym_key = bytes(row[0]) if row else b""
        return self._pseudonym_key

    async def probe(self) -> None:
        """Ask every part whether it is there, and remember the answers for `readyz` and the log."""
        await asyncio.gather(self._probe_database(), self._probe_cache())

    async def _probe_database(self) -> None:
        try:
            await self.database.fetch("SELECT FROM bank.applied_migration LIMIT 1", within_s=1.0)
        except PartDown as error:
            self._note("database", error.why)
        except Exception as error:  # noqa: BLE001 - no schema, no privilege: not ready, and here is why
            self._note("database", f"it refused ({type(error).__name__})")
        else:
            self._note("database", None)

    async def _probe_cache(self) -> None:
        try:
            await self.sessions.ping()
        except PartDown as error:
            self._note("cache", error.why)
        else:
            self._note("cache", None)

    def _note(self, part: str, why: str | None) -> None:
        was = self.down.get(part)
        if why is None:
            if self.down.pop(part, None) is not None:
                self.log.event("info", "part.up", part=part)
        else:
            self.down[part] = why
            if was is None or was == "not asked yet":
                self.log.event("error", "part.down", part=part, why=why)
