"""Putting a configuration back: all of it or nothing, through a kill at any moment.

    <state>/backups/configuration/<run>/plan      what is to be done, written first; PREPARED, then DONE or UNDONE
    <state>/backups/configuration/<run>/old/<n>   what was there before: kept afterwards, the newest few of them

Every new file is written beside its place and forced to the disk before the first is renamed. Begun again, what was not
prepared yet is prepared anew, and what was is gone on with. Whatever fails on the way puts everything back as it was.
"""

from __future__ import annotations

import os
import re
import shutil
from enum import StrEnum
from pathlib import Path

import msgspec

from nvcops.adapters.backup.files_compare import Pair, compared
from nvcops.adapters.backup.files_fetch import copied, fetch, own
from nvcops.adapters.backup.files_gather import WAITING
from nvcops.adapters.backup.files_index import FileIndex, Source, read_index
from nvcops.adapters.backup.files_pack import looked_at
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.evidence.files import private_folder, sync_folder
from nvcops.core.errors import NvcopsError, Refused, StateError

_KEPT_MAX = 5


class Stage(StrEnum):
    """How far a plan has come."""

    PLANNED = "planned"
    PREPARED = "prepared"
    DONE = "done"
    UNDONE = "undone"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is changed, in this order; `beside[n]` is where the new file of `pairs[n]` waits."""

    id: str
    stage: Stage
    pairs: tuple[Pair, ...]
    beside: tuple[str, ...]


def put_back(repository: Repository, id: str, live: str, run: str) -> None:  # noqa: A002 - the catalogue's own word
    """See core.files.PlatformFiles.put_back."""
    folder = private_folder(repository.state / "configuration" / _named(run))
    with repository.lock("files"), repository.lock("configuration"):
        index = read_index(repository, id)
        plan = _read(folder)
        if plan is None or plan.stage in (Stage.PLANNED, Stage.UNDONE):  # nothing was changed yet
            _clear(plan)
            plan = _write(folder, _planned(repository, index, id, live, run))
        if plan.stage is Stage.DONE:
            return
        try:
            if plan.stage is Stage.PLANNED:
                _prepare(repository, folder, plan)
                plan = _write(folder, msgspec.structs.replace(plan, stage=Stage.PREPARED))
            for number, pair in enumerate(plan.pairs):
                _apply(pair, Path(plan.beside[number]))
            left, _ = compared(repository, index)
            if left:
                raise StateError(f"/{left[0].path} is not what it was made: something else writes it")
        except (OSError, NvcopsError) as error:
            _undo(folder, plan)
            _clear(plan)
            why = error.sentence if isinstance(error, NvcopsError) else f"{error.filename}: {error.strerror}"
            raise StateError(f"{why}; everything is as it was", hint="look at the disk and the permissions") from error
        _write(folder, msgspec.structs.replace(plan, stage=Stage.DONE))
        _forget_old(folder.parent)


def deliver(repository: Repository, id: str, into: Path, run: str) -> int:  # noqa: A002 - the catalogue's own word
    """See core.files.PlatformFiles.deliver."""
    index = read_index(repository, id)
    scratch = into.with_name(f".{into.name}{WAITING}{_named(run)}")
    count = sum(file.kind != "folder" for file in index.files)
    try:
        if into.is_symlink() or (into.exists() and (not into.is_dir() or any(into.iterdir()))):
            if not scratch.exists() and _delivered(index, into):
                return count  # by this run, before it was interrupted
            raise StateError(f"{into} is there and is no empty folder", hint="name one that is empty, or a new one")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir(mode=0o700)
            fetch(repository, index.files, lambda file: scratch / file.name)
            sync_folder(scratch)
            scratch.rename(into)
            sync_folder(into.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise StateError(f"{into} cannot be written: {error.strerror}", hint="look at the folder above it") from error
    return count


def _delivered(index: FileIndex, into: Path) -> bool:
    found, _ = looked_at(Source(path.relative_to(into).as_posix(), path) for path in into.rglob("*"))
    there = {kept.name: (kept.kind, kept.sha256, kept.link) for _, kept in found if kept.kind != "folder"}
    return there == {file.name: (file.kind, file.sha256, file.link) for file in index.files if file.kind != "folder"}


def _planned(repository: Repository, index: FileIndex, id: str, live: str, run: str) -> Plan:  # noqa: A002
    pairs, now = compared(repository, index)
    if now != live:
        raise Refused("the configuration was changed since its difference was shown", hint="run it again")
    beside = [_beside(Path(f"/{pair.path}"), f"{WAITING}{_named(run)}-{number}") for number, pair in enumerate(pairs)]
    return Plan(id=id, stage=Stage.PLANNED, pairs=tuple(pairs), beside=tuple(map(str, beside)))


def _beside(path: Path, suffix: str) -> Path:
    """A hidden name on the same file system: in the file's own folder, or the nearest one that is there."""
    folder = next(parent for parent in path.parents if parent.is_dir())
    return folder / f".{path.name}{suffix}"


def _prepare(repository: Repository, folder: Path, plan: Plan) -> None:
    """Write all that is new beside its place, and a copy of all that is old into our own folder."""
    old = folder / "old"
    shutil.rmtree(old, ignore_errors=True)
    private_folder(old)
    new: dict[str, Path] = {}
    for number, pair in enumerate(plan.pairs):
        beside = Path(plan.beside[number])
        beside.unlink(missing_ok=True)
        if pair.now is not None and pair.now.kind != "folder" and pair.what != "permissions":
            copied(Path(f"/{pair.path}"), old / str(number), pair.now)
        if pair.then is not None and pair.then.kind != "folder" and pair.what != "permissions":
            new[pair.path] = beside
    sync_folder(old)
    files = [pair.then for pair in plan.pairs if pair.then is not None and pair.path in new]
    fetch(repository, files, lambda file: new[file.name])
    for parent in {path.parent for path in new.values()}:
        sync_folder(parent)


def _apply(pair: Pair, beside: Path) -> None:
    """One change. Done before an interruption, it is done."""
    path = Path(f"/{pair.path}")
    if pair.then is None:
        path.unlink(missing_ok=True)
    elif pair.then.kind == "folder":
        path.mkdir(mode=0o700, exist_ok=True)
        own(path, pair.then)
    elif pair.what == "permissions":
        own(path, pair.then)
    elif os.path.lexists(beside):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.rename(path)
    sync_folder(path.parent)


def _undo(folder: Path, plan: Plan) -> None:
    """Everything as it was before, the last change first."""
    try:
        if plan.stage is Stage.PREPARED:
            for number, pair in reversed(list(enumerate(plan.pairs))):
                _undo_one(pair, Path(plan.beside[number]), folder / "old" / str(number))
        _write(folder, msgspec.structs.replace(plan, stage=Stage.UNDONE))
    except OSError as error:
        raise StateError(
            f"the configuration is half put back: {error.filename}: {error.strerror}",
            hint=f"begin the run again when that is mended; what was there before lies in {folder / 'old'}",
        ) from error


def _clear(plan: Plan | None) -> None:
    """Remove new files that wait beside their places."""
    for beside in plan.beside if plan else ():
        Path(beside).unlink(missing_ok=True)


def _undo_one(pair: Pair, beside: Path, old: Path) -> None:
    path = Path(f"/{pair.path}")
    if pair.now is None:
        if pair.then is not None and pair.then.kind == "folder":
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        else:
            path.unlink(missing_ok=True)
    elif pair.now.kind == "folder" or pair.what == "permissions":
        own(path, pair.now)
    elif os.path.lexists(old):
        beside.unlink(missing_ok=True)
        copied(old, beside, pair.now)
        beside.rename(path)
    if path.parent.is_dir():
        sync_folder(path.parent)


def _named(run: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", run).strip("-")[:80]


def _read(folder: Path) -> Plan | None:
    try:
        return msgspec.json.decode((folder / "plan").read_bytes(), type=Plan)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise StateError(f"{folder}/plan cannot be read: {error}", hint="look at the state folder") from error


def _write(folder: Path, plan: Plan) -> Plan:
    scratch = folder / "plan.new"
    handle = os.open(scratch, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(plan))
        file.flush()
        os.fsync(file.fileno())
    scratch.rename(folder / "plan")
    sync_folder(folder)
    return plan


def _forget_old(folder: Path) -> None:
    """Keep what the newest restores put aside; an older one is removed once it is over."""
    by_age = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for kept in by_age[:-_KEPT_MAX]:
        plan = _read(kept)
        if plan is None or plan.stage in (Stage.DONE, Stage.UNDONE):
            shutil.rmtree(kept)
