"""Removing from the repository, so that a kill at any moment costs nothing that is kept.

First the catalogue says what is gone (an entry of its own: it never loses one), then the objects go, the log oldest
first. What was said and not done is done by the next removal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from nvcops.adapters.backup import wal
from nvcops.adapters.backup.repository import Repository
from nvcops.core.backups import DatabaseBackup, Entry, LogKept, lsn_bytes, segment_name
from nvcops.core.catalogue import holds, needs, present, removed
from nvcops.core.errors import NotFoundError, StateError

_PREFIX = "backups/"


def remove(repository: Repository, ids: Sequence[str], log: Sequence[LogKept], *, draft: Entry) -> Entry:
    """See core.backups.Backups.remove.

    Raises:
        LockHeld: a backup is being taken.
        NotFoundError: there is no such entry.
        StateError: one of them is on hold, or needed by one that stays.
    """
    with repository.lock("backup"), repository.lock("files"):
        repository.store.sweep()
        entries = repository.catalogue.entries()
        entered = next((entry for entry in entries if entry.id == draft.id), None)
        if entered is None and (ids or log):
            _refuse(ids, log, entries)
            entered = repository.catalogue.append(msgspec.structs.replace(draft, of=tuple(ids)))
            entries.append(entered)
        _drop_log(repository, log)
        _drop_objects(repository, entries)
        return entered or draft


def _refuse(ids: Collection[str], log: Iterable[LogKept], entries: Sequence[Entry]) -> None:
    """Look again at what was decided: the catalogue may have changed since."""
    there = {entry.id: entry for entry in present(entries)}
    for name in ids:
        if name not in there:
            raise NotFoundError(f"there is no {name!r} to remove", hint="`nvcops backups` lists what is there")
    for hold in holds(entries):
        if held := set(hold.of) & set(ids):
            raise StateError(f"{min(held)} is on hold: {hold.note}", hint="nvcops run backup-release ends a hold")
    for entry in there.values():
        if entry.id not in ids and (missed := set(needs(entry)) & set(ids)):
            raise StateError(f"{entry.id} needs {min(missed)}", hint="remove both, or none")
        for line in log if entry.database and entry.id not in ids else ():
            _refuse_log(entry.id, entry.database, line)


def _refuse_log(name: str, base: DatabaseBackup | None, line: LogKept) -> None:
    if base and base.system_identifier == line.system_identifier and base.timeline <= line.timeline:
        needed = segment_name(line.timeline, lsn_bytes(base.start_lsn), base.segment_bytes)
        if not line.first or line.first > needed:
            raise StateError(f"{name} needs the transaction log from {needed} on", hint="plan the removal again")


def _drop_log(repository: Repository, log: Sequence[LogKept]) -> None:
    """Remove the log that is not kept, oldest first: what a kill leaves has no gap."""
    if log:
        stored = wal.stored_segments(repository)
        repository.store.delete([segment.key for segment in stored if any(line.drops(segment) for line in log)])


def _drop_objects(repository: Repository, entries: Iterable[Entry]) -> None:
    """Remove the objects of entries that are gone, but for those that an entry that is there refers to."""
    listed = list(entries)
    kept = {stored.key for entry in present(listed) for stored in entry.objects}
    gone = removed(listed)
    theirs = {stored.key for entry in listed if entry.id in gone for stored in entry.objects} - kept
    repository.store.delete([file.key for file in repository.store.list(_PREFIX) if file.key in theirs])
