"""Every line of a log is seen once, wherever rotation has put it."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from nvcops.adapters import logs
from nvcops.adapters.logs import LogFiles, PostgresFormat, ServiceFormat
from nvcops.core.errors import Refused, Unreachable
from nvcops.core.target import MALFORMED

NOON = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
DAY = (NOON - dt.timedelta(hours=24), NOON)


def line(minutes: float, event: str = "session.failed", **fields: object) -> bytes:
    time = NOON + dt.timedelta(minutes=minutes)
    return json.dumps({"time": time.isoformat().replace("+00:00", "Z"), "event": event, **fields}).encode() + b"\n"


def written(path: Path, lines: Sequence[bytes], minutes: float) -> Path:
    """A log file that was last written at that time."""
    body = b"".join(lines)
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    moment = (NOON + dt.timedelta(minutes=minutes)).timestamp()
    os.utime(path, (moment, moment))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "application.log"


@pytest.fixture
def bank(log: Path) -> LogFiles:
    return LogFiles({"bank": (log, ServiceFormat())})


def test_rotated_and_compressed_files_are_read_oldest_first(log: Path, bank: LogFiles) -> None:
    written(log, [line(-5, number=4)], -5)
    written(log.with_name("application.log.1"), [line(-60, number=3)], -60)
    written(log.with_name("application.log.2.gz"), [line(-300, number=1), line(-200, number=2)], -200)
    written(log.with_name("application.log-20260601.gz"), [line(-40_000, number=0)], -40_000)
    written(log.with_name("application.log.bak"), [line(-50, number=99)], -50)
    assert [event.fields["number"] for event in bank.events("bank", *DAY)] == [1, 2, 3, 4]
    assert bank.begins("bank") == NOON - dt.timedelta(minutes=40_000)


def test_only_the_window_and_the_names_that_were_asked_for(log: Path, bank: LogFiles) -> None:
    written(log, [line(-1441), line(-1440), line(-3, "request"), line(-1), line(0)], 0)
    assert [event.time for event in bank.events("bank", *DAY, names=["session.failed"])] == [
        DAY[0],
        NOON - dt.timedelta(minutes=1),
    ]
    assert len(list(bank.events("bank", *DAY))) == 3


def test_what_is_no_event_is_counted_where_it_stands(log: Path, bank: LogFiles) -> None:
    bad = [
        b"\n",
        b"Traceback (most recent call last):\n",
        b'{"time": "yesterday", "event": "x"}\n',
        b"\xff\xfe\n",
        b"[]\n",
    ]
    written(log, [line(-9), *bad, line(-8), b'{"time": "2026-07-01T11:5'], -1)
    events = list(bank.events("bank", *DAY, names=["session.failed"]))
    assert [event.event for event in events] == ["session.failed", *[MALFORMED] * 4, "session.failed"]
    assert {event.time for event in events[1:5]} == {NOON - dt.timedelta(minutes=9)}


def test_a_line_without_end_is_one_malformed_line(log: Path, bank: LogFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LINE_BYTES_MAX", 1_000)
    written(log, [line(-9), b"x" * 5_500 + b"\n", line(-8)], -1)
    assert [event.event for event in bank.events("bank", *DAY)] == ["session.failed", MALFORMED, "session.failed"]


def test_a_long_file_is_entered_near_the_beginning_of_the_window(
    log: Path, bank: LogFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_SEARCH_FROM_BYTES", 4_000)
    monkeypatch.setattr(logs, "_SLACK_BYTES", 500)
    written(log, [line(minutes, number=minutes, filler="x" * 50) for minutes in range(-4_000, 0)], -1)
    read = 0
    real = logs._lines

    def counted(file: object) -> Iterator[bytes]:
        nonlocal read
        for found in real(file):  # type: ignore[arg-type]
            read += 1
            yield found

    monkeypatch.setattr(logs, "_lines", counted)
    start = NOON - dt.timedelta(minutes=30)
    assert [event.fields["number"] for event in bank.events("bank", start, NOON)] == list(range(-30, 0))
    assert read < 200


def test_a_rotation_while_the_files_are_opened_loses_nothing(
    log: Path, bank: LogFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(log, [line(-2, number=2)], -2)
    written(log.with_name("application.log.1"), [line(-3, number=1)], -3)
    real, rotated = logs.family, False

    def rotating(path: Path) -> list[Path]:
        nonlocal rotated
        names = real(path)
        if not rotated:
            rotated = True
            log.with_name("application.log.1").rename(log.with_name("application.log.2"))
            log.rename(log.with_name("application.log.1"))
            written(log, [line(-1, number=3)], -1)
        return names

    monkeypatch.setattr(logs, "family", rotating)
    assert [event.fields["number"] for event in bank.events("bank", *DAY)] == [1, 2, 3]


def test_no_log_and_a_cut_archive_are_sentences(log: Path, bank: LogFiles) -> None:
    with pytest.raises(Unreachable, match="is not there"):
        list(bank.events("bank", *DAY))
    written(log, [line(-1)], -1)
    archive = written(log.with_name("application.log.1.gz"), [line(-9) * 1_000], -9)
    archive.write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(Unreachable, match="cut short"):
        list(bank.events("bank", *DAY))


def test_a_flood_of_rotated_files_is_refused(log: Path, bank: LogFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FILES_MAX", 3)
    for number in range(1, 5):
        written(log.with_name(f"application.log.{number}"), [line(-1)], -1)
    written(log, [line(-1)], -1)
    with pytest.raises(Refused, match="more than 3"):
        list(bank.events("bank", *DAY))


def test_postgres_says_its_severity_and_its_own_time(tmp_path: Path) -> None:
    path = tmp_path / "postgresql.json"
    lines = [
        {"timestamp": "2026-07-01 07:59:59.900 EDT", "error_severity": "FATAL", "state_code": "28P01", "user": "bank"},
        {"timestamp": "2026-07-01 07:00:00 PST", "error_severity": "LOG"},
    ]
    written(path, [json.dumps(each).encode() + b"\n" for each in lines], 0)
    read = LogFiles({"db-1": (path, PostgresFormat(ZoneInfo("America/New_York")))}).events("db-1", *DAY)
    first, second = read
    assert (first.event, first.time) == ("postgresql.fatal", NOON - dt.timedelta(milliseconds=100))
    assert first.fields["state_code"] == "28P01"
    assert second.event == MALFORMED
