"""Where a finished restore ends up, and how every interruption on the way is put right, by what lies on the disk.

In place there are three folders side by side: `data` (D), the finished copy in the folder of work (W/data), and the old
data put aside (A, `data.before-RUN`). A rename is whole or not at all, so that only these states exist:

    D old, W/data, no A      nothing has been moved: go on renames D to A, roll back removes W
    no D, W/data, A          between the two renames: go on renames W/data to D, roll back renames A to D
    D new, no W/data, A      delivered: go on has nothing to do, roll back moves D back into W and renames A to D
    no D, W/data, no A       there were no old data: go on renames W/data to D, roll back removes W
    D new, no W/data, no A   the same, delivered: roll back moves D away

Restored data over which a server was started since may have been written to: rolled back, they are put aside as
A.given-up, and only `release` removes them.
The last two are told from the first by the note W/moving, which is written before the first move.
A server is stopped before the first of these moves and started after the last; no move is made under a running one.
A run that gave up when its data stood in place already is not rolled back by others: its data may have been written to.
Each restore is noted in the state folder before its folder of work is made, and forgotten when nothing is left to undo.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nvcops.adapters.backup.clone import end_server, server_of
from nvcops.adapters.backup.unpack import remove_tree
from nvcops.adapters.evidence.files import private_folder, sync_folder, unusable, write_all
from nvcops.core.errors import NotFoundError, Refused, StateError
from nvcops.core.restores import OldData, Purpose, RestorePlan

_ASIDE = ".before-"
_MOVING = "moving"
_NAME = re.compile(r"[A-Za-z0-9@:._-]{1,200}")


@dataclass(frozen=True, slots=True)
class Works:
    """The notes of the restores that are under way: one file each."""

    folder: Path

    def note(self, plan: RestorePlan) -> None:
        """Note a restore before anything of it is made."""
        path = private_folder(self.folder) / checked(plan.run)
        write_whole(path, msgspec.json.encode(plan))

    def forget(self, run: str) -> None:
        """Forget it; fine when it is forgotten."""
        (self.folder / checked(run)).unlink(missing_ok=True)

    def others(self, run: str) -> Iterator[RestorePlan]:
        """What other runs left; a run's several restores are called `RUN` and `RUN.part`."""
        paths = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        for path in paths:
            if path.is_file() and not path.name.startswith(".") and path.name.split(".part")[0] != run:
                try:
                    yield msgspec.json.decode(path.read_bytes(), type=RestorePlan)
                except (OSError, msgspec.DecodeError) as error:
                    raise StateError(f"the note {path} cannot be read: {error}", hint="look, and remove it") from error


def write_whole(path: Path, data: bytes) -> None:
    """Put a file there, whole or not at all, durably.

    Raises:
        StateError: it cannot be written.
    """
    scratch = path.with_name(f".{path.name}.new")
    try:
        write_all(scratch, data, os.O_TRUNC)
        scratch.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise unusable(path, error) from error


def checked(run: str) -> str:
    """A run's id, which becomes a part of file names.

    >>> checked("restore-database@2026-11-22T13:04:07Z-k3f")
    'restore-database@2026-11-22T13:04:07Z-k3f'
    """
    if not _NAME.fullmatch(run) or run.startswith("."):
        raise NotFoundError(f"{run!r} is no id of a run", hint="`nvcops runs` lists them")
    return run


def aside(plan: RestorePlan) -> Path:
    """Where an in-place restore puts the old data."""
    into = _into(plan)
    return into.with_name(f"{into.name}{_ASIDE}{checked(plan.run)}")


def deliver(plan: RestorePlan) -> None:
    """Bring the finished data to their place, from whichever state.

    Raises:
        Refused: a server runs there, or the place was taken meanwhile.
        StateError: the system refuses a rename.
    """
    into, copy = _into(plan), plan.work / "data"
    end_server(copy)
    if not copy.exists():
        if not (into / "PG_VERSION").exists():
            raise StateError(f"neither {copy} nor {into} holds the restored data", hint="restore anew")
        return
    if pid := server_of(into):
        raise Refused(f"a server runs in {into} (process {pid})", hint="it is stopped before data are moved")
    try:
        (plan.work / _MOVING).touch()
        sync_folder(plan.work)
        if plan.purpose is Purpose.IN_PLACE:
            _put_aside(plan, copy)
        copy.rename(into)  # an empty folder may be there; one that is not empty is refused by the system
        sync_folder(into.parent)
    except OSError as error:
        raise Refused(f"{into} cannot be put in place: {error.strerror}", hint="is something else in there?") from error


def _put_aside(plan: RestorePlan, copy: Path) -> None:
    into, old = _into(plan), aside(plan)
    if not into.exists():
        return
    if old.exists():
        raise Refused(
            f"both {into} and {old} are there", hint="somebody put data there during the restore: look at both"
        )
    status = into.stat()
    if status.st_uid != copy.stat().st_uid:
        _adopt(copy, status.st_uid, status.st_gid)
    into.rename(old)
    sync_folder(into.parent)


def delivered(plan: RestorePlan) -> bool:
    """Whether the finished data are where they were asked for."""
    return not (plan.work / "data").exists() and (_into(plan) / "PG_VERSION").exists()


def stands_in_place(plan: RestorePlan) -> bool:
    """Whether restored data stand in place: they may have been served and written to, so others do not touch them."""
    return plan.purpose is Purpose.IN_PLACE and (plan.work / _MOVING).exists() and delivered(plan)


def discard(plan: RestorePlan, works: Works) -> bool:
    """Leave nothing of a restore; in place, the old data stand where they stood: whether there are any.

    Raises:
        Refused: a server runs over data that would have to be moved.
    """
    end_server(plan.work / "data")
    if plan.purpose is Purpose.IN_PLACE:
        _roll_back(plan)
    remove_tree(plan.work)
    works.forget(plan.run)
    return plan.purpose is Purpose.IN_PLACE and (_into(plan) / "PG_VERSION").exists()


def _roll_back(plan: RestorePlan) -> None:
    into, old, copy = _into(plan), aside(plan), plan.work / "data"
    moved = (plan.work / _MOVING).exists() and not copy.exists() and into.exists()
    if not moved and not old.exists():
        return
    if pid := server_of(into):
        raise Refused(f"a server runs in {into} (process {pid})", hint="stop it, then resume the run")
    try:
        if moved:
            into.rename(_given_up(old) if _was_started(plan) else copy)
        if old.exists():
            old.rename(into)
        sync_folder(into.parent)
    except OSError as error:
        raise StateError(f"{into} cannot be rolled back: {error.strerror}", hint=f"the old data are {old}") from error


def _was_started(plan: RestorePlan) -> bool:
    """Whether a server was started over the restored data since they stand in place: each start writes this file."""
    try:
        started = (_into(plan) / "postmaster.opts").stat().st_mtime_ns
    except FileNotFoundError:
        return False
    return started > (plan.work / _MOVING).stat().st_mtime_ns


def _given_up(old: Path) -> Path:
    """Where restored data are put that may have been written to."""
    return old.with_name(f"{old.name}.given-up")


def forget(plan: RestorePlan, works: Works) -> None:
    """Remove the folder of work: from here on nothing is undone."""
    remove_tree(plan.work)
    works.forget(plan.run)


def old_data(data: Path | None) -> list[OldData]:
    """What in-place restores put aside, by run."""
    if data is None or not data.parent.is_dir():
        return []
    prefix = f"{data.name}{_ASIDE}"
    found = sorted(path for path in data.parent.iterdir() if path.name.startswith(prefix) and path.is_dir())
    return [OldData(run=path.name.removeprefix(prefix), folder=str(path), bytes=folder_bytes(path)) for path in found]


def release(data: Path, run: str, works: Works) -> None:
    """Remove for good what an in-place restore put aside.

    Raises:
        Refused: that restore is not over, or a server runs there.
    """
    if (works.folder / checked(run)).exists():
        raise Refused(f"the restore {run} is not over: its old data may be needed", hint=f"`nvcops resume {run}`")
    folder = data.with_name(f"{data.name}{_ASIDE}{run}")
    if pid := server_of(folder):
        raise Refused(f"a server runs in {folder} (process {pid})", hint="stop it first")
    remove_tree(folder)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(root) / name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


def _adopt(folder: Path, uid: int, gid: int) -> None:
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            os.chown(Path(root) / name, uid, gid, follow_symlinks=False)
    shutil.chown(folder, uid, gid)


def _into(plan: RestorePlan) -> Path:
    if plan.into is None:
        raise StateError("this restore goes nowhere: it is a drill")
    return plan.into
