"""The journal of acknowledgements, read from its end, and its writes looked for in whichever server is primary."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic, sleep
from typing import IO

from nvcops.adapters.acknowledgements import lines_from_here, next_line, opened
from nvcops.adapters.backup.restores_look import batched
from nvcops.core.clients import Kept, Seen, Told, seen_in
from nvcops.core.errors import DeadlineExceeded, Refused
from nvcops.core.manifest import Acknowledgements
from nvcops.core.target import Database

_BLOCK_BYTES = 1 << 20
_TAIL_BYTES_MAX = 1 << 30
_LATE = dt.timedelta(seconds=5)  # lines are written in the order in which answers came, give or take
_KEYS_AT_ONCE = 5_000
_LOOK_EVERY_S = 0.2
_MISSING_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalledClients:
    """See core.clients.Clients. `database` may read what the journal's query asks for."""

    entry: Acknowledgements
    database: Database

    def seen(self, start: dt.datetime, end: dt.datetime) -> Seen:
        """What customers saw between two moments."""
        return seen_in(line for line in self._since(start) if start <= line.time < end)

    def acknowledged_after(self, moment: dt.datetime, deadline_s: float) -> dt.datetime:
        """Wait for the next write."""
        end = monotonic() + deadline_s
        while True:
            after = [line.time for line in self._since(moment) if line.settled and line.time > moment]
            if after:
                return min(after)
            if monotonic() > end:
                raise DeadlineExceeded(f"no write was acknowledged within {deadline_s:g} s")
            sleep(_LOOK_EVERY_S)

    def kept(self, start: dt.datetime, end: dt.datetime) -> Kept:
        """Look for acknowledged writes in the database."""
        keys = [line.key for line in self._since(start) if line.settled and start <= line.time < end]
        missing: list[str] = []
        for some in batched(dict.fromkeys(keys), _KEYS_AT_ONCE):
            rows = self.database.rows(self.entry.query, {"keys": list(some)})
            there = {str(next(iter(row.values()))) for row in rows}
            missing += [key for key in some if key not in there]
        return Kept(acknowledged=len(set(keys)), missing=len(missing), missing_keys=tuple(missing[:_MISSING_SHOWN]))

    def _since(self, start: dt.datetime) -> Iterator[Told]:
        """The lines from a moment on, and some before it."""
        with opened(self.entry) as journal:
            self._seek(journal, start - _LATE)
            yield from lines_from_here(self.entry, journal)

    def _seek(self, journal: IO[bytes], start: dt.datetime) -> None:
        """Go back from the end, block by block, until a line is older than `start`."""
        size = journal.seek(0, 2)
        for back in range(_BLOCK_BYTES, min(size, _TAIL_BYTES_MAX), _BLOCK_BYTES):
            journal.seek(size - back)
            journal.readline()  # the rest of a line
            where = journal.tell()
            line = next_line(self.entry, journal)
            if line and line.time < start:
                journal.seek(where)
                return
        if size > _TAIL_BYTES_MAX:
            raise Refused(f"{self.entry.journal} holds more than {_TAIL_BYTES_MAX >> 20} MiB since {start:%H:%M:%S}")
        journal.seek(0)
