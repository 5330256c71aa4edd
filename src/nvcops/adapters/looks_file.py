"""The looks of analyses, in a file for each: lines that are appended, and synced before anybody relies on them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nvcops.core.errors import StateError

_FILE_BYTES_MAX = 1 << 30


@dataclass(frozen=True, slots=True)
class LooksFiles:
    """`folder/ROLLOUT/STEP.jsonl`."""

    folder: Path

    def lines(self, rollout: str, step: int) -> list[bytes]:
        """See core.rollouts.Looks."""
        path = self._path(rollout, step)
        try:
            if not path.exists():
                return []
            if path.stat().st_size > _FILE_BYTES_MAX:
                raise StateError(f"{path} has more than {_FILE_BYTES_MAX} bytes", hint="it is not one of ours")
            return [line for line in path.read_bytes().split(b"\n")[:-1] if line]
        except OSError as error:
            raise StateError(f"{path} cannot be read: {error.strerror}") from error

    def append(self, rollout: str, step: int, line: bytes) -> None:
        """See core.rollouts.Looks."""
        path = self._path(rollout, step)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("a+b") as file:
                _cut_torn_line(file)
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StateError(
                f"{path} cannot be written: {error.strerror}", hint="look at the disk of the state folder"
            ) from error

    def forget(self, keep: Collection[str]) -> int:
        """See core.rollouts.Looks."""
        stays = {self._path(rollout, 0).parent.name for rollout in keep}
        try:
            gone = [one for one in self.folder.iterdir() if one.name not in stays] if self.folder.exists() else []
            for one in gone:
                shutil.rmtree(one)
        except OSError as error:
            raise StateError(f"{self.folder} cannot be tidied: {error.strerror}") from error
        return len(gone)

    def _path(self, rollout: str, step: int) -> Path:
        return self.folder / re.sub(r"[^A-Za-z0-9@:_-]", "_", rollout) / f"{step}.jsonl"


def _cut_torn_line(file: BinaryIO) -> None:
    """A crash in the middle of a line left one without its end: it was never relied on."""
    end = file.seek(0, os.SEEK_END)
    if not end:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
