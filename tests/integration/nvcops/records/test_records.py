"""What the store of records promises, on a file and on a server."""

from __future__ import annotations

import datetime as dt
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from records_examples import LATER, T, alert, all_kinds, message

from nvcops.adapters.evidence.log import open_log
from nvcops.core.alerts import Alert, Category, Group
from nvcops.core.errors import StateError, UsageError
from nvcops.core.evidence import Entry, Redactor
from nvcops.core.incidents import Event, Incident
from nvcops.core.oncall import Message, MessageState
from nvcops.core.records import Records

Opened = Callable[[], Records]
SECOND = dt.timedelta(seconds=1)


def fail_after(act: Callable[..., object], *args: object) -> None:
    act(*args)
    raise ZeroDivisionError


def test_every_kind_comes_back_as_it_was(records: Records) -> None:
    from nvcops.adapters.records.models import KINDS  # only after Django is set up, as `open_records` does

    examples = all_kinds()
    assert {type(one) for one in examples} == set(KINDS)
    with records.changing() as desk:
        desk.put(*examples)
    with records.reading() as reading:
        for one in examples:
            assert reading.get(type(one), getattr(one, one.__struct_fields__[0])) == one


def test_a_record_takes_the_place_of_the_one_with_its_key(records: Records) -> None:
    with records.changing() as desk:
        desk.put(alert(1), alert(2), alert(1, times=2))
        desk.put(alert(2, times=5))
        assert not desk.add(alert(1, times=9))
        assert desk.add(alert(3))
    with records.reading() as reading:
        assert sorted(one.times for one in reading.find(Alert)) == [1, 2, 5]


def test_nothing_remains_of_what_failed(records: Records) -> None:
    with pytest.raises(ZeroDivisionError), records.changing() as desk:
        fail_after(desk.put, alert(1))
    with records.reading() as reading:
        assert reading.count(Alert) == 0


def test_what_is_asked_for_is_found(records: Records) -> None:
    fired = [alert(n, starts=T + n * SECOND, ends=LATER if n % 2 else None) for n in range(10)]
    with records.changing() as desk:
        desk.put(*fired)
        assert desk.count(Alert, ends=None) == desk.count(Alert, ends__isnull=True) == 5
        assert desk.count(Alert, ends__gt=T, ends__lte=LATER) == 5
        assert desk.count(Alert, category=Category.CRITICAL, category__in=[Category.LOW, "critical"]) == 10
        assert [one.starts for one in desk.find(Alert, order="-starts", limit=2)] == [T + 9 * SECOND, T + 8 * SECOND]
        assert desk.find(Alert, starts__lt=T + SECOND) == [fired[0]]
        assert [one.fingerprint for one in desk.find(Alert)] == sorted(one.fingerprint for one in fired)
        assert desk.remove(Alert, [fired[0].fingerprint, "none"]) == 1
        assert desk.get(Alert, fired[0].fingerprint) is None


def test_what_has_no_value_comes_first_in_both(records: Records) -> None:
    fired = [alert(n, ends=LATER + n * SECOND if n % 2 else None) for n in range(6)]
    with records.changing() as desk:
        desk.put(*fired)
        assert [one.ends is None for one in desk.find(Alert, order="ends")] == [True] * 3 + [False] * 3
        assert [one.ends is None for one in desk.find(Alert, order="-ends")] == [False] * 3 + [True] * 3
        assert desk.find(Alert, fingerprint__in=[]) == []
        prints = [one.fingerprint for one in fired]
        assert desk.count(Alert, fingerprint__in=prints + [f"{n}" for n in range(20_000)]) == 6


@pytest.mark.parametrize("where", [{"nothing": 1}, {"times__like": "1"}, {"order": "nothing"}])
def test_a_question_that_makes_no_sense_is_a_mistake(records: Records, where: dict[str, Any]) -> None:
    with records.reading() as reading, pytest.raises(UsageError):
        reading.find(Alert, **where)


def test_numbers_follow_one_another(records: Records) -> None:
    incident = next(one for one in all_kinds() if isinstance(one, Incident))
    with records.changing() as desk:
        assert desk.next_number(Incident) == 1
        desk.put(incident)
        assert desk.next_number(Incident) == 8


def test_who_decides_is_alone(opened: Opened) -> None:
    stores = [opened(), opened()]

    def count_up(worker: int) -> None:
        for _ in range(10):
            with stores[worker % 2].changing() as desk:
                found = desk.get(Alert, alert().fingerprint) or alert(times=0)
                desk.put(msgspec.structs.replace(found, times=found.times + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, range(4)))
    with stores[0].reading() as reading:
        assert [one.times for one in reading.find(Alert)] == [40]


def test_who_reads_sees_one_moment_and_waits_for_nobody(opened: Opened) -> None:
    mine, other = opened(), opened()
    with mine.changing() as desk:
        desk.put(alert(1))
    with mine.reading() as reading:
        assert reading.count(Alert) == 1
        with other.changing() as desk:
            desk.put(alert(2))
        assert reading.count(Alert) == 1
    with mine.reading() as reading:
        assert reading.count(Alert) == 2


def test_a_transaction_inside_of_itself_is_a_mistake(records: Records) -> None:
    with records.changing(), pytest.raises(UsageError, match="inside of their own transaction"), records.reading():
        pass


def test_a_message_is_leased_to_one(opened: Opened) -> None:
    stores = [opened(), opened(), opened()]
    with stores[0].changing() as desk:
        desk.put(*(message(n, due=T + n * SECOND) for n in range(60)), message(99, due=LATER))
    gate = threading.Barrier(3)

    def claimed(worker: int) -> list[str]:
        gate.wait(timeout=20)
        won: list[str] = []
        while got := stores[worker].claim(f"w{worker}", T + 60 * SECOND, LATER, limit=7):
            won += got
        return won

    with ThreadPoolExecutor(3) as pool:
        won = [one for some in pool.map(claimed, range(3)) for one in some]
    assert sorted(won) == [f"m-{n:05}" for n in range(60)]


def test_a_lease_ends_and_the_oldest_come_first(records: Records) -> None:
    with records.changing() as desk:
        desk.put(*(message(n, due=T - n * SECOND) for n in range(3)), message(3, to="omar", due=T - 9 * SECOND))
    assert records.claim("a", T, LATER, limit=2, besides=["omar"]) == ["m-00002", "m-00001"]
    assert records.claim("b", T, LATER, limit=9) == ["m-00003", "m-00000"]
    assert records.claim("c", T, LATER, limit=9) == []
    assert len(records.claim("c", LATER, LATER + SECOND, limit=9)) == 4
    with records.reading() as reading:
        found = reading.find(Message)
    assert {(one.state, one.leased_by, one.attempts) for one in found} == {(MessageState.SENDING, "c", 2)}


def test_evidence_is_kept_with_the_change_and_moved_once(records: Records, tmp_path: Path) -> None:
    entries = [Entry(id=f"e{n}", time="2026-01-01T00:00:00Z", kind="note", body={"n": n}) for n in range(3)]
    with records.changing() as desk:
        for entry in entries:
            desk.note(entry)
    with pytest.raises(UsageError), records.changing() as desk:
        desk.note(Entry(id="has spaces in it", time="2026-01-01T00:00:00Z", kind="note"))
    with open_log(tmp_path / "evidence", origin="t.example.com/o") as log:
        assert records.drain(log) == 3
        assert records.drain(log) == 0
        assert log.size() == 3


def test_an_entry_that_holds_a_secret_is_withheld(records: Records, tmp_path: Path) -> None:
    with records.changing() as desk:
        desk.note(Entry(id="leak", time="2026-01-01T00:00:00Z", kind="note", body={"url": "sms://hunter2hunter2@x"}))
        desk.note(Entry(id="clean", time="2026-01-01T00:00:00Z", kind="note"))
    redactor = Redactor(["hunter2hunter2"])
    with open_log(tmp_path / "evidence", origin="t.example.com/o", redactor=redactor) as log:
        assert records.drain(log) == 2
        assert {entry.id for _, entry in log.entries(0, log.size())} == {"leak/withheld", "clean"}


def test_ten_thousand_are_written_and_read_whole(records: Records) -> None:
    many = [alert(n) for n in range(10_000)]
    with records.changing() as desk:
        desk.put(*many)
        desk.put(*(msgspec.structs.replace(one, times=2) for one in many))
        found = desk.find(Alert)
        assert len(found) == 10_000
        assert {one.times for one in found} == {2}
        assert desk.remove(Alert, [one.fingerprint for one in many]) == 10_000


def test_a_moment_without_a_zone_and_a_key_that_no_index_holds_are_refused(records: Records) -> None:
    naive = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - that is the mistake
    with pytest.raises(UsageError, match="has no time zone"), records.changing() as desk:
        desk.put(alert(starts=naive))
    long = Group(key="é" * 501, route="", receiver="", labels={}, opened=T, due=T)
    with pytest.raises(UsageError, match="a Group's key has 1,002 bytes"), records.changing() as desk:
        desk.put(long)


def test_text_that_a_database_does_not_hold_is_kept_nearly(records: Records) -> None:
    with records.changing() as desk:
        desk.put(message(subject="a\0b"))
        (found,) = desk.find(Message)
    assert found.subject == "a\ufffdb"


def test_they_are_there_when_opened_again_and_not_after_they_were_closed(opened: Opened) -> None:
    first = opened()
    with first.changing() as desk:
        desk.put(message())
    first.close()
    with pytest.raises(StateError, match="were closed"), first.reading():
        pass
    with opened().reading() as reading:
        assert reading.count(Message) == 1


def test_who_waits_for_messages_is_woken(records: Records) -> None:
    assert not records.wait(0.01)
    with records.changing() as desk:
        desk.put(all_kinds()[0])
    assert not records.wait(0.01)
    with records.changing() as desk:
        desk.put(message())
    assert records.wait(10)
    assert not records.wait(0.01)


def test_an_event_is_written_once(records: Records) -> None:
    event = next(one for one in all_kinds() if isinstance(one, Event))
    with records.changing() as desk:
        assert desk.add(event)
    with records.changing() as desk:
        assert not desk.add(msgspec.structs.replace(event, text="another"))
        assert desk.find(Event) == [event]


def test_threads_leave_no_connection_behind(records: Records) -> None:
    def look(_number: int) -> int:
        with records.reading() as reading:
            return reading.count(Alert)

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(look, range(60))) == {0}


def test_what_no_column_holds_is_not_there_and_what_is_no_character_is_marked(records: Records) -> None:
    one = msgspec.structs.replace(alert(1), labels={"alertname": "caf\udce9", "x\ud800": "a\0"})
    with records.changing() as desk:
        desk.put(one)
    with records.reading() as reading:
        (kept,) = reading.find(Alert)
        assert kept.labels == {"alertname": "caf\ufffd", "x\ufffd": "a\ufffd"}
        assert reading.get(Alert, "\0\ud800") is None
        assert reading.get(Incident, 2**70) is None
