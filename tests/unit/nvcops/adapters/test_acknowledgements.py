"""The journal of acknowledgements, read from its beginning and from near its end."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from nvcops.adapters.acknowledgements import lines_from_here, opened
from nvcops.adapters.clients import JournalledClients
from nvcops.adapters.postgres import PostgresServer
from nvcops.core.clients import Told
from nvcops.core.errors import DeadlineExceeded, Refused, Unreachable
from nvcops.core.manifest import Acknowledgements

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def entry(tmp_path: Path) -> Acknowledgements:
    return Acknowledgements(
        journal=tmp_path / "journal", time="at", key="payment", outcome="end", settled=("paid", "booked"), query=""
    )


def line(second: float, end: str = "paid", key: str = "p") -> str:
    return json.dumps({"at": (NOON + second * SECOND).isoformat(), "payment": key, "end": end}) + "\n"


def told(entry: Acknowledgements) -> list[Told]:
    with opened(entry) as journal:
        return list(lines_from_here(entry, journal))


def test_a_line_is_read_by_the_manifests_names_and_a_torn_one_was_told_nobody(entry: Acknowledgements) -> None:
    seconds = json.dumps({"at": NOON.timestamp(), "payment": 7, "end": "booked"}) + "\n"
    torn = line(3)[:-1]
    entry.journal.write_text(seconds + line(1, "unknown") + line(2, "declined", "q") + torn, encoding="utf-8")
    assert told(entry) == [
        Told(time=NOON, key="7", settled=True, unknown=False),
        Told(time=NOON + SECOND, key="p", settled=False, unknown=True),
        Told(time=NOON + 2 * SECOND, key="q", settled=False, unknown=False),
    ]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{}", "it has no field 'end'"),
        ("[]", "Expected `object`"),
        ("", "is no acknowledgement"),
        ('{"at": "2026-11-22T12:00:00", "payment": 1, "end": "paid"}', "no time zone"),
        ('{"at": true, "payment": 1, "end": "paid"}', "True"),
        ('{"at": 1e300, "payment": 1, "end": "paid"}', "is no acknowledgement"),
        ('{"at": 0, "payment": "' + "p" * (1 << 20) + '", "end": "paid"}', "is no acknowledgement"),
    ],
)
def test_what_is_no_acknowledgement_is_refused_with_its_place(entry: Acknowledgements, wrong: str, says: str) -> None:
    first = line(0)
    entry.journal.write_text(first + wrong + "\n", encoding="utf-8")
    with pytest.raises(Refused) as refused:
        told(entry)
    assert f"the line at byte {len(first)} of {entry.journal} is no acknowledgement" in refused.value.sentence
    assert says in refused.value.sentence


def test_a_journal_that_is_not_there_is_unreachable(entry: Acknowledgements) -> None:
    with pytest.raises(Unreachable, match="cannot be read: no such file"):
        told(entry)


def test_customers_are_seen_in_a_journal_that_is_longer_than_what_is_read_at_once(entry: Acknowledgements) -> None:
    lines = [line(second, key=f"{second:06d}" + "p" * 200) for second in range(12_000)]
    entry.journal.write_text("".join(lines), encoding="utf-8")
    assert entry.journal.stat().st_size > 3 << 20
    nowhere = PostgresServer(name="db-1", host="127.0.0.1", port=1, database="b", user="b", deadline_s=1)
    clients = JournalledClients(entry=entry, database=nowhere)
    for begin, end in ((0, 12_000), (5_000, 11_000), (11_990, 20_000)):
        seen = clients.seen(NOON + begin * SECOND, NOON + end * SECOND)
        assert (seen.settled, seen.gap_s) == (min(end, 12_000) - begin, 1.0)
    assert clients.acknowledged_after(NOON + 9_000 * SECOND, 0) == NOON + 9_001 * SECOND
    with pytest.raises(DeadlineExceeded):
        clients.acknowledged_after(NOON + 11_999 * SECOND, 0)
