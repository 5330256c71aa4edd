"""The socket behind which the platform's files are backed up and put back: its release, its configuration, its logs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from nvcops.core.backups import Entry


class FilesKept(msgspec.Struct, frozen=True, kw_only=True):
    """A backup of files; `id` is empty where there was nothing to keep. Bytes as the files have them.

    `added_bytes` were not in the repository before. `unreadable` are "path: why"; `left_out` are secrets' names, which
    are kept only where the repository is `encrypted`.
    """

    id: str = ""
    version: str = ""
    revision: str = ""
    files: int = 0
    bytes: int = 0
    added_bytes: int = 0
    unreadable: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    encrypted: bool = False


class FileChange(msgspec.Struct, frozen=True, kw_only=True):
    """What putting a backup back would do to one path: "create", "change", "permissions" or "remove".

    `lines` are those that would go ("-") and come ("+"); none of a secret, and none of what is no text.
    """

    path: str
    what: str
    secret: bool = False
    lines: tuple[str, ...] = ()


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """What putting a backup of the configuration back would change. `live` is a digest of how it is now."""

    id: str
    live: str
    files: int
    changes: tuple[FileChange, ...] = ()


class PlatformFiles(Protocol):
    """The platform's files. Every call raises Unreachable when the repository cannot be reached."""

    def keep_application(self, draft: Entry) -> FilesKept:
        """Back up the release; its version is that of its VERSION file, else the draft's.

        Raises:
            LockHeld: other files are being backed up.
            StateError: the folder is not there.
        """
        ...

    def keep_configuration(self, draft: Entry) -> FilesKept:
        """Back up the configuration; raises as `keep_application` does."""
        ...

    def keep_logs(self, draft: Entry) -> FilesKept:
        """Back up what is new in the logs; raises as `keep_application` does."""
        ...

    def differences(self, id: str) -> Differences:  # noqa: A002 - the catalogue's own word
        """Compare a backup of the configuration with how it is now.

        Raises:
            NotFoundError: there is no such backup.
        """
        ...

    def put_back(self, id: str, live: str, run: str) -> None:  # noqa: A002 - the catalogue's own word
        """Make the configuration what a backup of it is: all of it, or nothing. Begun again, it goes on.

        What was there before is kept aside, in the state folder, by the run's id.

        Raises:
            Refused: it is no longer as `live` says; nothing was changed.
            StateError: it cannot be written; everything is as it was.
        """
        ...

    def deliver(self, id: str, into: Path, run: str) -> int:  # noqa: A002 - the catalogue's own word
        """Write the files of a backup into an empty or a new folder; how many there are. Begun again, it goes on.

        Raises:
            StateError: the folder is not empty; nothing was changed.
        """
        ...
