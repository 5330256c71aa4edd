"""The evidence log on disk: one sequencer over all producers, durable on return, each entry exactly once.

Threads that append at once share a transaction (group commit); processes take turns by SQLite's write lock. While the
store cannot be written, entries wait in the spool, and the next transaction of any process folds them in.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from nvcops.adapters.evidence import files
from nvcops.adapters.evidence.audit import Audit, AuditReport
from nvcops.adapters.evidence.export import read_part, write_bundle
from nvcops.adapters.evidence.keys import load_key
from nvcops.adapters.evidence.salts import Salts
from nvcops.adapters.evidence.sequencer import PATIENCE_S, Sequencer
from nvcops.adapters.evidence.spool import Spool
from nvcops.adapters.evidence.store import Row, Store, checkpoints_of, read_tile, reader, size_of
from nvcops.adapters.evidence.witness import Witness
from nvcops.core.errors import EvidenceError, NotFoundError, StateError, UsageError
from nvcops.core.evidence import checkpoint as notes
from nvcops.core.evidence import tiles
from nvcops.core.evidence.bundle import seal
from nvcops.core.evidence.entry import Entry, Redactor, decode, encode, microseconds
from nvcops.core.evidence.merkle import inclusion_path

FOLDER = "evidence"
APPEND_MAX = 10_000
PAGE = 1_000


class EvidenceLog:
    """The log in a folder; see `open_log`."""

    def __init__(self, folder: Path, origin: str, witness: Path | None, key: Path | None, redactor: Redactor) -> None:
        notes.check_origin(origin)
        self.folder, self.origin, self._redactor = files.private_folder(folder), origin, redactor
        self.witness = Witness(witness or folder / "witness.checkpoints")
        self.store = Store(folder / "log.sqlite")
        try:
            self.spool = Spool(folder / "spool")
            known = self.store.meta("vkey")
            self.key = load_key(key or folder / "log.key", may_create=known is None)
            self.vkey = notes.verifier_key(origin, self.key)
            self._claim_name(known)
        except BaseException:
            self.store.close()
            raise
        self._sequencer = Sequencer(self.store, self.spool)

    def _claim_name(self, known: str | None) -> None:
        """The first process names the log; every other must have the same name and key."""
        if known is None:
            with self.store.transaction(PATIENCE_S) as db:
                db.execute("INSERT OR IGNORE INTO meta VALUES ('vkey', ?)", (self.vkey,))
            known = self.store.meta("vkey") or ""
        if known.split("+")[0] != self.origin:
            raise StateError(
                f"the log in {self.folder} is called {known.split('+')[0]!r}, not {self.origin!r}",
                hint="set evidence.origin in platform.toml back, or name another state directory",
            )
        if known != self.vkey:
            raise StateError(
                f"the signing key is not the one of the log in {self.folder}", hint="put it back from its copy"
            )

    # --- append ---

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Record entries durably and in order; see `core.evidence.Log`."""
        if len(entries) > APPEND_MAX:
            raise UsageError(f"{len(entries):,} entries at once are more than {APPEND_MAX:,}", hint="append in parts")
        if not entries:
            return []
        return self._sequencer.append([self._row(entry) for entry in entries])

    def fold(self, elsewhere: Path | None = None) -> int:
        """Bring in what waits in the spool; the number of files that still wait (their writers are at it).

        `elsewhere` is another folder in which a `Spool` was kept while even the log's own could not be used.
        """
        return self._sequencer.fold(self.spool if elsewhere is None else Spool(elsewhere))

    def _row(self, entry: Entry) -> Row:
        data = encode(entry)
        self._redactor.check(entry.id, data)
        return Row(entry.id, microseconds(entry.time), entry.run, data)

    # --- read ---

    def size(self) -> int:
        """The number of entries in the log; those in the spool have no index yet."""
        return self.store.size()

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Entry]]:
        """Index and entry, in order."""
        for index, data in self.records(start, stop):
            yield index, decode(data)

    def records(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Index and canonical bytes, in order, a page at a time."""
        stop = self.size() if stop is None else stop
        while start < stop:
            query = "SELECT idx, data FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx LIMIT ?"
            page = self.store.rows(query, start, stop, PAGE)
            yield from ((index, bytes(data)) for index, data in page)
            if len(page) < PAGE:
                return
            start = page[-1][0] + 1

    def find(self, identity: str) -> tuple[int, Entry]:
        """Index and entry by id.

        Raises:
            NotFoundError: the log has no such entry.
        """
        for index, data in self.store.rows("SELECT idx, data FROM entry WHERE id = ?", identity):
            return index, decode(bytes(data))
        raise NotFoundError(
            f"the log has no entry {identity!r}", hint="entries.jsonl in an exported bundle has their ids"
        )

    def span(
        self, *, run: str = "", since: dt.datetime | None = None, until: dt.datetime | None = None
    ) -> tuple[int, int]:
        """The smallest range of indices with every entry of a run, or of a time (since <= time < until).

        Raises:
            NotFoundError: there is none.
        """
        conditions: dict[str, object] = {"run = ?": run} if run else {}
        if since:
            conditions["time_us >= ?"] = _microseconds(since)
        if until:
            conditions["time_us < ?"] = _microseconds(until)
        where = " AND ".join(conditions) or "true"
        query = f"SELECT min(idx), max(idx) FROM entry WHERE {where}"  # noqa: S608 - constant conditions
        first, last = self.store.rows(query, *conditions.values())[0]
        if first is None:
            raise NotFoundError("no evidence was recorded in that range", hint="`nvcops runs` lists the runs")
        return first, last + 1

    def resource(self, path: str) -> bytes:
        """What tlog-tiles serves at a path: `checkpoint`, `tile/<L>/<N>[.p/<W>]`, `tile/entries/<N>[.p/<W>]`.

        Raises:
            EvidenceError: it is no path of tlog-tiles.
            NotFoundError: the log is not that large.
        """
        if path == "checkpoint":
            return self.last_checkpoint().note.encode()
        level, number, width = tiles.parse_path(path)
        start = number * tiles.WIDTH
        if level is None:
            data = [entry for _, entry in self.records(start, start + width)]
            found, count = tiles.bundle_entries(data), len(data)
        else:
            found = self.store.tile(level, number)[: width * tiles.HASH_BYTES]
            count = len(found) // tiles.HASH_BYTES
        if count < width:
            raise NotFoundError(f"the log has no {path} yet")
        return found

    # --- prove ---

    def checkpoint(self, now: dt.datetime) -> str:
        """Sign the tree as it stands, and give the note to the witness; the same tree is signed once.

        Raises:
            NotFoundError: the log is empty.
            EvidenceError: the tree does not go on from what was signed before: nothing is signed.
            StateError: the store or the witness cannot be written; the next checkpoint makes up for the witness.
        """
        self.fold()
        with self.store.transaction(PATIENCE_S) as db:
            rows = reader(db)
            size, tree = size_of(rows), tiles.TiledTree(lambda level, number: read_tile(rows, level, number))
            if size == 0:
                raise NotFoundError("the log is empty: there is nothing to sign")
            kept = checkpoints_of(rows)
            self._refuse_fork(kept, size, tree)
            if not kept or kept[-1][0] != size:
                root, time = tree.range_hash(0, size), int(now.timestamp())
                note = notes.sign_checkpoint(self.origin, size, root, self.key, time=time)
                db.execute("INSERT INTO checkpoint VALUES (?, ?, '')", (size, note))
            else:
                note = kept[-1][1]
        self._tell_witness()
        return note

    def _refuse_fork(self, kept: list[tuple[int, str, str]], size: int, tree: tiles.TiledTree) -> None:
        """A log never signs a tree that does not go on from what it signed."""
        self._unwitnessed(kept)
        if kept:
            last = notes.open_checkpoint(kept[-1][1], self.vkey)
            if last.size > size or tree.range_hash(0, last.size) != last.root:
                raise EvidenceError(
                    f"the log does not go on from its checkpoint over {last.size} entries",
                    hint="`nvcops evidence audit` names the first bad index",
                )

    def _unwitnessed(self, kept: list[tuple[int, str, str]]) -> str:
        given = sum(witness == str(self.witness.path) for _, _, witness in kept)
        return self.witness.continues([note for _, note, _ in kept], given)

    def _tell_witness(self) -> None:
        """After the checkpoint is kept: a crash before this is made up for by the next one."""
        with self.store.transaction(PATIENCE_S) as db:
            self.witness.extend(self._unwitnessed(checkpoints_of(reader(db))))
            db.execute("UPDATE checkpoint SET witness = ?", (str(self.witness.path),))

    def last_checkpoint(self, *, covers: int = 0) -> notes.Checkpoint:
        """The newest checkpoint (with `covers`: the oldest over at least so many entries).

        Raises:
            NotFoundError: there is none yet.
        """
        order = "ASC" if covers else "DESC"
        query = f"SELECT note FROM checkpoint WHERE size >= ? ORDER BY size {order} LIMIT 1"  # noqa: S608 - two words
        for (note,) in self.store.rows(query, covers):
            return notes.open_checkpoint(note, self.vkey)
        raise NotFoundError("no checkpoint covers that yet", hint="`nvcops evidence checkpoint` makes one")

    def prove(self, entry: int | str) -> str:
        """A tlog-proof, with the entry in it, that an entry (its index or id) is in the newest signed tree.

        Raises:
            NotFoundError: there is no such entry, or no checkpoint over it.
        """
        index = self.find(entry)[0] if isinstance(entry, str) else entry
        data = dict(self.records(index, index + 1)).get(index) if index < self.size() else None
        if data is None:
            raise NotFoundError(f"the log has no entry {index}", hint=f"it has {self.size()}, counted from 0")
        self.last_checkpoint(covers=index + 1)
        head = self.last_checkpoint()
        path = inclusion_path(tiles.TiledTree(self.store.tile).range_hash, index, head.size)
        return notes.format_proof(index, path, head.note, entry=data)

    def audit(self, *, since: int = 0) -> AuditReport:
        """Recompute everything from the entries and compare; `since`: of older entries only the tiles."""
        return Audit(self.store, self.spool, self.witness, self.vkey, since=since).report()

    def export(
        self,
        start: int,
        stop: int,
        path: Path,
        *,
        allowed_signers: Mapping[str, Sequence[str]] | None = None,
        disclose: Sequence[str] = (),
    ) -> None:
        """Write the entries from start to stop as a bundle that verifies offline.

        `allowed_signers` is the roster: person -> public SSH keys. `disclose` are commitments (see `salts`) whose
        values go along.

        Raises:
            UsageError: it is no range of the log.
            NotFoundError: no checkpoint covers it yet; or a value that was to be disclosed was erased.
            EvidenceError: the tree has a hole.
            StateError: the file cannot be written.
        """
        part = read_part(self.store, self.vkey, start, stop)
        tree = tiles.TiledTree(self.store.tile)
        values = self.salts.disclose(disclose) if disclose else []
        write_bundle(path, seal(part, tree, self.origin, self.key, roster=allowed_signers or {}, disclosed=values))

    @functools.cached_property
    def salts(self) -> Salts:
        """The salts behind the commitments that stand in entries in place of personal data."""
        return Salts(self.folder)

    def close(self) -> None:
        """Close the files; everything acknowledged is on disk already."""
        if "salts" in vars(self):
            self.salts.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_log(
    state_dir: Path,
    *,
    origin: str,
    witness: Path | None = None,
    key: Path | None = None,
    redactor: Redactor | None = None,
) -> EvidenceLog:
    """The log in a state directory, made at its first use.

    `witness` is a file that every checkpoint is also appended to: on another disk or host it shows a log that was put
    back to an older state. `key` is the signing key's file, made at the log's first use.

    Raises:
        StateError: the folder cannot be used, the store is damaged or newer, the key is missing or another one.
    """
    return EvidenceLog(state_dir / FOLDER, origin, witness, key, redactor or Redactor())


def _microseconds(time: dt.datetime) -> int:
    return int(time.timestamp() * 1_000_000)
