"""Our own audit of pgBackRest's repository: the chain by its names, the log and the backups read back.

Its exit codes decide nothing here. What its `verify` prints is one more witness: a trouble that only it sees is
reported as well.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nvcops.adapters.backup import pgbackrest_read as read
from nvcops.adapters.backup.examine_chain import Layout, Shelf, broken_parents, lay_out
from nvcops.adapters.backup.examine_line import history_of, is_segment
from nvcops.adapters.backup.examine_loss import Damage, fault, reach, when
from nvcops.adapters.backup.examine_memory import Memory
from nvcops.adapters.backup.pgbackrest_base import BaseReading, room_for
from nvcops.adapters.backup.pgbackrest_log import LogReading, newest_commit
from nvcops.adapters.backup.pgbackrest_program import Program
from nvcops.adapters.backup.repository import Repository
from nvcops.core.backups import Audit, Cause, Entry, Segment, lsn_text
from nvcops.core.errors import NotFoundError, TargetError

VERIFY_S = 6 * 3600.0
_OWNER, _NEWEST = "system identifier", "newest segment"
_RESTORED = "restored"


@dataclass(slots=True, kw_only=True)
class Examination:
    """One audit. `segments` and `entries` are what the repository lists."""

    repository: Repository
    program: Program
    segments: Sequence[Segment]
    entries: Sequence[Entry]
    deep: bool
    damages: list[Damage] = field(default_factory=list)
    bytes: int = 0
    newest: dt.datetime | None = None

    def carry_out(self) -> Audit:
        """Look for everything that would keep a point in time from being restored."""
        with Memory(self.repository.state, f"pgbackrest:{self.program.stanza}") as memory, self._scratch() as scratch:
            looked = {} if self.deep else memory.looked()
            layout = self._names(memory, scratch)
            self._bases(memory, scratch, looked)
            self._log(memory, scratch, layout, looked)
            if self.deep:
                self._witness()
        return self._audit(layout)

    def _names(self, memory: Memory, scratch: Path) -> Layout:
        """What names alone show."""
        shelf = Shelf(
            entries=tuple(self.entries),
            files=tuple(self.segments),
            histories=self._histories(scratch),
            system_identifier=memory.fact(_OWNER),
            newest=memory.fact(_NEWEST),
        )
        layout = lay_out(shelf)
        self.damages += layout.damages
        if shelf.owner:
            memory.note_fact(_OWNER, shelf.owner)
        if layout.files and layout.line:
            memory.note_fact(_NEWEST, max(memory.fact(_NEWEST), layout.line.name_at(max(layout.files))))
        return layout

    def _histories(self, scratch: Path) -> dict[str, str]:
        texts: dict[str, str] = {}
        for segment in self.segments:
            if history_of(segment.name) is None:
                continue
            laid = scratch / segment.name
            try:
                self.bytes += self.program.fetch(segment.key, laid)
                texts[segment.name] = laid.read_text(encoding="utf-8", errors="replace")
            except (TargetError, NotFoundError) as error:
                self.damages.append(Damage(cause=Cause.UNREADABLE, subject=segment.name, sentence=error.sentence))
            finally:
                laid.unlink(missing_ok=True)
        return texts

    def _bases(self, memory: Memory, scratch: Path, looked: dict[str, tuple[str, bool]]) -> None:
        room_for(self.entries, shutil.disk_usage(scratch).free, scratch)
        reading = BaseReading(program=self.program, scratch=scratch)
        reading.examine(self.entries, {key for key, (stamp, _) in looked.items() if stamp == _RESTORED})
        self.damages += reading.damages
        self.damages += [
            damage
            for damage in broken_parents(self.entries, [damage.subject for damage in reading.damages], ())
            if damage.subject not in {known.subject for known in reading.damages}
        ]
        self.bytes += reading.bytes
        memory.note(dict.fromkeys(reading.good, (_RESTORED, True)))
        memory.forget(damage.subject for damage in reading.damages)

    def _log(self, memory: Memory, scratch: Path, layout: Layout, looked: dict[str, tuple[str, bool]]) -> None:
        if layout.line is None:
            return
        major = next((entry.database.major for entry in reversed(self.entries) if entry.database), 0)
        reading = LogReading(self.program, self.repository.tools(major), layout.line, scratch)
        reading.read(
            {
                number: segment
                for number, segment in layout.files.items()
                if not segment.partial and looked.get(segment.key, ("", False))[0] != _stamp(segment)
            }
        )
        self.damages += reading.damages
        self.bytes += reading.bytes
        bad = {damage.subject for damage in reading.damages}
        known = {segment.key: segment for segment in self.segments}
        memory.note({key: (_stamp(known[key]), True) for key in reading.good if known[key].name not in bad})
        memory.forget(key for key, segment in known.items() if segment.name in bad)
        labels = {entry.id for entry in self.entries}
        memory.forget([key for key in memory.looked() if key not in known and key not in labels])
        self.newest = newest_commit(reading, layout)

    def _witness(self) -> None:
        """What its own `verify` prints, where it sees a trouble and we see none."""
        if not self.damages:
            said = read.witness(
                self.program.answer("verify", "--output=text", "--verbose", deadline_s=VERIFY_S, quiet=True)
            )
            self.damages += [
                Damage(cause=Cause.CORRUPT, subject=self.program.stanza, sentence=f"pgbackrest verify: {line}")
                for line in said
            ]

    def _audit(self, layout: Layout) -> Audit:
        reachable = reach(layout.ground.bases, [d.gap for d in self.damages if d.gap], layout.ground.end)
        end = reachable[-1][1] if reachable else 0
        return Audit(
            backups=len(self.entries),
            segments=sum(is_segment(segment.name) for segment in self.segments),
            examined_bytes=self.bytes,
            oldest=when(layout.ground, reachable[0][0], before=False) if reachable else None,
            newest=(self.newest if end == layout.ground.end else None) or when(layout.ground, end, before=True),
            newest_lsn=lsn_text(end) if reachable else "",
            faults=tuple(fault(layout.ground, damage) for damage in self.damages),
        )

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A folder of the database's account, gone afterwards."""
        parent = self.repository.entry.scratch or self.repository.state
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix="pgbackrest-", dir=parent) as name:
            yield self.program.tools.give(Path(name))


def _stamp(segment: Segment) -> str:
    return f"{segment.bytes} {segment.modified.isoformat()}"
