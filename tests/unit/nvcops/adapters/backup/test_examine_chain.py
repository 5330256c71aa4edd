"""The chain by its names alone, against a slow and simple model of what PostgreSQL can restore."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nvcops.adapters.backup.examine_chain import Layout, Shelf, broken_parents, lay_out
from nvcops.adapters.backup.examine_line import history_name
from nvcops.adapters.backup.examine_loss import Base, Damage, Ground, fault, lost, reach
from nvcops.core.backups import Cause, DatabaseBackup, Entry, Kind, Segment, lsn_text, segment_name

SIZE = 16 << 20
OWNER = "7398000000000000007"
NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


class Story(msgspec.Struct):
    """Where each timeline was left (in sixteenths of a segment), the backups' begin and end, the last segment."""

    switches: list[int]
    backups: list[tuple[int, int]]
    last: int

    def timeline(self, position: int) -> int:
        return 1 + sum(switch <= position for switch in self.switches)

    def files_of(self, number: int) -> str:
        """The one segment of a number that leads on: of the newest timeline that begins in it or before."""
        return segment_name(1 + sum(switch // 16 <= number for switch in self.switches), number * SIZE)

    def texts(self) -> dict[str, str]:
        steps = [f"{n}\t{lsn_text(at * SIZE // 16)}\tno target\n" for n, at in enumerate(self.switches, 1)]
        return {history_name(n + 1): "".join(steps[:n]) for n in range(1, len(steps) + 1)}

    def entries(self) -> tuple[Entry, ...]:
        return tuple(
            backup(f"B{n}", begin * SIZE // 16, end * SIZE // 16, timeline=self.timeline(begin))
            for n, (begin, end) in enumerate(self.backups)
        )

    def names(self) -> list[str]:
        return [self.files_of(number) for number in range(self.backups[0][0] // 16, self.last + 1)]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Backups one after the other, none of them across a promotion."""
    switches = sorted(draw(st.sets(st.integers(40, 400), max_size=3)))
    backups: list[tuple[int, int]] = []
    at = draw(st.integers(16, 60))
    for _ in range(draw(st.integers(1, 5))):
        begin = at + draw(st.integers(0, 60))
        end = begin + draw(st.integers(1, 30))
        at = end
        if not any(begin < switch <= end for switch in switches):
            backups.append((begin, end))
    if not backups:
        backups = [(20, 24)]
    top = max([end for _, end in backups] + [switch + 1 for switch in switches])
    return Story(switches, backups, top // 16 + draw(st.integers(0, 5)))


def backup(name: str, start: int, stop: int, *, timeline: int = 1, parent: str = "", owner: str = OWNER) -> Entry:
    return Entry(
        number=1,
        id=name,
        kind=Kind.INCREMENTAL if parent else Kind.FULL,
        platform="p",
        began=NOON,
        ended=NOON,
        database=DatabaseBackup(
            system_identifier=owner,
            major=17,
            timeline=timeline,
            start_lsn=lsn_text(start),
            stop_lsn=lsn_text(stop),
            stop_time=NOON + dt.timedelta(seconds=stop / SIZE),
            parent=parent,
        ),
    )


def file(name: str, *, digest: str = "a", owner: str = OWNER, partial: bool = False) -> Segment:
    return Segment(
        name=name,
        system_identifier=owner,
        sha256=digest,
        key=f"wal/{name}-{digest}",
        bytes=9,
        modified=NOON,
        partial=partial,
    )


def laid(story: Story, names: list[str], *, newest: str = "") -> Layout:
    files = [file(name) for name in [*names, *story.texts()]]
    return lay_out(Shelf(entries=story.entries(), files=tuple(files), histories=story.texts(), newest=newest))


def found(layout: Layout) -> set[tuple[Cause, str]]:
    return {(damage.cause, damage.subject) for damage in layout.damages}


@given(stories())
def test_a_whole_chain_has_no_fault(story: Story) -> None:
    layout = laid(story, story.names())
    assert layout.damages == ()
    assert layout.line is not None
    assert layout.line.timeline == len(story.switches) + 1
    assert [layout.line.name_at(number) for number in layout.files] == story.names()
    assert len(layout.ground.bases) == len(story.backups)


@given(stories(), st.data())
def test_a_missing_segment_is_named_and_costs_what_postgresql_cannot_reach(story: Story, data: st.DataObject) -> None:
    names = story.names()
    needed = max((end - 1) // 16 for _, end in story.backups) - story.backups[0][0] // 16 + 1
    gone = data.draw(st.integers(0, max(needed, len(names) - 1) - 1) if len(names) > 1 else st.just(0))
    rest = names[:gone] + names[gone + 1 :]
    first = names[gone][:8] == "00000001"
    assume(first or any(name[:8] == names[gone][:8] for name in rest))  # else nobody knows of that timeline
    layout = laid(story, rest, newest=names[-1])
    assert (Cause.MISSING, names[gone]) in found(layout)
    (damage,) = [damage for damage in layout.damages if damage.subject == names[gone]]
    intervals = lost(layout.ground, damage)
    hole = story.backups[0][0] // 16 + gone
    for position in range(story.backups[0][0] * 4, (story.last + 1) * 64):  # quarters of a sixteenth
        able = [b for b in story.backups if b[1] * 4 <= position]
        without = bool(able)
        with_hole = any(not (begin // 16 <= hole <= (position - 1) // 64) for begin, _ in able)
        inside = any(begin <= position * SIZE // 64 < end for begin, end in intervals)
        edge = any(position * SIZE // 64 in interval for interval in intervals)
        assert edge or inside == (without and not with_hole), (position, intervals)


@given(stories(), st.data())
def test_what_no_backup_needs_may_be_gone(story: Story, data: st.DataObject) -> None:
    """Log before the oldest backup, and of a timeline after it was left."""
    first = story.backups[0][0] // 16
    before = [story.files_of(number) for number in range(first)]
    left = [
        segment_name(timeline, number * SIZE)
        for timeline, switch in enumerate(story.switches, 1)
        for number in range(switch // 16, switch // 16 + 3)
        if story.files_of(number) != segment_name(timeline, number * SIZE)
    ]
    more = data.draw(st.lists(st.sampled_from([*before, *left]), unique=True)) if before or left else []
    assert laid(story, [*story.names(), *more]).damages == ()


@given(stories().filter(lambda story: story.switches), st.data())
def test_a_missing_history_is_a_fork(story: Story, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(story.texts())))
    texts = {name: text for name, text in story.texts().items() if name != gone}
    files = tuple(file(name) for name in story.names())
    layout = lay_out(Shelf(entries=story.entries(), files=files, histories=texts))
    timelines = {int(name[:8], 16) for name in story.names()} | {story.timeline(begin) for begin, _ in story.backups}
    if int(gone[:8], 16) in timelines:
        assert (Cause.FORK, gone) in found(layout)


def test_the_newest_segment_is_missed_when_it_is_gone() -> None:
    story = Story([], [(20, 30)], 5)
    names = story.names()
    assert found(laid(story, names[:-1], newest=names[-1])) == {(Cause.MISSING, names[-1])}
    assert found(laid(story, names[:-1])) == set()


def test_what_was_received_of_a_segment_counts_at_the_end_only() -> None:
    story = Story([], [(20, 30)], 5)
    *whole, last = story.names()
    for place, wanted in ((last, set()), (whole[-1], {(Cause.MISSING, whole[-1])})):
        files = [file(name, partial=name == place) for name in [*whole, last]]
        layout = lay_out(Shelf(entries=story.entries(), files=tuple(files), histories={}))
        assert found(layout) == wanted


def test_a_part_and_a_whole_of_a_segment_do_not_differ() -> None:
    story = Story([], [(20, 30)], 5)
    names = story.names()
    files = [*map(file, names), file(names[-1], digest="b", partial=True)]
    assert lay_out(Shelf(entries=story.entries(), files=tuple(files), histories={})).damages == ()
    files += [file(names[1], digest="c")]
    layout = lay_out(Shelf(entries=story.entries(), files=tuple(files), histories={}))
    assert found(layout) == {(Cause.DIFFERENT, names[1])}


def test_another_clusters_files_and_backups_are_foreign() -> None:
    story = Story([], [(20, 30)], 5)
    stray = file(story.names()[0], owner="1")
    alien = backup("X", 99 * SIZE, 99 * SIZE + 9, owner="1")
    shelf = Shelf(entries=(*story.entries(), alien), files=(*map(file, story.names()), stray), histories={})
    assert found(lay_out(shelf)) == {(Cause.FOREIGN, "X"), (Cause.FOREIGN, stray.name)}


def test_a_stray_segment_far_away_is_one_hole_and_takes_no_time() -> None:
    story = Story([], [(20, 30)], 5)
    names = [*story.names(), "00000001FFFFFFFF000000F0"]
    (damage,) = laid(story, names).damages
    assert (damage.cause, damage.subject) == (Cause.MISSING, segment_name(1, 6 * SIZE))
    assert "more up to 00000001FFFFFFFF000000EF" in damage.sentence


def test_a_line_that_left_before_the_only_backup_ended_is_a_fork() -> None:
    """Everything upon the new timeline is lost until a backup is taken upon it."""
    texts = {"00000002.history": f"1\t{lsn_text(20 * SIZE // 16)}\tno target\n"}
    old = backup("OLD", SIZE, 2 * SIZE)
    files = [file(segment_name(1, n * SIZE)) for n in (1, 2)] + [file(segment_name(2, n * SIZE)) for n in range(1, 9)]
    layout = lay_out(Shelf(entries=(old,), files=tuple(files), histories=texts))
    (damage,) = layout.damages
    assert (damage.cause, damage.subject) == (Cause.FORK, "OLD")
    assert lost(layout.ground, damage) == [(20 * SIZE // 16, 9 * SIZE)]
    new = backup("NEW", 5 * SIZE, 6 * SIZE, timeline=2)
    layout = lay_out(Shelf(entries=(old, new), files=tuple(files), histories=texts))
    (damage,) = layout.damages
    assert lost(layout.ground, damage) == [(20 * SIZE // 16, 6 * SIZE)]


def test_histories_that_contradict_each_other_are_a_fork() -> None:
    story = Story([100, 200], [(20, 30)], 14)
    texts = story.texts() | {"00000002.history": f"1\t{lsn_text(5 * SIZE)}\tno target\n"}
    files = tuple(file(name) for name in story.names())
    layout = lay_out(Shelf(entries=story.entries(), files=files, histories=texts))
    assert (Cause.FORK, "00000002.history") in found(layout)


@pytest.mark.parametrize("text", ["", "nonsense", "2\t0/5000000\twhy\n", "1\t0/5000000\twhy\n1\t0/6000000\twhy\n"])
def test_a_history_that_tells_nothing_is_corrupt_and_everything_after_it_is_lost(text: str) -> None:
    story = Story([100], [(20, 30)], 9)
    files = tuple(file(name) for name in story.names())
    layout = lay_out(Shelf(entries=story.entries(), files=files, histories={"00000002.history": text}))
    (damage,) = layout.damages
    assert (damage.cause, damage.subject) == (Cause.CORRUPT, "00000002.history")
    assert lost(layout.ground, damage) == [(6 * SIZE, 10 * SIZE)]


# --- parents ---


def chain(*links: tuple[str, str]) -> list[Entry]:
    return [backup(name, n * SIZE, n * SIZE + 99, parent=parent) for n, (name, parent) in enumerate(links, 1)]


def test_an_incremental_needs_its_parents() -> None:
    whole = chain(("F", ""), ("I", "F"), ("J", "I"))
    assert broken_parents(whole, (), ()) == []
    assert [d.subject for d in broken_parents(whole[1:], (), {"F"})] == ["I", "J"]
    assert "was removed" in broken_parents(whole[1:], (), {"F"})[0].sentence
    assert "does not have" in broken_parents(whole[1:], (), ())[0].sentence
    assert [d.subject for d in broken_parents(whole, {"I"}, ())] == ["J"]
    assert [d.subject for d in broken_parents([whole[0], whole[2], whole[1]], (), ())] == ["J"]


def test_a_parent_must_fit() -> None:
    full, child = chain(("F", ""), ("I", "F"))
    assert full.database is not None
    for edit in ({"stop_lsn": "0/9000000"}, {"major": 16}, {"system_identifier": "1"}, {"timeline": 2}):
        other = msgspec.structs.replace(full, database=msgspec.structs.replace(full.database, **edit))
        (damage,) = broken_parents([other, child], (), ())
        assert (damage.cause, damage.subject) == (Cause.BROKEN_PARENT, "I"), edit


# --- losses ---


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=5),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=4),
    st.integers(30, 60),
)
def test_reach_is_what_a_simple_model_reaches(
    backups: list[tuple[int, int]], holes: list[tuple[int, int]], end: int
) -> None:
    bases = [Base(str(n), start, start + length) for n, (start, length) in enumerate(backups)]
    gaps = [(begin, begin + length) for begin, length in holes]
    ranges = reach(bases, gaps, end)
    assert all(before[1] < after[0] for before, after in pairwise(ranges))
    for position in range(end):
        able = any(
            base.stop <= position and not any(gap[0] < position and gap[1] > base.start for gap in gaps if gap[0] < end)
            for base in bases
        )
        assert able == any(begin <= position <= until for begin, until in ranges), position


def test_a_damage_says_what_is_lost() -> None:
    times = tuple((n * 10, NOON + dt.timedelta(minutes=n)) for n in range(1, 11))
    ground = Ground((Base("F", 10, 20), Base("I", 50, 60, ("F",)), Base("G", 70, 80)), 100, times)
    hole = Damage(cause=Cause.MISSING, subject="S", sentence="gone", gap=(30, 40))
    assert fault(ground, hole).lost == (
        "every point from 2026-11-22 12:03:00 UTC (0/1E) to 2026-11-22 12:06:00 UTC (0/3C)"
    )
    late = Damage(cause=Cause.MISSING, subject="S", sentence="gone", gap=(90, 100))
    assert fault(ground, late).lost == "every point after 2026-11-22 12:09:00 UTC (0/5A)"
    spare = Damage(cause=Cause.CORRUPT, subject="G", sentence="bad", backups=("G",))
    assert fault(ground, spare).lost.startswith("no point in time, since an older backup")
    first = Damage(cause=Cause.CORRUPT, subject="F", sentence="bad", backups=("F",))
    assert lost(ground, first) == [(20, 80)]
    noted = Damage(cause=Cause.EDITED, subject="E", sentence="edited", note="the release 1.2")
    assert fault(ground, noted).lost == "the release 1.2"
