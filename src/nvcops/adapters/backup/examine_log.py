"""The log read back along its line: each segment unsealed and compared, each record checked by pg_waldump.

All segments of the line are put under the newest timeline's name into a folder of ours, a window at a time, so that
pg_waldump sees one continuous log across promotions. Every record is checked, those that cross from a segment into the
next as well: a window begins with the segment in which the last good record of the one before ended.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from nvcops.adapters.backup import waldump
from nvcops.adapters.backup.examine_chain import Layout
from nvcops.adapters.backup.examine_line import Line, runs
from nvcops.adapters.backup.examine_loss import Damage
from nvcops.adapters.backup.examine_read import Reader, written_end
from nvcops.adapters.backup.tools import Tools
from nvcops.core import progress
from nvcops.core.backups import Cause, lsn_text, segment_name

_WINDOW_BYTES = 256 << 20
_TORN_BYTES_MAX = 1 << 20
_SETTLED_S = 60
_BACK_MAX = 72
_COMMITS_SEGMENT_BYTES_MAX = 64 << 20
_NOTHING_FOUND = "could not find a valid record"


@dataclass(slots=True)
class LogReader:
    """Reads the log of a layout back into a scratch folder. `reached` is the end of the last good record."""

    layout: Layout
    line: Line
    reader: Reader
    tools: Tools
    folder: Path
    now: dt.datetime
    damages: list[Damage] = field(default_factory=list)
    reached: int = 0
    last_commit: dt.datetime | None = None
    _there: set[int] = field(default_factory=set)
    _bad: set[int] = field(default_factory=set)
    _done: int = 0
    _all: int = 0

    def read(self, first: int) -> None:
        """Read what must be read of the segments from a number on, and the end of the log in any case."""
        numbers = [number for number in self.layout.files if number >= first]
        if not numbers:
            return
        due = [n for n in numbers if n >= numbers[-1] - 1 or not self.reader.is_good_file(self.layout.files[n])]
        self._all = len(due) * self._size
        # Of two that differ nobody knows which one the records before and after belong to.
        differ = {damage.subject for damage in self.layout.damages if damage.cause is Cause.DIFFERENT}
        self._bad.update(number for number in numbers if self.layout.files[number].name in differ)
        for begin, end in runs(due):
            start = begin - 1 if begin - 1 in self.layout.files and begin > first else begin
            self._stretch(range(start, end + 1))
            self._empty()

    @property
    def _size(self) -> int:
        return self.line.segment_bytes

    def _stretch(self, numbers: Sequence[int]) -> None:
        """Neighbouring segments, a window at a time."""
        window: list[int] = []
        limit = max(2, _WINDOW_BYTES // self._size)
        for number in numbers:
            progress.tell(self._done, self._all, "reading the log back")
            self._done += self._size
            ok = self._fetch(number)
            window += [number] if ok else []
            if window and (not ok or len(window) >= limit or number == numbers[-1]):
                window = self._walk(window)
                limit = max(limit, 2 * len(window))  # a record longer than a window needs a longer one
            if not ok:
                self._empty()
                window = []

    def _walk(self, window: list[int]) -> list[int]:
        """Check the records of neighbouring segments; those in which the next window begins."""
        while window:
            is_open = self.layout.files[window[-1]].partial
            found = self._walked(window)
            if not found.trouble or (is_open and self._is_end(window[-1], found.reached)):
                break
            bad = min(found.reached // self._size, window[-1])
            self._invalid(bad, found)
            window = [number for number in window if number > bad]
        else:
            return []
        self.reached = max(self.reached, found.reached)
        for number in window:
            if not self.layout.files[number].partial:
                self.reader.note_walked(self.layout.files[number])
        if window[-1] == list(self.layout.files)[-1]:
            self._look_for_commit(window, found.reached)
        kept = [number for number in window if number >= found.reached // self._size]
        self._drop(set(window) - set(kept))
        return kept

    def _walked(self, window: list[int]) -> waldump.Walk:
        """Walk; where no record begins in the window, from the segments before it, in which one may have begun."""
        begin, end = window[0], (window[-1] + 1) * self._size
        while True:
            start = begin * self._size
            found = waldump.walk(self.tools, self.folder, self.line.timeline, start, end)
            if not found.trouble.startswith(_NOTHING_FOUND) or window[0] - begin >= _BACK_MAX:
                return found
            if begin - 1 not in self.layout.files or begin - 1 in self._bad or not self._fetch(begin - 1):
                return found
            begin -= 1

    def _is_end(self, number: int, reached: int) -> bool:
        """Whether the log just ends there: nothing follows but what may be the part of a record that came so far.

        A file that is being written is judged when it was left alone for a while, or is whole.
        """
        written = number * self._size + written_end(self._path(number))
        age_s = (self.now - self.layout.files[number].modified).total_seconds()
        return written - reached <= _TORN_BYTES_MAX or (reached >= number * self._size and age_s < _SETTLED_S)

    def _invalid(self, number: int, found: waldump.Walk) -> None:
        self._bad.add(number)
        sentence = f"no valid record follows at {lsn_text(found.reached)}: {found.trouble}"
        gap = (found.reached, max(found.reached + 1, (number + 1) * self._size))
        self.damages.append(Damage(cause=Cause.INVALID, subject=self.line.name_at(number), sentence=sentence, gap=gap))

    def _look_for_commit(self, window: list[int], reached: int) -> None:
        """When the last commit at the end of the log was: until then a time can be restored."""
        if self._size > _COMMITS_SEGMENT_BYTES_MAX:
            return
        edges = [number * self._size for number in window[-2:]] + [reached]
        for begin, end in reversed([pair for pair in pairwise(edges) if pair[0] < pair[1]]):
            self.last_commit = waldump.last_commit(self.tools, self.folder, self.line.timeline, begin, end)
            if self.last_commit is not None:
                return

    def _fetch(self, number: int) -> bool:
        """Have a segment in the folder; what is wrong with it is noted."""
        if number in self._there:
            return True
        if number in self._bad:
            return False
        file = self.layout.files[number]
        trouble = self.reader.segment(file, self._path(number), self._size)
        if trouble is not None and trouble.cause is Cause.MISSING and (moved := self.reader.moved(file)):
            self.layout.files[number] = file = moved
            trouble = self.reader.segment(file, self._path(number), self._size)
        if trouble is None:
            self._there.add(number)
            return True
        self._bad.add(number)
        gap = (number * self._size, (number + 1) * self._size)
        self.damages.append(Damage(cause=trouble.cause, subject=file.name, sentence=trouble.sentence, gap=gap))
        return False

    def _path(self, number: int) -> Path:
        return self.folder / segment_name(self.line.timeline, number * self._size, self._size)

    def _drop(self, numbers: set[int]) -> None:
        for number in numbers & self._there:
            self._path(number).unlink()
        self._there -= numbers

    def _empty(self) -> None:
        self._drop(set(self._there))
