"""Where the evidence of runs goes when its own folder cannot be used: a spool elsewhere, folded in later."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from nvcops.adapters.evidence import files
from nvcops.adapters.evidence.log import EvidenceLog
from nvcops.adapters.evidence.spool import Spool
from nvcops.core.errors import EvidenceError, StateError
from nvcops.core.evidence import SPOOLED, Entry
from nvcops.core.evidence.entry import encode
from nvcops.core.schedule import now

Notify = Callable[[str], None]


class Evidence:
    """The log, or the next best place."""

    def __init__(self, platform: str, open_log: Callable[[], EvidenceLog], notify: Notify) -> None:
        self._elsewhere = _temporary() / f"nvcops-{os.getuid()}" / platform
        self._notify = notify
        self._said: set[str] = set()
        self._spool: Spool | None = None
        self.log: EvidenceLog | None = None
        try:
            self.log = open_log()
            self._fold()
        except StateError as error:
            self.say(f"{error.sentence}: evidence waits in {self._elsewhere} and is folded in later")

    def keep(self, entries: Sequence[Entry]) -> None:
        """Record entries in the log, else in its spool, else elsewhere."""
        try:
            if self.log is not None:
                if SPOOLED in self.log.append(entries):
                    self.say("the evidence log cannot be written now: evidence waits beside it and is folded in later")
                return
        except StateError as error:
            self.say(f"{error.sentence}: evidence waits in {self._elsewhere} and is folded in later")
        folder = self._own_folder()
        self._spool = self._spool or Spool(folder)
        self._spool.keep([encode(entry) for entry in entries])

    def sign(self) -> None:
        """Sign the log as it stands, so that nothing behind the last checkpoint is left to trust."""
        try:
            if self.log is not None:
                self.log.checkpoint(now())
        except (StateError, EvidenceError) as error:
            self.say(f"{error.sentence}: the evidence is recorded, and not signed yet")

    def close(self) -> None:
        """Let go of the log's files."""
        if self.log is not None:
            self.log.close()

    def _fold(self) -> None:
        """Bring in what an earlier process left elsewhere."""
        if self.log is None or not os.path.lexists(self._elsewhere):
            return
        try:
            folder = self._own_folder()
        except StateError as error:
            self.say(f"{error.sentence}: nothing that lies in it becomes evidence")
            return
        self.log.fold(folder)

    def _own_folder(self) -> Path:
        """The folder elsewhere, and the one around it, made where they are missing: anybody may write beside them.

        Raises:
            StateError: somebody else made one of them, or can write into it.
        """
        for folder in (self._elsewhere.parent, self._elsewhere):
            if not os.path.lexists(folder):
                files.private_folder(folder)
            try:
                status = folder.lstat()
            except OSError as error:
                raise files.unusable(folder, error) from error
            if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077:
                raise StateError(f"{folder} is not a private folder of ours", hint="remove it, and ask who made it")
        return self._elsewhere

    def say(self, sentence: str) -> None:
        """Tell what should not go unnoticed, once."""
        if sentence not in self._said:
            self._said.add(sentence)
            self._notify(sentence)


def _temporary() -> Path:
    """The machine's temporary folder, also on a day when nothing can be written to it."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # it was tried with a file: the disk is full
        return Path(os.environ.get("TMPDIR") or os.sep + "tmp")
