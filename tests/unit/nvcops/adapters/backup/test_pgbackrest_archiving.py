from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.adapters.backup.pgbackrest_archiving import Archiver, state_of
from nvcops.core.backups import Segment

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
WELL = Archiver(
    mode="on",
    command="pgbackrest --stanza=main archive-push %p",
    last_archived=NOON - dt.timedelta(seconds=40),
    last_failed=None,
    failed="",
    now=NOON,
    lsn="0/5000100",
    timeline="00000001",
    system_identifier="7",
    segment_bytes=16 << 20,
    waiting=0,
)


def archived(*names: str, system: str = "7", partial: bool = False) -> list[Segment]:
    return [
        Segment(name=name, system_identifier=system, sha256="", key=name, bytes=9, modified=NOON, partial=partial)
        for name in names
    ]


FOURTH = archived("000000010000000000000003", "000000010000000000000004", "00000002.history")


def test_what_is_not_archived_yet_is_the_lag() -> None:
    state = state_of(WELL, FOURTH)
    assert state.running
    assert (state.received_lsn, state.lag_bytes, state.lag_s) == ("0/5000000", 0x100, 40.0)
    assert state.timeline == 1
    level = state_of(msgspec.structs.replace(WELL, lsn="0/5000000"), FOURTH)
    assert (level.lag_bytes, level.lag_s) == (0, 0.0)


def test_an_archive_of_others_and_half_segments_count_for_nothing() -> None:
    others = [
        *archived("000000010000000000000004", system="8"),
        *archived("000000010000000000000004", partial=True),
        *archived("000000020000000000000009"),
    ]
    assert state_of(WELL, others).received_lsn == ""
    assert state_of(WELL, others).lag_bytes == 0x5000100


def test_a_failure_counts_until_something_was_archived_after_it() -> None:
    failing = msgspec.structs.replace(WELL, last_failed=NOON, failed="000000010000000000000005", waiting=2)
    state = state_of(failing, FOURTH)
    assert not state.running
    assert "000000010000000000000005" in state.trouble
    assert state.retained_bytes == 32 << 20
    assert state_of(msgspec.structs.replace(failing, last_archived=NOON + dt.timedelta(seconds=1)), FOURTH).running
    never = msgspec.structs.replace(failing, last_archived=None)
    assert not state_of(never, []).running
    assert state_of(never, []).lag_s is None


def test_a_server_that_archives_nothing_is_no_running_backup() -> None:
    assert "archives nothing" in state_of(msgspec.structs.replace(WELL, mode="off"), FOURTH).trouble
    assert "archives nothing" in state_of(msgspec.structs.replace(WELL, command=""), FOURTH).trouble
