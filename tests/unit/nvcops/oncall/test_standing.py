"""What stands beside pages: concerns about the paging itself, beats, the hand-over, the list of contacts."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import msgspec

from desk import MemoryDesk, MemoryRecords
from nvcops.core.alerts import Category, Matcher, Silence
from nvcops.core.checks import Verdict
from nvcops.core.incidents import IncidentAlert
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Beat, Message, Page
from nvcops.oncall import concerns, deadman, directory, handover, paging

SECOND, DAY = dt.timedelta(seconds=1), dt.timedelta(days=1)


def names(desk: MemoryDesk, manifest: Manifest, at: dt.datetime) -> list[str]:
    return [one.labels["alertname"] for one in concerns.concerns(desk, manifest=manifest, at=at)]


def page(desk: MemoryDesk, manifest: Manifest, at: dt.datetime, about: str = "root") -> Page:
    said = {"policy": "", "category": Category.CRITICAL, "summary": f"{about} fails", "body": ""}
    return paging.begin(desk, manifest=manifest, about=about, at=at, **said)


def test_a_page_that_nobody_answers_is_one_alert_until_somebody_does(
    desk: MemoryDesk, make: Any, monday: dt.datetime
) -> None:
    manifest = make('[[oncall.policies]]\nname = "p"\nsteps = [{ person = "dana" }]\nrepeat = 0\n')
    for about in ("a", "b"):
        page(desk, manifest, monday, about)
    assert names(desk, manifest, monday) == []
    later = monday + dt.timedelta(minutes=5)
    paging.advance(desk, manifest=manifest, at=later)
    (concern,) = concerns.concerns(desk, manifest=manifest, at=later)
    assert concern.labels == {"alertname": "PageUnanswered", "category": "critical"}
    assert (concern.starts, concern.summary.count("fails")) == (monday, 2)
    for about in ("a", "b"):
        paging.acknowledge(desk, about=about, person="dana", at=later, manifest=manifest)
    assert names(desk, manifest, later) == []


def test_the_page_of_an_unanswered_page_does_not_keep_itself_alive(
    desk: MemoryDesk, make: Any, monday: dt.datetime
) -> None:
    manifest = make('[[oncall.policies]]\nname = "p"\nsteps = [{ person = "dana" }]\nrepeat = 0\n')
    page(desk, manifest, monday, "a")
    page(desk, manifest, monday, '{}:{alertname="PageUnanswered"}')
    said = {"policy": "", "category": Category.CRITICAL, "summary": "nobody answers", "body": ""}
    paging.begin(desk, manifest=manifest, about="incident/1", at=monday, incident=1, **said)
    alert = {"incident": 1, "fingerprint": "f", "category": "critical", "labels": {}, "summary": "", "starts": monday}
    desk.put(IncidentAlert(key="1/f", name="PageUnanswered", **alert))
    later = monday + dt.timedelta(minutes=5)
    paging.advance(desk, manifest=manifest, at=later)
    (concern,) = concerns.concerns(desk, manifest=manifest, at=later)
    assert concern.summary.count("fails") == 1
    paging.acknowledge(desk, about="a", person="dana", at=later, manifest=manifest)
    assert names(desk, manifest, later) == []
    desk.put(IncidentAlert(key="1/g", name="ProbeDown", **alert))
    assert names(desk, manifest, later) == ["PageUnanswered"], "an incident of something else beside it is one of those"


def test_a_page_without_anybody_to_ask_and_a_rotation_without_anybody_are_alerts(
    desk: MemoryDesk, make: Any, monday: dt.datetime
) -> None:
    manifest = make(
        """
        [[oncall.rotations]]
        name = "later"
        people = ["dana"]
        starts = 2026-02-01
        [[oncall.policies]]
        name = "p"
        steps = [{ rotation = "later" }]
        """
    )
    page(desk, manifest, monday)
    assert names(desk, manifest, monday) == ["PageReachesNobody", "NobodyOnCall"]
    later = monday + 40 * DAY
    paging.advance(desk, manifest=manifest, at=later)
    assert names(desk, manifest, later) == []


def test_an_instance_that_falls_silent_is_known_and_one_that_said_good_bye_is_not(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    for instance in ("ops-1", "ops-2"):
        deadman.beat(desk, instance=instance, host=instance, at=monday)
    deadman.beat(desk, instance="ops-1", host="ops-1", at=monday + 30 * SECOND)

    def silent(seconds: int) -> list[str]:
        return [one.id for one in deadman.silent(deadman.beats(desk), bank, monday + seconds * SECOND)]

    assert (silent(30), silent(31), silent(61)) == ([], ["ops-2"], ["ops-1", "ops-2"])
    deadman.leave(desk, instance="ops-2")
    assert silent(31) == []
    deadman.beat(desk, instance="ops-3", host="ops-3", at=monday + 8 * DAY)
    assert [beat.id for beat in desk.every(Beat)] == ["ops-3"]


def test_the_hand_over_says_what_is_open_to_those_who_take_over(
    records: MemoryRecords, bank: Manifest, monday: dt.datetime
) -> None:
    target: Any = SimpleNamespace(manifest=bank, records=records)
    with records.changing() as desk:
        first = page(desk, bank, monday - DAY, "disk")  # the rotations begin on Monday: the manager was asked
        desk.put(msgspec.structs.replace(first, resolved=monday))
        page(desk, bank, monday, "payments")
        silence = Silence(
            id="1",
            matchers=(Matcher("service", "=", "bank"),),
            starts=monday,
            ends=monday + DAY,
            author="omar",
            reason="migration",
            created=monday,
        )
        desk.put(silence)
    seen = handover.week(target, monday)
    lines = handover.handover_findings(bank, seen, monday)
    observed = {(line.check, line.subject): (line.verdict, line.observed) for line in lines}
    assert observed == {
        ("oncall.now", "primary"): (Verdict.OK, "dana until Mon 12 Jan 09:00 EST"),
        ("oncall.now", "secondary"): (Verdict.OK, "omar until Mon 12 Jan 09:00 EST"),
        ("oncall.pages", ""): (
            Verdict.WARNING,
            "2 critical; 1 of 2 escalated; not acknowledged: payments fails",
        ),
        ("oncall.incidents", ""): (Verdict.OK, "none"),
        ("oncall.silences", 'service="bank"'): (Verdict.OK, "until Tue 06 Jan 10:00 EST by omar: migration"),
    }
    assert handover.hand_over(target, "run-1", ["dana", "omar"], "report", monday) == 2
    assert handover.hand_over(target, "run-1", ["dana", "omar"], "report", monday) == 0
    with records.reading() as desk:
        told = [f"{m.to} {m.channel}" for m in desk.find(Message, purpose="handover")]
    assert told == ["dana 1:email", "omar 0:push"]


def test_the_contacts_are_listed_with_what_they_are_asked_for_and_without_addresses(make: Any) -> None:
    manifest = make(more='[[incidents.informed]]\nseverities = ["P1", "P0"]\ncontacts = ["cto"]\n')
    listed = directory.listing(manifest)
    assert [(one.name, one.kinds, one.asked_by, one.informed_of) for one in listed] == [
        ("manager", ("sms",), ("oncall",), ()),
        ("cto", ("sms",), (), ("P0", "P1")),
        ("hosting", (), (), ()),
    ]
    assert "127.0.0.1" not in msgspec.json.encode(listed).decode()
    assert [one.phone for one in directory.listing(manifest, "vendor")] == ["+1-555-0110"]
