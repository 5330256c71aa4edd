"""Changes of the live database that nobody has accepted yet, in a file: what a run that ended early left in force."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nvcops.adapters.backup.locks import hold_file
from nvcops.adapters.backup.restores_place import write_whole
from nvcops.adapters.evidence.files import private_folder, unusable
from nvcops.core.errors import StateError
from nvcops.core.upkeep import Pending

_WAIT_S = 10.0
_PENDING_MAX = 1000


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A file that holds all of them, written whole or not at all."""

    path: Path

    def read(self) -> list[Pending]:
        """All of them; none where nothing was ever noted.

        Raises:
            StateError: the file cannot be read, or does not hold what was written.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=list[Pending])
        except FileNotFoundError:
            return []
        except OSError as error:
            raise unusable(self.path, error) from error
        except msgspec.DecodeError as error:
            raise StateError(
                f"{self.path} does not say which changes nobody has accepted: {error}",
                hint="look at the database's settings yourself, then remove the file",
            ) from error

    def note(self, change: Pending) -> None:
        """Add one; what is noted already stays as it is."""

        def added(noted: list[Pending]) -> list[Pending]:
            if any((one.run, one.subject) == (change.run, change.subject) for one in noted):
                return noted
            if len(noted) >= _PENDING_MAX:
                raise StateError(f"{self.path} has {len(noted)} changes that nobody has accepted", hint="look at them")
            return [*noted, change]

        self._rewritten(added)

    def settle(self, run: str, subjects: Sequence[str]) -> None:
        """Forget some of a run."""
        self._rewritten(lambda noted: [one for one in noted if one.run != run or one.subject not in subjects])

    def _rewritten(self, anew: Callable[[list[Pending]], list[Pending]]) -> None:
        private_folder(self.path.parent)
        with hold_file(self.path.with_suffix(".lock"), f"notes in {self.path}", wait_s=_WAIT_S):
            before = self.read()
            after = anew(before)
            if after != before:
                write_whole(self.path, msgspec.json.encode(after))
