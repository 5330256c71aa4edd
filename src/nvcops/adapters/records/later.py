"""Records that are opened when they are asked for: most commands never do, and Django takes longer to load."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from nvcops.adapters.records import open_records
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk, Reading


@dataclass(frozen=True, slots=True)
class LaterRecords:
    """See core.records.Records; each transaction opens the records for itself, and lets go of them."""

    manifest: Manifest

    @contextmanager
    def changing(self) -> Iterator[Desk]:
        """A transaction that may write."""
        with closing(open_records(self.manifest)) as records, records.changing() as desk:
            yield desk

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """What stands there now."""
        with closing(open_records(self.manifest)) as records, records.reading() as reading:
            yield reading

    def claim(
        self,
        worker: str,
        at: dt.datetime,
        lease_until: dt.datetime,
        *,
        limit: int,
        each: int = 0,
        besides: Sequence[str] = (),
    ) -> Sequence[str]:
        """Lease messages that are due."""
        with closing(open_records(self.manifest)) as records:
            return records.claim(worker, at, lease_until, limit=limit, each=each, besides=besides)

    def drain(self, log: Any) -> int:
        """Move the evidence of committed changes into the log."""
        with closing(open_records(self.manifest)) as records:
            return records.drain(log)

    def wait(self, seconds: float) -> bool:
        """Wait until a message was written by this process."""
        with closing(open_records(self.manifest)) as records:
            return records.wait(seconds)

    def close(self) -> None:
        """There is nothing to let go of."""
