"""The witness: a file of all checkpoints, kept where whoever can change the log cannot change it too.

Each kept checkpoint stands in it, in order, with an empty line in between. It only ever grows; so a log whose
checkpoints do not go on where the witness ends was put back to an older state.
"""

from __future__ import annotations

import os
from pathlib import Path

from nvcops.adapters.evidence import files
from nvcops.core.errors import EvidenceError, StateError
from nvcops.core.evidence.checkpoint import join_notes, split_notes


class Witness:
    """A witness file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> str:
        """All of it; a file that is not there is empty.

        Raises:
            StateError: it cannot be read, or the folder (another disk?) is not there.
        """
        if not self.path.parent.is_dir():
            raise StateError(
                f"the witness folder {self.path.parent} is not there", hint="mount it, or set evidence.witness right"
            )
        try:
            return self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        except UnicodeDecodeError:
            raise EvidenceError(f"the witness {self.path} is damaged: it is not text") from None
        except OSError as error:
            raise files.unusable(self.path, error) from error

    def continues(self, kept: list[str], given: int) -> str:
        """What the witness still lacks of the kept checkpoints, of which it was given the first `given`.

        Raises:
            EvidenceError: the kept checkpoints do not go on from it: something was cut, changed or put back.
        """
        content, whole = self.read(), join_notes(kept)
        if not whole.startswith(content):
            raise EvidenceError(
                f"the log's checkpoints do not go on from those of the witness {self.path}",
                hint="was an older copy put back? `nvcops evidence audit` names the first bad index",
            )
        if len(split_notes(content)[0]) < given:
            raise EvidenceError(f"the witness {self.path} has lost checkpoints that it was given")
        return whole[len(content) :]

    def extend(self, text: str) -> None:
        """Append, durably.

        Raises:
            StateError: the disk is full, or not writable.
        """
        if not text:
            return
        try:
            files.write_all(self.path, text.encode(), os.O_APPEND)
            files.sync_folder(self.path.parent)
        except OSError as error:
            raise files.unusable(self.path, error) from error
