"""Standing in: what is refused and why, swaps, and what is cancelled."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from desk import MemoryDesk
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Override
from nvcops.oncall.overrides import cancel, override, swap
from nvcops.oncall.rotation import on_call, shifts, standing_overrides

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)


def enter(desk: MemoryDesk, bank: Manifest, monday: dt.datetime, **other: Any) -> Override:
    said = {
        "rotation": "primary",
        "person": "lee",
        "starts": monday + DAY,
        "ends": monday + 2 * DAY,
        "author": "omar",
        "reason": "dentist",
        "at": monday,
    }
    return override(desk, manifest=bank, **{**said, **other})


def test_whoever_stands_in_is_on_call_for_that_time_and_the_evidence_says_who_said_so(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    made = enter(desk, bank, monday)
    standing = standing_overrides(desk, monday)
    people = [on_call(bank, standing, monday + n * 12 * HOUR)["primary"].person for n in range(5)]
    assert people == ["dana", "dana", "lee", "lee", "dana"]
    (entry,) = desk.notes
    assert (entry.kind, entry.actor, entry.body["reason"]) == ("oncall.override", "omar", "dentist")
    assert enter(desk, bank, monday) == made
    assert len(desk.notes) == 1


@pytest.mark.parametrize(
    ("wrong", "error", "sentence"),
    [
        ({"rotation": "third"}, NotFoundError, "there is no rotation 'third'"),
        ({"person": "mallory"}, NotFoundError, "'mallory' is nobody in"),
        ({"author": "mallory"}, NotFoundError, "'mallory' is nobody in"),
        ({"reason": "  "}, UsageError, "needs a reason"),
        ({"ends": DAY}, UsageError, "before it begins"),
        ({"starts": -2 * HOUR}, UsageError, "in the past"),
        ({"starts": -3 * DAY, "ends": -2 * DAY}, UsageError, "in the past"),
        ({"ends": 32 * DAY + HOUR}, UsageError, "at most 31 days"),
        ({"starts": 5 * DAY - HOUR, "ends": 6 * DAY}, UsageError, "omar stands in for primary from Sat 10 Jan"),
        ({"starts": 4 * DAY, "ends": 7 * DAY}, UsageError, "cancel|stands in"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(
    desk: MemoryDesk,
    bank: Manifest,
    monday: dt.datetime,
    wrong: dict[str, Any],
    error: type[Exception],
    sentence: str,
) -> None:
    enter(desk, bank, monday, person="omar", starts=monday + 5 * DAY - HOUR, ends=monday + 6 * DAY - HOUR)
    given = {key: monday + value if isinstance(value, dt.timedelta) else value for key, value in wrong.items()}
    with pytest.raises(error, match=sentence):
        enter(desk, bank, monday, **given)
    assert len(desk.every(Override)) == 1


def test_overrides_that_only_touch_are_fine_and_there_is_a_limit(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    for n in range(1_000):
        enter(desk, bank, monday, starts=monday + n * HOUR, ends=monday + (n + 1) * HOUR)
    with pytest.raises(UsageError, match="1,000 overrides already"):
        enter(desk, bank, monday, starts=monday + 1_000 * HOUR, ends=monday + 1_001 * HOUR)


def test_a_swap_exchanges_two_shifts_and_is_cancelled_as_one(
    desk: MemoryDesk, bank: Manifest, monday: dt.datetime
) -> None:
    before = [shift.person for shift in shifts(bank, [], "primary", monday, monday + 20 * DAY)]
    made = swap(
        desk,
        manifest=bank,
        rotation="primary",
        first=monday + 8 * DAY,
        second=monday + 15 * DAY,
        author="omar",
        reason="a wedding",
        at=monday,
    )
    standing = standing_overrides(desk, monday)
    after = [shift.person for shift in shifts(bank, standing, "primary", monday, monday + 20 * DAY)]
    assert (before, after) == (["dana", "omar", "lee"], ["dana", "lee", "omar"])
    with pytest.raises(UsageError, match="has both shifts"):
        swap(
            desk,
            manifest=bank,
            rotation="primary",
            first=monday,
            second=monday + DAY,
            author="omar",
            reason="x",
            at=monday,
        )
    gone = cancel(desk, manifest=bank, override_id=made[0].id, author="dana", at=monday + DAY)
    assert {one.id for one in gone} == {one.id for one in made}
    assert desk.every(Override) == []


def test_cancelled_while_it_runs_it_ends_then(desk: MemoryDesk, bank: Manifest, monday: dt.datetime) -> None:
    made = enter(desk, bank, monday)
    noon = made.starts + 4 * HOUR
    cancel(desk, manifest=bank, override_id=made.id, author="dana", at=noon)
    assert [one.ends for one in desk.every(Override)] == [noon]
    assert on_call(bank, desk.every(Override), noon)["primary"].person == "dana"
    for wrong, sentence in ((made.id, "is over"), ("none", "there is no override 'none'")):
        with pytest.raises((UsageError, NotFoundError), match=sentence):
            cancel(desk, manifest=bank, override_id=wrong, author="dana", at=noon)
