"""How the backups stand, decided from what was read."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from nvcops.core.backups import Audit, Cause, DatabaseBackup, Entry, Fault, Kind, ReceiverState, Room, Segment, Stored
from nvcops.core.checks import Finding, Verdict
from nvcops.core.manifest import Limits
from nvcops.recovery.backup import Arrival, platform_point, restorable_finding
from nvcops.recovery.standing import Standing, Taken, backup_findings, growth

NOW = dt.datetime(2026, 11, 22, 16, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
WELL = ReceiverState(
    running=True,
    timeline=1,
    server_lsn="0/3000000",
    received_lsn="0/3000000",
    lag_s=0.0,
    slot="nvcops",
    slot_active=True,
    synchronous=True,
)


def taken(hours: float = 1, kind: Kind = Kind.FULL, stored: int = 1 << 20) -> Taken:
    ended = NOW - dt.timedelta(hours=hours)
    return Taken(id=f"{hours}-{kind}", kind=kind, began=ended, ended=ended, stored_bytes=stored, raw_bytes=4 * stored)


def state(**changed: object) -> Standing:
    well: dict[str, object] = {
        "entries": 2,
        "head": "ab" * 32,
        "taken": (taken(30), taken(1)),
        "receiver": WELL,
        "room": Room(used=1 << 30, free=100 << 30),
        "growth": 1024.0,
    }
    return Standing(**{**well, **changed})


def lines(standing: Standing) -> dict[str, Finding]:
    return {finding.check: finding for finding in backup_findings(standing, Limits(), NOW)}


def test_all_is_well() -> None:
    assert {finding.verdict for finding in lines(state()).values()} == {Verdict.OK}


def test_without_a_table_one_line_says_so() -> None:
    (line,) = backup_findings(Standing(configured=False), Limits(), NOW)
    assert (line.check, line.verdict, line.observed) == (
        "recovery.backups",
        Verdict.UNKNOWN,
        "no backups are configured",
    )


@pytest.mark.parametrize(
    ("changed", "check", "verdict", "said"),
    [
        ({"taken": ()}, "recovery.backup_age", Verdict.CRITICAL, "there is no backup"),
        ({"taken": (taken(7.5),)}, "recovery.backup_age", Verdict.WARNING, "7.5 h"),
        ({"taken": (taken(13.5),)}, "recovery.backup_age", Verdict.CRITICAL, "13.5 h"),
        ({"broken": "entry 2 was edited"}, "recovery.catalogue", Verdict.CRITICAL, "entry 2 was edited"),
        ({"troubles": {"catalogue": "away"}}, "recovery.backup_age", Verdict.UNKNOWN, "away"),
        ({"growth": 100 * 2**30 / (10 * 86400)}, "recovery.repository", Verdict.WARNING, "full in 10 d"),
        ({"growth": 100 * 2**30 / (2 * 86400)}, "recovery.repository", Verdict.CRITICAL, "full in 2 d"),
        ({"growth": None}, "recovery.repository", Verdict.OK, "known after a day"),
        ({"room": Room(used=1, free=1000)}, "recovery.repository", Verdict.CRITICAL, "no room for another"),
        ({"room": Room(used=1, free=None)}, "recovery.repository", Verdict.OK, "object store"),
        ({"room": None, "troubles": {"room": "away"}}, "recovery.repository", Verdict.UNKNOWN, "away"),
        ({"receiver": None, "troubles": {"receiver": "away"}}, "recovery.archive", Verdict.UNKNOWN, "away"),
    ],
)
def test_each_trouble_has_its_line(changed: dict[str, object], check: str, verdict: Verdict, said: str) -> None:
    line = lines(state(**changed))[check]
    assert line.verdict is verdict
    assert said in line.observed
    assert bool(line.next_step) is (verdict is not Verdict.OK)


@pytest.mark.parametrize(
    ("changed", "check", "verdict"),
    [
        ({"running": False}, "recovery.receiver", Verdict.CRITICAL),
        ({"trouble": "the log has a gap"}, "recovery.receiver", Verdict.CRITICAL),
        ({"synchronous": False}, "recovery.receiver", Verdict.OK),
        ({"lag_s": 61.0}, "recovery.archive", Verdict.WARNING),
        ({"lag_s": 601.0}, "recovery.archive", Verdict.CRITICAL),
        ({"lag_s": None}, "recovery.archive", Verdict.UNKNOWN),
        ({"retained_bytes": 2 << 30}, "recovery.slot", Verdict.WARNING),
        ({"retained_bytes": 5 << 30}, "recovery.slot", Verdict.CRITICAL),
        ({"server_lsn": ""}, "recovery.slot", Verdict.UNKNOWN),
    ],
)
def test_each_trouble_of_the_receiver_has_its_line(changed: dict[str, object], check: str, verdict: Verdict) -> None:
    receiver = msgspec.structs.replace(WELL, **changed)
    assert lines(state(receiver=receiver))[check].verdict is verdict


def entry(number: int, kind: Kind, days: float, size: int = 1000, of: tuple[str, ...] = ()) -> Entry:
    moment = NOW - days * DAY
    database = DatabaseBackup(
        system_identifier="7",
        major=17,
        timeline=1,
        start_lsn="0/2000028",
        stop_lsn="0/2000120",
        stop_time=moment,
    )
    return Entry(
        number=number,
        id=f"{number}-{kind}",
        kind=kind,
        platform="bank",
        began=moment,
        ended=moment,
        objects=(Stored(key=str(number), bytes=size, sha256="", raw_bytes=size),) if size else (),
        database=database if kind.of_database else None,
        version="1.2" if kind is Kind.APPLICATION else "",
        of=of,
    )


def segment(days: float) -> Segment:
    return Segment(
        name="0" * 24,
        system_identifier="7",
        sha256="ab",
        key="k",
        bytes=86400,
        modified=NOW - days * DAY,
        partial=False,
    )


def test_growth_is_what_came_less_what_went() -> None:
    assert growth([entry(1, Kind.FULL, 0.5)], [], NOW) is None
    assert growth([entry(1, Kind.FULL, 2, 86400 * 2)], [segment(1), segment(0.5)], NOW) == 2.0
    old = [entry(1, Kind.FULL, 30, 86400 * 7), entry(2, Kind.FULL, 6, 86400 * 7)]
    removal = entry(3, Kind.REMOVAL, 1, 0, of=("1-full",))
    assert growth(old, [], NOW) == 1.0
    assert growth([*old, removal], [segment(1)], NOW) == 0.0


def test_a_platform_point_names_what_is_restored_together() -> None:
    entries = [entry(1, Kind.APPLICATION, 3), entry(2, Kind.CONFIGURATION, 2), entry(3, Kind.FULL, 1)]
    point = platform_point(entries, "3-full")
    assert point is not None
    assert (point.application, point.version, point.configuration, point.lsn) == (
        "1-application",
        "1.2",
        "2-configuration",
        "0/2000120",
    )
    assert platform_point(entries, "nothing") is None
    assert platform_point([*entries, entry(4, Kind.REMOVAL, 0, 0, of=("1-application",))], "3-full").application == ""


def test_a_backup_is_restorable_when_all_of_it_was_read_back() -> None:
    audit = Audit(backups=1, segments=3, examined_bytes=5, oldest=NOW, newest=NOW)
    fault = Fault(cause=Cause.MISSING, subject="X", sentence="it is missing")
    here = Arrival(id="b", catalogued=True, segment="S", there=True)
    verdicts = [
        restorable_finding(here, audit),
        restorable_finding(here, None),
        restorable_finding(
            here, Audit(backups=1, segments=3, examined_bytes=5, oldest=NOW, newest=NOW, faults=(fault,))
        ),
        restorable_finding(Arrival(id="b", catalogued=True, segment="S", waited_s=600), None),
        restorable_finding(Arrival(id="b"), None),
    ]
    expected = [Verdict.OK, Verdict.UNKNOWN, Verdict.CRITICAL, Verdict.CRITICAL, Verdict.CRITICAL]
    assert [line.verdict for line in verdicts] == expected


def test_commits_must_wait_only_where_the_manifest_says_so() -> None:
    behind = msgspec.structs.replace(WELL, synchronous=False)
    assert lines(state(receiver=behind, synchronous=True))["recovery.receiver"].verdict is Verdict.CRITICAL
    assert lines(state(receiver=WELL, synchronous=True))["recovery.receiver"].verdict is Verdict.OK
