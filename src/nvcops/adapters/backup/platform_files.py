"""The platform's files, in the repository of its backups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nvcops.adapters.backup import files_compare, files_gather, files_logs, files_restore
from nvcops.adapters.backup.files import keep
from nvcops.adapters.backup.files_gather import Gathered
from nvcops.adapters.backup.files_index import Mark, Outcome, read_index
from nvcops.adapters.backup.pack import Damaged
from nvcops.adapters.backup.repository import Repository
from nvcops.core.backups import Entry, Kind
from nvcops.core.catalogue import present
from nvcops.core.errors import NotFoundError, StateError
from nvcops.core.files import Differences, FilesKept
from nvcops.core.manifest import Manifest


@dataclass(frozen=True, slots=True)
class RepositoryFiles:
    """See core.files.PlatformFiles."""

    repository: Repository
    manifest: Manifest

    def keep_application(self, draft: Entry) -> FilesKept:
        """Back up the release."""
        folder = self.repository.entry.application
        if folder is None or not folder.is_dir():
            raise StateError(f"there is no release in {folder}", hint="[backups] application names its folder")
        version = files_gather.version_in(folder) or draft.version
        return self._kept(msgspec.structs.replace(draft, version=version), files_gather.release(folder))

    def keep_configuration(self, draft: Entry) -> FilesKept:
        """Back up the configuration."""
        entry, encrypted = self.repository.entry, bool(self.repository.sealing.key)
        gathered = files_gather.configuration(entry.configuration, entry.configuration_secrets, encrypted=encrypted)
        return self._kept(draft, gathered)

    def keep_logs(self, draft: Entry) -> FilesKept:
        """Back up what is new in the logs."""
        with files_logs.news(files_logs.log_files(self.manifest), self._marks()) as (sources, marks, unreadable):
            if not sources:
                return FilesKept(unreadable=tuple(unreadable), encrypted=bool(self.repository.sealing.key))
            outcome = keep(self.repository, draft, sources, unreadable=unreadable, marks=marks, strict=True)
            return self._told(outcome, ())

    def differences(self, id: str) -> Differences:  # noqa: A002 - the catalogue's own word
        """Compare a backup of the configuration with how it is now."""
        return files_compare.differences(self.repository, read_index(self.repository, id), id)

    def put_back(self, id: str, live: str, run: str) -> None:  # noqa: A002 - the catalogue's own word
        """Make the configuration what a backup of it is."""
        files_restore.put_back(self.repository, id, live, run)

    def deliver(self, id: str, into: Path, run: str) -> int:  # noqa: A002 - the catalogue's own word
        """Write the files of a backup into a folder."""
        return files_restore.deliver(self.repository, id, into, run)

    def _kept(self, draft: Entry, gathered: Gathered) -> FilesKept:
        left_out, unreadable = gathered.left_out, gathered.unreadable
        outcome = keep(self.repository, draft, gathered.sources, left_out=left_out, unreadable=unreadable)
        return self._told(outcome, left_out)

    def _told(self, outcome: Outcome, left_out: Sequence[str]) -> FilesKept:
        return FilesKept(
            id=outcome.entry.id,
            version=outcome.entry.version,
            revision=outcome.entry.revision,
            files=outcome.files,
            bytes=outcome.bytes,
            added_bytes=outcome.added_bytes,
            unreadable=outcome.unreadable,
            left_out=tuple(left_out),
            encrypted=bool(self.repository.sealing.key),
        )

    def _marks(self) -> tuple[Mark, ...]:
        """How far the logs were backed up: the newest entry says it for all of them.

        One that is damaged, or sealed with a former key, says nothing: then everything that is there is kept again.
        """
        entries, key = present(self.repository.catalogue.entries()), self.repository.sealing.key_id
        newest = next((entry for entry in reversed(entries) if entry.kind is Kind.LOGS), None)
        if newest is None or newest.key_id not in ("", key):
            return ()
        try:
            return read_index(self.repository, newest.id).marks
        except (NotFoundError, Damaged):
            return ()
