"""The report of a recovery: what was lost, for how long, and how things are afterwards."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from nvcops.core.backups import PlatformPoint, ReceiverState, RestoreTarget
from nvcops.core.checks import Finding, Verdict
from nvcops.core.manifest import Limits, Person, parse
from nvcops.core.restores import Broken, Ledger, Looked, Purpose, RestorePlan, Verification
from nvcops.core.runs import verdict_of
from nvcops.recovery import damage
from nvcops.recovery.damage import Backed, Damage, FilesLost, Part, Service, parts_of
from nvcops.recovery.disaster import Story, Took, findings, lost_in_words, plan_in_words, summary
from nvcops.recovery.forecast import Forecast
from nvcops.recovery.rehearsal import people_finding, point_finding

EXAMPLE = Path(__file__).parents[4] / "platforms" / "nvc-bank" / "platform.toml"
NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
PLAN = RestorePlan(
    run="r",
    purpose=Purpose.IN_PLACE,
    backup="20261122T060000Z-F",
    chain=("20261122T060000Z-F",),
    target=RestoreTarget(),
    system_identifier="7",
    major=17,
    timelines=(1,),
    first_segment="000000010000000000000004",
    last_segment="000000010000000000000009",
    bytes=30 << 20,
    fetched_bytes=10 << 20,
    wal_bytes=96 << 20,
    needed=200 << 20,
    free=75 << 30,
    work_path="/data/primary.restoring-1",
    into_path="/data/primary",
)
HOLDS = Verification(
    pages=Looked(things=905),
    constraints=Looked(things=66),
    invariants=Looked(things=9),
    ledger=Ledger(acknowledged=100),
    books=(),
    seconds=1.0,
)


def parts(*down: str) -> tuple[Part, ...]:
    roles = {"db-1": "primary", "cache": "cache", "bank-1": "instance", "proxy": "proxy", "db-2": "standby"}
    return tuple(Part(name=name, role=role, running=name not in down) for name, role in roles.items())


def minutes(count: float) -> dt.datetime:
    return NOON + dt.timedelta(minutes=count)


BEFORE = Damage(
    seen=minutes(1),
    parts=parts("db-1", "cache", "bank-1"),
    database="db-1 does not answer",
    standbys=("db-2",),
    doors=("bank answers 503",),
    acknowledged=NOON,
)
STORY = Story(
    before=BEFORE,
    after=Damage(seen=minutes(30), parts=parts(), acknowledged=minutes(30)),
    plan=PLAN,
    proof=HOLDS,
    steps=(("unpack", Took(began=minutes(2), ended=minutes(5))),),
    service=Service(again=minutes(12), acknowledged=100),
    backed=Backed(newest="20261122T121500Z-F", timeline=2, backups=2),
    approved="omar",
)


def seen(story: Story, check: str) -> Finding:
    return next(finding for finding in findings(story, Limits()) if finding.check == check)


def test_a_recovery_that_brought_everything_back_is_good() -> None:
    report = findings(STORY, Limits())
    assert verdict_of(report) is Verdict.OK
    assert seen(STORY, "disaster.time").value == 720, "from the last acknowledged write until the next"
    assert "3 min from 12:02:00 UTC" in seen(STORY, "disaster.step").observed
    said = summary(STORY)
    assert "omar approved" in said
    assert "after 12.0 minutes" in said
    assert "0 of 100 acknowledged writes missing" in said


@pytest.mark.parametrize(
    ("changes", "check", "verdict"),
    [
        ({"service": Service(again=minutes(12), acknowledged=100, missing=1)}, "disaster.lost", Verdict.CRITICAL),
        ({"service": Service(customers_trouble="no journal")}, "disaster.lost", Verdict.UNKNOWN),
        ({"service": Service(again=minutes(130), acknowledged=1)}, "disaster.time", Verdict.WARNING),
        ({"service": Service(again=minutes(241), acknowledged=1)}, "disaster.time", Verdict.CRITICAL),
        ({"service": Service(receiver_trouble="it does not run")}, "disaster.log", Verdict.CRITICAL),
        ({"backed": Backed(newest="old", timeline=1)}, "disaster.backup", Verdict.CRITICAL),
        ({"after": Damage(seen=NOON, parts=parts("bank-1"))}, "disaster.part", Verdict.CRITICAL),
        ({"after": Damage(seen=NOON, parts=parts(), database="it recovers")}, "disaster.database", Verdict.CRITICAL),
        ({"after": Damage(seen=NOON, parts=parts(), doors=("bank 503",))}, "disaster.service", Verdict.CRITICAL),
        ({"after": Damage(seen=NOON, parts=parts(), doors=("bank 503",))}, "disaster.time", Verdict.CRITICAL),
        ({"files": FilesLost(missing=("/etc/a",), configuration="C")}, "disaster.files", Verdict.CRITICAL),
        ({"files": FilesLost(changed=("/etc/a",), configuration="C")}, "disaster.files", Verdict.WARNING),
        ({"files": FilesLost(configuration="C")}, "disaster.files", Verdict.OK),
        ({"steps": (("start", Took(began=NOON, ended=NOON, trouble="no")),)}, "disaster.step", Verdict.WARNING),
    ],
)
def test_whatever_did_not_come_back_is_named(changes: dict[str, object], check: str, verdict: Verdict) -> None:
    story = msgspec.structs.replace(STORY, **changes)
    lines = [finding.verdict for finding in findings(story, Limits()) if finding.check == check]
    assert verdict in lines


def test_data_that_do_not_hold_are_critical() -> None:
    broken = Looked(things=9, broken=(Broken(database="bank", subject="sums", sentence="off by 5"),))
    story = msgspec.structs.replace(STORY, proof=msgspec.structs.replace(HOLDS, invariants=broken))
    assert verdict_of(findings(story, Limits())) is Verdict.CRITICAL


def test_a_part_of_which_nothing_is_known_is_unknown_and_counts_as_down() -> None:
    unknown = Part(name="bank-1", role="instance", trouble="the program does not answer")
    after = Damage(seen=NOON, parts=(unknown,))
    assert not after.whole
    assert seen(msgspec.structs.replace(STORY, after=after), "disaster.part").verdict is Verdict.UNKNOWN
    assert "bank-1 the program does not answer" in lost_in_words(after)


def test_nothing_lost_is_whole() -> None:
    assert Damage(seen=NOON, parts=parts()).whole
    for lost in ({"database": "gone"}, {"doors": ("503",)}, {"parts": parts("cache")}):
        assert not Damage(**{"seen": NOON, "parts": parts(), **lost}).whole  # type: ignore[arg-type]


def test_the_plan_says_what_is_lost_what_is_restored_and_how_long_that_takes() -> None:
    point = PlatformPoint(lsn="0/5", time=NOON, database=PLAN.backup)
    gone = FilesLost(release="A", folder="/srv/bank", configuration="C", missing=("/etc/a",), changed=("/etc/b",))
    forecast = Forecast(seconds=90, low=60, high=120, learnt=4)
    said = plan_in_words(BEFORE, PLAN, forecast, Backed(point=point), gone)
    for part in (
        "db-1 does not run",
        PLAN.backup,
        "up to the end of the log",
        "1.5 min",
        "db-2 still answers",
        "of 2026-11-22 12:00 UTC",
        "lay the release A into /srv/bank",
        "/etc/a is gone",
        "undo the changes of /etc/b",
    ):
        assert part in said
    only_parts = plan_in_words(Damage(seen=NOON, parts=parts("cache")), None, None, Backed(), FilesLost())
    assert only_parts == "cache does not run; then start what does not run"


def test_parts_are_started_in_the_order_in_which_they_need_one_another() -> None:
    roles = [part.role for part in parts_of(parse(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE))]
    assert roles == sorted(roles, key=["primary", "cache", "instance", "proxy", "standby"].index)
    assert set(roles) == {"primary", "cache", "instance", "proxy", "standby"}


def test_a_rehearsal_asks_for_a_whole_platform_point() -> None:
    point = PlatformPoint(lsn="0/5", time=NOON, database=PLAN.backup, application="A", configuration="C")
    assert point_finding(Backed(point=point), FilesLost()).verdict is Verdict.OK
    half = point_finding(Backed(point=msgspec.structs.replace(point, application="")), FilesLost())
    assert (half.verdict, "without a release" in half.observed) == (Verdict.WARNING, True)
    assert point_finding(Backed(), FilesLost()).verdict is Verdict.CRITICAL
    assert point_finding(Backed(trouble="out of reach"), FilesLost()).verdict is Verdict.UNKNOWN
    assert point_finding(Backed(point=point), FilesLost(trouble="damaged")).verdict is Verdict.CRITICAL


def test_somebody_without_a_key_can_approve_nothing() -> None:
    dana = Person(name="dana", full_name="Dana", roles=("operator",), ssh_keys=("a",))
    omar = Person(name="omar", full_name="Omar", roles=("approver",))
    assert people_finding([dana, omar]).verdict is Verdict.CRITICAL


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (ReceiverState(running=True, slot="nvcops", slot_active=True), ""),
        (ReceiverState(running=True), ""),  # an archiver, which has no slot
        (ReceiverState(running=True, slot="nvcops", trouble="the disk is full"), "the disk is full"),
        (ReceiverState(running=False, trouble="the receiver does not run"), "the receiver does not run"),
        (ReceiverState(running=True, slot="nvcops", slot_active=True, trouble="nobody there"), "nobody there"),
    ],
)
def test_a_receiver_that_runs_and_receives_nothing_is_not_well(
    monkeypatch: pytest.MonkeyPatch, state: ReceiverState, said: str
) -> None:
    monkeypatch.setattr(damage, "_RECEIVER_S", 0.0)
    target = SimpleNamespace(backups=SimpleNamespace(receiver=lambda: state), clients=None)
    assert damage.service(target, NOON, NOON).receiver_trouble == said  # type: ignore[arg-type]
