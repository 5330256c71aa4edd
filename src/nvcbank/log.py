"""JSON log lines: one object per line, no personal data, no secrets. Written in batches, off the path of a request."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from nvcbank.clock import Clock
from nvcbank.errors import SettingError

MOST_BUFFERED = 20_000
_encode = msgspec.json.Encoder().encode


class Log:
    """A buffer in front of a file or standard output; `flush` is called every few hundredths of a second.

    A full disk never stops the bank: lines that cannot be written are counted in `dropped`.
    """

    def __init__(self, path: Path | None, instance: str, clock: Clock) -> None:
        """Open the file.

        Raises:
            SettingError: when it cannot be written.
        """
        self._path = path
        self._clock = clock
        self._instance = instance
        self._tail = f'","instance":"{instance}","request_id":"'
        self._lines: list[str] = []
        self._rest = b""
        self._fd = self._open()
        self.dropped = 0

    def request(self, request_id: str, route: str, method: str, status: int, seconds: float) -> None:
        """One answered request. All parts are ours or restricted to safe characters, so no escaping is needed."""
        level = "info" if status < 500 else "error"
        self._add(
            f'{{"time":"{self._clock.stamp()}","level":"{level}","event":"request{self._tail}{request_id}","route":"{route}'
            f'","method":"{method}","status":{status},"seconds":{seconds:.6f}}}\n'
        )

    def event(self, level: str, event: str, request_id: str = "", **facts: Any) -> None:
        """Anything else worth a line. `facts` must hold no personal data: use a pseudonym."""
        line = {"time": self._clock.stamp(), "level": level, "event": event, "instance": self._instance}
        if request_id:
            line["request_id"] = request_id
        self._add(_encode(line | facts).decode() + "\n")

    def _add(self, line: str) -> None:
        if len(self._lines) >= MOST_BUFFERED:
            self.dropped += 1
            return
        self._lines.append(line)

    def flush(self) -> None:
        """Write what has gathered. What a full disk cut off in the middle of a line is completed first."""
        if not self._lines and not self._rest:
            return
        pending = self._rest + "".join(self._lines).encode()
        count = len(self._lines)
        self._lines.clear()
        try:
            written = os.write(self._fd, pending)
        except OSError:
            self.dropped += count
            return
        self._rest = pending[written:] if len(pending) - written < 1_000_000 else b""
        if written < len(pending) and not self._rest:
            self.dropped += pending[written:].count(b"\n")

    def reopen(self) -> None:
        """Go on in a new file of the same name: the old one was rotated away. Without a path, nothing happens."""
        if self._path is None:
            return
        self.flush()
        try:
            fd = self._open()
        except SettingError as error:
            self.event("error", "log.reopen_failed", why=error.sentence)
            return
        os.close(self._fd)
        self._fd = fd

    def close(self) -> None:
        """Write the rest and close the file."""
        self.flush()
        if self._path is not None:
            os.close(self._fd)

    def _open(self) -> int:
        if self._path is None:
            return 1
        try:
            return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise SettingError(
                f"NVCBANK_LOG cannot be written: {error}", hint="name a file in a folder that this user may write to"
            ) from None


def pseudonym(key: bytes, kind: str, name: str) -> str:
    """A stable reference to a person that says nothing about them: 96 bits of a keyed hash.

    >>> pseudonym(b"k" * 32, "customer", "a@b") == pseudonym(b"k" * 32, "customer", "a@b")
    True
    >>> len(pseudonym(b"k" * 32, "customer", "a@b"))
    24
    """
    return hashlib.blake2b(f"{kind}:{name}".encode(), key=key[:64], digest_size=12).hexdigest()
