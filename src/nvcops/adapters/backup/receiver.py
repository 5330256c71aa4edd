"""The continuous backup of the transaction log: pg_receivewal as a synchronous standby, and the archive behind it.

    server ── streams ──> pg_receivewal ── fsync ──> spool ── packed, sealed, fsync ──> repository

A commit waits until the spool has it on disk (`synchronous_standby_names = 'nvcops_wal'`): what a client saw accepted
can be restored. A finished segment leaves the spool when the repository has it durably and a newer one is there: the
newest name in the spool is where pg_receivewal goes on after an interruption.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from nvcops.adapters.backup import spool, wal
from nvcops.adapters.backup.examine_line import HistoryError, Line, Span, history_name, number_of, read_history
from nvcops.adapters.backup.examine_read import written_end
from nvcops.adapters.backup.local import LocalStore
from nvcops.adapters.backup.locks import hold_file
from nvcops.adapters.backup.pack import seal
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.backup.spool import STANDBY_NAME, Kept, Notes
from nvcops.adapters.backup.tools import Tools, last_words
from nvcops.adapters.evidence.files import private_folder, unusable, write_new
from nvcops.core.errors import LockHeld, NvcopsError, StateError, TargetError
from nvcops.core.schedule import now

_LOOK_S = 0.5
_LOCK_S = 2.0  # somebody who asks whether a receiver runs holds its lock for a moment
_PAUSE_MIN_S, _PAUSE_MAX_S = 0.25, 5.0
_WELL_AFTER_S = 10.0
_STOP_S = 10.0
_SLOT_S = 20.0
_SAID_MAX = 1 << 16
_KEPT_MAX = 20
_GONE = "has already been removed"  # PostgreSQL's own words, for a segment that it no longer has
_SERVER = """
SELECT system_identifier::text, current_setting('server_version_num')::int / 10000,
       (SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s),
       ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int,
       pg_size_bytes(current_setting('wal_segment_size'))
FROM pg_control_system()
"""
_PARTIAL = ".partial"
_NOT_STREAMED = 'command "START_REPLICATION"'  # pg_receivewal's, in the language that it is given
_DROP = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active"


@dataclass
class Receiver:
    """The receiver of one repository; `run` is its life. One at a time for each spool."""

    repository: Repository
    archived: int = 0
    _notes: Notes = field(default_factory=Notes)
    _unwritten: bool = False  # the notes: their disk is full
    _known: set[str] = field(default_factory=set)  # of what lies in the spool, what the repository has

    def run(self, stop: threading.Event) -> None:
        """Receive and archive until `stop` is set: through restarts, outages and failovers of the server.

        Call it in a thread that lives as long: pg_receivewal dies with the thread that started it.

        Raises:
            LockHeld: another process receives into this spool.
            StateError: the spool cannot be used.
            Unreachable: it lies in the repository, and that is not there.
        """
        self._look_for_its_disk()
        folder = private_folder(self.repository.spool)
        with hold_file(folder / spool.LOCK, f"receiver of {folder}", wait_s=_LOCK_S):
            self._notes = spool.read_notes(folder)
            pause_s = _PAUSE_MIN_S
            while not stop.is_set():
                began = time.monotonic()
                try:
                    self._receive(stop)
                except NvcopsError as error:
                    self._note(error.sentence)
                well = time.monotonic() - began > _WELL_AFTER_S
                pause_s = _PAUSE_MIN_S if well else min(2 * pause_s, _PAUSE_MAX_S)
                self._archive_if_possible()
                stop.wait(pause_s)

    def _look_for_its_disk(self) -> None:
        """A spool within the repository is not made where the repository's disk is not mounted."""
        store = self.repository.store
        if isinstance(store, LocalStore) and self.repository.spool.is_relative_to(store.folder):
            next(store.list("spool/"), None)

    def archive(self) -> int:
        """Put what is finished in the spool into the repository; how many files that were.

        Raises:
            Unreachable, StateError: the repository does not take them; they stay in the spool.
        """
        there = spool.look(self.repository.spool)
        count = sum(self._keep(name) for name in (*there.histories, *there.finished[-1:]))
        for name in there.over:
            count += self._keep(name)
            self._drop(name)
        self.archived += count
        return count

    def _keep(self, name: str) -> int:
        """Put one file into the repository, unless it is there; whether it was put."""
        if name in self._known:
            return 0
        repository, path = self.repository, self.repository.spool / name
        identifier = spool.identity(repository.spool)
        if not identifier:
            raise StateError(f"nobody knows whose log {path} is", hint="the server says so, once it answers")
        digest = hashlib.sha256()
        for chunk in wal.chunks(path):
            digest.update(chunk)
        key = wal.wal_key(identifier, name, digest.hexdigest())
        prefix = key[: -len(wal.SUFFIX) - wal.DIGEST_DIGITS]
        others = [file.key for file in repository.store.list(prefix) if file.key != key]
        if others:
            self._remember(f"{name} came twice with different contents, and both are kept: {others[0]}, {key}")
        try:
            repository.store.put(key, seal(wal.chunks(path), repository.sealing), exclusive=True)
            count = 1
        except LockHeld:  # the same bytes are there already
            count = 0
        self._known.add(name)
        return count

    def _put_away(self, logs: Iterable[str]) -> None:
        """Have the repository keep what cannot be continued, and the spool be without it."""
        for name in logs:
            if (self.repository.spool / name).stat().st_size:
                self._keep(name)
            self._drop(name)

    def _drop(self, name: str) -> None:
        """Remove from the spool what the repository has."""
        (self.repository.spool / name).unlink(missing_ok=True)
        self._known.discard(name)

    def _receive(self, stop: threading.Event) -> None:
        """Run pg_receivewal until it ends, and archive meanwhile."""
        repository = self.repository
        identifier, major, status, timeline, size = repository.source.rows(_SERVER, repository.entry.slot)[0]
        spool.claim(repository.spool, identifier)
        if status == "lost":
            self._begin_anew("the server's limit made the slot invalid")
        tools = repository.tools(major)
        _forget_half_padding(repository.spool, size)
        self._create_slot(tools)
        with _receiving(repository, tools) as (program, said):
            while program.poll() is None and not stop.wait(_LOOK_S):
                self._note(self._archive_if_possible())
            if stop.is_set():
                return
            words = _words(said)
        if _GONE in words:
            self._begin_anew(words)
        elif _NOT_STREAMED in words and self._step_on(timeline, size):
            return
        raise TargetError(f"pg_receivewal ended with {program.returncode}: {words}")

    def _create_slot(self, tools: Tools) -> None:
        source, slot = self.repository.source, self.repository.entry.slot
        done = tools.run(
            "pg_receivewal",
            f"--slot={slot}",
            "--create-slot",
            "--if-not-exists",
            "--no-password",
            f"--dbname={source.conninfo(STANDBY_NAME)}",
            password=source.password,
            deadline_s=_SLOT_S,
        )
        if done.code:
            raise TargetError(f"the replication slot {slot} cannot be made: {done.said}")

    def _step_on(self, newest: int, segment_bytes: int) -> bool:
        """Go on where the server's history left what was received last; whether it did.

        pg_receivewal asks for what follows its newest file, on that file's timeline. The server does not have that
        where the timeline ended exactly with a segment, nor where it ended earlier than what was received: the old
        primary wrote more than its successor ever got. An empty file of the timeline that is the server's there makes
        it ask for that; what was received of the abandoned end is kept, and leaves the spool.
        """
        folder = self.repository.spool
        logs = spool.look(folder).logs
        last = max(logs, key=lambda name: (name[8:24], name[:8]), default="")  # pg_receivewal's own choice
        if not last or int(last[:8], 16) >= newest:
            return False
        source = self.repository.source
        server = _line(newest, source.history(newest), segment_bytes)
        left = server.left(_line_of(folder, int(last[:8], 16), segment_bytes))
        if left is None:
            return False
        number = number_of(last, segment_bytes) + (not last.endswith(_PARTIAL))
        name = f"{server.name_at(min(number, left // segment_bytes))}{_PARTIAL}"
        if name == last:
            return False
        if (timeline := int(name[:8], 16)) > 1:
            write_new(folder / history_name(timeline), source.history(timeline))
        write_new(folder / name, b"")
        self._put_away(log for log in logs if log != name)
        return True

    def _begin_anew(self, why: str) -> None:
        """The server no longer has what comes next: go on from where it is now, and never forget the gap."""
        self.archive()
        logs = spool.look(self.repository.spool).logs
        self._put_away(logs)  # the newest one too, whole or not: the log cannot be continued
        self.repository.source.rows(_DROP, self.repository.entry.slot)
        after = logs[-1] if logs else "what was received"
        self._remember(f"the log has a gap after {after}: {why}; take a full backup")

    def _archive_if_possible(self) -> str:
        """Archive; why it could not."""
        try:
            self.archive()
        except NvcopsError as error:
            return error.sentence
        except OSError as error:
            return unusable(self.repository.spool, error).sentence
        return ""

    def _note(self, trouble: str) -> None:
        if self._unwritten or trouble != self._notes.trouble:
            self._write(Notes(trouble, self._notes.kept))

    def _remember(self, what: str) -> None:
        if what not in {note.text for note in self._notes.kept}:
            self._write(Notes(self._notes.trouble, (*self._notes.kept, Kept(now(), what))[-_KEPT_MAX:]))

    def _write(self, notes: Notes) -> None:
        """Keep the notes; where they cannot be written now, that is no reason not to receive."""
        self._notes = notes
        try:
            spool.write_notes(self.repository.spool, notes)
            self._unwritten = False
        except StateError:
            self._unwritten = True


@contextmanager
def _receiving(repository: Repository, tools: Tools) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """pg_receivewal at work, and what it says; it is gone afterwards."""
    arguments = [f"--directory={repository.spool}", f"--slot={repository.entry.slot}", "--synchronous"]
    # What ends exactly with a segment is confirmed only by the next report: within a second.
    arguments += [
        "--status-interval=1",
        "--no-loop",
        "--no-password",
        f"--dbname={repository.source.conninfo(STANDBY_NAME)}",
    ]
    with tempfile.TemporaryFile() as said:
        program = tools.start("pg_receivewal", *arguments, password=repository.source.password, stderr=said)
        try:
            yield program, said
        finally:
            program.send_signal(signal.SIGINT)  # it ends in an orderly way, and says good-bye to the server
            try:
                program.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()


def _forget_half_padding(folder: Path, segment_bytes: int) -> None:
    """Empty files that pg_receivewal could not fill up with zeros on a full disk: it does not go on with one of those.

    Raises:
        StateError: something was received into one: that never happens, and nobody throws it away.
    """
    for path in (folder / name for name in spool.look(folder).logs if name.endswith(_PARTIAL)):
        if path.stat().st_size in (0, segment_bytes):
            continue
        if written_end(path):
            raise StateError(f"{path} is shorter than a segment, and not empty", hint="look at it; move it away")
        os.truncate(path, 0)


def _line_of(folder: Path, timeline: int, segment_bytes: int) -> Line:
    """The way to a timeline that was received, by its history in the spool."""
    if timeline == 1:
        return Line((Span(1, 0, None),), segment_bytes)
    path = folder / history_name(timeline)
    try:
        return _line(timeline, path.read_bytes(), segment_bytes)
    except OSError as error:
        raise unusable(path, error) from error


def _line(timeline: int, history: bytes, segment_bytes: int) -> Line:
    try:
        return Line(read_history(timeline, history.decode(errors="replace")), segment_bytes)
    except HistoryError as error:
        raise StateError(f"the history of timeline {timeline} cannot be read: {error}") from error


def _words(said: IO[bytes]) -> str:
    said.seek(0)
    return last_words(said.read(_SAID_MAX).decode(errors="replace"))
