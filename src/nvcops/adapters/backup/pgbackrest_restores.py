"""Restores from pgBackRest's repository: its `restore` lays the files, we compare every one, and lay the log ready.

Its `archive-get` is not asked: it hands out a segment that is not what its name says. Everything after that is the same
as for our own repository.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.backup import pgbackrest_read as read
from nvcops.adapters.backup.pgbackrest import PgBackRestBackups
from nvcops.adapters.backup.pgbackrest_base import restore, wrong_file
from nvcops.adapters.backup.pgbackrest_program import Damaged, unpacked
from nvcops.adapters.backup.restores import NativeRestores
from nvcops.adapters.backup.restores_log import Log, branches_with_log, choose, find_way, parse_history
from nvcops.adapters.backup.restores_plan import Stock
from nvcops.adapters.backup.tools import Tools
from nvcops.adapters.backup.unpack import Pace
from nvcops.core.backups import DatabaseBackup, Entry, RestoreTarget, Segment
from nvcops.core.errors import EvidenceError, NotFoundError, StateError, TargetError
from nvcops.core.progress import tell
from nvcops.core.restores import RestorePlan, Unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class PgBackRestRestores(NativeRestores):
    """See core.restores.Restores."""

    @property
    def _backups(self) -> PgBackRestBackups:
        return PgBackRestBackups(self.repository)

    @property
    def _stock(self) -> Stock:
        return Stock(
            entries=self._backups.catalogue(),
            look=self._manifests_are_there,
            log=lambda database, to: self._log(database, to, everything=False),
            tools=self.repository.tools,
        )

    def _manifests_are_there(self, chain: Sequence[Entry]) -> None:
        """Of what the chain consists; its digests are compared when it was laid."""
        for entry in chain:
            self._files_of(entry.id)

    def _files_of(self, label: str) -> list[read.File]:
        key = f"backup/{self._backups.program.stanza}/{label}/backup.manifest"
        try:
            text = self._backups.program.answer("repo-get", key)
        except (TargetError, NotFoundError) as error:
            raise StateError(
                f"{label} cannot be restored: {error.sentence}", hint="`nvcops run backup-audit`; an older backup"
            ) from error
        if not read.manifest_is_whole(text.encode()):
            raise StateError(f"{label} cannot be restored: its manifest is not whole", hint="an older backup")
        return list(read.manifest_files(text))

    def _unpacked(self, plan: RestorePlan, tools: Tools, pace: Pace) -> Unpacked:
        began, data, files = time.monotonic(), plan.work / "data", self._files_of(plan.backup)
        if not (data / "PG_VERSION").exists():
            shutil.rmtree(data, ignore_errors=True)
            data.mkdir(mode=0o700)
            tools.give(data)
        restore(self._backups.program, plan.backup, data, quiet=pace.quiet)
        laid = time.monotonic()
        wrong = wrong_file(files, data)
        if wrong is not None:
            shutil.rmtree(plan.work)
            raise EvidenceError(f"{plan.backup}: {wrong[1]}", hint="`nvcops run backup-audit`; an older backup")
        ended = time.monotonic()
        size = sum(file.size for file in files)
        return Unpacked(bytes=size, seconds=ended - began, verified_s=ended - laid)

    def _log(self, database: DatabaseBackup, target: RestoreTarget, *, everything: bool) -> Log:
        listed = [s for s in self._backups.segments() if s.system_identifier == database.system_identifier]
        histories = [segment for segment in listed if segment.name.endswith(".history")]
        branches = {int(each.name[:8], 16): parse_history(self._history(each)) for each in histories}
        segments = [segment for segment in listed if segment not in histories]
        way = find_way(database, branches_with_log(branches, segments))
        return choose(way, segments, histories, database, target, everything)

    def _history(self, history: Segment) -> str:
        try:
            return self._backups.program.answer("repo-get", history.key)
        except (TargetError, NotFoundError) as error:
            raise EvidenceError(f"{history.name} cannot be read back: {error.sentence}") from error

    def _lay(self, log: Log, data: Path, tools: Tools, pace: Pace) -> None:
        """Write the log into pg_wal, every segment compared with the digest in its name."""
        done = 0
        for segment in (*log.histories, *log.segments):
            into = data / "pg_wal" / segment.name
            if not into.exists():
                self._fetch(segment, into, pace)
                tools.give(into)
            done += log.segment_bytes
            tell(done, log.bytes, "laying ready the log,")

    def _fetch(self, segment: Segment, into: Path, pace: Pace) -> None:
        stored = into.with_name(f".{Path(segment.key).name}")
        laid = into.with_name(f".{segment.name}.new")
        try:
            pace.add(self._backups.program.fetch(segment.key, stored))
            _, digest = unpacked(stored, laid)
        except (Damaged, TargetError, NotFoundError) as error:
            raise EvidenceError(f"{segment.name} cannot be read back: {error.sentence}") from error
        finally:
            stored.unlink(missing_ok=True)
        if (told := read.digest_in_name(segment.key)) and digest != told:
            laid.unlink()
            raise EvidenceError(f"{segment.name} is not what its name says", hint="`nvcops run backup-audit`")
        laid.rename(into)
