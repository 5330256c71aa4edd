"""The audit of a repository: every point in time since the oldest kept backup can be restored, or what is in the way.

The repository lives while it is looked at: the log grows, backups are taken and removed. So nothing counts as a fault
that was seen once only: what looks wrong is looked for again, in a fresh listing.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.backup import examine_objects, wal
from nvcops.adapters.backup.examine_catalogue import Chain, Remembered, read_chain
from nvcops.adapters.backup.examine_chain import Layout, Shelf, broken_parents, lay_out
from nvcops.adapters.backup.examine_evidence import head_in_evidence
from nvcops.adapters.backup.examine_line import Line, history_of, number_of
from nvcops.adapters.backup.examine_log import LogReader
from nvcops.adapters.backup.examine_loss import Damage, fault, together
from nvcops.adapters.backup.examine_memory import Memory
from nvcops.adapters.backup.examine_read import Reader
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.evidence.files import private_folder
from nvcops.core import schedule
from nvcops.core.backups import Audit, Cause, Entry, Segment, lsn_bytes, lsn_text, segment_name
from nvcops.core.catalogue import present, removed
from nvcops.core.errors import NotFoundError, StateError

_PAUSES_S = (0.5, 1.5, 4.0)
_FAULTS_MAX = 1_000
_SCRATCH = "examine-"
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at all of the repository: what was found, and what of it is to be remembered."""

    chain: Chain
    layout: Layout
    backups: tuple[Entry, ...]
    keys: frozenset[str]
    segments: int
    damages: tuple[Damage, ...]
    reached: int
    newest: dt.datetime | None
    owner: str


def examine(repository: Repository, *, deep: bool) -> Audit:
    """Look for everything that would keep a point in time from being restored; see core.backups.Backups.examine.

    Raises:
        Unreachable, StateError: the repository, or our own folder, cannot be used: nothing is known.
    """
    with Memory(repository.state, repository.store.name) as memory, _scratch(repository) as folder:
        reader = Reader(repository, deep, memory.looked())
        look, seen = _look(repository, memory, reader, folder), set[tuple[str, str]]()
        for pause_s in _PAUSES_S:
            if {damage.key for damage in look.damages} <= seen:
                break
            seen = {damage.key for damage in look.damages}
            time.sleep(pause_s)
            look = _look(repository, memory, reader, folder)
        damages = [damage for damage in look.damages if damage.key in seen]
        _remember(memory, reader, look, damages)
        return _audit(reader, look, damages)


def _look(repository: Repository, memory: Memory, reader: Reader, folder: Path) -> Look:
    """The catalogue first, then the spool, then what is stored: what moves on meanwhile is seen at least once."""
    chain = read_chain(_catalogue(repository), head_in_evidence(repository) | memory.entries())
    entries = tuple(present(chain.entries))
    reader.key_ids = frozenset(entry.key_id for entry in chain.entries)
    files = [*wal.spooled(repository), *wal.stored_segments(repository)]
    listed = {file.key: file for file in repository.store.list("backups/")}
    histories, unreadable = _histories(reader, files)
    shelf = Shelf(
        entries=entries,
        files=tuple(_shipped_once(files)),
        histories=histories,
        system_identifier=memory.fact("system identifier"),
        newest=memory.fact("newest segment"),
        unreadable=unreadable,
    )
    layout = lay_out(shelf)
    damages = [*chain.damages, *layout.damages]
    damages += examine_objects.examine(repository, reader, entries, listed)
    reached, newest = 0, None
    if layout.line is not None and layout.ground.bases:
        reached, newest, found = _log(repository, layout, layout.line, entries, reader, folder)
        damages += found
    unusable = {id for damage in damages for id in damage.backups}  # noqa: A001 - the catalogue's own word
    damages += broken_parents(entries, unusable, removed(chain.entries))
    return Look(
        chain=chain,
        layout=layout,
        backups=tuple(entry for entry in entries if entry.kind.of_database),
        keys=frozenset([*listed, *(f"{key}#" for key in listed), *(file.key for file in files)]),
        segments=len(layout.files),
        damages=tuple(together(damages)),
        reached=reached,
        newest=newest,
        owner=shelf.owner,
    )


def _log(
    repository: Repository, layout: Layout, line: Line, entries: Sequence[Entry], reader: Reader, folder: Path
) -> tuple[int, dt.datetime | None, list[Damage]]:
    """The log from the oldest backup on: until where it is good, the last commit's time, what is wrong."""
    newest = next(entry.database for entry in reversed(entries) if entry.database)
    log = LogReader(layout, line, reader, repository.tools(newest.major), folder, schedule.now())
    log.read(min(base.start for base in layout.ground.bases) // line.segment_bytes)
    last = next(reversed(layout.files.values()), None)
    damages = log.damages
    ahead = max((base.stop for base in layout.ground.bases), default=0)
    if last is not None and last.partial and not damages and log.reached < ahead:
        sentence = (
            f"the log was received until {lsn_text(log.reached)}, and the newest backup ends at {lsn_text(ahead)}"
        )
        name = segment_name(line.timeline, ahead - 1, line.segment_bytes)
        damages.append(Damage(cause=Cause.MISSING, subject=name, sentence=sentence, gap=(log.reached, ahead)))
    return log.reached, log.last_commit or (last.modified if last else None), damages


def _catalogue(repository: Repository) -> list[tuple[str, bytes]]:
    found = []
    for file in repository.store.list("catalogue/"):
        try:
            found.append((file.key, repository.store.read(file.key)))
        except NotFoundError:
            continue  # it is gone since: then the chain says so
    return found


def _histories(reader: Reader, files: Sequence[Segment]) -> tuple[dict[str, str], dict[str, tuple[Cause, str]]]:
    """The texts of the timelines' histories, and what is wrong with those that cannot be read."""
    texts: dict[str, str] = {}
    unreadable: dict[str, tuple[Cause, str]] = {}
    for file in files:
        if history_of(file.name) is not None and not file.partial:
            text = reader.text(file)
            if isinstance(text, str):
                texts[file.name] = text
            else:
                unreadable[file.name] = (text.cause, text.sentence)
    return texts, unreadable


def _shipped_once(files: Sequence[Segment]) -> Iterator[Segment]:
    """The files but those of the spool that are in the repository by now."""
    stored = {file.name for file in files if file.sha256 and not file.partial}
    return (file for file in files if file.sha256 or file.partial or file.name not in stored)


def _remember(memory: Memory, reader: Reader, look: Look, damages: Sequence[Damage]) -> None:
    """Keep what was found good, and forget what is gone; while the catalogue is in doubt, what it was stays known."""
    memory.forget(set(reader.before) - look.keys)
    memory.note(
        {key: stamp for key, stamp in reader.good.items() if key in look.keys and reader.before.get(key) != stamp}
    )
    if not any(damage.cause is Cause.EDITED for damage in damages):
        ids: Mapping[int, str] = {entry.number: entry.id for entry in look.chain.entries}
        digests = look.chain.digests.items()
        memory.note_entries({number: Remembered(sha256, ids[number]) for number, sha256 in digests})
    if look.owner and not memory.fact("system identifier"):
        memory.note_fact("system identifier", look.owner)
    _remember_newest(memory, look)


def _remember_newest(memory: Memory, look: Look) -> None:
    """The newest segment that was ever there on this line: it is missed when it is gone."""
    line, last = look.layout.line, next(reversed(look.layout.files), None)
    if line is None or last is None:
        return
    before, name = memory.fact("newest segment"), line.name_at(last)
    on_line = before and line.name_at(number_of(before, line.segment_bytes)) == before
    if not on_line or number_of(before, line.segment_bytes) < last:
        memory.note_fact("newest segment", name)


def _audit(reader: Reader, look: Look, damages: Sequence[Damage]) -> Audit:
    bases = {base.id for base in look.layout.ground.bases}
    on_line = [entry.database for entry in look.backups if entry.database and entry.id in bases]
    return Audit(
        backups=len(look.backups),
        segments=look.segments,
        examined_bytes=reader.read,
        oldest=min((backup.stop_time for backup in on_line), default=None),
        newest=max([backup.stop_time for backup in on_line] + ([look.newest] if look.newest else []), default=None),
        newest_lsn=lsn_text(max(look.reached, *(lsn_bytes(b.stop_lsn) for b in on_line))) if on_line else "",
        head=look.chain.head,
        faults=tuple(fault(look.layout.ground, damage) for damage in damages[:_FAULTS_MAX]),
    )


@contextmanager
def _scratch(repository: Repository) -> Iterator[Path]:
    """A folder of our own for raw segments, gone afterwards; what a killed audit left is removed here."""
    parent = private_folder(repository.entry.scratch or repository.state)
    for left in parent.glob(f"{_SCRATCH}*"):
        if left.is_dir():
            _remove_if_dead(left)
    folder, handle = _locked(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _locked(parent: Path) -> tuple[Path, int]:
    """A new folder, and the lock that says that its audit lives."""
    for _ in range(_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=parent))
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder, handle
        os.close(handle)  # another audit took it for a dead one's before it was locked
    raise StateError(f"something keeps removing folders in {parent}", hint="look at what cleans up there")


def _remove_if_dead(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return  # its audit lives
    finally:
        os.close(handle)
