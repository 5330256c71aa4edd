"""The log in pgBackRest's archive, read back: each segment against the digest in its name, its records by pg_waldump.

`archive-get` hands out a segment whose bytes do not fit its name, and ends with 0: so it is not asked.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nvcops.adapters.backup import pgbackrest_read as read
from nvcops.adapters.backup.examine_chain import Layout, gap_of
from nvcops.adapters.backup.examine_line import Line, runs, timeline_of
from nvcops.adapters.backup.examine_loss import Damage
from nvcops.adapters.backup.pgbackrest_program import Damaged, Program, unpacked
from nvcops.adapters.backup.tools import Tools
from nvcops.adapters.backup.waldump import last_commit, walk
from nvcops.core.backups import Cause, Segment
from nvcops.core.errors import NotFoundError, TargetError
from nvcops.core.progress import tell

BATCH = 32  # segments that lie unpacked in the scratch folder at once


@dataclass(slots=True)
class LogReading:
    """Reads segments back. `good` are the keys that were found whole; `bytes` what was read in all."""

    program: Program
    tools: Tools
    line: Line
    scratch: Path
    damages: list[Damage] = field(default_factory=list)
    good: list[str] = field(default_factory=list)
    bytes: int = 0

    def read(self, files: Mapping[int, Segment]) -> None:
        """Read segments of the line, by number; what is wrong with them is in `damages` afterwards."""
        done = 0
        for first, last in runs(sorted(files)):
            for stretch in self._stretches(files, first, last):
                self._stretch([files[number] for number in stretch], stretch)
                done += len(stretch)
                tell(done, len(files), "segments")

    def _stretches(self, files: Mapping[int, Segment], first: int, last: int) -> Iterator[list[int]]:
        """Neighbours on one timeline, at most BATCH of them: that is what pg_waldump follows."""
        stretch: list[int] = []
        for number in range(first, last + 1):
            full = len(stretch) == BATCH
            if stretch and (full or timeline_of(files[number].name) != timeline_of(files[stretch[-1]].name)):
                yield stretch
                # The record that goes on into the next segment is looked at with that one.
                stretch = [stretch[-1]] if full else []
            stretch.append(number)
        if stretch:
            yield stretch

    def _stretch(self, segments: Sequence[Segment], numbers: Sequence[int]) -> None:
        whole: list[int] = []
        for segment, number in zip(segments, numbers, strict=True):
            if self._fetched(segment):
                whole.append(number)
        for first, last in runs(whole):
            self._walk(timeline_of(segments[0].name), first, last)
        self.good += [segment.key for segment, number in zip(segments, numbers, strict=True) if number in whole]
        for segment in segments:
            (self.scratch / segment.name).unlink(missing_ok=True)

    def _fetched(self, segment: Segment) -> bool:
        """Lay a segment ready; whether it is what its name says."""
        stored = self.scratch / Path(segment.key).name
        try:
            self.bytes += self.program.fetch(segment.key, stored)
            size, digest = unpacked(stored, self.scratch / segment.name)
        except Damaged as error:
            return self._bad(segment, Cause.CORRUPT, error.sentence)
        except NotFoundError:
            return self._bad(segment, Cause.MISSING, "it was listed, and is not there any more")
        except TargetError as error:
            return self._bad(segment, Cause.UNREADABLE, error.sentence)
        finally:
            stored.unlink(missing_ok=True)
        if size != self.line.segment_bytes:
            said = f"it has {size:,} bytes instead of {self.line.segment_bytes:,}"
            return self._bad(segment, Cause.TRUNCATED, said)
        if digest != read.digest_in_name(segment.key):
            return self._bad(
                segment, Cause.CORRUPT, f"its bytes have the SHA-1 {digest}, which is not that in its name"
            )
        return True

    def _walk(self, timeline: int, first: int, last: int) -> None:
        """Follow the records through segments that are what their names say: they may have been written wrong."""
        start, end = first * self.line.segment_bytes, (last + 1) * self.line.segment_bytes
        walked = walk(self.tools, self.scratch, timeline, start, end)
        if not walked.trouble:
            return
        number = min(walked.reached // self.line.segment_bytes, last)
        name = self.line.name_at(number)
        self.damages.append(
            Damage(
                cause=Cause.INVALID,
                subject=name,
                sentence=f"pg_waldump: {walked.trouble}",
                gap=(walked.reached, (number + 1) * self.line.segment_bytes),
            )
        )
        if number < last:
            self._walk(timeline, number + 1, last)

    def _bad(self, segment: Segment, cause: Cause, sentence: str) -> bool:
        self.damages.append(
            Damage(cause=cause, subject=segment.name, sentence=sentence, gap=gap_of(self.line, segment.name))
        )
        return False


def newest_commit(reading: LogReading, layout: Layout) -> dt.datetime | None:
    """The time of the last commit in the newest segments; None: there is none in the last of them."""
    for number in sorted(layout.files, reverse=True)[:BATCH]:
        segment = layout.files[number]
        laid = LogReading(reading.program, reading.tools, reading.line, reading.scratch)
        if not segment.partial and laid._fetched(segment):  # noqa: SLF001 - another of its own kind
            size = reading.line.segment_bytes
            start, timeline = number * size, timeline_of(segment.name)
            end = walk(reading.tools, reading.scratch, timeline, start, start + size).reached
            time = last_commit(reading.tools, reading.scratch, timeline, start, end) if end > start else None
            (reading.scratch / segment.name).unlink()
            if time is not None:
                return time
    return None
