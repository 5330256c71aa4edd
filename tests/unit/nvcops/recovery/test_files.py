"""What a backup of files is reported as, and which configuration a date means."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from nvcops.core.checks import Verdict
from nvcops.core.errors import NotFoundError
from nvcops.core.files import Differences, FileChange, FilesKept
from nvcops.recovery.files import (
    APPLICATION,
    CONFIGURATION,
    LOGS,
    Version,
    difference_findings,
    kept_findings,
    newest_as_of,
    restored_findings,
)

DAY = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
THERE = [Version(id=f"{n}-C", taken=DAY + n * dt.timedelta(days=7), revision=str(n)) for n in range(3)]


def kept(**more: object) -> FilesKept:
    return FilesKept(**{"id": "2-C", "files": 3, "bytes": 2048, "added_bytes": 1024, "revision": "2", **more})  # type: ignore[arg-type]


def test_a_good_backup_says_what_is_new() -> None:
    (line,) = kept_findings(APPLICATION, kept(version="1.4"), THERE, "1")
    assert (line.verdict, line.observed) == (Verdict.OK, "version 1.4: 3 files, 2 KiB, 1 KiB of it new")
    assert kept_findings(APPLICATION, kept(), THERE, "2")[0].observed.endswith("; unchanged")


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (None, Verdict.UNKNOWN),
        (kept(id="9-C"), Verdict.CRITICAL),
        (kept(files=0), Verdict.CRITICAL),
        (kept(unreadable=("/etc/a: permission denied",)), Verdict.WARNING),
    ],
)
def test_what_is_not_a_whole_backup_is_not_ok(outcome: FilesKept | None, verdict: Verdict) -> None:
    assert max(line.verdict for line in kept_findings(CONFIGURATION, outcome, THERE, "")) is verdict


def test_nothing_new_in_the_logs_is_fine() -> None:
    (line,) = kept_findings(LOGS, FilesKept(), [], "")
    assert (line.verdict, line.observed) == (Verdict.OK, "nothing new")


def test_unreadable_files_are_named_and_then_counted() -> None:
    lines = kept_findings(CONFIGURATION, kept(unreadable=tuple(f"/etc/{n}: denied" for n in range(25))), THERE, "")
    named = [line for line in lines if line.check == "recovery.unreadable"]
    assert (named[0].subject, named[0].observed, named[-1].observed) == ("/etc/0", "denied", "and 5 more")


def test_it_is_said_what_became_of_secrets() -> None:
    left_out = kept_findings(CONFIGURATION, kept(left_out=("etc/tls.key",)), THERE, "")[-1]
    assert left_out.observed == "left out, as nothing is encrypted: /etc/tls.key"
    assert kept_findings(CONFIGURATION, kept(encrypted=True), THERE, "")[-1].observed == "kept, encrypted"


@pytest.mark.parametrize(("days", "found"), [(0, "0-C"), (6.9, "0-C"), (7, "1-C"), (13, "1-C"), (999, "2-C")])
def test_the_newest_as_of_a_moment(days: float, found: str) -> None:
    assert newest_as_of(THERE, DAY + dt.timedelta(days=days), ZoneInfo("UTC")).id == found


def test_before_the_first_the_range_is_told() -> None:
    with pytest.raises(NotFoundError, match="as of 2026-11-19 07:00 EST") as caught:
        newest_as_of(THERE, DAY - dt.timedelta(days=1), ZoneInfo("America/New_York"))
    assert caught.value.hint == "kept are 2026-11-20 07:00 EST to 2026-12-04 07:00 EST"


def test_a_long_difference_is_cut_and_says_so() -> None:
    changes = tuple(FileChange(path=f"/etc/{n}", what="change", lines=("-a", "+b")) for n in range(100))
    lines = difference_findings(Differences(id="1-C", live="", files=100, changes=changes))
    assert (len(lines), lines[-1].observed) == (201, "and 100 more lines")


def test_what_still_differs_is_critical_but_in_a_rehearsal() -> None:
    left = [FileChange(path="/etc/a", what="remove")]
    assert restored_findings("1-C", 3, left, begun=True)[0].verdict is Verdict.CRITICAL
    assert restored_findings("1-C", 3, left, begun=False)[0].verdict is Verdict.WARNING
    assert restored_findings("1-C", 3, [], begun=True)[0].verdict is Verdict.OK
