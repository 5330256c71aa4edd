"""restore-database, release-old-data and test-backup-restore, on real servers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg
import pytest
from acting import ActingRun, run_procedure
from restore_world import FULL, RestoreWorld, restore_world

from conftest import Told
from nvcops.core.backups import Kind
from nvcops.core.checks import Verdict
from nvcops.core.errors import Refused, StepFailed, UsageError
from nvcops.recovery.proof import same_finding


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[RestoreWorld]:
    """A primary with a standby and one backup, transfers a and b after it."""
    with restore_world(tmp_path, pair=True) as world, world.world.receiving():
        world.world.backups.back_up(FULL, full=True)
        world.pay("a", "b")
        yield world


def test_a_restore_into_a_folder_is_planned_forecast_proven_and_recorded(told: Told, tmp_path: Path) -> None:
    run = run_procedure("restore-database", told.world, ActingRun(), into=str(tmp_path / "copy"), backup_id=FULL)
    assert [finding.check for finding in run.wrong] == []
    assert (tmp_path / "copy" / "PG_VERSION").exists()
    assert FULL in run.summary
    assert "about" in run.summary
    assert run.of("restore.acknowledged")[0].observed.startswith("all 4 ")
    assert not run.approved
    newest = told.world.world.backups.catalogue()[-1]
    assert newest.kind is Kind.RESTORE
    assert newest.restore
    assert newest.restore.good
    assert newest.restore.seconds > 0
    assert told.world.left() == []


def test_a_dry_run_says_the_plan_and_touches_nothing(told: Told, tmp_path: Path) -> None:
    before = told.world.world.backups.catalogue()
    run = run_procedure("restore-database", told.world, ActingRun(dry=True), into=str(tmp_path / "copy"))
    assert run.of("restore.plan")[0].observed in run.summary
    assert list(tmp_path.iterdir()) == []
    assert told.world.world.backups.catalogue() == before
    drill = run_procedure("test-backup-restore", told.world, ActingRun(dry=True))
    assert [finding.verdict for finding in drill.of("restore.plan")] == [Verdict.OK] * 2


@pytest.mark.parametrize("options", [{}, {"into": "x", "in_place": True}, {"into": "x", "to": "2026-13-01"}])
def test_wrong_usage_is_refused(told: Told, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        run_procedure("restore-database", told.world, ActingRun(), **options)


def keys_of(world: RestoreWorld) -> list[str]:
    return [key for (key,) in world.world.execute("SELECT DISTINCT transfer FROM entry ORDER BY 1")]


def test_in_place_the_live_data_are_replaced_and_kept_aside_until_they_are_released(own: RestoreWorld) -> None:
    to = own.end()
    own.pay("too much", tell=False)
    run = run_procedure("restore-database", own, ActingRun(), in_place=True, to=to)
    assert run.approved
    assert run.approved[0].startswith("restore-in-place: Replace the live data: ")
    assert run.wrong == []
    assert keys_of(own) == ["a", "b"]
    own.world.execute("CREATE TABLE it_takes_writes ()")
    assert [finding.subject for finding in run.of("restore.aside")] == ["run@1"]
    assert own.left() == []
    aside = own.world.server.data.with_name("data.before-run@1")
    assert (aside / "PG_VERSION").exists()
    released = run_procedure("release-old-data", own, ActingRun(id="run@2"), of="run@1")
    assert released.of("restore.aside")[0].observed == "nothing is kept aside"
    assert not aside.exists()
    assert len(released.approved) == 1


def test_in_place_to_a_point_segments_ago_the_log_is_received_from_there_on(own: RestoreWorld) -> None:
    """What was received after the point is of an end that was given up: the receiver goes back to where it branched."""
    to = own.end()
    for number in range(3):
        own.pay(f"too much {number}", tell=False)
        own.world.execute("SELECT pg_switch_wal()")
    own.received()
    run = run_procedure("restore-database", own, ActingRun(), in_place=True, to=to)
    assert run.wrong == []
    own.pay("c")
    own.world.wait(lambda: own.world.backups.receiver().slot_active and not own.world.backups.receiver().trouble)
    own.received()
    assert own.world.backups.examine(deep=True).faults == ()
    own.world.backups.back_up("20261122T120000Z-F", full=True)
    own.pay("d")
    own.received()
    for number, backup in enumerate((FULL, "newest")):
        into = own.folder / f"copy-{number}"
        again = run_procedure("restore-database", own, ActingRun(id="run@2"), into=str(into), backup_id=backup)
        assert again.wrong == []
        with own.clone_of(into) as conninfo, psycopg.connect(conninfo, dbname="postgres") as session:
            keys = [key for (key,) in session.execute("SELECT DISTINCT transfer FROM entry ORDER BY 1")]
        assert keys == ["a", "b", "c", "d"]


def test_in_place_what_is_not_sound_is_not_put_there_and_the_old_data_are_served_again(own: RestoreWorld) -> None:
    own.world.execute("INSERT INTO entry VALUES ('y', 1, 7)")
    own.received()
    run = run_procedure("restore-database", own, ActingRun(), in_place=True)
    assert {finding.check for finding in run.wrong} == {"restore.invariants", "restore.refused"}
    assert run.asked == ["stop db-1", "stop db-1", "start db-1"]
    assert keys_of(own) == ["a", "b", "y"]
    assert own.left() == []
    assert not own.world.server.data.with_name("data.before-run@1").exists()


def test_in_place_after_the_data_are_gone(own: RestoreWorld) -> None:
    """What a loss of the primary's disk asks for: nothing that was acknowledged is missing."""
    own.received()
    own.world.server.process.kill()
    own.world.server.forget_shared_memory()
    shutil.rmtree(own.world.server.data)
    run = run_procedure("restore-database", own, ActingRun(), in_place=True)
    assert run.wrong == []
    assert keys_of(own) == ["a", "b"]
    assert own.left() == []


def test_a_start_that_fails_is_rolled_back(own: RestoreWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    server, starts = own.world.server, []
    real = server.start

    def start() -> None:
        starts.append(1)
        if len(starts) == 1:
            raise Refused("it does not start on these data")
        real()

    monkeypatch.setattr(server, "start", start)
    own.pay("c")
    with pytest.raises(StepFailed, match="it does not start on these data"):
        run_procedure("restore-database", own, ActingRun(), in_place=True, to=own.end())
    assert keys_of(own) == ["a", "b", "c"]
    assert own.left() == []


def test_a_start_that_fails_and_yet_started_is_not_undone(own: RestoreWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Customers write again as soon as the server takes writes, whatever the program that started it says."""
    server, starts = own.world.server, []
    real = server.start

    def start() -> None:
        real()
        starts.append(1)
        if len(starts) == 1:
            raise Refused("it did not end in time")

    monkeypatch.setattr(server, "start", start)
    to = own.end()
    own.pay("too much", tell=False)
    run = run_procedure("restore-database", own, ActingRun(), in_place=True, to=to)
    assert [(line.check, line.verdict) for line in run.wrong] == [("restore.served", Verdict.WARNING)]
    assert keys_of(own) == ["a", "b"]
    assert own.left() == []


def test_what_cannot_be_looked_at_is_unknown_and_keeps_nobody_from_restoring(own: RestoreWorld) -> None:
    """A journal that was torn when its host died, an invariant about a table that is younger than the backup."""
    with (own.folder / "journal").open("a", encoding="ascii") as journal:
        journal.write('{"time": "2026-11-2\n')
    with (own.folder / "invariants.sql").open("a", encoding="ascii") as invariants:
        invariants.write("\n-- younger: no younger row is wrong\nSELECT 1 FROM younger;\n")
    into = own.folder / "copy"
    run = run_procedure("restore-database", own, ActingRun(), into=str(into))
    assert {(line.check, line.verdict) for line in run.wrong} == {
        ("restore.acknowledged", Verdict.UNKNOWN),
        ("restore.invariants", Verdict.UNKNOWN),
    }
    assert "is no acknowledgement" in run.of("restore.acknowledged")[0].observed
    assert 'relation "younger" does not exist' in run.of("restore.invariants")[0].observed
    assert (into / "PG_VERSION").exists()
    restored = [entry.restore for entry in own.world.backups.catalogue() if entry.restore]
    assert [figures.good for figures in restored] == [False]


def test_a_standby_that_does_not_answer_keeps_nobody_from_restoring(pair: RestoreWorld) -> None:
    note = pair.folder / "state" / "restores" / "paused-standby"
    note.parent.mkdir(parents=True)
    note.write_text("db-2")
    assert pair.standby
    pair.standby.stop()
    assert "which does not answer now" in pair.restores.tidy("run@2")[0]
    assert note.exists()
    run = run_procedure("restore-database", pair, ActingRun(), into=str(pair.folder / "copy"))
    assert run.wrong == []


def test_the_drill_proves_the_newest_backup_and_a_point_in_time(pair: RestoreWorld) -> None:
    pair.pay("c", "d")
    run = run_procedure("test-backup-restore", pair, ActingRun())
    assert [f for f in run.wrong if f.check not in {"restore.loss", "restore.acknowledged"}] == []
    assert "2 tables and 1,008 rows as on db-2" in run.of("restore.same")[0].observed
    assert run.of("restore.acknowledged")[0].observed.startswith("all 4 ")
    assert len(run.of("restore.time")) == len(run.of("restore.forecast")) == 2
    restores = [entry.restore for entry in pair.world.backups.catalogue() if entry.restore]
    assert [(restore.good, restore.drill) for restore in restores] == [(True, True)] * 2
    assert restores[0].rpo_s is not None
    assert pair.left() == []
    assert replaying(pair)


def replaying(world: RestoreWorld) -> bool:
    assert world.standby
    with world.standby.connect() as session:
        return session.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("not paused",)


def test_a_copy_that_differs_from_the_live_data_is_seen(pair: RestoreWorld) -> None:
    """A standby whose rows are not the primary's: one of the two is wrong, and the drill says so."""
    live = pair.restores.snapshot("run@1")
    changed = [msgspec.structs.replace(book, fingerprint="1") for book in live.books]
    assert same_finding(live, live.books).verdict is Verdict.OK
    assert same_finding(live, changed).verdict is Verdict.CRITICAL
    assert replaying(pair)


def test_a_standby_that_a_killed_run_left_paused_is_woken(pair: RestoreWorld) -> None:
    assert pair.standby
    with pair.standby.connect() as session:
        session.execute("SELECT pg_wal_replay_pause()")
    note = pair.folder / "state" / "restores" / "paused-standby"
    note.parent.mkdir(parents=True)
    note.write_text("db-2")
    assert "let db-2 replay again" in pair.restores.tidy("run@2")[0]
    assert replaying(pair)


def test_a_standby_that_somebody_else_paused_stays_paused(pair: RestoreWorld) -> None:
    assert pair.standby
    with pair.standby.connect() as session:
        session.execute("SELECT pg_wal_replay_pause()")
    run = run_procedure("test-backup-restore", pair, ActingRun())
    assert "is paused by somebody" in run.of("restore.same")[0].observed
    assert not replaying(pair)


def test_a_timeline_switch_is_followed_and_a_point_before_it_is_reached(own: RestoreWorld) -> None:
    before = own.end()
    own.pay("old")
    server = own.world.server
    server.stop()
    (server.data / "standby.signal").touch()
    server.start()
    own.world.execute("SELECT pg_promote()")
    own.pay("new")
    own.received()
    for to, there in (("", ["a", "b", "new", "old"]), (before, ["a", "b"])):
        into = own.folder / f"copy-{len(to)}"
        run = run_procedure("restore-database", own, ActingRun(), into=str(into), to=to, backup_id=FULL)
        assert run.wrong == []
        with own.clone_of(into) as conninfo, psycopg.connect(conninfo, dbname="postgres") as session:
            assert [k for (k,) in session.execute("SELECT DISTINCT transfer FROM entry ORDER BY 1")] == there
