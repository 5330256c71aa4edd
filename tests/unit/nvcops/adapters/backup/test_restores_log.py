"""Which segments a restore takes where timelines branched off."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from nvcops.adapters.backup.restores_log import Log, branches_with_log, choose, find_way
from nvcops.core.backups import DatabaseBackup, RestoreTarget, Segment, segment_name
from nvcops.core.errors import StateError

SIZE = 16 << 20
NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
BACKUP = DatabaseBackup(
    system_identifier="7", major=17, timeline=1, start_lsn="0/3000028", stop_lsn="0/3000100", stop_time=NOON
)
NOW_COPIED = NOON + dt.timedelta(days=3)
BRANCHES = {2: {1: 0x5400000}}  # in the middle of the segment 5


def segment(timeline: int, number: int, *, partial: bool = False) -> Segment:
    name = segment_name(timeline, number * SIZE)
    digest = "" if partial else f"{timeline:016x}{number:016x}"
    moment = NOON + dt.timedelta(minutes=number)
    return Segment(
        name=name, system_identifier="7", sha256=digest, key=name, bytes=SIZE, modified=moment, partial=partial
    )


def chosen(*segments: Segment, to: RestoreTarget | None = None, everything: bool = False) -> Log:
    way = find_way(BACKUP, branches_with_log(BRANCHES, segments))
    return choose(way, segments, [], BACKUP, to or RestoreTarget(), everything=everything)


def names(log: Log) -> list[str]:
    return [f"{int(each.name[:8], 16)}-{int(each.name[16:], 16)}" for each in log.segments]


def test_the_way_goes_over_both_files_of_the_segment_in_which_it_branched_off() -> None:
    log = chosen(segment(1, 3), segment(1, 4), segment(1, 5), segment(1, 6), segment(2, 5), segment(2, 6))
    assert names(log) == ["1-3", "1-4", "1-5", "2-5", "2-6"]


def test_the_abandoned_end_of_a_timeline_does_not_stand_in_for_what_is_missing() -> None:
    """PostgreSQL would replay it beyond the branch, and then find no way on: the rest would be lost without a word."""
    files = [segment(1, 3), segment(1, 4), segment(1, 5), segment(2, 6), segment(2, 7)]
    with pytest.raises(StateError, match="000000020000000000000005 is missing"):
        chosen(*files)
    before = chosen(*files, to=RestoreTarget(lsn="0/5300000"))
    assert names(before)[:3] == ["1-3", "1-4", "1-5"]


def test_a_timeline_of_which_nothing_but_its_history_came_leads_nowhere_yet() -> None:
    log = chosen(segment(1, 3), segment(1, 4), segment(1, 5, partial=True))
    assert names(log) == ["1-3", "1-4", "1-5"]
    assert [leg.timeline for leg in log.way] == [1]


def test_when_all_of_the_log_is_asked_for_a_gap_is_not_taken_for_its_end() -> None:
    """The repository was copied, and every file is as young as the copy: it seems to reach far beyond any point."""
    files = [msgspec.structs.replace(segment(1, number), modified=NOW_COPIED) for number in (3, 4, 6, 7)]
    to = RestoreTarget(time=NOON + dt.timedelta(minutes=6))
    assert names(chosen(*files, to=to)) == ["1-3"]
    with pytest.raises(StateError, match="000000010000000000000005 is missing"):
        chosen(*files, to=to, everything=True)
