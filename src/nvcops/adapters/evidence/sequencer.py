"""The one place where entries get their index: group commit over threads, turns over processes, the spool otherwise."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence

from nvcops.adapters.evidence.spool import Claim, Spool, fold_away
from nvcops.adapters.evidence.store import Row, Store, read_tile, reader, size_of
from nvcops.core.errors import EvidenceError, NvcopsError, StateError
from nvcops.core.evidence import tiles
from nvcops.core.evidence.entry import SPOOLED, decode, microseconds
from nvcops.core.evidence.verify_evidence import leaf_hash

PATIENCE_S = 5.0
PATIENCE_AFTER_FAILURE_S = 0.25
TURN_DEADLINE_S = 60.0


class _Request:
    """What one caller of append waits for. Woken without being done, it is its turn to commit for all who wait."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.indices: list[int] = []
        self.error: NvcopsError | None = None
        self.done = False
        self.woken = threading.Event()


class Sequencer:
    """Appends for all threads of this process."""

    def __init__(self, store: Store, spool: Spool) -> None:
        self._store, self._spool = store, spool
        self._lock = threading.Lock()
        self._pending: list[_Request] = []
        self._led = False
        self._patience_s = PATIENCE_S

    def append(self, rows: list[Row]) -> list[int]:
        """The index of each row, durably; SPOOLED for all while the store cannot be written.

        While one transaction waits for the disk, the entries of the next gather: one of their callers leads it.
        """
        request = _Request(rows)
        with self._lock:
            self._pending.append(request)
            leads, self._led = not self._led, True
        if not leads:
            self._wait(request)
        if not request.done:
            self._lead()
        if request.error is not None:
            raise request.error
        return request.indices

    def _wait(self, request: _Request) -> None:
        if request.woken.wait(TURN_DEADLINE_S):
            return
        with self._lock:
            if request.woken.is_set():
                return
            if request in self._pending:
                self._pending.remove(request)
        raise StateError(
            f"the evidence log did not answer within {TURN_DEADLINE_S:g} s",
            hint="look at the disk; appending the same entry again is harmless",
        )

    def _lead(self) -> None:
        """Commit for all who wait, then hand over to one of those who came meanwhile."""
        with self._lock:
            batch, self._pending = self._pending, []
        try:
            self._commit(batch)
        finally:
            with self._lock:
                self._led = bool(self._pending)
                if self._pending:
                    self._pending[0].woken.set()
            for request in batch:
                request.woken.set()

    def fold(self, spool: Spool) -> int:
        """Bring in what waits in a spool; the number of files that still wait.

        Raises:
            StateError: the store cannot be written.
        """
        while waiting := len(spool.waiting()):
            self._sequence([], spool)
            if len(spool.waiting()) >= waiting:
                break
        return len(spool.waiting())

    def _commit(self, batch: list[_Request]) -> None:
        try:
            self._sequence(batch, self._spool)
            self._patience_s = PATIENCE_S
        except (StateError, EvidenceError):
            self._patience_s = PATIENCE_AFTER_FAILURE_S
            self._keep(batch)
        finally:
            for request in batch:
                request.done = True
                if not request.indices and request.error is None:
                    request.error = StateError("the entry was not recorded: the sequencer was interrupted")

    def _sequence(self, batch: list[_Request], spool: Spool) -> None:
        """One transaction: what waits in the spool first, then the batch, then the tiles over both."""
        with spool.claims() as claims:
            with self._store.transaction(self._patience_s) as db:
                tail = _Tail(db)
                for claim in claims:
                    self._fold(claim, tail)
                answers = [tail.answer(request.rows) for request in batch]
                tail.write_tiles()
            for request, answer in zip(batch, answers, strict=True):  # it is on disk: now it may be told
                request.indices, request.error = answer
            for claim in claims:
                fold_away(claim)

    def _fold(self, claim: Claim, tail: _Tail) -> None:
        """Bring the entries of a spool file in, and set aside, before the file goes, what cannot be."""
        conflicting = b""
        for data in claim.entries:
            try:
                entry = decode(data)
                tail.add([Row(entry.id, microseconds(entry.time), entry.run, data)])
            except EvidenceError:
                conflicting += data + b"\n"
        self._spool.set_aside(claim, conflicting)

    def _keep(self, batch: list[_Request]) -> None:
        """The store cannot be written: spool what is not known to clash."""
        waiting = []
        for request in batch:
            request.indices, request.error = [], None
            try:
                self._refuse_conflicts(request.rows)
                waiting.append(request)
            except EvidenceError as error:
                request.error = error
        try:
            self._spool.keep([row.data for request in waiting for row in request.rows])
            for request in waiting:
                request.indices = [SPOOLED] * len(request.rows)
        except StateError as error:
            for request in waiting:
                request.error = error

    def _refuse_conflicts(self, rows: Sequence[Row]) -> None:
        try:
            for row in rows:
                for (data,) in self._store.rows("SELECT data FROM entry WHERE id = ?", row.id):
                    _refuse_other(row, data)
        except StateError:
            return  # it cannot even be read: the fold will set a conflict aside


class _Tail:
    """The end of the log inside one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self._rows = db, reader(db)
        self._size = size_of(self._rows)
        self._leaves: list[bytes] = []

    def add(self, rows: Sequence[Row]) -> list[int]:
        """The index of each row: the old one where it is there already. All of them, or EvidenceError and none."""
        known: dict[str, int] = {}
        fresh: dict[str, Row] = {}
        for row in rows:
            if row.id in fresh:
                _refuse_other(row, fresh[row.id].data)
                continue
            found = self._rows("SELECT idx, data FROM entry WHERE id = ?", row.id)
            if found:
                _refuse_other(row, found[0][1])
                known[row.id] = found[0][0]
            else:
                fresh[row.id] = row
        for row in fresh.values():
            known[row.id] = self._size + len(self._leaves)
            values = (known[row.id], row.id, row.time_us, row.run, row.data)
            self._db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", values)
            self._leaves.append(leaf_hash(row.data))
        return [known[row.id] for row in rows]

    def answer(self, rows: Sequence[Row]) -> tuple[list[int], EvidenceError | None]:
        """What `add` says, so that one refused request does not undo those beside it."""
        try:
            return self.add(rows), None
        except EvidenceError as error:
            return [], error

    def write_tiles(self) -> None:
        """Put the new leaves into the tree."""
        changed = tiles.grow(lambda level, number: read_tile(self._rows, level, number), self._size, self._leaves)
        values = [(level, number, hashes) for (level, number), hashes in changed.items()]
        self._db.executemany("INSERT OR REPLACE INTO tile VALUES (?, ?, ?)", values)


def _refuse_other(row: Row, data: bytes) -> None:
    if row.data != bytes(data):
        raise EvidenceError(
            f"the log has another entry by the id {row.id!r}",
            hint="an entry never changes: give the new one its own id",
        )
