"""The chain as it is told by names alone: which segments, histories and parents are missing, differ, or do not fit.

All of this is a function of what was listed; nothing is read here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from nvcops.adapters.backup.examine_line import (
    HistoryError,
    Line,
    Span,
    history_name,
    history_of,
    is_segment,
    lines_of,
    number_of,
    read_history,
    timeline_of,
)
from nvcops.adapters.backup.examine_loss import Base, Damage, Ground, Interval
from nvcops.core.backups import SEGMENT_BYTES, Cause, DatabaseBackup, Entry, Segment, lsn_bytes, lsn_text


class Shelf(msgspec.Struct, frozen=True, kw_only=True):
    """What was listed: the entries that are there, the log's files, the texts of the histories.

    `system_identifier` and `newest` (a segment's name) are what earlier audits remember; empty: nothing. `unreadable`
    are histories that are there and cannot be read, with the cause and a sentence.
    """

    entries: tuple[Entry, ...]
    files: tuple[Segment, ...]
    histories: Mapping[str, str]
    system_identifier: str = ""
    newest: str = ""
    unreadable: Mapping[str, tuple[Cause, str]] = {}

    @property
    def owner(self) -> str:
        """The system identifier of the cluster that the repository is of: as remembered, else of its oldest backup."""
        backups = (entry.database.system_identifier for entry in self.entries if entry.database)
        return self.system_identifier or next(backups, "")

    def is_ours(self, file: Segment) -> bool:
        """Whether a file is of that cluster; what lies in the spool does not say."""
        return file.system_identifier in ("", self.owner)


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The chain laid out: its line (None: nothing leads anywhere), the log's files on it by number, what is wrong."""

    line: Line | None
    ground: Ground
    files: dict[int, Segment]
    damages: tuple[Damage, ...]


def lay_out(shelf: Shelf) -> Layout:
    """Find the line that leads to the newest log, and everything by which a name shows that it is broken."""
    own = [file for file in shelf.files if shelf.is_ours(file)]
    backups = [entry for entry in shelf.entries if entry.database and entry.database.system_identifier == shelf.owner]
    segment_bytes = next((e.database.segment_bytes for e in reversed(backups) if e.database), SEGMENT_BYTES)
    segments = [file for file in own if is_segment(file.name)]
    timelines = {timeline_of(file.name) for file in segments} | {_of(entry).timeline for entry in backups}
    spans, unreadable = _histories(shelf)
    lines = lines_of(spans, timelines | set(spans), segment_bytes)
    line = _main(lines, segments, timelines, segment_bytes)
    damages = [*_foreign(shelf), *_different(own, line)]
    if line is None:
        damages += _told(unreadable, ())
        return Layout(line=None, ground=Ground((), 0, ()), files={}, damages=tuple(damages))
    files = _on(line, segments)
    bases = tuple(_base(entry, backups) for entry in backups if _lies_on(line, entry))
    last = _last(line, files, bases, shelf.newest)
    unexplained = _unexplained(timelines - set(lines), segments, line, last, unreadable)
    end = max([(last + 1) * segment_bytes, *(damage.gap[1] for damage in unexplained if damage.gap)])
    damages += [*unexplained, *_told(unreadable, unexplained)]
    damages += _forks(line, lines, backups, bases, end)
    damages += _gaps(line, files, bases, last)
    damages += _own_logs(line, backups, segments)
    ground = Ground(bases, end, _times(backups, files, segment_bytes))
    return Layout(line=line, ground=ground, files=files, damages=tuple(damages))


def broken_parents(entries: Sequence[Entry], damaged: Iterable[str], removed: Iterable[str]) -> list[Damage]:
    """The incremental backups whose parents are not what they need; `damaged` and `removed` are ids of others.

    The entries are in the catalogue's order: a parent comes before its children.
    """
    known: dict[str, Entry] = {}
    broken, gone, found = set(damaged), set(removed), list[Damage]()
    for entry in entries:
        if entry.database and entry.database.parent:
            why = _parent_trouble(entry, known.get(entry.database.parent), broken, gone)
            if why:
                broken.add(entry.id)
                found.append(
                    Damage(
                        cause=Cause.BROKEN_PARENT,
                        subject=entry.id,
                        sentence=f"it builds upon {entry.database.parent}, {why}",
                        backups=(entry.id,),
                    )
                )
        known[entry.id] = entry
    return found


def _parent_trouble(entry: Entry, parent: Entry | None, broken: set[str], gone: set[str]) -> str:
    child = _of(entry)
    if parent is None or parent.database is None:
        return "which was removed" if child.parent in gone else "which the catalogue does not have before it"
    its = parent.database
    if parent.id in broken:
        return "which cannot be restored"
    if (its.system_identifier, its.major) != (child.system_identifier, child.major):
        return "which is of another cluster or version"
    if lsn_bytes(child.start_lsn) < lsn_bytes(its.stop_lsn):
        return f"which ended at {its.stop_lsn}, after its own start at {child.start_lsn}"
    if child.timeline < its.timeline:
        return f"which is on the later timeline {its.timeline}"
    return ""


def _histories(shelf: Shelf) -> tuple[dict[int, tuple[Span, ...]], dict[str, tuple[Cause, str]]]:
    """What the histories tell, and why some of them tell nothing."""
    spans: dict[int, tuple[Span, ...]] = {}
    unreadable = dict(shelf.unreadable)
    for name, text in sorted(shelf.histories.items()):
        timeline = history_of(name)
        try:
            if timeline is not None:
                spans[timeline] = read_history(timeline, text)
        except HistoryError as error:
            unreadable[name] = (Cause.CORRUPT, f"it is no history: {error}")
    return spans, unreadable


def _told(unreadable: Mapping[str, tuple[Cause, str]], said: Iterable[Damage]) -> Iterator[Damage]:
    """Histories that cannot be read, but for those of which it was said already."""
    subjects = {damage.subject for damage in said}
    for name, (cause, sentence) in sorted(unreadable.items()):
        if name not in subjects:
            yield Damage(cause=cause, subject=name, sentence=sentence)


def _main(
    lines: Mapping[int, Line], segments: Sequence[Segment], timelines: Iterable[int], segment_bytes: int
) -> Line | None:
    """The line to the highest timeline of which there is log; PostgreSQL's `latest`.

    Where no history explains any timeline, the highest by itself: its own backups lead that far.
    """
    with_log = {timeline_of(file.name) for file in segments}
    found = sorted(with_log & set(lines)) or sorted(set(timelines) & set(lines))
    if found:
        return lines[found[-1]]
    alone = sorted(with_log or timelines)
    return Line((Span(alone[-1], 0, None),), segment_bytes) if alone else None


def _foreign(shelf: Shelf) -> Iterator[Damage]:
    for entry in shelf.entries:
        if entry.database and entry.database.system_identifier != shelf.owner:
            other = entry.database.system_identifier
            sentence = f"it is a backup of the cluster {other}, and the repository is that of {shelf.owner}"
            yield Damage(cause=Cause.FOREIGN, subject=entry.id, sentence=sentence, backups=(entry.id,))
    others: dict[str, list[Segment]] = {}
    for file in shelf.files:
        if not shelf.is_ours(file) and shelf.owner:
            others.setdefault(file.system_identifier, []).append(file)
    for other, files in sorted(others.items()):
        sentence = f"{_counted(files)} of the cluster {other}, and the repository is that of {shelf.owner}"
        yield Damage(cause=Cause.FOREIGN, subject=files[0].name, sentence=sentence)


def _different(own: Sequence[Segment], line: Line | None) -> Iterator[Damage]:
    digests: dict[str, set[str]] = {}
    for file in own:
        if file.sha256 and not file.partial:  # what was received of one is no other content
            digests.setdefault(file.name, set()).add(file.sha256)
    for name, several in sorted(digests.items()):
        if len(several) > 1:
            sentence = f"it is there with {len(several)} different contents: {', '.join(sorted(several))[:200]}"
            yield Damage(
                cause=Cause.DIFFERENT, subject=name, sentence=sentence, gap=gap_of(line, name) if line else None
            )


def gap_of(line: Line, name: str) -> Interval | None:
    """The part of the line's log that a segment holds; None where the line does without it."""
    if not is_segment(name):
        return None
    number = number_of(name, line.segment_bytes)
    if line.timeline_at(number) != timeline_of(name):
        return None
    return number * line.segment_bytes, (number + 1) * line.segment_bytes


def _on(line: Line, segments: Iterable[Segment]) -> dict[int, Segment]:
    """The files of the line by number. What was received of a segment counts at the end only: elsewhere it is a gap."""
    found: dict[int, Segment] = {}
    for file in segments:
        number = number_of(file.name, line.segment_bytes)
        if line.timeline_at(number) == timeline_of(file.name):
            known = found.setdefault(number, file)
            if known.partial and not file.partial:
                found[number] = file
    last = max(found, default=-1)
    return {number: file for number, file in sorted(found.items()) if not file.partial or number == last}


def _lies_on(line: Line, entry: Entry) -> bool:
    """Where it ended decides: a backup that a promotion overtook began on the timeline before."""
    return line.holds(_of(entry).timeline, lsn_bytes(_of(entry).stop_lsn))


def _base(entry: Entry, backups: Sequence[Entry]) -> Base:
    known = {other.id: _of(other).parent for other in backups}
    needs: list[str] = []
    parent = _of(entry).parent
    while parent and parent not in needs:
        needs.append(parent)
        parent = known.get(parent, "")
    return Base(entry.id, lsn_bytes(_of(entry).start_lsn), lsn_bytes(_of(entry).stop_lsn), tuple(needs))


def _last(line: Line, files: Mapping[int, Segment], bases: Sequence[Base], newest: str) -> int:
    """The number of the last segment that is there, was there, or that a backup needs; -1: there is none."""
    numbers = [*list(files)[-1:], *((base.stop - 1) // line.segment_bytes for base in bases)]
    if newest and gap_of(line, newest):
        numbers.append(number_of(newest, line.segment_bytes))
    return max(numbers, default=-1)


def _unexplained(
    timelines: Iterable[int],
    segments: Sequence[Segment],
    line: Line,
    last: int,
    unreadable: Mapping[str, tuple[Cause, str]],
) -> list[Damage]:
    """Timelines without a history: where their log seems to go on from the line's, that part cannot be reached."""
    found = []
    for timeline in sorted(timelines):
        files = sorted((file for file in segments if timeline_of(file.name) == timeline), key=lambda file: file.name)
        numbers = [number_of(file.name, line.segment_bytes) for file in files]
        goes_on = numbers and timeline > line.timeline and numbers[0] <= last + 1
        what = f"{_counted(files)} of it" if files else "a backup is of it"
        cause, why = unreadable.get(history_name(timeline), (Cause.FORK, "it is missing"))
        found.append(
            Damage(
                cause=cause,
                subject=history_name(timeline),
                sentence=f"{why}: nothing says from where timeline {timeline} came, and {what}",
                gap=(numbers[0] * line.segment_bytes, (numbers[-1] + 1) * line.segment_bytes) if goes_on else None,
            )
        )
    return found


def _forks(
    line: Line, lines: Mapping[int, Line], backups: Sequence[Entry], bases: Sequence[Base], end: int
) -> Iterator[Damage]:
    """Histories that contradict the line's, and backups that it left behind before an older one leads on."""
    for index, span in enumerate(line.spans[:-1]):
        known = lines.get(span.timeline)
        if known and known.spans[:-1] != line.spans[:index]:
            sentence = f"it tells another story of timeline {span.timeline} than {history_name(line.timeline)}"
            yield Damage(cause=Cause.FORK, subject=history_name(span.timeline), sentence=sentence)
    oldest = min((_of(entry).timeline for entry in backups), default=line.timeline)
    for span in line.spans:
        if span.timeline > oldest and span.timeline not in lines:
            sentence = f"it is missing: PostgreSQL does not look beyond it for timeline {line.timeline}"
            yield Damage(cause=Cause.FORK, subject=history_name(span.timeline), sentence=sentence)
    for entry in backups:
        its = lines.get(_of(entry).timeline)
        left = line.left(its) if its and not _lies_on(line, entry) else None
        if left is None or left >= end or any(base.stop <= left for base in bases):
            continue
        until = min((base.stop for base in bases), default=end)
        sentence = (
            f"timeline {line.timeline} left its line at {lsn_text(left)}, before it ended at {_of(entry).stop_lsn}"
        )
        yield Damage(cause=Cause.FORK, subject=entry.id, sentence=sentence, cuts=(left, until))


def _gaps(line: Line, files: Mapping[int, Segment], bases: Sequence[Base], last: int) -> Iterator[Damage]:
    if not bases:
        return
    size = line.segment_bytes
    first = min(base.start for base in bases) // size
    there = [first - 1, *(number for number in files if first <= number), last + 1]
    for before, after in pairwise(there):
        if after > before + 1:
            yield _gap(line, before + 1, after - 1)


def _gap(line: Line, first: int, last: int) -> Damage:
    more = f", with {last - first} more up to {line.name_at(last)}" if last > first else ""
    size = line.segment_bytes
    sentence = f"the segment is not in the repository{more}"
    return Damage(
        cause=Cause.MISSING, subject=line.name_at(first), sentence=sentence, gap=(first * size, (last + 1) * size)
    )


def _own_logs(line: Line, backups: Sequence[Entry], segments: Sequence[Segment]) -> Iterator[Damage]:
    """What a backup that the line left behind needs for itself: the log while it was taken."""
    names = {file.name for file in segments}
    size = line.segment_bytes
    for entry in backups:
        if _lies_on(line, entry):
            continue
        backup = _of(entry)
        mine = Line((Span(backup.timeline, 0, None),), size)
        needed = range(lsn_bytes(backup.start_lsn) // size, (lsn_bytes(backup.stop_lsn) - 1) // size + 1)
        missing = [mine.name_at(number) for number in needed if mine.name_at(number) not in names]
        if missing:
            sentence = f"the segment is not in the repository, and {entry.id} needs it to be restored at all"
            yield Damage(cause=Cause.MISSING, subject=missing[0], sentence=sentence, backups=(entry.id,))


def _times(
    backups: Sequence[Entry], files: Mapping[int, Segment], segment_bytes: int
) -> tuple[tuple[int, dt.datetime], ...]:
    """When which position was written: backups say when they ended, a segment was whole when it was stored."""
    known = [(lsn_bytes(_of(entry).stop_lsn), _of(entry).stop_time) for entry in backups]
    known += [((number + 1) * segment_bytes, file.modified) for number, file in files.items()]
    return tuple(sorted(known))


def _counted(files: Sequence[Segment]) -> str:
    more = f" and {len(files) - 1} more are" if len(files) > 1 else " is"
    return f"{files[0].name}{more}"


def _of(entry: Entry) -> DatabaseBackup:
    if entry.database is None:
        raise ValueError(f"{entry.id} is no base backup")
    return entry.database
