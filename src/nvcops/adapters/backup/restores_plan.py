"""Deciding what a restore takes, and refusing what cannot be: nothing is touched here."""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.backup.clone import control_data, server_of
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.backup.restores_log import Log, read_log
from nvcops.adapters.backup.tools import Tools
from nvcops.core.backups import DatabaseBackup, Entry, RestoreTarget, lsn_bytes, lsn_text
from nvcops.core.catalogue import base_backups
from nvcops.core.errors import NotFoundError, Refused, StateError, UsageError
from nvcops.core.restores import Purpose, RestorePlan
from nvcops.core.units import Bytes

NEWEST = "newest"
_SPARE = 1.05
_SPARE_BYTES = 128 << 20  # for what the copy's own server writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What there is to restore from: the catalogue, the log for a target, programs by major version.

    `look` raises when something of a chain is not there as it should be.
    """

    entries: Sequence[Entry]
    look: Callable[[Sequence[Entry]], None]
    log: Callable[[DatabaseBackup, RestoreTarget], Log]
    tools: Callable[[int], Tools]


def stock_of(repository: Repository) -> Stock:
    """What our own repository has."""

    def look(chain: Sequence[Entry]) -> None:
        _look_at_key(repository, chain)
        _look_at_objects(repository, chain)

    return Stock(
        entries=repository.catalogue.entries(),
        look=look,
        log=lambda database, to: read_log(repository, database, to),
        tools=repository.tools,
    )


def make_plan(
    stock: Stock, run: str, backup: str, to: RestoreTarget, purpose: Purpose, into: Path | None, work: Path
) -> RestorePlan:
    """Decide what a restore takes. Raises as core.restores.Restores.plan does."""
    backups = [entry for entry in base_backups(stock.entries) if entry.database]
    entry = _newest(backups, to) if backup == NEWEST else _named(backups, backup)
    chain = chain_of(backups, entry)
    database = database_of(entry)
    stock.look(chain)
    tools = stock.tools(database.major)
    log = stock.log(database, to)
    _look_at_target(backups, entry, log, to)
    _look_at_place(purpose, into, database, tools)
    needed = _needed(chain, log)
    free = shutil.disk_usage(_existing(work)).free
    if needed > free:
        raise StateError(
            f"the restore needs {Bytes(needed)} on the disk of {work.parent}, and {Bytes(free)} are free",
            hint="make room, or restore into a folder on another disk",
        )
    return RestorePlan(
        run=run,
        purpose=purpose,
        backup=entry.id,
        chain=tuple(known.id for known in chain),
        target=to,
        system_identifier=database.system_identifier,
        major=database.major,
        timelines=tuple(leg.timeline for leg in log.way),
        first_segment=log.first,
        last_segment=log.last,
        bytes=entry.raw_bytes if len(chain) == 1 else max(known.raw_bytes for known in chain),
        fetched_bytes=sum(known.stored_bytes for known in chain),
        wal_bytes=log.bytes,
        needed=needed,
        free=free,
        work_path=str(work),
        into_path=str(into) if into else "",
    )


def work_folder(run: str, purpose: Purpose, into: Path | None, scratch: Path) -> Path:
    """Where a restore is built: on the disk on which it ends up, so that it can be renamed."""
    digest = hashlib.sha256(run.encode()).hexdigest()[:12]
    if purpose is Purpose.DRILL or into is None:
        return scratch / f"restore-{digest}"
    return into.with_name(f"{into.name}.restoring-{digest}")


def database_of(entry: Entry) -> DatabaseBackup:
    """What a base backup is of."""
    if entry.database is None:
        raise StateError(f"{entry.id} is no backup of a database", hint="`nvcops backups` lists them")
    return entry.database


def chain_of(backups: Sequence[Entry], entry: Entry) -> list[Entry]:
    """The backups that a backup builds upon, the full one first, and itself.

    Raises:
        StateError: one of them is gone.
    """
    by_id = {known.id: known for known in backups}
    chain = [entry]
    while parent := database_of(chain[0]).parent:
        if parent not in by_id or by_id[parent] in chain:
            raise StateError(
                f"{chain[0].id} builds upon {parent}, which is not in the repository", hint="restore an older backup"
            )
        chain.insert(0, by_id[parent])
    return chain


def kept_range(backups: Sequence[Entry], log: Log) -> str:
    """The moments between which a restore is possible, for a person."""
    oldest = min(database_of(entry).stop_time for entry in backups)
    return f"kept is from {_written(oldest)} to {_written(log.newest or oldest)}"


def _named(backups: Sequence[Entry], backup: str) -> Entry:
    for entry in reversed(backups):
        if entry.id == backup:
            return entry
    ids = [entry.id for entry in backups]
    near = difflib.get_close_matches(backup, ids, 3, 0.6) or ids[-3:]
    hint = f"there: {', '.join(near)}" if near else "there are no backups"
    raise NotFoundError(f"there is no backup {backup!r}", hint=hint)


def _newest(backups: Sequence[Entry], to: RestoreTarget) -> Entry:
    fit = [entry for entry in backups if _ended_before(database_of(entry), to)]
    if fit:
        return fit[-1]
    if not backups:
        raise NotFoundError("there is no backup to restore", hint="`nvcops run backup-database` takes one")
    oldest = database_of(backups[0])
    raise UsageError(
        f"no backup ended before {to_text(to)}: the oldest ended at {_written(oldest.stop_time)} ({oldest.stop_lsn})",
        hint="an earlier point is not kept",
    )


def _ended_before(database: DatabaseBackup, to: RestoreTarget) -> bool:
    if to.lsn:
        return lsn_bytes(database.stop_lsn) <= lsn_bytes(to.lsn)
    return to.time is None or database.stop_time <= to.time


def to_text(to: RestoreTarget) -> str:
    """A target as a person says it.

    >>> to_text(RestoreTarget(lsn="0/3000060")), to_text(RestoreTarget())
    ('0/3000060', 'the end of the log')
    """
    if to.time:
        return _written(to.time)
    return to.lsn or to.name or "the end of the log"


def _look_at_key(repository: Repository, chain: Sequence[Entry]) -> None:
    ours = repository.sealing.key_id
    for entry in chain:
        if entry.key_id and entry.key_id != ours:
            have = f"[backups] key_file is the key {ours}" if ours else "no key is named"
            raise StateError(
                f"{entry.id} is encrypted with the key {entry.key_id}, and {have}", hint="[backups] key_file names it"
            )


def _look_at_objects(repository: Repository, chain: Sequence[Entry]) -> None:
    """Everything that the catalogue promises is there, in its size; digests are compared while it is read."""
    for entry in chain:
        there = {file.key: file.bytes for file in repository.store.list(f"backups/{entry.id}/")}
        for stored in entry.objects:
            if there.get(stored.key) != stored.bytes:
                is_there = f"has {there[stored.key]:,} bytes" if stored.key in there else "is missing"
                raise StateError(
                    f"{entry.id} cannot be restored: {stored.key} {is_there} and should have {stored.bytes:,}",
                    hint="`nvcops run backup-audit` says what is lost; an older backup may be whole",
                )


def _look_at_target(backups: Sequence[Entry], entry: Entry, log: Log, to: RestoreTarget) -> None:
    database = database_of(entry)
    if not _ended_before(database, to):
        earlier = [known.id for known in backups if _ended_before(database_of(known), to)]
        hint = f"the newest before it: {earlier[-1]}" if earlier else kept_range(backups, log)
        raise UsageError(
            f"{entry.id} ended at {_written(database.stop_time)} ({database.stop_lsn}), after {to_text(to)}", hint=hint
        )
    if to.lsn and lsn_bytes(to.lsn) > log.end:
        raise UsageError(f"the log ends before {to.lsn}: it goes to {lsn_text(log.end)}", hint=kept_range(backups, log))
    if to.time and (log.newest is None or to.time > log.newest):
        raise UsageError(
            f"{to_text(to)} is after the end of the log: {kept_range(backups, log)}", hint="--to an earlier time"
        )


def _look_at_place(purpose: Purpose, into: Path | None, database: DatabaseBackup, tools: Tools) -> None:
    if purpose is Purpose.DRILL:
        return
    if into is None:
        raise UsageError("it is not said where to restore to", hint="--into FOLDER or --in-place")
    if purpose is Purpose.IN_PLACE:
        _look_at_old_data(into, database, tools)
        return
    if pid := server_of(into):
        raise Refused(f"a server runs in {into} (process {pid})", hint="restore into another folder, or --in-place")
    if into.is_symlink() or (into.exists() and (not into.is_dir() or any(into.iterdir()))):
        raise UsageError(f"{into} is not empty", hint="name a folder that is empty or not there yet")
    if not into.parent.is_dir():
        raise UsageError(f"there is no folder {into.parent}", hint="make it, or name another")


def _look_at_old_data(data: Path, database: DatabaseBackup, tools: Tools) -> None:
    """The data that are to be replaced, if there are any, are of the same system and version."""
    if data.is_symlink() or data.is_mount():
        raise Refused(
            f"{data} is a link or a mount point and cannot be renamed", hint="put the data one folder below it"
        )
    version = data / "PG_VERSION"
    if not version.exists():
        return
    major = version.read_text(encoding="ascii").strip()
    if major != str(database.major):
        raise Refused(
            f"the data in {data} are PostgreSQL {major}'s, and the backup is PostgreSQL {database.major}'s",
            hint="restore into a folder",
        )
    identifier = control_data(tools, data).get("Database system identifier", "")
    if identifier != database.system_identifier:
        raise Refused(
            f"the data in {data} are another system's ({identifier}) than the backup's ({database.system_identifier})",
            hint="is [recovery] data the right folder?",
        )


def _needed(chain: Sequence[Entry], log: Log) -> int:
    """Bytes of the disk: the result, the parts that it is combined of, the log, and something to spare."""
    parts = sum(entry.raw_bytes for entry in chain)
    result = max(entry.raw_bytes for entry in chain) if len(chain) > 1 else 0
    return int((parts + result + log.bytes) * _SPARE) + _SPARE_BYTES


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _written(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
