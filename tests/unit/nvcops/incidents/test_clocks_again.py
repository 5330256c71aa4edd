"""Regulators' clocks that begin anew, earlier or late; and what is promised after an incident, by whose calendar."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from incident_world import NOON, example, hours, lines, minutes, opened, resolved
from test_after import run

from desk import MemoryDesk
from nvcops.core.errors import UsageError
from nvcops.core.incidents import Clock, Severity
from nvcops.core.manifest import Manifest
from nvcops.incidents import actions, clocks, leading, opening


@pytest.fixture
def manifest() -> Manifest:
    return example("us", "gdpr", "dora")


def begin(desk: MemoryDesk, manifest: Manifest, rule: str, at: dt.datetime, **said: object) -> Clock:
    given = {"manifest": manifest, "rule": rule, "person": "dana", "at": at, "reason": "customers cannot pay"} | said
    return clocks.begin(desk, 1, **given)


def test_what_was_dismissed_begins_anew_with_all_that_belongs_to_it(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest)
    begin(desk, manifest, "us-36h", hours(1))
    clocks.warn(desk, manifest=manifest, at=hours(20))
    by = {"manifest": manifest, "person": "dana"}
    clocks.dismiss(desk, "1/us-36h", reason="no customer felt it", at=hours(21), **by)
    anew = begin(desk, manifest, "us-36h", hours(30), reason="they did")
    assert (anew.began, anew.due, anew.met, anew.warned) == (hours(30), hours(66), None, None)
    before = len(lines(desk, 1, "clock-warning"))
    clocks.warn(desk, manifest=manifest, at=hours(49))
    assert len(lines(desk, 1, "clock-warning")) == before + 1
    clocks.dismiss(desk, "1/us-36h", reason="the regulator agreed", at=hours(50), **by)
    assert len(lines(desk, 1, "not-reportable")) == 2
    assert len(lines(desk, 1, "clock")) == 2


def test_a_clock_may_be_said_to_have_begun_earlier_but_not_later(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest)
    clocks.begin_by_itself(desk, desk.every(opening.Incident)[0], manifest=manifest, at=minutes(1))
    with pytest.raises(UsageError, match="the clock 1/dora-24h runs since 2026-11-22T17:00:00"):
        begin(desk, manifest, "dora-24h", hours(3))
    earlier = begin(desk, manifest, "dora-24h", hours(3), began=hours(-2))
    assert (earlier.began, earlier.due) == (hours(-2), hours(22))
    clocks.meet(desk, "1/dora-24h", manifest=manifest, reference="BaFin 7", person="dana", at=hours(4))
    with pytest.raises(UsageError, match="was met: BaFin 7"):
        begin(desk, manifest, "dora-24h", hours(5), began=hours(-3))


def test_what_is_classified_after_its_notification_was_sent_is_met_by_it(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest)
    begin(desk, manifest, "dora-24h", hours(1))
    clocks.meet(desk, "1/dora-24h", manifest=manifest, reference="BaFin 7", person="dana", at=hours(2))
    late = begin(desk, manifest, "dora-4h", hours(3))
    assert (late.met, late.reference) == (hours(2), "BaFin 7")
    assert [one.key for one in clocks.running(desk)] == ["1/dora-72h"]


def test_what_is_severe_only_when_it_is_over_is_known_then(desk: MemoryDesk, manifest: Manifest) -> None:
    said = {"manifest": manifest, "person": "dana"}
    opening.open_by_hand(desk, title="a report is late", at=NOON, **said)
    leading.acknowledge(desk, 1, at=minutes(1), **said)
    leading.resolve(desk, 1, text="it was sent", at=minutes(2), **said)
    assert not clocks.running(desk)
    leading.override(desk, 1, severity=Severity.P1, reason="customers were told wrong sums", at=hours(1), **said)
    assert [one.key for one in clocks.running(desk)] == ["1/dora-24h"]


def test_personal_data_that_are_touched_from_the_beginning_start_their_clock(
    desk: MemoryDesk, manifest: Manifest
) -> None:
    said = {"manifest": manifest, "person": "dana"}
    opening.open_by_hand(desk, title="a laptop is stolen", personal=True, at=NOON, **said)
    (clock,) = clocks.running(desk)
    assert (clock.key, clock.due) == ("1/gdpr-72h", hours(72))
    leading.personal_data(desk, 1, reason="addresses were on it", at=hours(1), **said)
    assert clocks.running(desk) == [clock], "who says it later moves nothing"


def promised(desk: MemoryDesk, manifest: Manifest, at: dt.datetime, due: dt.date, **said: str) -> None:
    words = {"text": "alarm at 80 %", "owner": "dana", "person": "dana"} | said
    actions.add(desk, 1, manifest=manifest, at=at, due=due, **words)


def test_today_is_the_banks_today(desk: MemoryDesk, manifest: Manifest) -> None:
    resolved(desk, manifest)
    night = dt.datetime(2026, 11, 23, 2, tzinfo=dt.UTC)  # the 22nd, 21:00, in New York
    promised(desk, manifest, night, dt.date(2026, 11, 22))
    tokyo = msgspec.structs.replace(
        manifest, platform=msgspec.structs.replace(manifest.platform, time_zone="Asia/Tokyo")
    )
    with pytest.raises(UsageError, match="2026-11-22 is past"):
        promised(desk, tokyo, dt.datetime(2026, 11, 22, 23, tzinfo=dt.UTC), dt.date(2026, 11, 22))


def test_an_item_without_a_procedure_is_closed_by_no_run(desk: MemoryDesk, manifest: Manifest) -> None:
    resolved(desk, manifest)
    promised(desk, manifest, hours(2), dt.date(2026, 12, 1))
    green = run(started=hours(3))
    with pytest.raises(UsageError, match="the item names no procedure"):
        actions.close_by_run(desk, "1-1", green, manifest=manifest, person="dana", at=hours(4))
