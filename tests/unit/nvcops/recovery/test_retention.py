"""Retention: whatever it removes, every point that was to be kept can still be restored."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.core.backups import (
    Audit,
    Cause,
    DatabaseBackup,
    Entry,
    Fault,
    Kind,
    PlatformPoint,
    Segment,
    Stored,
    lsn_text,
    segment_name,
)
from nvcops.core.catalogue import holds, needs, present
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.manifest import Keep, KeepTable
from nvcops.core.units import Seconds
from nvcops.recovery.retention import REMOVABLE, Hold, Plan, damaged_in, plan, the_hold

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
SIZE = 16 << 20


def moment(hour: float) -> dt.datetime:
    return START + hour * HOUR


class Bench:
    """A repository in the making: an hour is a segment of the log, a switch-over begins a timeline."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.segments: list[Segment] = []
        self.hour = 1
        self.timeline = 1
        self.system = "7001"
        self.database: list[Entry] = []

    def enter(self, kind: Kind, **more: object) -> Entry:
        number = len(self.entries) + 1
        now = moment(self.hour)
        name = f"{number:04d}-{kind.value}"
        entry = Entry(number=number, id=name, kind=kind, platform="ship", began=now, ended=now, **more)  # type: ignore[arg-type]
        self.entries.append(entry)
        return entry

    def objects(self, *shared: Stored) -> tuple[Stored, ...]:
        key = f"backups/{len(self.entries) + 1}/index"
        return (*shared, Stored(key=key, bytes=100, sha256="", raw_bytes=100))

    def back_up(self, *, full: bool) -> None:
        parent = "" if full or not self.database else self.database[-1].id
        base = DatabaseBackup(
            system_identifier=self.system,
            major=17,
            timeline=self.timeline,
            start_lsn=lsn_text(self.hour * SIZE + 40),
            stop_lsn=lsn_text(self.hour * SIZE + 200),
            stop_time=moment(self.hour),
            parent=parent,
        )
        kind = Kind.INCREMENTAL if parent else Kind.FULL
        self.database.append(self.enter(kind, database=base, objects=self.objects()))
        newest = {entry.kind: entry.id for entry in self.entries}
        point = PlatformPoint(
            lsn=base.stop_lsn,
            time=base.stop_time,
            database=self.database[-1].id,
            application=newest.get(Kind.APPLICATION, ""),
            configuration=newest.get(Kind.CONFIGURATION, ""),
        )
        self.enter(Kind.POINT, point=point)

    def files(self, kind: Kind, *, unchanged: bool) -> None:
        last = next((entry for entry in reversed(self.entries) if entry.kind is kind), None)
        self.enter(
            kind, objects=last.objects if last and unchanged else self.objects(*(last.objects[-1:] if last else ()))
        )

    def hold(self, number: int) -> None:
        able = [entry for entry in present(self.entries) if entry.kind in REMOVABLE]
        if able:
            self.enter(Kind.HOLD, of=(able[number % len(able)].id,), note="lawsuit")

    def release(self) -> None:
        if held := holds(self.entries):
            self.enter(Kind.RELEASE, of=(held[0].id,))

    def log(self, hours: int) -> None:
        for _ in range(hours):
            self.segments.append(segment(self.timeline, self.hour, self.system))
            self.hour += 1

    def switch(self) -> None:
        """A new timeline begins in the middle of a segment, which is then there on both."""
        self.segments.append(segment(self.timeline, self.hour, self.system))
        self.timeline += 1

    def apply(self, what: Plan) -> None:
        self.enter(Kind.REMOVAL, of=what.ids)
        self.segments = [each for each in self.segments if not any(line.drops(each) for line in what.log)]


def segment(timeline: int, hour: int, system: str = "7001") -> Segment:
    name = segment_name(timeline, hour * SIZE)
    return Segment(
        name=name, system_identifier=system, sha256="ab" * 16, key=f"wal/{name}", bytes=10, modified=moment(hour)
    )


def keep(count: int, hours: int) -> KeepTable:
    each = Keep(count=count, age=Seconds(hours * 3600))
    return KeepTable(database=each, application=each, configuration=each, logs=each)


def restorable(entries: Sequence[Entry], segments: Sequence[Segment], damaged: Sequence[str]) -> set[tuple[str, str]]:
    """The model: which segments' times can be reached from which backups, by (backup, segment).

    A backup is good with its whole chain; from it on, the log must be there without a gap, on its timeline and the
    ones after it.
    """
    there = {entry.id: entry for entry in present(entries)}
    names = {each.name for each in segments}
    found = set()
    for entry in there.values():
        if entry.database and whole(entry, there, damaged):
            timeline, number = entry.database.timeline, int(entry.database.first_segment[8:], 16)
            while True:
                name = f"{timeline:08X}{number:016X}"
                if name not in names:
                    break
                found.add((entry.id, name))
                if f"{timeline + 1:08X}{number:016X}" in names:
                    timeline += 1
                else:
                    number += 1
    return found


def whole(entry: Entry, there: dict[str, Entry], damaged: Sequence[str]) -> bool:
    if entry.id in damaged:
        return False
    parent = entry.database.parent if entry.database else ""
    return not parent or (parent in there and whole(there[parent], there, damaged))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("log"), st.integers(1, 30)),
        st.tuples(st.sampled_from(["full", "incremental", "incremental", "switch", "release"]), st.just(0)),
        st.tuples(st.sampled_from(["application", "configuration", "logs"]), st.integers(0, 1)),
        st.tuples(st.just("hold"), st.integers(0, 50)),
        st.tuples(st.just("retention"), st.just(0)),
    ),
    max_size=40,
)


def built(story: Sequence[tuple[str, int]], table: KeepTable) -> Bench:
    bench = Bench()
    for what, number in story:
        if what == "log":
            bench.log(number)
        elif what in ("full", "incremental"):
            bench.back_up(full=what == "full")
        elif what == "switch":
            bench.switch()
        elif what == "hold":
            bench.hold(number)
        elif what == "release":
            bench.release()
        elif what == "retention":
            bench.apply(plan(bench.entries, bench.segments, table, moment(bench.hour)))
        else:
            bench.files(Kind(what), unchanged=bool(number))
    return bench


@settings(max_examples=300, deadline=None)
@given(steps, st.integers(1, 3), st.integers(0, 60), st.integers(0, 9), st.data())
def test_every_kept_point_is_still_restorable(
    story: Sequence[tuple[str, int]], count: int, hours: int, bad: int, data: st.DataObject
) -> None:
    table = keep(count, hours)
    bench = built(story, table)
    damaged = [entry.id for entry in bench.database if bad == 0 and data.draw(st.booleans())]
    before = present(bench.entries)
    could = restorable(bench.entries, bench.segments, damaged)
    now = moment(bench.hour)
    what = plan(bench.entries, bench.segments, table, now, damaged)
    bench.apply(what)
    there = {entry.id: entry for entry in present(bench.entries)}
    can = restorable(bench.entries, bench.segments, damaged)

    assert {name for name, _ in could} & set(there) == {name for name, _ in can}
    assert {pair for pair in could if pair[0] in there} == can, "what stays reaches as far as before"
    cutoff = now - dt.timedelta(hours=hours)
    late = {name for _, name in could if hour_of(name) >= cutoff}
    assert late <= {name for _, name in can}, "every time within the age is reached by something"
    good = [e.id for e in before if e.kind is Kind.FULL and whole(e, {each.id: each for each in before}, damaged)]
    assert set(good[-max(2, count) :]) <= set(there), "the newest fulls always stay"
    for kind in (Kind.APPLICATION, Kind.CONFIGURATION, Kind.LOGS):
        of_kind = [entry for entry in before if entry.kind is kind]
        assert {e.id for e in of_kind[-count:]} | {e.id for e in of_kind if e.ended > cutoff} <= set(there)
    gone = set(what.ids)
    for entry in there.values():
        assert not gone & set(needs(entry)), "nothing is removed that something needs"
    for hold in holds(bench.entries):
        assert not gone & set(hold.of), "nothing is removed that is on hold"
    assert plan(bench.entries, bench.segments, table, now, damaged).ids == (), "once is enough"


def hour_of(name: str) -> dt.datetime:
    return moment(int(name[8:], 16) + 1)


def week(bench: Bench) -> None:
    """A full backup and six incrementals, a day apart."""
    for day in range(7):
        bench.back_up(full=day == 0)
        bench.log(24)


def test_what_is_old_and_superfluous_goes() -> None:
    bench = Bench()
    for _ in range(6):
        week(bench)
    what = plan(bench.entries, bench.segments, keep(2, 14 * 24), moment(bench.hour))
    bench.apply(what)
    fulls = [entry for entry in present(bench.entries) if entry.kind is Kind.FULL]
    assert len(fulls) == 2
    assert fulls[0].database
    assert min(each.name for each in bench.segments) == fulls[0].database.first_segment
    assert what.segments == 4 * 7 * 24
    assert what.bytes == 4 * 7 * 100 + what.segments * 10


def test_at_least_two_fulls_stay_however_old() -> None:
    bench = Bench()
    for _ in range(3):
        week(bench)
    what = plan(bench.entries, bench.segments, keep(1, 1), moment(bench.hour + 10_000))
    assert sum("full" in name for name in what.ids) == 1


def test_a_damaged_backup_does_not_count() -> None:
    bench = Bench()
    for _ in range(4):
        week(bench)
    fulls = [entry.id for entry in bench.entries if entry.kind is Kind.FULL]
    assert fulls[0] in plan(bench.entries, bench.segments, keep(2, 1), moment(bench.hour)).ids
    assert fulls[0] not in plan(bench.entries, bench.segments, keep(2, 1), moment(bench.hour), fulls[2:]).ids


def test_a_hold_keeps_the_chain_and_says_what_it_costs() -> None:
    bench = Bench()
    for _ in range(6):
        week(bench)
    third = bench.database[2]
    bench.enter(Kind.HOLD, of=(third.id,), note="lawsuit")
    what = plan(bench.entries, bench.segments, keep(2, 1), moment(bench.hour))
    assert not {third.id, bench.database[0].id, bench.database[1].id} & set(what.ids)
    assert bench.database[3].id in what.ids
    assert what.log == ()
    assert (len(what.held), what.held_bytes) == (6, 300), "three backups, and the points at them"
    bench.release()
    assert third.id in plan(bench.entries, bench.segments, keep(2, 1), moment(bench.hour)).ids


def test_shared_objects_are_counted_once_and_only_when_nobody_needs_them() -> None:
    bench = Bench()
    for _ in range(5):
        bench.files(Kind.CONFIGURATION, unchanged=True)
        bench.hour += 24
    what = plan(bench.entries, bench.segments, keep(2, 1), moment(bench.hour))
    assert (len(what.ids), what.bytes) == (3, 0)


def test_a_kept_point_keeps_its_release_and_configuration() -> None:
    bench = Bench()
    bench.files(Kind.APPLICATION, unchanged=False)
    bench.files(Kind.CONFIGURATION, unchanged=False)
    first = [entry.id for entry in bench.entries]
    week(bench)
    for _ in range(5):
        bench.files(Kind.APPLICATION, unchanged=False)
        bench.files(Kind.CONFIGURATION, unchanged=False)
        bench.hour += 1
    assert not set(first) & set(plan(bench.entries, [], keep(1, 1), moment(bench.hour + 1000)).ids)


def test_log_of_another_size_of_segments() -> None:
    bench = Bench()
    week(bench)
    large = 64 << 20
    bench.entries = [
        msgspec.structs.replace(e, database=msgspec.structs.replace(e.database, segment_bytes=large))
        if e.database
        else e
        for e in bench.entries
    ]
    start = bench.entries[0].database
    assert start
    names = [segment_name(1, number * large, large) for number in range(40)]
    segments = [msgspec.structs.replace(segment(1, 1), name=name) for name in names]
    what = plan(bench.entries, segments, keep(2, 1), moment(bench.hour))
    assert not any(line.drops(each) for line in what.log for each in segments if each.name >= start.first_segment)


def test_log_without_any_backup_stays_until_it_is_old() -> None:
    bench = Bench()
    bench.log(10)
    assert plan(bench.entries, bench.segments, keep(2, 100), moment(50)).segments == 0
    assert plan(bench.entries, bench.segments, keep(2, 100), moment(500)).segments == 10


def test_the_spool_and_histories_stay() -> None:
    spooled = msgspec.structs.replace(segment(1, 1), sha256="")
    history = msgspec.structs.replace(segment(2, 1), name="00000002.history")
    partial = msgspec.structs.replace(segment(1, 2), partial=True)
    assert plan([], [spooled, history, partial], keep(2, 1), moment(9999)).segments == 0


@pytest.mark.parametrize("name", ["one-F", "first-H"])
def test_a_hold_is_found_by_either_id(name: str) -> None:
    held = [Hold(id="first-H", of="one-F", reason="lawsuit", since=START)]
    assert the_hold(held, name) == held[0]


def test_a_hold_that_is_not_there_or_is_not_the_only_one() -> None:
    held = [Hold(id=f"{n}-H", of="one-F", reason="lawsuit", since=START) for n in range(2)]
    with pytest.raises(NotFoundError, match="is not on hold"):
        the_hold(held, "two-F")
    with pytest.raises(UsageError, match="is on hold 2 times"):
        the_hold(held, "one-F")
    assert the_hold(held, "1-H").id == "1-H"


def test_a_full_whose_own_log_is_missing_does_not_count_as_one_that_is_kept() -> None:
    """Its files are whole, and nobody can restore them: the two before it are the two that must stay."""
    bench = Bench()
    for _ in range(4):
        bench.back_up(full=True)
        bench.log(30 * 24)
    fulls = [entry.id for entry in bench.database]
    keep = KeepTable(database=Keep(count=2, age=Seconds(86400)))
    name = bench.database[-1].database.first_segment if bench.database[-1].database else ""
    hole = Fault(cause=Cause.MISSING, subject=name, sentence="gone", backups=(fulls[-1],))
    audit = Audit(backups=4, segments=1, examined_bytes=0, oldest=None, newest=None, faults=(hole,))
    whole = plan(bench.entries, bench.segments, keep, moment(bench.hour))
    found = plan(bench.entries, bench.segments, keep, moment(bench.hour), damaged_in(audit))
    assert fulls[1] in whole.ids
    assert fulls[0] in found.ids
    assert fulls[1] not in found.ids
