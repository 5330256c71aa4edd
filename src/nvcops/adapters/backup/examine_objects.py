"""The objects that the catalogue names: there, of the right size, with the right bytes, and none beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nvcops.adapters.backup.examine_loss import Damage
from nvcops.adapters.backup.examine_manifest import Trouble
from nvcops.adapters.backup.examine_read import Reader
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.backup.store import StoredFile
from nvcops.core import progress
from nvcops.core.backups import Cause, Entry, Stored

_KEYS_TOLD_MAX = 3


def examine(
    repository: Repository, reader: Reader, entries: Sequence[Entry], listed: Mapping[str, StoredFile]
) -> Iterator[Damage]:
    """Everything that is wrong with the objects of the entries that are there."""
    known = {entry.id: entry for entry in entries}
    total = sum(entry.stored_bytes for entry in entries)
    done = 0
    for entry in entries:
        troubles: list[Trouble] = []
        for stored in entry.objects:
            progress.tell(done, total, "reading backups back")
            done += stored.bytes
            trouble = _object(repository, reader, stored, listed)
            troubles += [trouble] if trouble else []
        troubles += _strangers(entry, listed)
        if not troubles and entry.kind.of_database and entry.engine != "pgbackrest":
            parent = known.get(entry.database.parent) if entry.database else None
            trouble = reader.contents(entry, parent.database if parent else None)
            troubles += [trouble] if trouble else []
        yield from _damages(entry, troubles)


def _object(repository: Repository, reader: Reader, stored: Stored, listed: Mapping[str, StoredFile]) -> Trouble | None:
    file = listed.get(stored.key) or next((f for f in repository.store.list(stored.key) if f.key == stored.key), None)
    if file is None:
        return Trouble(Cause.MISSING, f"{stored.key} is not in the repository")
    if file.bytes < stored.bytes:
        return Trouble(Cause.TRUNCATED, f"{stored.key} has {file.bytes:,} bytes of {stored.bytes:,}")
    if file.bytes > stored.bytes:
        return Trouble(Cause.CORRUPT, f"{stored.key} has {file.bytes:,} bytes, and {stored.bytes:,} were stored")
    return reader.object(stored, file)


def _strangers(entry: Entry, listed: Mapping[str, StoredFile]) -> Iterator[Trouble]:
    if not entry.kind.of_database:
        return
    own = {stored.key for stored in entry.objects}
    strangers = sorted(key for key in listed if key.startswith(f"backups/{entry.id}/") and key not in own)
    if strangers:
        yield Trouble(Cause.EDITED, f"{_told(strangers)} lies among its objects, and its entry does not name it")


def _damages(entry: Entry, troubles: Sequence[Trouble]) -> Iterator[Damage]:
    """One damage for each cause, not for each of a thousand objects."""
    causes = dict.fromkeys(trouble.cause for trouble in troubles)
    for cause in causes:
        told = [trouble.sentence for trouble in troubles if trouble.cause is cause]
        more = f"; and {len(told) - 1} more like that" if len(told) > 1 else ""
        of_database = entry.kind.of_database
        yield Damage(
            cause=cause,
            subject=entry.id,
            sentence=told[0] + more,
            backups=(entry.id,) if of_database else (),
            note="" if of_database else f"the {entry.kind} of {entry.ended:%Y-%m-%d %H:%M} UTC",
        )


def _told(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _KEYS_TOLD_MAX} more" if len(keys) > _KEYS_TOLD_MAX else ""
    return ", ".join(keys[:_KEYS_TOLD_MAX]) + more
