"""The backups of a platform that pgBackRest takes: [backups] engine = "pgbackrest".

Base backups and the log are in its repository, under its own labels. Everything that it has no word for (releases,
configurations, platform points, restores, holds) is in our catalogue, in [backups] repository.
"""

from __future__ import annotations

import configparser
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.backup import pgbackrest_read as read
from nvcops.adapters.backup.examine_memory import forget_former
from nvcops.adapters.backup.pgbackrest_archiving import receiver_state
from nvcops.adapters.backup.pgbackrest_examine import Examination
from nvcops.adapters.backup.pgbackrest_program import Program
from nvcops.adapters.backup.repository import Repository
from nvcops.core.backups import Audit, Entry, LogKept, ReceiverState, Room, Segment
from nvcops.core.errors import NotFoundError, StateError

BACK_UP_S = 12 * 3600.0
EXPIRE_S = 1800.0
# It removes by its own rules after every backup otherwise; here retention and holds decide, and `remove` carries out.
_KEEP_ALL = ("--repo1-retention-full-type=count", "--repo1-retention-full=9999999")
_CONFIGURATION = (Path("/etc/pgbackrest/pgbackrest.conf"), Path("/etc/pgbackrest.conf"))


@dataclass(frozen=True, slots=True)
class PgBackRestBackups:
    """See core.backups.Backups."""

    repository: Repository

    @property
    def program(self) -> Program:
        """How it is run."""
        entry = self.repository.entry
        return Program(stanza=entry.stanza, config=entry.engine_config, account=entry.account)

    def head(self) -> str:
        """SHA-256 of the newest entry of our catalogue."""
        return self.repository.catalogue.head()[1]

    def catalogue(self) -> list[Entry]:
        """Its backups and our entries, oldest first; only ours have a number."""
        merged = [*self.repository.catalogue.entries(), *read.entries(self._stanza(), self.repository.platform)]
        return sorted(merged, key=lambda entry: (entry.ended, entry.number))

    def segments(self) -> list[Segment]:
        """The log in its archive, by name."""
        listing = self.program.answer("repo-ls", "--recurse", "--output=json", f"archive/{self.program.stanza}")
        return sorted(read.segments(listing.encode(), self._stanza()), key=lambda each: (each.name, each.key))

    def receiver(self) -> ReceiverState:
        """How archiving stands."""
        return receiver_state(self.repository.source, self.segments())

    def room(self) -> Room:
        """What its repository and ours occupy, and what is free where its own lies, when that is on this machine."""
        used = sum(backup.info.repository.delta for backup in self._stanza().backup)
        used += sum(segment.bytes for segment in self.segments())
        used += sum(stored.bytes for stored in self.repository.store.list(""))
        free, folder = self.repository.store.free(), self._folder()
        if folder is not None and folder.is_dir():
            own = shutil.disk_usage(folder).free
            free = own if free is None else min(free, own)
        return Room(used=used, free=free)

    def back_up(self, id: str, *, full: bool) -> Entry:  # noqa: A002 - the catalogue's own word
        """Take a backup; the entry's id is the label that it got, and the id that was asked for is kept with it."""
        if (there := self._asked_for(id)) is not None:
            return there
        kind = "full" if full else "incr"
        self.program.answer(
            "backup",
            f"--type={kind}",
            f"--annotation={read.OUR_ID}={id}",
            "--no-expire-auto",
            *_KEEP_ALL,
            deadline_s=BACK_UP_S,
            quiet=True,
        )
        taken = self._asked_for(id)
        if taken is None:
            raise StateError(
                "pgbackrest ended well, and its repository does not list the backup", hint="`pgbackrest info`"
            )
        return taken

    def examine(self, *, deep: bool) -> Audit:
        """Our own audit: its `check`, `info` and `verify` end with 0 over a log with a hole."""
        stanza = self._stanza()
        entries = read.entries(stanza, self.repository.platform)
        self.repository.catalogue.entries()  # the chain of ours is verified as well
        return Examination(
            repository=self.repository,
            program=self.program,
            segments=self.segments(),
            entries=entries,
            deep=deep,
        ).carry_out()

    def begin_anew(self) -> str:
        """Forget what former audits saw."""
        return forget_former(self.repository, self.repository.store.name, f"pgbackrest:{self.program.stanza}")

    def record(self, draft: Entry) -> Entry:
        """Enter something that has no objects of its own; one that has this id already is answered."""
        try:
            return self.repository.catalogue.find(draft.id)
        except NotFoundError:
            return self.repository.catalogue.append(draft)

    def remove(self, ids: Sequence[str], log: Sequence[LogKept], *, draft: Entry) -> Entry:
        """Remove its backups by its own `expire`, which takes the log that only they needed along; ours as always."""
        its = self._labels().intersection(ids)
        for label in sorted(its, reverse=True):  # those that build upon others come first
            if label in self._labels():
                self.program.answer("expire", f"--set={label}", *_KEEP_ALL, deadline_s=EXPIRE_S, quiet=True)
        if left := its & self._labels():
            raise StateError(f"pgbackrest still lists {', '.join(sorted(left))}", hint="`pgbackrest expire` says why")
        from nvcops.adapters.backup.removal import remove

        return remove(self.repository, [each for each in ids if each not in its], log, draft=draft)

    def store_files(self, draft: Entry, files: Sequence[tuple[str, Path]]) -> Entry:
        """Keep files in our repository."""
        from nvcops.adapters.backup.files import store_files

        return store_files(self.repository, draft, files)

    def fetch_files(self, id: str, into: Path) -> list[Path]:  # noqa: A002 - the catalogue's own word
        """Write the files of one of our entries."""
        from nvcops.adapters.backup.files import fetch_files

        return fetch_files(self.repository, id, into)

    def _stanza(self) -> read.Stanza:
        return read.stanza(self.program.answer("info", "--output=json").encode(), self.program.stanza)

    def _labels(self) -> set[str]:
        return {backup.label for backup in self._stanza().backup}

    def _asked_for(self, id: str) -> Entry | None:  # noqa: A002 - the catalogue's own word
        """The backup that was taken when this id was asked for."""
        stanza = self._stanza()
        label = next((each.label for each in stanza.backup if each.annotation.get(read.OUR_ID) == id), None)
        return next((e for e in read.entries(stanza, self.repository.platform) if e.id == label), None)

    def _folder(self) -> Path | None:
        """Where its repository lies, by its own configuration; None: elsewhere, or not told."""
        told = configparser.ConfigParser(strict=False, interpolation=None)
        config = self.repository.entry.engine_config
        told.read([config] if config else _CONFIGURATION, encoding="utf-8")
        if any(told.get(section, "repo1-host", fallback="") for section in told.sections()):
            return None
        sections = [section for section in (self.program.stanza, "global") if told.has_option(section, "repo1-path")]
        return Path(told.get(sections[0], "repo1-path")) if sections else None
