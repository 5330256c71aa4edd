"""A quarter ahead: each kind of gap is seen, and a roster without one is all OK but for what nobody tested."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from desk import MemoryRecords
from nvcops.core.checks import Verdict
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Override, Reach
from nvcops.oncall.gaps import Roster, gap_findings, roster, together
from nvcops.oncall.reach import reach_tests, ways
from nvcops.oncall.rotation import shifts

Make = Callable[..., Manifest]
DAY = dt.timedelta(days=1)
BOTH = """
[[oncall.rotations]]
name = "primary"
people = {primary}
starts = {starts}
[[oncall.rotations]]
name = "secondary"
people = {secondary}
starts = 2026-01-05
[[oncall.policies]]
name = "oncall"
steps = [{{ rotation = "primary" }}, {{ rotation = "secondary" }}, {{ contact = "{contact}" }}]
"""


def both(
    primary: str = '["dana", "omar"]',
    secondary: str = '["omar", "dana"]',
    starts: str = "2026-01-05",
    contact: str = "manager",
) -> str:
    return BOTH.format(primary=primary, secondary=secondary, starts=starts, contact=contact)


def override(person: str, starts: dt.datetime, ends: dt.datetime, rotation: str = "primary") -> Override:
    return Override(
        id=f"{rotation}-{person}-{starts:%d}",
        rotation=rotation,
        person=person,
        starts=starts,
        ends=ends,
        author="omar",
        reason="x",
        created=starts,
    )


def wrong(manifest: Manifest, at: dt.datetime, *overrides: Override) -> dict[str, tuple[str, str]]:
    tested = [
        Reach(id=f"{way}", person=way.to, channel=way.channel, code_sha256="", sent=at, confirmed=at)
        for way in ways(manifest)
    ]
    found = gap_findings(manifest, Roster(overrides=overrides, tests=tuple(tested)), at)
    return {f.check: (f.verdict.name, f.observed) for f in found if f.verdict is not Verdict.OK}


def test_a_whole_roster_is_ok_and_says_who_has_the_bank_holidays(make: Make, monday: dt.datetime) -> None:
    manifest = make(both())
    assert wrong(manifest, monday) == {}
    lines = gap_findings(manifest, Roster(), monday)
    assert [(line.subject, line.observed) for line in lines if line.check == "oncall.holidays"] == [
        ("Mon 2026-01-19", "dana (primary), omar (secondary)"),
        ("Mon 2026-02-16", "dana (primary), omar (secondary)"),
    ]


@pytest.mark.parametrize(
    ("oncall", "check", "verdict", "says"),
    [
        (both(starts="2026-03-01"), "oncall.covered", "CRITICAL", "nobody until Sun 01 Mar 00:00 EST, then dana"),
        (both(starts="2027-03-01"), "oncall.covered", "CRITICAL", "nobody until Tue 07 Apr 11:00 EDT"),
        (both(secondary='["dana", "omar"]'), "oncall.two", "CRITICAL", "both are dana from Mon 05 Jan 10:00 EST"),
        (both(secondary='["omar", "omar"]'), "oncall.two", "WARNING", "both are omar from Mon 12 Jan 09:00 EST"),
        (both(contact="hosting"), "oncall.contacts", "CRITICAL", "no contact for critical alerts"),
        (both(primary='["lee"]'), "oncall.contacts", "WARNING", "only email: that wakes nobody"),
        ("", "oncall.policy", "CRITICAL", "there is none"),
    ],
)
def test_each_gap_is_seen(make: Make, monday: dt.datetime, oncall: str, check: str, verdict: str, says: str) -> None:
    seen = wrong(make(oncall), monday)
    assert seen[check][0] == verdict
    assert seen[check][1].startswith(says)


def test_overrides_that_make_a_gap_are_seen(make: Make, monday: dt.datetime) -> None:
    manifest = make(both())
    same = override("omar", monday + DAY, monday + 2 * DAY)
    assert wrong(manifest, monday, same)["oncall.two"] == ("WARNING", "both are omar from Tue 06 Jan 10:00 EST")
    gone = override("mallory", monday, monday + DAY)
    assert wrong(manifest, monday, gone)["oncall.overrides"] == ("WARNING", "primary-mallory-05: mallory left")
    third = override("lee", monday, monday + DAY, "third")
    assert "no such rotation" in wrong(manifest, monday, third)["oncall.overrides"][1]
    late = override("lee", monday + DAY, monday + 3 * DAY)
    assert "overlaps" in wrong(manifest, monday, same, late)["oncall.overrides"][1]


def test_the_same_person_twice_is_found_over_the_bounds_of_shifts(bank: Manifest, monday: dt.datetime) -> None:
    end = monday + 21 * DAY
    stands_in = [override("omar", monday + 6 * DAY, monday + 8 * DAY)]
    primary = shifts(bank, stands_in, "primary", monday, end)
    secondary = shifts(bank, stands_in, "secondary", monday, end)
    (both_omar,) = together(primary, secondary, monday, end)
    first_handover = monday + 7 * DAY - dt.timedelta(hours=1)
    assert (both_omar.person, both_omar.starts, both_omar.ends) == ("omar", monday + 6 * DAY, first_handover)


def test_without_records_the_roster_itself_is_still_judged(bank: Manifest, monday: dt.datetime) -> None:
    target = SimpleNamespace(manifest=bank, records=None)
    known = roster(target, monday)
    lines = {line.check: line.verdict for line in gap_findings(bank, known, monday)}
    assert (lines["oncall.overrides"], lines["oncall.covered"]) == (Verdict.UNKNOWN, Verdict.OK)
    records = MemoryRecords()
    with records.changing() as desk:
        desk.put(override("lee", monday, monday + DAY))
    target.records = records
    assert [one.person for one in roster(target, monday).overrides] == ["lee"]
    assert reach_tests(target, monday) == []
