"""PostgreSQL's own tools as the engine: pg_basebackup for full and, from 17 on, block-incremental backups."""

from __future__ import annotations

import datetime as dt
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from nvcops.adapters.backup import wal
from nvcops.adapters.backup.examine_memory import forget_former, ids_seen
from nvcops.adapters.backup.index import MANIFEST, read_file, read_index
from nvcops.adapters.backup.pack import Damaged
from nvcops.adapters.backup.packing import Packing
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.backup.spool import receiver_state
from nvcops.adapters.backup.tools import last_words
from nvcops.core.backups import Audit, DatabaseBackup, Entry, Kind, LogKept, ReceiverState, Room, Segment
from nvcops.core.catalogue import base_backups
from nvcops.core.errors import DeadlineExceeded, NotFoundError, Refused, StateError, TargetError
from nvcops.core.schedule import now

if TYPE_CHECKING:
    from collections.abc import Iterator

_SILENT_S = 900.0  # the server reads slowly where it is told to, but it reads
_ENDING_S = 10.0
_DEADLINE_S = 24 * 3600.0
_INCREMENTAL_FROM = 17
_RATE_KIB_MIN, _RATE_KIB_MAX = 32, 1 << 20
_ENDINGS = ("-F", "-I")
_SERVER = """
SELECT system_identifier::text, current_setting('server_version_num')::int / 10000,
       coalesce(current_setting('summarize_wal', true), 'off') = 'on',
       pg_size_bytes(current_setting('wal_segment_size')),
       (SELECT count(*) FROM pg_tablespace)
FROM pg_control_system()
"""


class Server(msgspec.Struct, frozen=True, array_like=True):
    """What the server says of itself."""

    system_identifier: str
    major: int
    summarizes: bool
    segment_bytes: int
    tablespaces: int


class _LogRange(msgspec.Struct, frozen=True):
    timeline: int = msgspec.field(name="Timeline")
    start: str = msgspec.field(name="Start-LSN")
    end: str = msgspec.field(name="End-LSN")


class _Manifest(msgspec.Struct, frozen=True):
    """What a backup_manifest says of the transaction log that the backup needs."""

    ranges: tuple[_LogRange, ...] = msgspec.field(name="WAL-Ranges")


@dataclass(frozen=True, slots=True)
class NativeBackups:
    """See core.backups.Backups."""

    repository: Repository

    def catalogue(self) -> list[Entry]:
        """All entries, oldest first, the chain verified."""
        return self.repository.catalogue.entries()

    def head(self) -> str:
        """SHA-256 of the newest entry."""
        return self.repository.catalogue.head()[1]

    def segments(self) -> list[Segment]:
        """The transaction log in the repository and its spool."""
        return wal.segments(self.repository)

    def receiver(self) -> ReceiverState:
        """How the transaction-log backup stands."""
        return receiver_state(self.repository)

    def room(self) -> Room:
        """How much space there is."""
        store = self.repository.store
        return Room(used=sum(file.bytes for file in store.list("")), free=store.free())

    def back_up(self, id: str, *, full: bool) -> Entry:  # noqa: A002 - the catalogue's own word
        """Take a base backup."""
        return back_up(self.repository, id, full=full)

    def examine(self, *, deep: bool) -> Audit:
        """Look for everything that would keep a point in time from being restored."""
        from nvcops.adapters.backup.examine import examine

        return examine(self.repository, deep=deep)

    def begin_anew(self) -> str:
        """Forget what former audits saw."""
        return forget_former(self.repository, self.repository.store.name)

    def record(self, draft: Entry) -> Entry:
        """Enter something that has no objects of its own; one that has this id already is answered."""
        return _entered(self.repository, draft.id) or self.repository.catalogue.append(draft)

    def remove(self, ids: Sequence[str], log: Sequence[LogKept], *, draft: Entry) -> Entry:
        """Remove entries' objects, and the log that is not kept."""
        from nvcops.adapters.backup.removal import remove

        return remove(self.repository, ids, log, draft=draft)

    def store_files(self, draft: Entry, files: Sequence[tuple[str, Path]]) -> Entry:
        """Keep files as one entry."""
        from nvcops.adapters.backup.files import store_files

        return store_files(self.repository, draft, files)

    def fetch_files(self, id: str, into: Path) -> list[Path]:  # noqa: A002 - the catalogue's own word
        """Write the files of an entry below an empty folder."""
        from nvcops.adapters.backup.files import fetch_files

        return fetch_files(self.repository, id, into)


def back_up(repository: Repository, id: str, *, full: bool) -> Entry:  # noqa: A002 - the catalogue's own word
    """Take a base backup and enter it; one that has this id already is answered.

    Incremental on the newest backup, where that can be; else full: its id ends in -F then, and its note says why.

    Raises:
        LockHeld: another backup is being taken.
        TargetError, StateError: it failed, and nothing of it is left.
    """
    if not id.endswith(_ENDINGS):
        raise StateError(f"{id!r} is no id of a database backup", hint="it ends in -F or -I")
    if entry := _taken_already(repository, id):
        return entry
    with repository.lock("backup") as held:
        if entry := _taken_already(repository, id):  # by who held the lock just now
            return entry
        sweep(repository)
        server = _server(repository)
        parent, note = (None, "") if full else _parent(repository, server)
        began = now()
        try:
            draft = _taken(repository, server, id, parent)
        except (_Declined, Damaged, NotFoundError) as error:
            if parent is None:
                raise
            declined = isinstance(error, _Declined)
            why = "the server declined an incremental one" if declined else f"{parent.id} cannot be read"
            note = f"full, because {why}: {error.sentence}"
            draft = _taken(repository, server, id, None)
        try:
            held.check()
            return repository.catalogue.append(msgspec.structs.replace(draft, began=began, note=note))
        except BaseException:
            _forget(repository, draft.id)
            raise


def sweep(repository: Repository) -> list[str]:
    """Remove what killed attempts left: objects of backups that are in no catalogue. Only under the lock "backup".

    Those of an entry that an audit once saw stay: it was lost, and may be put back. Returns the ids of which something
    was removed.
    """
    repository.store.sweep()
    known = {entry.id for entry in repository.catalogue.entries()} | ids_seen(repository)
    ids = {file.key.split("/")[1] for file in repository.store.list("backups/")}
    orphans = sorted(id for id in ids - known if id.endswith(_ENDINGS))  # noqa: A001 - the catalogue's own word
    for orphan in orphans:
        _forget(repository, orphan)
    return orphans


class _Declined(Refused):
    """The server answered no before it sent anything."""


def _entered(repository: Repository, id: str) -> Entry | None:  # noqa: A002 - the catalogue's own word
    try:
        return repository.catalogue.find(id)
    except NotFoundError:
        return None


def _taken_already(repository: Repository, id: str) -> Entry | None:  # noqa: A002 - the catalogue's own word
    """The backup that was asked for by this id: an incremental one may have become a full one."""
    return _entered(repository, id) or _entered(repository, _as_full(id))


def _as_full(id: str) -> str:  # noqa: A002 - the catalogue's own word
    """The id of a full backup.

    >>> _as_full("20261122T160500Z-I")
    '20261122T160500Z-F'
    """
    return f"{id[:-1]}F"


def _forget(repository: Repository, id: str) -> None:  # noqa: A002 - the catalogue's own word
    """Remove the objects of a backup that came to nothing, unless it was entered after all."""
    if _entered(repository, id) is None:
        repository.store.delete([file.key for file in repository.store.list(f"backups/{id}/")])


def _server(repository: Repository) -> Server:
    """The server, if it can be backed up into this repository."""
    server = msgspec.convert(repository.source.rows(_SERVER)[0], Server)
    if server.tablespaces > 2:
        raise Refused("the server has tablespaces of its own, which are not backed up here", hint="engine = pgbackrest")
    for entry in reversed(repository.catalogue.entries()):
        if entry.database and entry.database.system_identifier != server.system_identifier:
            raise Refused(
                f"the server is another one (system identifier {server.system_identifier}) than that of "
                f"{entry.id} ({entry.database.system_identifier})",
                hint="give each cluster a repository of its own",
            )
    repository.tools(server.major)
    return server


def _parent(repository: Repository, server: Server) -> tuple[Entry | None, str]:
    """The backup on which an incremental one is built, or why there can be none."""
    newest = next(reversed(base_backups(repository.catalogue.entries())), None)
    if newest is None or newest.database is None:
        return None, "full, because there is none before it"
    if server.major < _INCREMENTAL_FROM:
        return None, f"full, because PostgreSQL {server.major} has no incremental backup"
    if not server.summarizes:
        return None, "full, because the server's summarize_wal is off"
    if newest.database.major != server.major:
        return None, f"full, because {newest.id} is of PostgreSQL {newest.database.major}"
    if newest.key_id != repository.sealing.key_id:
        return None, f"full, because {newest.id} is encrypted with another key"
    return newest, ""


def _taken(repository: Repository, server: Server, id: str, parent: Entry | None) -> Entry:  # noqa: A002
    """Take a backup; all of its objects are durable when this returns its draft. What fails leaves nothing."""
    id = id if parent else _as_full(id)  # noqa: A001 - the catalogue's own word
    packing = Packing(id, repository.store, repository.sealing, parent.raw_bytes if parent else 0)
    try:
        with _parent_manifest(repository, parent) as manifest:
            _stream(repository, server, id, packing, manifest)
        index = packing.finish()
        database = _of_database(repository, server, packing, parent)
    except BaseException:
        _forget(repository, id)
        raise
    return Entry(
        number=0,
        id=id,
        kind=Kind.INCREMENTAL if parent else Kind.FULL,
        platform=repository.platform,
        began=database.stop_time,
        ended=now(),
        engine="native",
        objects=tuple(packing.objects),
        raw_bytes=index.raw_bytes,
        key_id=repository.sealing.key_id,
        database=database,
    )


def _of_database(repository: Repository, server: Server, packing: Packing, parent: Entry | None) -> DatabaseBackup:
    """What the backup is of. Its end in time is the server's clock after its end in the log."""
    ranges = _log_ranges(packing)
    stop_time: dt.datetime = repository.source.rows("SELECT clock_timestamp()")[0][0].astimezone(dt.UTC)
    return DatabaseBackup(
        system_identifier=server.system_identifier,
        major=server.major,
        timeline=ranges[-1].timeline,
        start_lsn=ranges[0].start,
        stop_lsn=ranges[-1].end,
        stop_time=stop_time,
        parent=parent.id if parent else "",
        segment_bytes=server.segment_bytes,
    )


def _log_ranges(packing: Packing) -> tuple[_LogRange, ...]:
    """What the backup's own manifest says of the log between its begin and its end."""
    try:
        ranges = msgspec.json.decode(packing.manifest, type=_Manifest).ranges
    except msgspec.DecodeError as error:
        raise TargetError(f"the backup has no {MANIFEST}, or not a whole one: {error}") from error
    if not ranges or not any(file.path == "backup_label" for file in packing.files):
        raise TargetError("the backup does not say where its transaction log begins")
    return ranges


@contextmanager
def _parent_manifest(repository: Repository, parent: Entry | None) -> Iterator[IO[bytes] | None]:
    """The parent's manifest as a file without a name, which nobody leaves behind."""
    if parent is None:
        yield None
        return
    index = read_index(repository.store, repository.sealing, parent.id)
    with tempfile.TemporaryFile() as file:
        file.writelines(read_file(repository.store, repository.sealing, index, MANIFEST))
        file.flush()
        yield file


def _stream(repository: Repository, server: Server, id: str, packing: Packing, manifest: IO[bytes] | None) -> None:  # noqa: A002
    """Run pg_basebackup, and pack what it sends. It verifies the checksum of every page as it goes."""
    arguments = ["--pgdata=-", "--format=tar", "--wal-method=none", "--checkpoint=fast", "--no-password"]
    arguments += [f"--label=nvcops {id}", f"--dbname={repository.source.conninfo('nvcops_backup')}"]
    if repository.entry.rate_max is not None:
        kib = int(repository.entry.rate_max) >> 10
        arguments.append(f"--max-rate={min(max(kib, _RATE_KIB_MIN), _RATE_KIB_MAX)}")
    if manifest is not None:
        arguments.append(f"--incremental=/proc/self/fd/{manifest.fileno()}")
    with tempfile.TemporaryFile() as said:
        program = repository.tools(server.major).start(
            "pg_basebackup",
            *arguments,
            password=repository.source.password,
            quiet=True,
            stdout=subprocess.PIPE,
            stderr=said,
            handles=[manifest.fileno()] if manifest is not None else [],
        )
        try:
            assert program.stdout is not None  # noqa: S101 - for the type checker: it was asked for
            pipe = _Pipe(program.stdout)
            try:
                packing.take(pipe)
                pipe.drain()
            except TargetError:
                with suppress(subprocess.TimeoutExpired):
                    program.wait(_ENDING_S)
                if not program.returncode:
                    raise
            code = program.wait(_SILENT_S)
        finally:
            program.kill()
            program.wait()
            if program.stdout is not None:
                program.stdout.close()
        if code:
            raise _failed(code, said, declined=not pipe.received)


def _failed(code: int, said: IO[bytes], *, declined: bool) -> TargetError:
    said.seek(0)
    words = last_words(said.read(1 << 20).decode(errors="replace"))
    kind = _Declined if declined else TargetError
    return kind(f"pg_basebackup ended with {code}: {words}", hint="nothing of this backup was kept")


class _Pipe:
    """What pg_basebackup sends, with a limit to its silence."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._end = time.monotonic() + _DEADLINE_S
        self.received = 0

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes; none at the end."""
        wait_s = min(_SILENT_S, self._end - time.monotonic())
        if wait_s <= 0 or not select.select([self._pipe], [], [], wait_s)[0]:
            raise DeadlineExceeded(f"pg_basebackup sent nothing for {_SILENT_S:g} s, or took longer than a day")
        data = os.read(self._pipe.fileno(), size)
        self.received += len(data)
        return data

    def drain(self) -> None:
        """Read to the end, so that the program can end."""
        while self.read(1 << 20):
            pass
