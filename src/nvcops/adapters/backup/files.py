"""Files in the repository: a release, the configuration, logs. What an earlier entry has is not stored again."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from nvcops.adapters.backup.examine_memory import ids_seen
from nvcops.adapters.backup.files_fetch import fetch
from nvcops.adapters.backup.files_index import FileIndex, Kept, Mark, Outcome, Source, read_index, revision_of
from nvcops.adapters.backup.files_pack import earlier, looked_at, packed, put
from nvcops.adapters.backup.index import index_key
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.evidence.files import sync_folder
from nvcops.core.backups import Entry, Stored
from nvcops.core.errors import StateError
from nvcops.core.schedule import now

_FILES_MAX = 200_000
_TOLD_MAX = 50
_ENDINGS = ("-A", "-C", "-L")


def store_files(repository: Repository, draft: Entry, files: Sequence[tuple[str, Path]]) -> Entry:
    """See core.backups.Backups.store_files.

    Raises:
        StateError: one of them cannot be read; nothing was kept.
    """
    return keep(repository, draft, [Source(name, path) for name, path in files], strict=True).entry


def keep(
    repository: Repository,
    draft: Entry,
    sources: Sequence[Source],
    *,
    left_out: Iterable[str] = (),
    unreadable: Iterable[str] = (),
    marks: Iterable[Mark] = (),
    strict: bool = False,
) -> Outcome:
    """Keep files as one entry; one that has the draft's id already is answered. A failure leaves nothing.

    A file that cannot be read is left out, and said, with those ("path: why") that are known already; `strict`: it is
    a StateError.

    Raises:
        LockHeld: other files are being backed up, or removed.
    """
    if len(sources) > _FILES_MAX:
        raise StateError(f"more than {_FILES_MAX:,} files are one backup", hint="name fewer folders in [backups]")
    with repository.lock("files") as held:
        entries = repository.catalogue.entries()
        if entered := next((entry for entry in entries if entry.id == draft.id), None):
            return _outcome(entered, read_index(repository, entered.id).files, 0, ())
        _sweep(repository, {entry.id for entry in entries})
        found, cannot = looked_at(sources)
        if strict and cannot:
            raise StateError(cannot[0], hint="it has to be readable for whoever runs nvcops")
        missing = (*unreadable, *cannot)
        gone = (*left_out, *(line.partition(": ")[0].lstrip("/") for line in missing))
        draft = msgspec.structs.replace(draft, note=f"without {'; '.join(missing[:_TOLD_MAX])}" if missing else "")
        index = FileIndex(id=draft.id, files=tuple(kept for _, kept in found), left_out=gone, marks=tuple(marks))
        try:
            index, objects = _objects(repository, draft, entries, index, found)
            held.check()
            entry = repository.catalogue.append(_whole(repository, draft, index, objects))
        except BaseException:
            _sweep(repository, {entry.id for entry in repository.catalogue.entries()})
            raise
        added = sum(stored.raw_bytes for stored in objects if stored.key.startswith(f"backups/{draft.id}/"))
        return _outcome(entry, index.files, added, missing)


def _objects(
    repository: Repository,
    draft: Entry,
    entries: Sequence[Entry],
    index: FileIndex,
    found: Sequence[tuple[Source, Kept]],
) -> tuple[FileIndex, list[Stored]]:
    """Store what no earlier entry has; the index as it came out, and all objects that the entry needs."""
    previous, theirs, known = earlier(repository, draft.kind, entries)
    same = previous is not None and theirs is not None and theirs.left_out == index.left_out
    if same and previous is not None and previous.revision == revision_of(repository, index.files) and not index.marks:
        return index, list(previous.objects)
    files, objects = packed(repository, draft.id, found, known)
    old = {stored.key: stored for entry in entries for stored in entry.objects}
    objects += [old[key] for key in sorted({file.pack for file in files if file.pack} & set(old))]
    index = msgspec.structs.replace(index, files=tuple(files))
    return index, [*objects, put(repository, index_key(draft.id), [msgspec.json.encode(index)], 0)]


def _whole(repository: Repository, draft: Entry, index: FileIndex, objects: Sequence[Stored]) -> Entry:
    return msgspec.structs.replace(
        draft,
        platform=repository.platform,
        engine="native",
        ended=now(),
        objects=tuple(objects),
        raw_bytes=sum(file.size for file in index.files),
        key_id=repository.sealing.key_id,
        revision=revision_of(repository, index.files),
    )


def _sweep(repository: Repository, known: Collection[str]) -> None:
    """Remove what killed or failed attempts left: objects of files that are in no catalogue, and never were."""
    repository.store.sweep()
    known = {*known, *ids_seen(repository)}
    stored = [file.key for file in repository.store.list("backups/")]
    ids = {key: key.split("/")[1] for key in stored}
    repository.store.delete([key for key in stored if ids[key].endswith(_ENDINGS) and ids[key] not in known])


def _outcome(entry: Entry, files: Sequence[Kept], added: int, unreadable: Sequence[str]) -> Outcome:
    kept = [file for file in files if file.kind != "folder"]
    size = sum(file.size for file in kept)
    return Outcome(entry=entry, files=len(kept), bytes=size, added_bytes=added, unreadable=tuple(unreadable))


def fetch_files(repository: Repository, id: str, into: Path) -> list[Path]:  # noqa: A002 - the catalogue's own word
    """See core.backups.Backups.fetch_files.

    Raises:
        NotFoundError: there is no such entry.
        StateError: the folder is not empty, or cannot be written; nothing is left in it.
        Damaged: what is stored is not what was stored; nothing is left.
    """
    index = read_index(repository, id)
    made = _empty_folder(into)
    try:
        fetch(repository, index.files, lambda file: into / file.name)
        sync_folder(into)
    except OSError as error:
        _empty_again(into, made=made)
        raise StateError(f"{into} cannot be written: {error.strerror}", hint="look at its disk") from error
    except BaseException:
        _empty_again(into, made=made)
        raise
    return [into / file.name for file in index.files if file.kind != "folder"]


def _empty_folder(path: Path) -> bool:
    """An empty folder; whether it was made just now.

    Raises:
        StateError: it is no empty folder, or cannot be made.
    """
    try:
        if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise StateError(f"{path} is there and is no empty folder", hint="name one that is empty, or a new one")
        made = not path.exists()
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StateError(f"{path} cannot be used: {error.strerror}", hint="look at the folder above it") from error
    return made


def _empty_again(path: Path, *, made: bool) -> None:
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if made:
        path.rmdir()
