"""The dead man's handle: an address elsewhere is called while all is well; who waits there alarms about silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from nvcops.adapters.files import read_secret
from nvcops.adapters.http import Address, exchange
from nvcops.core.errors import DeadlineExceeded, ManifestError, Refused, TargetError, Unreachable

_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Called each `interval_s` by whoever keeps the time. `well` says whether there is reason to believe in oneself.

    The address is a secret: it stands in a file that is read at each call, and in no error.
    """

    url_file: Path
    interval_s: float
    well: Callable[[], bool]
    name: str = "heartbeat"

    def __call__(self) -> None:
        """Call it, once, where all is well; where it is not, silence is what says so.

        Raises:
            ManifestError: the file holds no address.
            TargetError: nobody took the call.
        """
        if not self.well():
            return
        address, path = self._address()
        where = f"the heartbeat's address ({self.url_file})"
        try:
            answer = asyncio.run(exchange(address, path))
        except DeadlineExceeded:
            raise DeadlineExceeded(f"{where} did not answer within {_DEADLINE_S:g} s") from None
        except TargetError:
            raise Unreachable(f"{where} does not answer", hint="is it right, and may this host go there?") from None
        if not 200 <= answer.status < 300:
            raise Refused(f"{where} answers {answer.status}", hint="is it the address that the service gave?")

    def _address(self) -> tuple[Address, str]:
        url = read_secret(self.url_file)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ManifestError(
                f"{self.url_file} does not hold an address", hint='one line like "https://heartbeat.example.com/ID"'
            )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Address.of(f"{parts.scheme}://{parts.netloc}", None, _DEADLINE_S), path
