"""Records that are opened when they are asked for: by each transaction for itself, or once, as soon as they can be."""

from __future__ import annotations

import datetime as dt
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from nvcops.adapters.files import secret
from nvcops.adapters.records import open_records
from nvcops.core.errors import ManifestError, StateError
from nvcops.core.manifest import Manifest
from nvcops.core.records import FOUND_MAX, Desk, Reading, Records

_TRY_AGAIN_S = 1.0


class _Opened(ABC):
    """See core.records.Records; every method opens them first."""

    @abstractmethod
    def _opened(self) -> AbstractContextManager[Records]:
        """They, for as long as one question lasts."""

    @contextmanager
    def changing(self) -> Iterator[Desk]:
        """A transaction that may write."""
        with self._opened() as records, records.changing() as desk:
            yield desk

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """What stands there now."""
        with self._opened() as records, records.reading() as reading:
            yield reading

    def claim(
        self,
        worker: str,
        at: dt.datetime,
        lease_until: dt.datetime,
        *,
        limit: int,
        each: int = FOUND_MAX,
        besides: Sequence[str] = (),
    ) -> Sequence[str]:
        """Lease messages that are due."""
        with self._opened() as records:
            return records.claim(worker, at, lease_until, limit=limit, each=each, besides=besides)

    def drain(self, log: Any) -> int:
        """Move the evidence of committed changes into the log."""
        with self._opened() as records:
            return records.drain(log)

    def wait(self, seconds: float) -> bool:
        """Wait until a message was written by this process."""
        with self._opened() as records:
            return records.wait(seconds)


@dataclass(frozen=True, slots=True)
class LaterRecords(_Opened):
    """Each transaction opens the records for itself, and lets go of them: most commands never do."""

    manifest: Manifest

    def _opened(self) -> AbstractContextManager[Records]:
        return closing(open_records(self.manifest))

    def close(self) -> None:
        """There is nothing to let go of."""


class KeptRecords(_Opened):
    """Opened as soon as they can be, and kept: whoever serves goes on with everything else until then.

    After a failure nobody tries again for a second: many threads ask, and one attempt may take five.

    Raises:
        ManifestError: the password cannot be read. Later on that is a StateError, as all that passes.
    """

    def __init__(self, manifest: Manifest) -> None:
        secret(manifest.records.password_file, manifest.records.password_env)
        self._manifest = manifest
        self._turn = threading.Lock()
        self._records: Records | None = None
        self._failed: tuple[float, StateError] | None = None
        self._closed = False

    def _opened(self) -> AbstractContextManager[Records]:
        return nullcontext(self._records or self._open())

    def _open(self) -> Records:
        with self._turn:
            if self._closed:
                raise StateError("the records were closed")
            if self._records is None:
                if self._failed and time.monotonic() - self._failed[0] < _TRY_AGAIN_S:
                    raise StateError(self._failed[1].sentence, hint=self._failed[1].hint)
                try:
                    self._records = open_records(self._manifest)
                except (StateError, ManifestError) as error:
                    self._failed = (time.monotonic(), StateError(error.sentence, hint=error.hint))
                    raise self._failed[1] from error
            return self._records

    def close(self) -> None:
        """Let go of them, and open them no more."""
        with self._turn:
            self._closed = True
            records, self._records = self._records, None
        if records is not None:
            records.close()
