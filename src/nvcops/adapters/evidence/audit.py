"""Recomputes the log from its entries, and compares: order, ids, tiles, checkpoints, witness, spool."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import TypeVar

import msgspec

from nvcops.adapters.evidence.spool import Spool
from nvcops.adapters.evidence.store import Store
from nvcops.adapters.evidence.witness import Witness
from nvcops.core.errors import EvidenceError, NvcopsError
from nvcops.core.evidence import checkpoint as notes
from nvcops.core.evidence import tiles
from nvcops.core.evidence.checkpoint import Checkpoint
from nvcops.core.evidence.entry import decode, microseconds
from nvcops.core.evidence.verify_evidence import Frontier, blocks, leaf_hash

T = TypeVar("T")

PAGE = 1_000
PROBLEMS_MAX = 100


class Problem(msgspec.Struct, frozen=True):
    """One thing that does not hold. `index` is the first entry that it concerns, where one can be named."""

    check: str
    sentence: str
    index: int | None = None


class AuditReport(msgspec.Struct, frozen=True):
    """What an audit found. `notes` are worth knowing and no fault."""

    size: int
    start: int
    root: str
    checkpoints: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def first_bad(self) -> int | None:
        """The first entry that cannot be trusted."""
        return min((problem.index for problem in self.problems if problem.index is not None), default=None)

    @property
    def exit_code(self) -> int:
        """2 when something does not hold."""
        return 2 if self.problems else 0


class Audit:
    """One pass over the log. `since` skips the entries before it: of them only the tiles are read."""

    def __init__(self, store: Store, spool: Spool, witness: Witness, vkey: str, *, since: int = 0) -> None:
        self._store, self._spool, self._witness, self._vkey = store, spool, witness, vkey
        self._problems: list[Problem] = []
        self._notes: list[str] = []
        self._heads: dict[int, Checkpoint] = {}
        self._edge, self._good = Frontier(), 0
        self._size = self._guarded(store.size) or 0
        self._start = min(since, self._size) // tiles.WIDTH * tiles.WIDTH

    def report(self) -> AuditReport:
        """Do it."""
        kept = self._guarded(self._store.checkpoints) or []
        self._read_kept(kept)
        self._guarded(lambda: self._compare_witness(kept))
        self._guarded(self._scan)
        if self._start == 0:
            self._guarded(self._find_twins)
        self._look_into_spool()
        root = self._edge.root().hex() if self._edge.size == self._size else ""
        return AuditReport(
            self._size, self._start, root, len(kept), tuple(self._problems[:PROBLEMS_MAX]), tuple(self._notes)
        )

    def _add(self, check: str, sentence: str, index: int | None = None) -> None:
        self._problems.append(Problem(check, sentence, index))

    def _guarded(self, look: Callable[[], T]) -> T | None:
        """What cannot even be read is a finding, and the rest is looked at all the same."""
        try:
            return look()
        except NvcopsError as error:
            self._add("store", error.sentence, self._edge.size)
            return None

    # --- checkpoints and the witness ---

    def _read_kept(self, kept: list[tuple[int, str, str]]) -> None:
        """Every kept checkpoint is signed by the log's key."""
        for size, note, _ in kept:
            self._take(note, f"the checkpoint over {size} entries", size)

    def _take(self, note: str, name: str, size: int | None = None) -> None:
        before = max((known for known in self._heads if size is None or known < size), default=0)
        try:
            head = notes.open_checkpoint(note, self._vkey)
        except EvidenceError as error:
            self._add("checkpoint", f"{name} does not hold: {error.sentence}", before)
            return
        known = self._heads.setdefault(head.size, head)
        if known.root != head.root or (size is not None and size != head.size):
            self._add("checkpoint", f"{name} is not the one that was signed", before)

    def _compare_witness(self, kept: list[tuple[int, str, str]]) -> None:
        """The witness has exactly the kept checkpoints, in order; what it alone has was taken from the log."""
        content, ours = self._witness.read(), [note for _, note, _ in kept]
        seen, _ = notes.split_notes(content)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(seen, ours, strict=False)))
        before = kept[same - 1][0] if same else 0
        if not notes.join_notes(ours).startswith(content):
            self._add("witness", f"the log's checkpoints differ from the witness's from number {same + 1} on", before)
        for number, note in enumerate(seen[same:], same + 1):
            self._take(note, f"checkpoint {number} of the witness")
        given = sum(path == str(self._witness.path) for _, _, path in kept)
        if len(seen) < given:
            self._add("witness", f"the witness has lost checkpoints: {given} were given, {len(seen)} are there", before)
        elif same < len(ours):
            self._notes.append(f"{len(ours) - same} checkpoints are not with the witness yet")

    # --- the entries and their tree ---

    def _scan(self) -> None:
        """Every index is there once and in order, and the entries lead to the tiles and to the signed roots."""
        tree = tiles.TiledTree(self._store.tile)
        for size in sorted(size for size in self._heads if size <= self._start):
            self._compare_root(size, tree.range_hash(0, size))
        for height, node in zip(blocks(0, self._start), tree.edge(0, self._start), strict=True):
            self._edge.push(node, height)
        check = _TileCheck(self._store, self._start)
        if self._walk(check):
            check.finish(self._size)
        for path, index in check.wrong:
            self._add("tile", f"entry {index} and its hash in {path} differ", index)
        for size in sorted(size for size in self._heads if size > self._size):
            self._add("tail", f"a checkpoint covers {size} entries, the log has {self._size}", self._size)
        self._blame()

    def _walk(self, check: _TileCheck) -> bool:
        """Read all entries; False: there is a gap, and what comes behind it cannot be compared."""
        query = "SELECT idx, id, time_us, run, data FROM entry WHERE idx >= ? ORDER BY idx LIMIT ?"
        while page := self._store.rows(query, self._edge.size, PAGE):
            for index, identity, time_us, run, data in page:
                if index != self._edge.size:
                    self._add("order", f"entry {self._edge.size} is missing", self._edge.size)
                    return False
                self._compare_columns(index, (identity, time_us, run), bytes(data))
                leaf = leaf_hash(data)
                self._edge.push(leaf)
                check.add(leaf)
                if self._edge.size in self._heads:
                    self._compare_root(self._edge.size, self._edge.root())
        return True

    def _compare_columns(self, index: int, columns: tuple[str, int, str], data: bytes) -> None:
        try:
            entry = decode(data)
            if columns != (entry.id, microseconds(entry.time), entry.run):
                self._add("entry", f"entry {index} is filed under another id, time or run than it has", index)
        except (EvidenceError, ValueError):
            self._add("entry", f"entry {index} is not an entry", index)

    def _compare_root(self, size: int, root: bytes) -> None:
        if root == self._heads[size].root:
            self._good = max(self._good, size)
        elif not any(problem.check == "root" for problem in self._problems):
            sentence = f"entries {self._good} to {size - 1} do not lead to the root that was signed over {size}"
            self._add("root", sentence, self._good)

    def _blame(self) -> None:
        """A wrong root says between which checkpoints; where an entry or tile is wrong there too, that one is meant."""
        exact = [problem.index for problem in self._problems if problem.check in ("tile", "entry", "order")]
        for number, problem in enumerate(self._problems):
            inside = [index for index in exact if index is not None and index >= (problem.index or 0)]
            if problem.check == "root" and inside:
                self._problems[number] = msgspec.structs.replace(problem, index=min(inside))

    def _find_twins(self) -> None:
        query = "SELECT id, max(idx) FROM entry NOT INDEXED GROUP BY id HAVING count(*) > 1 LIMIT ?"
        for identity, index in self._store.rows(query, PROBLEMS_MAX):
            self._add("id", f"the id {identity!r} of entry {index} stands twice", index)
        for (said,) in self._store.rows("PRAGMA integrity_check(1)"):
            if said != "ok":
                self._add("store", f"SQLite finds the file inconsistent: {said}")

    def _look_into_spool(self) -> None:
        """What waits is fine; what was acknowledged and could not be folded is not."""
        waiting = self._spool.waiting()
        if waiting:
            self._notes.append(f"{len(waiting)} spool files wait to be folded in")
        for path in self._spool.quarantined():
            if path.suffix == ".unfinished":
                self._notes.append(f"{path.name}: a write was cut before it was acknowledged")
            else:
                self._add("spool", f"{path.name}: acknowledged entries that are not in the log ({path.suffix[1:]})")


class _TileCheck:
    """Builds every tile again from the leaves, and compares it with the stored one as soon as it is whole."""

    def __init__(self, store: Store, start: int) -> None:
        self._store = store
        self._counts = [start // tiles.WIDTH**level for level in range(tiles.LEVELS_MAX)]
        self._rows = [
            bytearray(store.tile(level, count // tiles.WIDTH)[: count % tiles.WIDTH * tiles.HASH_BYTES])
            for level, count in enumerate(self._counts)
        ]
        self.wrong: list[tuple[str, int]] = []

    def add(self, digest: bytes, level: int = 0) -> None:
        """The next hash of a level."""
        row = self._rows[level]
        row += digest
        self._counts[level] += 1
        if len(row) == tiles.WIDTH * tiles.HASH_BYTES:
            self._compare(level, self._counts[level] // tiles.WIDTH - 1)
            above = tiles.subtree(row)
            row.clear()
            self.add(above, level + 1)

    def finish(self, size: int) -> None:
        """The partial tiles at the edge, and that there are none behind it."""
        for level, count in enumerate(self._counts):
            if count % tiles.WIDTH:
                self._compare(level, count // tiles.WIDTH)
        for level, number in self._store.rows("SELECT level, number FROM tile ORDER BY level, number"):
            if number * tiles.WIDTH ** (level + 1) >= size:
                self.wrong.append((tiles.tile_path(level, number), size))

    def _compare(self, level: int, number: int) -> None:
        row, stored = bytes(self._rows[level]), self._store.tile(level, number)
        if row == stored or len(self.wrong) >= PROBLEMS_MAX:
            return
        for at in range(0, max(len(row), len(stored)), tiles.HASH_BYTES):
            first = (number * tiles.WIDTH + at // tiles.HASH_BYTES) * tiles.WIDTH**level
            below = range(first, first + tiles.WIDTH**level)
            differ = row[at : at + tiles.HASH_BYTES] != stored[at : at + tiles.HASH_BYTES]
            if differ and not any(index in below for _, index in self.wrong):  # else it only follows from below
                self.wrong.append((tiles.tile_path(level, number), first))
                return
