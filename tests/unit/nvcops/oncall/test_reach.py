"""Reachability: a code on every channel, said back by its person, and how long ago that was."""

from __future__ import annotations

import datetime as dt
import re
from types import SimpleNamespace
from typing import Any

import pytest

from desk import MemoryDesk, MemoryRecords
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import NotFoundError, TargetError, UsageError
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, Reach
from nvcops.oncall import reach

DAY = dt.timedelta(days=1)
WAYS = ["dana 0:sms", "dana 1:email", "lee 0:email", "manager 0:sms", "omar 0:push"]


def target_of(manifest: Manifest, records: MemoryRecords | None) -> Any:
    return SimpleNamespace(manifest=manifest, records=records)


def codes(records: MemoryRecords) -> dict[str, str]:
    with records.reading() as desk:
        return {f"{m.to} {m.channel}": re.findall(r"\d{6}", m.subject)[0] for m in desk.every(Message)}


def findings(records: MemoryRecords, manifest: Manifest, at: dt.datetime) -> dict[str, Finding]:
    found = reach.reach_findings(manifest, reach.reach_tests(target_of(manifest, records), at), at)
    return {finding.subject: finding for finding in found}


def test_everybody_whom_a_policy_asks_gets_a_code_on_each_channel_once_per_run(
    records: MemoryRecords, bank: Manifest, monday: dt.datetime
) -> None:
    assert reach.send_codes(target_of(bank, records), "run-1", monday) == 5
    sent = codes(records)
    assert (sorted(sent), len(set(sent.values())) > 1) == (WAYS, True)
    assert reach.send_codes(target_of(bank, records), "run-1", monday + DAY) == 0
    assert codes(records) == sent
    with records.reading() as desk:
        assert not [test for test in desk.every(Reach) if any(code in test.code_sha256 for code in sent.values())]
        assert all(len(message.subject) <= 160 for message in desk.every(Message))
    with pytest.raises(TargetError):
        reach.send_codes(target_of(bank, None), "run-1", monday)


def test_a_channel_is_reached_when_its_person_said_its_code(
    records: MemoryRecords, bank: Manifest, monday: dt.datetime
) -> None:
    reach.send_codes(target_of(bank, records), "run-1", monday)
    assert {line.verdict for line in findings(records, bank, monday).values()} == {Verdict.WARNING}
    code = codes(records)["dana 0:sms"]
    later = monday + dt.timedelta(minutes=3)
    with records.changing() as desk:
        first = reach.confirm(desk, manifest=bank, person="dana", code=f" {code} ", at=later)
        assert reach.confirm(desk, manifest=bank, person="dana", code=code, at=later + DAY / 2) == first
        assert [(entry.actor, entry.subject, entry.body["seconds"]) for entry in desk.notes] == [
            ("dana", "dana 0:sms", 180.0)
        ]
    lines = findings(records, bank, monday + DAY)
    assert (lines["dana 0:sms"].verdict, lines["dana 1:email"].verdict) == (Verdict.OK, Verdict.WARNING)
    assert lines["dana 1:email"].observed == "never confirmed; a code was sent, and is not confirmed yet"
    at_last = later + 31 * DAY
    verdicts = [
        findings(records, bank, at)["dana 0:sms"].verdict for at in (at_last, at_last + dt.timedelta(seconds=1))
    ]
    assert verdicts == [Verdict.OK, Verdict.WARNING]


def test_a_code_is_refused_from_others_and_when_it_is_old(
    records: MemoryRecords, bank: Manifest, monday: dt.datetime
) -> None:
    reach.send_codes(target_of(bank, records), "run-1", monday)
    code = codes(records)["dana 0:sms"]
    wrong: list[tuple[str, str, dt.datetime, type[Exception]]] = [
        ("omar", code, monday, UsageError),
        ("dana", "x", monday, UsageError),
        ("dana", code, monday + DAY, UsageError),
        ("mallory", code, monday, NotFoundError),
    ]
    with records.changing() as desk:
        for person, said, at, error in wrong:
            with pytest.raises(error):
                reach.confirm(desk, manifest=bank, person=person, code=said, at=at)
        assert not [test for test in desk.every(Reach) if test.confirmed]


def test_where_nobody_has_a_contact_nothing_is_claimed(desk: MemoryDesk, make: Any, monday: dt.datetime) -> None:
    manifest = make('[[oncall.policies]]\nname = "p"\nsteps = [{ contact = "hosting" }]\n')
    (line,) = reach.reach_findings(manifest, reach.tests_of(desk, monday), monday)
    assert line.verdict is Verdict.UNKNOWN
