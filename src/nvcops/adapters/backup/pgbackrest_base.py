"""pgBackRest's base backups, restored: into a scratch folder, every file compared with the digest in the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nvcops.adapters.backup import pgbackrest_read as read
from nvcops.adapters.backup.examine_loss import Damage
from nvcops.adapters.backup.pgbackrest_program import SUFFIXES, Program
from nvcops.core.backups import Cause, Entry, RestoreTarget
from nvcops.core.errors import NotFoundError, Refused, StateError, TargetError
from nvcops.core.progress import tell

RESTORE_S = 12 * 3600.0
_MANIFESTS = ("backup.manifest", "backup.manifest.copy")
# It writes this one anew in a restore, with the recovery settings.
_REWRITTEN = frozenset({"postgresql.auto.conf"})


def restore(program: Program, label: str, into: Path, to: RestoreTarget | None = None, *, quiet: bool = False) -> None:
    """Lay a backup into a folder, and where there is a target the settings that replay the log up to it.

    A folder that holds an earlier restore is made to be this one; files that fit are left as they are. None as target:
    the bare backup. Its exit code 0 is no proof: compare with `verified`.

    Raises:
        Refused, NotFoundError: it gave up; with its last words.
    """
    program.answer(
        "restore",
        f"--pg1-path={into}",
        f"--set={label}",
        "--delta",
        "--archive-mode=off",
        "--job-retry=0",
        f"--tablespace-map-all={into.with_name(into.name + '.tablespaces')}",
        *_target(to),
        deadline_s=RESTORE_S,
        quiet=quiet,
    )


def _target(to: RestoreTarget | None) -> list[str]:
    """Its flags for where to stop.

    >>> _target(None), _target(RestoreTarget()), _target(RestoreTarget(lsn="0/5000060"))
    (['--type=none'], ['--type=default'], ['--type=lsn', '--target=0/5000060', '--target-exclusive', \
'--target-action=promote'])
    """
    if to is None:
        return ["--type=none"]
    if to.lsn:
        return ["--type=lsn", f"--target={to.lsn}", "--target-exclusive", "--target-action=promote"]
    if to.time:
        return ["--type=time", f"--target={to.time.isoformat(sep=' ')}", "--target-action=promote"]
    if to.name:
        return ["--type=name", f"--target={to.name}", "--target-action=promote"]
    return ["--type=default"]


def wrong_file(files: Sequence[read.File], folder: Path) -> tuple[Cause, str] | None:
    """The first file of a restored backup that is not what its manifest says; None: all are."""
    for file in files:
        path = folder / file.path
        if file.path in _REWRITTEN:
            continue
        if not path.is_file():
            return Cause.MISSING, f"{file.path} was not restored"
        if path.stat().st_size != file.size:
            return Cause.TRUNCATED, f"{file.path} has {path.stat().st_size:,} bytes instead of {file.size:,}"
        if file.sha1 and read.sha1(path) != file.sha1:
            return Cause.CORRUPT, f"{file.path} has not the digest that the manifest says"
    return None


@dataclass(slots=True)
class BaseReading:
    """Reads base backups back. `good` are the labels of those that are whole; `bytes` what was read in all."""

    program: Program
    scratch: Path
    damages: list[Damage] = field(default_factory=list)
    good: list[str] = field(default_factory=list)
    bytes: int = 0

    def examine(self, entries: Sequence[Entry], looked: Collection[str]) -> None:
        """Compare names and sizes of all of them; restore those that were not looked at, oldest first."""
        listing = self.program.answer(
            "repo-ls", "--recurse", "--output=json", f"backup/{self.program.stanza}", deadline_s=RESTORE_S
        )
        there = read.stored_sizes(listing.encode())
        for number, entry in enumerate(entries, 1):
            files = self._manifest(entry)
            if files is None or not self._listed(entry, files, there):
                continue
            if entry.id in looked or self._restored(entry, files):
                self.good.append(entry.id)
            tell(number, len(entries), "base backups")

    def _manifest(self, entry: Entry) -> list[read.File] | None:
        """The files that a backup should have. Its manifest is kept twice: both must be there, and be the same."""
        texts: list[bytes] = []
        for name in _MANIFESTS:
            laid = self.scratch / name
            try:
                self.program.fetch(f"backup/{self.program.stanza}/{entry.id}/{name}", laid)
                texts.append(laid.read_bytes())
            except NotFoundError:
                self._bad(entry, Cause.MISSING, f"its {name} is not there")
                return None
            except TargetError as error:
                self._bad(entry, Cause.UNREADABLE, error.sentence)
                return None
            finally:
                laid.unlink(missing_ok=True)
        if texts[0] != texts[1]:
            self._bad(entry, Cause.EDITED, "its manifest and the copy of it differ")
            return None
        if not read.manifest_is_whole(texts[0]):
            self._bad(entry, Cause.TRUNCATED, "its manifest does not come to its end")
            return None
        return list(read.manifest_files(texts[0].decode(errors="replace")))

    def _listed(self, entry: Entry, files: Sequence[read.File], there: dict[str, int]) -> bool:
        """Whether every file that lies in the backup's own folder is there, with its size."""
        for file in files:
            if not file.stored:
                continue
            under = "" if file.path.startswith("pg_tblspc/") else "pg_data/"
            places = [f"{entry.id}/{under}{file.path}{suffix}" for suffix in SUFFIXES]
            sizes = [there[place] for place in places if place in there]
            if not sizes:
                self._bad(entry, Cause.MISSING, f"{file.path} of it is not in the repository")
                return False
            if file.stored not in sizes:
                said = f"{file.path} of it has {sizes[0]:,} bytes in the repository instead of {file.stored:,}"
                self._bad(entry, Cause.TRUNCATED, said)
                return False
        return True

    def _restored(self, entry: Entry, files: Sequence[read.File]) -> bool:
        folder = self.scratch / "restored"
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            self.program.tools.give(folder)
        try:
            restore(self.program, entry.id, folder, quiet=True)
            wrong = wrong_file(files, folder)
        except (Refused, NotFoundError) as error:
            wrong = (Cause.MISSING if "missing file" in error.sentence else Cause.CORRUPT), error.sentence
        self.bytes += entry.raw_bytes
        if wrong:
            shutil.rmtree(folder)  # what a failed restore leaves is no ground for the next one
            self._bad(entry, *wrong)
        return wrong is None

    def _bad(self, entry: Entry, cause: Cause, sentence: str) -> None:
        self.damages.append(Damage(cause=cause, subject=entry.id, sentence=sentence, backups=(entry.id,)))


def room_for(entries: Sequence[Entry], free: int, folder: Path) -> None:
    """Raise StateError when the largest backup does not fit into the scratch folder."""
    needed = max((entry.raw_bytes for entry in entries), default=0)
    if needed > free:
        raise StateError(
            f"restoring the largest backup takes {needed:,} bytes, and {folder} has {free:,}",
            hint="[backups] scratch names another folder",
        )
